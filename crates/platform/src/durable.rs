//! Files and folders that survive a crash once the call returns.
//!
//! A new name is durable only after its folder was synced; each function here does both.

use crate::PlatformError;
use crate::crash_point;
use crate::fault::{Change, through};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Makes the names in folder `path` durable.
///
/// # Errors
/// The folder could not be opened or synced.
pub fn sync_dir(path: &Path) -> Result<(), PlatformError> {
    if cfg!(windows) {
        return Ok(()); // a folder cannot be synced there; NTFS journals names
    }
    through(Change::SyncDir(path), || real_sync(|| File::open(path)?.sync_all()))
        .map_err(PlatformError::file("sync folder", path))
}

/// Creates a folder and its missing parents, durably.
///
/// # Errors
/// One of them could not be created or synced.
pub fn create_dir(path: &Path) -> Result<(), PlatformError> {
    match parent(path) {
        Some(above) if !above.is_dir() => create_dir(above)?,
        _ => {}
    }
    make_dir(path)
}

/// Creates the folder `below` within `root`, durably: each name on the way is synced in the folder that it
/// lies in, also where it is there already, for an earlier sync may have failed.
///
/// # Errors
/// One of them could not be created or synced.
pub fn create_dir_in(root: &Path, below: &Path) -> Result<PathBuf, PlatformError> {
    let mut path = root.to_owned();
    for part in below.components() {
        path.push(part);
        make_dir(&path)?;
    }
    Ok(path)
}

fn make_dir(path: &Path) -> Result<(), PlatformError> {
    if !path.is_dir() {
        match through(Change::MakeDir(path), || fs::create_dir(path)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(PlatformError::file("create folder", path)(error));
            }
            _ => {}
        }
    }
    parent(path).map_or(Ok(()), sync_dir)
}

/// Replaces the content of `path`: a reader or a crash sees the whole old or the whole new.
///
/// # Errors
/// The temporary file beside it could not be written, synced or renamed; the old content stays, and nothing beside it.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), PlatformError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    remove_file(&temporary)?; // left by a crash
    let written = write_new(&temporary, content).and_then(|()| {
        crash_point::pass("replace_before_rename");
        rename(&temporary, path)
    });
    if written.is_err() {
        let _ = remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), PlatformError> {
    let mut file = AppendFile::create(path)?;
    file.append(content)?;
    file.sync()
}

/// Replaces as [`replace`] does, with two differences: who may read the file, and whose it is, stay as they are, a new file is its
/// owner's alone; and the temporary file has a name of its own each time, so that none is taken for another's. Those that a kill left
/// are removed by the next call: the caller sees to it that there is one at a time.
///
/// # Errors
/// As [`replace`]; nothing is left beside the file.
pub fn replace_private(path: &Path, content: &[u8]) -> Result<(), PlatformError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = parent(path).unwrap_or(Path::new("."));
    let prefix = format!(".{name}.");
    for left in list(folder)? {
        let file = left.file_name().unwrap_or_default().to_string_lossy();
        if file.strip_prefix(&prefix).is_some_and(|rest| rest.len() == 20 && rest.ends_with(".new"))
        {
            remove_file(&left)?;
        }
    }
    let own = RandomState::new().hash_one(std::process::id());
    let temporary = path.with_file_name(format!("{prefix}{own:016x}.new"));
    let written = write_like(path, &temporary, content).and_then(|()| {
        crash_point::pass("replace_private_before_rename");
        rename(&temporary, path)
    });
    if written.is_err() {
        let _ = remove_file(&temporary);
    }
    written
}

fn write_like(path: &Path, temporary: &Path, content: &[u8]) -> Result<(), PlatformError> {
    let mut file = AppendFile::create(temporary)?;
    make_like(path, temporary)?;
    file.append(content)?;
    file.sync()
}

/// Owner and permissions as those of `path`; without one, for its owner alone.
#[cfg(unix)]
fn make_like(path: &Path, temporary: &Path) -> Result<(), PlatformError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let old = fs::metadata(path).ok();
    let mode = old.as_ref().map_or(0o600, |old| old.mode() & 0o7777);
    if let Some(old) = old {
        let _ = chown(temporary, Some(old.uid()), Some(old.gid())); // ours already, if we may not
    }
    fs::set_permissions(temporary, fs::Permissions::from_mode(mode))
        .map_err(PlatformError::file("set the permissions of", temporary))
}

