//! A journal of lines: what must survive the process is appended, and when most lines are of the past the file is written anew.
//!
//! A line that is torn or damaged costs only itself: it is set aside in a file beside the journal, for another version may read it.

use crate::PlatformError;
use crate::durable::{self, AppendFile};
use std::path::{Path, PathBuf};
use tracing::warn;

/// A journal that is open for writing.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// None after a failed write: then all is written anew with the next.
    file: Option<AppendFile>,
    /// Appended since it was written anew.
    lines: usize,
    bytes: usize,
    /// What it had then.
    whole: usize,
    /// Lines that could not be read and are not yet set aside.
    damaged: String,
}

/// So many bytes may be appended before it is written anew, and twice as many as all that is kept takes: long lines fill a disk, and
/// the memory at the next start, before there are too many of them.
const APPENDED: usize = 64 << 20;

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<T> {
    /// What its lines say, the oldest first.
    pub records: Vec<T>,
    /// The lines that say nothing, as they are.
    pub damaged: String,
}

/// Reads a journal; one that is not there holds nothing.
///
/// # Errors
/// It is there and could not be read.
pub fn read<T>(path: &Path, parse: impl Fn(&str) -> Option<T>) -> Result<Held<T>, PlatformError> {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(PlatformError::file("read", path)(error)),
    };
    let (mut records, mut damaged) = (Vec::new(), String::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        match parse(line) {
            Some(record) => records.push(record),
            None => damaged.extend([line, "\n"]),
        }
    }
    if !damaged.is_empty() {
        let lines = damaged.lines().count();
        warn!(path = %path.display(), lines, "lines of a journal are damaged; the rest is kept");
    }
    Ok(Held { records, damaged })
}

impl Journal {
    /// Begins a journal with the lines that stand for all that is kept. Lines that could not be read go to `NAME.damaged` in place of
    /// `NAME.jsonl`.
    ///
    /// On a full disk what is there stays, and all is written anew with the first change that finds room.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn begin(path: &Path, whole: &str, damaged: &str) -> Result<Self, PlatformError> {
        let (path, damaged) = (path.to_owned(), damaged.to_owned());
        let mut journal = Self { path, file: None, lines: 0, bytes: 0, whole: 0, damaged };
        match journal.rewrite(whole) {
            Err(error) if error.is_disk_full() => {
                warn!(%error, path = %journal.path.display(), "no room for a journal; what changes is not on disk until there is");
            }
            rewritten => rewritten?,
        }
        Ok(journal)
    }

    /// Appends `lines` lines, or writes `whole` anew when there would be over `most` since that was done last. With `sync` it survives
    /// power loss too. A failure is told, and mended by the next call.
    pub fn append(
        &mut self,
        (text, lines): (&str, usize),
        most: usize,
        sync: bool,
        whole: impl FnOnce() -> String,
    ) {
        if lines == 0 {
            return;
        }
        let written = match &mut self.file {
            Some(file)
                if self.lines + lines <= most
                    && self.bytes + text.len() <= APPENDED.max(2 * self.whole) =>
            {
                self.lines += lines;
                self.bytes += text.len();
                let appended = file.append(text.as_bytes()).inspect_err(|_| {
                    let _ = file.cut(); // no half of a line stays
                });
                if sync { appended.and_then(|()| file.sync()) } else { appended }
            }
            _ => self.rewrite(&whole()),
        };
        if let Err(error) = written {
            warn!(%error, path = %self.path.display(), "a change was not written to its journal; all is written anew with the next");
            self.file = None;
        }
    }

    fn rewrite(&mut self, whole: &str) -> Result<(), PlatformError> {
        self.file = None;
        if !self.damaged.is_empty() {
            durable::replace(&self.path.with_extension("damaged"), self.damaged.as_bytes())?;
            self.damaged = String::new();
        }
        durable::replace(&self.path, whole.as_bytes())?;
        self.file = Some(AppendFile::open_at(&self.path, whole.len() as u64)?);
        (self.lines, self.bytes, self.whole) = (0, 0, whole.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_back_damaged_ones_are_set_aside_and_old_ones_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let parse = |line: &str| line.parse::<u32>().ok();
        assert_eq!(read(&path, parse).unwrap().records, [0; 0]);
        let mut journal = Journal::begin(&path, "1\n", "what\n").unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("a.damaged")).unwrap(), "what\n");
        journal.append(("2\n3\n", 2), 3, true, || unreachable!());
        journal.append(("torn", 1), 3, false, || unreachable!());
        let held = read(&path, parse).unwrap();
        assert_eq!((held.records, held.damaged.as_str()), (vec![1, 2, 3], "torn\n"));
        journal.append(("4\n", 1), 3, true, || "3\n4\n".to_owned());
        assert_eq!(read(&path, parse).unwrap().records, [3, 4]);
        // Few lines, but long ones.
        let long = format!("{}\n", "0".repeat(APPENDED / 4));
        for _ in 0..6 {
            journal.append((&long, 1), 100, false, || "5\n".to_owned());
        }
        assert!(std::fs::metadata(&path).unwrap().len() < APPENDED as u64);
    }
}
