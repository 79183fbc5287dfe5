//! Why alerts could not be kept or sent.

use crate::rule::yaml::Fault;
use platform::PlatformError;

/// Why alerting could not begin.
#[derive(Debug, thiserror::Error)]
pub enum AlertsError {
    /// A file operation.
    #[error(transparent)]
    Platform(#[from] PlatformError),
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
