//! What can go wrong outside the process, with the thing it went wrong on.

use std::io;
use std::path::{Path, PathBuf};

/// An operation of the system that failed.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// A file or folder.
    #[error("could not {attempt} {path:?}: {source}")]
    File {
        /// What was attempted: a verb.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("{path:?} is in use by {holder}")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What its holder wrote into it.
        holder: String,
    },
    /// A program that could not be started.
    #[error("could not start {program:?}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A reading that this kernel or system does not give.
    #[error("could not read {what}: {cause}")]
    Reading {
        /// What was to be read.
        what: &'static str,
        /// Why not.
        cause: String,
    },
}

impl PlatformError {
    /// For `map_err`: what was attempted with which file.
    pub fn file(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { attempt, path, source }
    }

    /// Whether the disk, or the quota on it, is full.
    pub fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::File { source, .. } if full.contains(&source.kind()))
    }
}
