//! The files of a child as they were when it was last well, to be put back once when restarts do not help.

use model::Timestamp;
use platform::{PlatformError, durable};
use std::path::{Path, PathBuf};

/// The largest file that is kept.
const LARGEST: u64 = 16 << 20;

/// Copies of files, in `good/CHILD/` of the watchdog's folder.
#[derive(Debug)]
pub(crate) struct KnownGood {
    dir: PathBuf,
    files: Vec<PathBuf>,
}

impl KnownGood {
    pub(crate) fn new(dir: &Path, child: &str, files: &[PathBuf]) -> Self {
        Self { dir: dir.join("good").join(child), files: files.to_vec() }
    }

    /// Keeps the files as they are now.
    pub(crate) fn keep(&self) -> Result<(), PlatformError> {
        for (number, file) in self.files.iter().enumerate() {
            let Some(now) = read(file) else { continue };
            if read(&self.copy(number)).as_ref() != Some(&now) {
                durable::create_dir(&self.dir)?;
                durable::replace_private(&self.copy(number), &now)?;
            }
        }
        Ok(())
    }

    /// Puts back what differs, with what is there now beside it under another name; gives the files that were put back.
    pub(crate) fn put_back(&self, now: Timestamp) -> Result<Vec<String>, PlatformError> {
        let mut changed = Vec::new();
        for (number, file) in self.files.iter().enumerate() {
            let Some(good) = read(&self.copy(number)) else { continue };
            let bad = read(file);
            if bad.as_ref() == Some(&good) {
                continue;
            }
            if let Some(bad) = bad {
                let mut name = file.file_name().unwrap_or_default().to_owned();
                name.push(format!(".rejected-{}", now.millis()));
                durable::replace_private(&file.with_file_name(name), &bad)?;
            }
            durable::replace_private(file, &good)?;
            changed.push(file.display().to_string());
        }
        Ok(changed)
    }

    fn copy(&self, number: usize) -> PathBuf {
        self.dir.join(number.to_string())
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let fits = std::fs::metadata(path).is_ok_and(|it| it.len() <= LARGEST);
    if fits { std::fs::read(path).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r2_3_files_come_back_as_they_were_when_all_was_well() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gateway.env");
        durable::replace(&file, b"A=1\n").unwrap();
        let kept = KnownGood::new(dir.path(), "gateway", &[file.clone(), dir.path().join("none")]);
        assert!(kept.put_back(Timestamp(1)).unwrap().is_empty(), "nothing was kept yet");
        kept.keep().unwrap();
        assert!(kept.put_back(Timestamp(1)).unwrap().is_empty(), "nothing has changed");
        durable::replace(&file, b"A=1\n'FF_CHAOS=on'  \r\n").unwrap();
        assert_eq!(kept.put_back(Timestamp(7)).unwrap(), [file.display().to_string()]);
        assert_eq!(std::fs::read(&file).unwrap(), b"A=1\n");
        let rejected = dir.path().join("gateway.env.rejected-7");
        assert_eq!(std::fs::read(rejected).unwrap(), b"A=1\n'FF_CHAOS=on'  \r\n");
    }
}
