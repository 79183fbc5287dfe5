//! Keeps other processes alive: starts them, probes them, restarts them, and records why. The smallest
//! program of the three, on purpose.
//!
//! - `config`: which commands, how they are watched, when to give up
//! - `restart`: the life of one child, from start to restart to the end; `container`: that of a container
//! - `probe`: whether it answers; `memory`: whether it stays under its limit, and calls that may help
//! - `request`: restarts, pauses and kills that somebody asks for
//! - `known_good`: its files as they were when it was well; `page`: who is told when nothing helps
//! - `evidence`: what is written down of each event; `autopsy`: what is kept of a child before its end; `meters`: what is shown

mod autopsy;
mod config;
mod container;
mod evidence;
mod known_good;
mod memory;
mod meters;
mod page;
mod probe;
mod request;
mod restart;

pub use config::{ChildConfig, ContainerConfig, EaseConfig, WatchdogConfig};
pub use evidence::{Event, Journal, Remains};

use container::ContainerKeeper;
use containers::EngineError;
use meters::Meters;
use page::Pager;
use platform::http::HttpClient;
use platform::lock::DirLock;
use platform::tls::Tls;
use platform::{PlatformError, process, serve};
use restart::{Keeper, Shared};
use runtime::{Clock, Stop, Tasks};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Registry;
use tokio::net::TcpListener;
use tracing::{info, warn};

/// The variable that names a child's watchdog, so that the next one knows what an earlier one has left.
const MARK: &str = "FORERUNNER_WATCHDOG_CHILD";

/// Keeps every configured child alive until stopped, then ends them all. `bind` are words that come before each command: a program that
/// binds its own life to ours and then becomes the command.
///
/// # Errors
/// The journal or a child's socket could not be opened, or a task failed.
pub async fn run(
    config: WatchdogConfig,
    bind: Vec<String>,
    clock: Clock,
    registry: Registry,
    stop: Stop,
) -> Result<(), WatchdogError> {
    let journal = Journal::open(&config.dir, clock)?;
    let secure = config.page.iter().any(|url| url.starts_with("https:"));
    let client = HttpClient::new();
    let paging = if secure { HttpClient::with_tls(&Tls::default())? } else { client.clone() };
    let shared = Shared {
        pager: Pager::new(&config.page, &paging, clock),
        client,
        journal,
        clock,
        bind: bind.into(),
        config: Arc::new(config),
    };
    let config = Arc::clone(&shared.config);
    let meters = Meters::new(&registry);
    let mut tasks = Tasks::new(stop);
    if let Some(address) = config.listen {
        match TcpListener::bind(address).await {
            Ok(listener) => tasks.spawn("page", |stop| show(listener, registry, stop)),
            // To keep the children alive matters more.
            Err(error) => warn!(%address, %error, "own metrics are not served"),
        }
    }
    // What has our mark is left by an earlier watchdog only if that one is gone.
    let lock = DirLock::exclusive(
        &config.dir.join("LOCK"),
        &format!("watchdog, process {}", std::process::id()),
    )?;
    for child in config.child.clone() {
        let pids = process::kill_marked(MARK, &mark(&config.dir, &child.name));
        if !pids.is_empty() {
            warn!(child = %child.name, ?pids, "ended what an earlier watchdog has left");
            shared.journal.write(&child.name, &Event::OrphansEnded { pids });
        }
        let own = meters.child(&child.name);
        let keeper = Keeper::new(child, shared.clone(), own)?;
        tasks.spawn("child", |stop| keeper.run(stop));
    }
    for container in config.container.clone() {
        let own = meters.child(&container.name);
        let keeper = ContainerKeeper::new(container, shared.clone(), own)?;
        tasks.spawn("container", |stop| keeper.run(stop));
    }
    let grace = config.stop_grace + Duration::from_secs(1);
    let ended = tasks.run(grace).await;
    drop(lock);
    ended.map_err(|failed| WatchdogError::Task(failed.to_string()))
}

async fn show(
    listener: TcpListener,
    registry: Registry,
    stop: Stop,
) -> Result<(), std::convert::Infallible> {
    let address = listener.local_addr().map(|it| it.to_string()).unwrap_or_default();
    info!(address, "own metrics are served");
    let pages = serve::serve(listener, move |path| match path {
        "/live" => Some((200, "live\n".to_owned())),
        "/metrics" => Some((200, registry.page())),
        _ => None,
    });
    tokio::select! {
        () = pages => {}
        () = stop.wait() => {}
    }
    Ok(())
}

/// What marks the processes of one child of the watchdog with this folder.
fn mark(dir: &Path, child: &str) -> String {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    format!("{}:{child}", dir.display())
}

/// A watchdog that cannot watch.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// A file operation, or a socket.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The address of a container engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A task ended that should not have.
    #[error("{0}")]
    Task(String),
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
