//! What must survive the process: one record a line, as JSON; a later record of the same thing stands for the earlier one.
//!
//! Written before anybody is told. The file is written anew when most of its lines are of the past. A line that is torn or
//! damaged is set aside in `alerts.damaged`, and the rest is used.

use crate::AlertsError;
use crate::book::{Alert, Audit, Group};
use crate::incident::Incident;
use crate::notify::Entry;
use crate::remediation::record::{Remediation, Strike};
use crate::silence::Silence;
use platform::durable::{self, AppendFile};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tracing::warn;

const NAME: &str = "alerts.jsonl";
const DAMAGED: &str = "alerts.damaged";

/// One change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    Alert(Box<Alert>),
    /// A pending alert that is inactive again, by its fingerprint.
    Forget(String),
    Group(Group),
    Entry(Box<Entry>),
    Silence(Silence),
    Incident(Box<Incident>),
    Remediation(Box<Remediation>),
    Strike(Strike),
    Audit(Audit),
    /// Whether remediation is allowed.
    Allowed(bool),
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// None after a failed write: then all is written anew at the next change.
    file: Option<AppendFile>,
    lines: usize,
}

/// All records of a folder, the oldest first; one that is not there has none. The text of lines that cannot be read is second.
pub(crate) fn read(dir: &Path) -> Result<(Vec<Record>, String), AlertsError> {
    let path = dir.join(NAME);
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(AlertsError::Read { path, source }),
    };
    let mut records = Vec::new();
    let mut damaged = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) => damaged.extend([line, "\n"]),
        }
    }
    if !damaged.is_empty() {
        let lines = damaged.lines().count();
        warn!(path = %path.display(), lines, "lines of the journal of alerts are damaged; the rest is kept");
    }
    Ok((records, damaged))
}

impl Journal {
    /// Begins the journal of `dir` with what was kept.
    pub(crate) fn begin(dir: &Path, kept: &[Record], damaged: &str) -> Result<Self, AlertsError> {
        if !damaged.is_empty() {
            durable::replace(&dir.join(DAMAGED), damaged.as_bytes())?;
        }
        let mut journal = Self { path: dir.join(NAME), file: None, lines: 0 };
        journal.rewrite(kept)?;
        Ok(journal)
    }

    /// Appends; `all` gives everything that is kept where the file is to be written anew. With `sync` it survives power loss too.
    pub(crate) fn append(
        &mut self,
        records: &[Record],
        sync: bool,
        all: impl FnOnce() -> Vec<Record>,
    ) {
        if records.is_empty() {
            return;
        }
        let text = lines(records);
        let written = match &mut self.file {
            Some(file) if self.lines < 20_000 || self.lines < 4 * records.len() => {
                self.lines += records.len();
                let appended = file.append(text.as_bytes());
                if sync { appended.and_then(|()| file.sync()) } else { appended }
            }
            _ => self.rewrite(&all()),
        };
        if let Err(error) = written {
            warn!(%error, "a change of alerts was not written to its journal; all is written anew with the next");
            self.file = None;
        }
    }

    fn rewrite(&mut self, all: &[Record]) -> Result<(), platform::PlatformError> {
        let text = lines(all);
        durable::replace(&self.path, text.as_bytes())?;
        self.file = Some(AppendFile::open_at(&self.path, text.len() as u64)?);
        // What is kept anyway does not count toward the next time.
        self.lines = 0;
        Ok(())
    }
}

fn lines(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        match serde_json::to_string(record) {
            Ok(line) => text.extend([line.as_str(), "\n"]),
            Err(error) => warn!(%error, "a record of alerts cannot be written"),
        }
    }
    text
}
