//! `/proc/meminfo`, line by line.

use super::{Reading, reading};
use platform::PlatformError;
use platform::host;

pub(super) fn read() -> Result<Vec<Reading>, PlatformError> {
    let lines = host::memory()?;
    let read = |(name, bytes): (String, u64)| {
        // The huge-page lines without a unit are counts.
        let unit = if name.starts_with("HugePages_") { "" } else { "_bytes" };
        reading(&format!("node_memory_{name}{unit}"), [], bytes as f64)
    };
    Ok(lines.into_iter().map(read).collect())
}
