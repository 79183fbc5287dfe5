//! A log file of bounded size: when it is full it becomes `NAME.1`, and the one before goes.

use crate::PlatformError;
use model::Bytes;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Appends lines to a file and starts anew at `limit`; at most twice the limit lies on disk.
#[derive(Debug)]
pub struct RollingLog {
    path: PathBuf,
    limit: Bytes,
    file: File,
    len: u64,
}

impl RollingLog {
    /// Opens or creates `path`.
    ///
    /// # Errors
    /// It could not be opened.
    pub fn open(path: &Path, limit: Bytes) -> Result<Self, PlatformError> {
        let (file, len) = open(path)?;
        Ok(Self { path: path.to_owned(), limit, file, len })
    }

    /// Appends `line` and a newline.
    ///
    /// # Errors
    /// The file could not be written or rolled over.
    pub fn line(&mut self, line: &str) -> Result<(), PlatformError> {
        if self.len >= self.limit.get() {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            #[expect(clippy::disallowed_methods, reason = "a log need not survive power loss")]
            match std::fs::rename(&self.path, PathBuf::from(older)) {
                // Somebody has taken it away: a new one begins.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                renamed => renamed.map_err(PlatformError::file("rename", &self.path))?,
            }
            (self.file, self.len) = open(&self.path)?;
        }
        let text = format!("{line}\n");
        self.file
            .write_all(text.as_bytes())
            .map_err(PlatformError::file("append to", &self.path))?;
        self.len += text.len() as u64;
        Ok(())
    }

    /// Makes all lines so far survive power loss.
    ///
    /// # Errors
    /// The system could not write them.
    pub fn sync(&self) -> Result<(), PlatformError> {
        self.file.sync_data().map_err(PlatformError::file("sync", &self.path))
    }
}

fn open(path: &Path) -> Result<(File, u64), PlatformError> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(PlatformError::file("open log", path))?;
    let len = file.metadata().map_err(PlatformError::file("read the size of", path))?.len();
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_takes_more_than_twice_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut log = RollingLog::open(&path, Bytes(1000)).unwrap();
        for n in 0..500 {
            log.line(&format!("line {n}")).unwrap();
        }
        let files = crate::durable::list(dir.path()).unwrap();
        let sizes: Vec<u64> = files.iter().map(|file| file.metadata().unwrap().len()).collect();
        assert_eq!(files.len(), 2);
        assert!(sizes.iter().all(|size| *size < 1020), "{sizes:?}");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("line 499\n"));
    }

    #[test]
    fn a_log_that_somebody_takes_away_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut log = RollingLog::open(&path, Bytes(100)).unwrap();
        log.line("first").unwrap();
        std::fs::remove_file(&path).unwrap();
        for n in 0..50 {
            log.line(&format!("line {n}")).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("line 49\n"));
    }
}
