//! Beside the file `NAME`, in `.NAME.journal`: a line for each change before it is published, with the contents before and after,
//! and a line for what became of it. The last [`KEPT`] versions are kept, fewer of a large file; the journal is as private as the file.

use super::commit::EnvError;
use platform::durable::{self, AppendFile};
use platform::journal::{Held, read};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Versions that can be gone back to, unless they take more than so many bytes; the last two always can.
const KEPT: usize = 50;
const MOST_BYTES: usize = 256 << 10;

/// A line.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// A change that is about to be published.
    Intent(Intent),
    /// It was kept, or taken back and why.
    Outcome { version: u64, kept: bool, reason: String },
}

/// A change that is about to be published.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(super) struct Intent {
    pub(super) version: u64,
    pub(super) time: model::Timestamp,
    /// Who changes, such as `command line` or `admin`.
    pub(super) author: String,
    /// What, without values: they may be secrets.
    pub(super) change: String,
    /// The content that is replaced.
    pub(super) before: String,
    /// The content that is published.
    pub(super) after: String,
    pub(super) before_hash: String,
    pub(super) after_hash: String,
    /// Whether it is kept only if somebody says so within this time.
    pub(super) judged: bool,
}

/// The journal of one file, read under the file's lock.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    pub(super) records: Vec<Record>,
}

impl Journal {
    pub(super) fn open(file: &Path) -> Result<Self, EnvError> {
        let path = beside(file, "journal");
        let Held { records, damaged } = read(&path, |line| serde_json::from_str(line).ok())?;
        let journal = Self { path, records };
        if !damaged.is_empty() {
            journal.rewrite()?; // a line that a kill tore: it was not published
        }
        Ok(journal)
    }

    pub(super) fn intents(&self) -> impl DoubleEndedIterator<Item = &Intent> {
        self.records.iter().filter_map(|record| match record {
            Record::Intent(intent) => Some(intent),
            Record::Outcome { .. } => None,
        })
    }

    pub(super) fn outcome(&self, version: u64) -> Option<(bool, &str)> {
        self.records.iter().rev().find_map(|record| match record {
            Record::Outcome { version: of, kept, reason } if *of == version => {
                Some((*kept, reason.as_str()))
            }
            _ => None,
        })
    }

    pub(super) fn next_version(&self) -> u64 {
        self.intents().next_back().map_or(1, |last| last.version + 1)
    }

    /// Appends a line; with `sync` it survives power loss before anything that follows it.
    pub(super) fn append(&mut self, record: Record, sync: bool) -> Result<(), EnvError> {
        let line = line(&record)?;
        self.records.push(record);
        let len = std::fs::metadata(&self.path).map(|meta| meta.len());
        let len = match len {
            Ok(len) if len < 2 * MOST_BYTES as u64 && self.records.len() < 4 * KEPT => len,
            _ => return self.rewrite(),
        };
        let mut file = AppendFile::open_at(&self.path, len)?;
        file.append(line.as_bytes())?;
        if sync {
            file.sync()?;
        }
        Ok(())
    }

    /// Writes what is kept anew.
    fn rewrite(&self) -> Result<(), EnvError> {
        let mut bytes = 0;
        let recent = self.intents().rev().take(KEPT).enumerate().take_while(|(n, intent)| {
            bytes += intent.before.len() + intent.after.len();
            *n < 2 || bytes <= MOST_BYTES
        });
        let first = recent.last().map_or(0, |(_, intent)| intent.version);
        let kept = self.records.iter().filter(|record| match record {
            Record::Intent(intent) => intent.version >= first,
            Record::Outcome { version, .. } => *version >= first,
        });
        let mut text = String::new();
        for record in kept {
            text.push_str(&line(record)?);
        }
        durable::replace_private(&self.path, text.as_bytes())?;
        Ok(())
    }
}

fn line(record: &Record) -> Result<String, EnvError> {
    let line =
        serde_json::to_string(record).map_err(|error| EnvError::Journal(error.to_string()))?;
    Ok(line + "\n")
}

/// `.NAME.SUFFIX` in the folder of the file.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{suffix}"))
}
