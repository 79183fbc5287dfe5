//! What can go wrong in the store, on what, and whether trying again may help.

use platform::PlatformError;
use std::path::PathBuf;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Parquet could not be written or read.
    #[error("could not {attempt} segment file {path:?}: {source}")]
    Parquet {
        /// A verb.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: parquet::errors::ParquetError,
    },
    /// A segment file that is not what the manifest says.
    #[error("segment {id} is damaged: {cause}")]
    Corrupt {
        /// The segment.
        id: String,
        /// What does not fit.
        cause: String,
    },
    /// A data directory written by another version.
    #[error(
        "{path:?} has format version {found}, this program reads {expected}: use the program that wrote it"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// A directory without a store in it.
    #[error("{0:?} holds no data: it has no file named CURRENT")]
    NoStore(PathBuf),
    /// A new series over a limit.
    #[error("series refused: {what} is over the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: String,
        /// How much is allowed.
        limit: usize,
    },
    /// Memory is full because segments cannot be written fast enough, or not at all.
    #[error("memory for recent samples is full until segments can be written")]
    Backlog,
    /// The batch does not hold together.
    #[error("batch has {series} series but {values} values")]
    Shape {
        /// Series named.
        series: usize,
        /// Values given.
        values: usize,
    },
    /// A batch too large for one record of the log.
    #[error("batch has {rows} rows, over the limit of {limit}: split it")]
    Rows {
        /// Rows given.
        rows: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The disk did not confirm a batch in time. It may still do so; sending it again does no harm.
    #[error("the write-ahead log was not on disk within {0:?}")]
    NotDurable(std::time::Duration),
}

impl StoreError {
    /// Whether the content of a segment may be at fault, and not the way to it; its checksum decides.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Parquet { .. })
    }

    /// Whether there was no room on the disk.
    pub(crate) fn is_full_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Platform(error) => error.is_disk_full(),
            Self::Parquet { source: parquet::errors::ParquetError::External(source), .. } => {
                let source = source.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                matches!(source, Some(StorageFull | QuotaExceeded))
            }
            _ => false,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Platform(_) | Self::Backlog | Self::NotDurable(_))
    }
}
