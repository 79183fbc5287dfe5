//! Faults of the file system, for tests: each change that [`crate::durable`] makes is shown to a simulated disk
//! that notes it and lets chosen ones fail. Without the feature `faults` nothing is asked.

#[cfg(feature = "faults")]
pub mod disk;

use std::io;
use std::path::Path;

/// A change to the file system.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A new, empty file.
    Create(&'a Path),
    /// Bytes at the end of a file.
    Append(&'a Path, &'a [u8]),
    /// A file cut to a length.
    Truncate(&'a Path, u64),
    /// A file's content made durable.
    Sync(&'a Path),
    /// The names in a folder made durable.
    SyncDir(&'a Path),
    /// A new, empty folder.
    MakeDir(&'a Path),
    /// Another name for a file or folder, replacing what has it.
    Rename(&'a Path, &'a Path),
    /// A file's name removed.
    RemoveFile(&'a Path),
    /// A folder removed with all in it.
    RemoveDir(&'a Path),
}

/// Makes the change by `real`, unless a test wants it to fail.
///
/// # Errors
/// Those of `real`, or the one that the test wants.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(crate) fn through<T>(
    _change: Change<'_>,
    real: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    real()
}

/// Makes the change by `real`, unless a test wants it to fail.
///
/// # Errors
/// Those of `real`, or the one that the test wants.
#[cfg(feature = "faults")]
pub(crate) fn through<T>(
    change: Change<'_>,
    real: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    disk::ask(change)?;
    let done = real()?;
    disk::note(change);
    Ok(done)
}
