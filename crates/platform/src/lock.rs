//! One writer per data directory, told by a lock that the system drops when its holder dies.

use crate::PlatformError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

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
        note(path, &mut file, holder)?;
        Ok(Self(file))
    }

    /// As [`DirLock::exclusive`], but waits up to `patience` for the holder to let go. A holder that died holds nothing. Who comes again
    /// at once goes behind those who wait: they hold the turn, a lock of its own beside `path`, until the other is theirs.
    ///
    /// # Errors
    /// As [`DirLock::exclusive`], after `patience`.
    pub fn wait(path: &Path, holder: &str, patience: Duration) -> Result<Self, PlatformError> {
        let (turn, mut file) = (open(&path.with_extension("turn"))?, open(path)?);
        if turn.try_lock().is_ok() && file.try_lock().is_ok() {
            note(path, &mut file, holder)?;
            return Ok(Self(file));
        }
        drop(turn);
        let (waiting, turn) = (open(path)?, open(&path.with_extension("turn"))?);
        let (tell, told) = mpsc::sync_channel(1);
        // It blocks in the system; a wait that is given up ends when its turn comes.
        std::thread::spawn(move || {
            let locked = turn.lock().and_then(|()| waiting.lock());
            let _ = tell.send(locked.map(|()| waiting));
        });
        match told.recv_timeout(patience) {
            Ok(Ok(mut file)) => {
                note(path, &mut file, holder)?;
                Ok(Self(file))
            }
            Ok(Err(source)) => Err(PlatformError::file("lock", path)(source)),
            Err(_) => {
                let mut holder = String::new();
                let _ = file.take(200).read_to_string(&mut holder);
                Err(PlatformError::Locked { path: path.to_owned(), holder })
            }
        }
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

/// Says who holds it, for those who find it taken.
fn note(path: &Path, file: &mut File, holder: &str) -> Result<(), PlatformError> {
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(holder.as_bytes()))
        .map_err(PlatformError::file("write", path))
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

    #[test]
    fn who_waits_gets_the_lock_or_learns_who_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = DirLock::exclusive(&path, "process 42").unwrap();
        let late = DirLock::wait(&path, "process 43", Duration::from_millis(20)).unwrap_err();
        assert!(late.to_string().contains("in use by process 42"), "{late}");
        std::thread::scope(|scope| {
            let next = scope.spawn(|| DirLock::wait(&path, "process 44", Duration::from_secs(60)));
            drop(held);
            assert!(next.join().unwrap().is_ok());
        });
    }
}