/// Gives `file` the owner and group of `path`, where we may; `file` stays open to none but its owner.
#[cfg(unix)]
pub fn belong_like(path: &Path, file: &Path) {
    use std::os::unix::fs::{MetadataExt, chown};
    if let (Ok(of), Ok(now)) = (fs::metadata(path), fs::metadata(file))
        && (of.uid(), of.gid()) != (now.uid(), now.gid())
    {
        let _ = chown(file, Some(of.uid()), Some(of.gid()));
    }
}

/// Elsewhere a new file has the permissions of its folder.
#[cfg(not(unix))]
pub fn belong_like(_path: &Path, _file: &Path) {}

/// Elsewhere a new file has the permissions of its folder.
#[cfg(not(unix))]
fn make_like(_path: &Path, _temporary: &Path) -> Result<(), PlatformError> {
    Ok(())
}

/// Renames a file or folder, durably.
///
/// # Errors
/// The rename failed, or the target's folder could not be synced.
pub fn rename(from: &Path, to: &Path) -> Result<(), PlatformError> {
    #[expect(clippy::disallowed_methods, reason = "the one durable rename")]
    through(Change::Rename(from, to), || fs::rename(from, to))
        .map_err(PlatformError::file("rename", from))?;
    parent(to).map_or(Ok(()), sync_dir)
}

/// Removes a file, durably. A file that is not there is no error.
///
/// # Errors
/// The file is there and could not be removed.
pub fn remove_file(path: &Path) -> Result<(), PlatformError> {
    match through(Change::RemoveFile(path), || fs::remove_file(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(PlatformError::file("remove", path)(error)),
        Ok(()) => parent(path).map_or(Ok(()), sync_dir),
    }
}

/// Removes a folder with all in it. A folder that is not there is no error.
///
/// # Errors
/// The folder is there and could not be removed.
pub fn remove_dir(path: &Path) -> Result<(), PlatformError> {
    match through(Change::RemoveDir(path), || fs::remove_dir_all(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PlatformError::file("remove folder", path)(error))
        }
        _ => Ok(()),
    }
}

/// Replaces `path` with a file of `len` bytes of the disk; what is in them is nothing.
///
/// # Errors
/// The disk has no such room, or keeps none for anybody; nothing is left then.
pub fn reserve(path: &Path, len: u64) -> Result<(), PlatformError> {
    let file = File::create(path).map_err(PlatformError::file("create", path))?;
    allocate(&file, len).map_err(|error| {
        let _ = fs::remove_file(path);
        PlatformError::file("reserve room with", path)(error)
    })
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn allocate(file: &File, len: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len)?)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn allocate(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len) // NTFS gives a file its room at once
}

/// What names a file for good, whatever its path: another file under the same path has another. None where there is no file, or the
/// system has no such number.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
    }
    #[cfg(not(unix))]
    fs::metadata(path).ok().map(|_| (0, 0))
}

/// The names in a folder, sorted.
///
/// # Errors
/// The folder could not be read.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, PlatformError> {
    let entries = fs::read_dir(path).map_err(PlatformError::file("list", path))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(PlatformError::file("list", path))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// A file that only grows. What [`AppendFile::append`] took survives the end of the process; what
/// [`AppendFile::sync`] covered survives the end of the machine.
#[derive(Debug)]
pub struct AppendFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl AppendFile {
    /// Creates `path`, which must not exist, and makes its name durable.
    ///
    /// # Errors
    /// It exists, or could not be created.
    pub fn create(path: &Path) -> Result<Self, PlatformError> {
        let new = || OpenOptions::new().append(true).create_new(true).open(path);
        let file =
            through(Change::Create(path), new).map_err(PlatformError::file("create", path))?;
        parent(path).map_or(Ok(()), sync_dir)?;
        Ok(Self { file, path: path.to_owned(), len: 0 })
    }

