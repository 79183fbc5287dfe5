//! One writer per data directory, told by a lock that the system drops when its holder dies.

use crate::PlatformError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Held as long as this value lives.
#[derive(Debug)]
pub struct DirLock(#[expect(dead_code, reason = "holds the lock")] File);

impl DirLock {
    /// Locks `path` for one holder and writes `holder` into it for those who find it taken.
    ///
    /// # Errors
    /// [`PlatformError::Locked`] with the holder's words, or the file could not be opened.
    pub fn exclusive(path: &Path, holder: &str) -> Result<Self, PlatformError> {
        let mut file = open(path)?;
        settle(path, &mut file, File::try_lock)?;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(PlatformError::file("write", path))?;
        Ok(Self(file))
    }

    /// Locks `path` together with other readers, against a writer.
    ///
    /// # Errors
    /// As [`DirLock::exclusive`].
    pub fn shared(path: &Path) -> Result<Self, PlatformError> {
        let mut file = open(path)?;
        settle(path, &mut file, File::try_lock_shared)?;
        Ok(Self(file))
    }
}

fn open(path: &Path) -> Result<File, PlatformError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(PlatformError::file("open lock", path))
}

fn settle(
    path: &Path,
    file: &mut File,
    lock: fn(&File) -> Result<(), TryLockError>,
) -> Result<(), PlatformError> {
    match lock(file) {
        Ok(()) => Ok(()),
        Err(TryLockError::Error(source)) => Err(PlatformError::file("lock", path)(source)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.take(200).read_to_string(&mut holder);
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            Err(PlatformError::Locked { path: path.to_owned(), holder })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_learns_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = DirLock::exclusive(&path, "process 42").unwrap();
        let refused = DirLock::exclusive(&path, "process 43").unwrap_err().to_string();
        assert!(refused.contains("in use by process 42"), "{refused}");
        assert!(DirLock::shared(&path).is_err());
        drop(held);
        let _one = DirLock::shared(&path).unwrap();
        let _two = DirLock::shared(&path).unwrap();
    }
}
