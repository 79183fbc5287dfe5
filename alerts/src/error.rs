//! Why alerts could not be kept or sent.

use crate::rule::yaml::Fault;
use platform::PlatformError;
use std::path::PathBuf;

/// Why alerting could not begin.
#[derive(Debug, thiserror::Error)]
pub enum AlertsError {
    /// A file operation.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A journal could not be read.
    #[error("could not read {path:?}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Rule files have faults.
    #[error("rules are not fit for use:{}", list(.0))]
    Rules(Vec<Fault>),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}
