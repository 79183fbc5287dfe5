//! What must survive the process: one record a line, as JSON; a later record of the same thing stands for the earlier one. Written
//! before anybody is told.

use crate::AlertsError;
use crate::book::{Alert, Audit, Group};
use crate::incident::Incident;
use crate::notify::Entry;
use crate::remediation::record::{Remediation, Strike};
use crate::silence::Silence;
use platform::journal::{self, Held, Journal};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tracing::warn;

const NAME: &str = "alerts.jsonl";
/// Lines since the file was written anew.
const MOST: usize = 20_000;

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

/// All records of a folder; one that is not there has none.
pub(crate) fn read(dir: &Path) -> Result<Held<Record>, AlertsError> {
    Ok(journal::read(&dir.join(NAME), |line| serde_json::from_str(line).ok())?)
}

/// Begins the journal of `dir` with what was kept.
pub(crate) fn begin(dir: &Path, kept: &[Record], damaged: &str) -> Result<Journal, AlertsError> {
    Ok(Journal::begin(&dir.join(NAME), &lines(kept), damaged)?)
}

/// Appends; `all` gives everything that is kept where the file is to be written anew.
pub(crate) fn append(
    journal: &mut Journal,
    records: &[Record],
    sync: bool,
    all: impl FnOnce() -> Vec<Record>,
) {
    let most = MOST.max(2 * records.len());
    journal.append((&lines(records), records.len()), most, sync, || lines(&all()));
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