    /// Opens `path` to append after its first `len` bytes; what stood behind them is cut off.
    ///
    /// # Errors
    /// It could not be opened, cut or synced.
    pub fn open_at(path: &Path, len: u64) -> Result<Self, PlatformError> {
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(PlatformError::file("open", path))?;
        let cut = through(Change::Truncate(path, len), || file.set_len(len));
        cut.and_then(|()| through(Change::Sync(path), || real_sync(|| file.sync_all())))
            .map_err(PlatformError::file("cut the tail of", path))?;
        Ok(Self { file, path: path.to_owned(), len })
    }

    /// Appends `bytes` in one write.
    ///
    /// # Errors
    /// Not all of them were written; the file may hold some. It must not be appended to again.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PlatformError> {
        self.write_all(bytes).map_err(PlatformError::file("append to", &self.path))
    }

    /// Cuts off what a failed append may have left.
    ///
    /// # Errors
    /// The system would not; the file may hold some of it.
    pub fn cut(&self) -> Result<(), PlatformError> {
        through(Change::Truncate(&self.path, self.len), || self.file.set_len(self.len))
            .map_err(PlatformError::file("cut the tail of", &self.path))
    }

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// The system could not say that it is; the file must not be trusted or synced again.
    pub fn sync(&self) -> Result<(), PlatformError> {
        through(Change::Sync(&self.path), || real_sync(|| self.file.sync_data()))
            .map_err(PlatformError::file("sync", &self.path))
    }

    /// A second handle to the same file, so that a sync need not stop the appends.
    ///
    /// # Errors
    /// The system is out of handles.
    pub fn sync_handle(&self) -> Result<SyncHandle, PlatformError> {
        let file = self.file.try_clone().map_err(PlatformError::file("open again", &self.path))?;
        Ok(SyncHandle { file, path: self.path.clone() })
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for AppendFile {
    /// Takes all of `bytes`, or fails as [`AppendFile::append`] does.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        through(Change::Append(&self.path, bytes), || self.file.write_all(bytes))?;
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Syncs a file that another handle appends to.
#[derive(Debug)]
pub struct SyncHandle {
    file: File,
    path: PathBuf,
}

impl SyncHandle {
    /// As [`AppendFile::sync`].
    ///
    /// # Errors
    /// As [`AppendFile::sync`].
    pub fn sync(&self) -> Result<(), PlatformError> {
        through(Change::Sync(&self.path), || real_sync(|| self.file.sync_data()))
            .map_err(PlatformError::file("sync", &self.path))
    }
}

/// A sync; under a disk that a test follows it would only take time.
fn real_sync(sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    #[cfg(feature = "faults")]
    if crate::fault::disk::is_followed() {
        return Ok(());
    }
    sync()
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("CURRENT");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(list(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn r5_2_files_are_replaced_renamed_and_removed_alike_whatever_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let long = "l".repeat(200);
        let folder = create_dir_in(dir.path(), Path::new("a folder/Ünïcode ☃")).unwrap();
        for name in
            ["with space", "Ünïcode ☃", "a.b.c", ".hidden", "semi;colon & $(x)", "-f", &long]
        {
            let (path, other) = (folder.join(name), folder.join(format!("{name}2")));
            replace(&path, b"one\r\n").unwrap();
            replace_private(&path, b"two\r\n").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"two\r\n", "{name}: line ends stay");
            rename(&path, &other).unwrap();
            assert_eq!(list(&folder).unwrap(), std::slice::from_ref(&other), "{name}");
            remove_file(&other).unwrap();
            remove_file(&other).unwrap();
            assert!(list(&folder).unwrap().is_empty(), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_private_file_keeps_who_may_read_it_and_a_kills_leftovers_go() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        replace_private(&path, b"one").unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        AppendFile::create(&dir.path().join("..env.0123456789abcdef.new")).unwrap();
        replace_private(&path, b"two").unwrap();
        assert_eq!((mode(), fs::read(&path).unwrap().as_slice()), (0o640, b"two".as_slice()));
        assert_eq!(list(dir.path()).unwrap(), std::slice::from_ref(&path));
    }

    #[test]
    fn a_file_opened_at_a_length_loses_its_tail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        AppendFile::create(&path).unwrap().append(b"good torn").unwrap();
        let mut file = AppendFile::open_at(&path, 5).unwrap();
        file.append(b"again").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap().as_slice(), file.len()),
            (b"good again".as_slice(), 10)
        );
        assert!(AppendFile::create(&path).is_err());
    }
}
