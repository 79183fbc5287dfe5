//! The mark of a clean end: the file `CLEAN` with the last sequence of the log. A start takes it away, so it
//! is there only if nothing came after it.

use crate::StoreError;
use platform::durable;
use std::path::Path;

const MARK: &str = "CLEAN";

/// Says that the log ends with `last` and all of it is on disk.
pub(crate) fn leave_mark(data: &Path, last: u64) -> Result<(), StoreError> {
    Ok(durable::replace(&data.join(MARK), format!("{last}\n").as_bytes())?)
}

/// Whether the last run ended as it should, with sequence `last`. Takes the mark away.
pub(crate) fn take_mark(data: &Path, last: u64) -> Result<bool, StoreError> {
    let path = data.join(MARK);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(false) };
    durable::remove_file(&path)?;
    Ok(text.trim().parse() == Ok(last))
}
