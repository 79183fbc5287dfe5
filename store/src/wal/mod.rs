//! The write-ahead log: what was acknowledged is here until it is in a segment.
//!
//! Files `wal/<20 digits>.wal`, the digits being the sequence of their first frame. Each file stands
//! alone: it declares the series and layouts that it uses. See `docs/format/wal.md`.

pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod writer;

use std::path::{Path, PathBuf};

/// The folder of the log within the data directory.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("wal")
}

fn file_name(first: u64) -> String {
    format!("{first:020}.wal")
}

fn first_sequence(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".wal")?.parse().ok()
}

/// The highest sequence in a file's name, 0 without files.
///
/// # Errors
/// The folder is there and could not be read.
pub(crate) fn last_name(data: &Path) -> Result<u64, crate::StoreError> {
    let folder = folder(data);
    if !folder.exists() {
        return Ok(0);
    }
    let files = platform::durable::list(&folder)?;
    Ok(files.iter().filter_map(|path| first_sequence(path)).max().unwrap_or(0))
}

#[cfg(test)]
mod tests;
