//! Keeps other processes alive: starts them, probes them, restarts them, and records why. The smallest
//! program of the three, on purpose.
//!
//! - `config`: which commands, how they are probed
//! - `probe`: one question to a process, one verdict
//! - `restart`: the life of one child, from start to restart to the end
//! - `request`: restarts that somebody asks for
//! - `evidence`: what is written down of each event

mod config;
mod evidence;
mod probe;
mod request;
mod restart;

pub use config::{ChildConfig, WatchdogConfig};
pub use evidence::{Event, Journal};

use platform::PlatformError;
use platform::http::HttpClient;
use runtime::{Clock, Stop, Tasks};
use std::time::Duration;

/// Keeps every configured child alive until stopped, then ends them all.
///
/// # Errors
/// The journal could not be opened, or a task failed.
pub async fn run(config: WatchdogConfig, clock: Clock, stop: Stop) -> Result<(), WatchdogError> {
    let journal = Journal::open(&config.dir, clock)?;
    let client = HttpClient::new();
    let mut tasks = Tasks::new(stop);
    for child in config.child.clone() {
        let keeper =
            restart::Keeper::new(child, config.clone(), client.clone(), journal.clone(), clock);
        tasks.spawn("child", |stop| keeper.run(stop));
    }
    let grace = config.stop_grace + Duration::from_secs(1);
    tasks.run(grace).await.map_err(|failed| WatchdogError::Task(failed.to_string()))
}

/// A watchdog that cannot watch.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// A file operation.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A task ended that should not have.
    #[error("{0}")]
    Task(String),
}
