//! Why a query has no answer, and why the analyzer cannot go on.

use datafusion::error::DataFusionError;
use std::time::Duration;

/// A query without an answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The query itself is at fault.
    #[error("{0}")]
    Invalid(String),
    /// It took too long.
    #[error("query took longer than {0:?}; narrow its time range, or raise query.timeout")]
    Timeout(Duration),
    /// It has too many rows.
    #[error("answer has more than {0} rows; aggregate, add LIMIT, or raise query.max_rows")]
    Rows(usize),
    /// It needs too much memory.
    #[error(
        "query needs more memory than allowed; narrow its time range, or raise query.memory ({0})"
    )]
    Memory(String),
    /// Something of ours failed.
    #[error("query failed: {0}")]
    Failed(String),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        // The kind of error says itself in ours; twice is noise.
        let text = error.strip_backtrace();
        let text = text
            .trim_start_matches("Execution error: ")
            .trim_start_matches("Error during planning: ");
        let text = text.to_owned();
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::Memory(text),
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Execution(_)
            | DataFusionError::ArrowError(..)
            | DataFusionError::Diagnostic(..)
            | DataFusionError::Configuration(_) => Self::Invalid(text),
            _ => Self::Failed(text),
        }
    }
}

/// The analyzer cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzerError {
    /// A file of ours could not be read.
    #[error("could not read {path:?}: {source}")]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of ours could not be written.
    #[error(transparent)]
    Platform(#[from] platform::PlatformError),
    /// What detectors know is too large to be written down.
    #[error(
        "the state of the detectors is too large to be written to {0:?}; watch fewer series of one target"
    )]
    State(std::path::PathBuf),
    /// More series would be watched than may be.
    #[error("more than {0} series; name a metric or labels, or raise analyzer.max_series")]
    TooManySeries(usize),
    /// Samples could not be read.
    #[error(transparent)]
    Store(#[from] store::StoreError),
}
