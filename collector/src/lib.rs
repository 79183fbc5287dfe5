//! Pulls metrics from targets, the host and processes, takes pushed ones, and hands them to the store as
//! batches.
//!
//! The way of a scrape: `schedule` says when, `scrape/retry` how often, `scrape/fetch` gets the page,
//! `scrape/cycle` reads it into a batch with `up` and the scrape's own figures, `stage` appends it. Never
//! knows what a value means, which rule reads it, or that Parquet exists.
//!
//! - `config`, `target`: what to scrape, and what is known of each target's health
//! - `remote_write/`: what Prometheus and its agents push
//! - `host/`: the machine, one module for each kernel file; `process`: processes by pid or name

mod config;
mod host;
mod process;
mod remote_write;
mod schedule;
mod scrape;
mod stage;
mod target;

pub use config::{BasicAuth, CollectorConfig, HostConfig, ProcessConfig, ScrapeConfig};
pub use remote_write::{PushError, RemoteWrite, Turn};
pub use scrape::retry;
pub use target::{TargetBoard, TargetStatus};

use platform::http::HttpClient;
use runtime::{Clock, Stop};
use std::sync::Arc;
use store::Writer;
use telemetry::Registry;

/// Collects until stopped: one task a target, one for the host, one for all processes.
///
/// # Errors
/// A task panicked; none ends by itself.
pub async fn run(
    config: CollectorConfig,
    writer: Writer,
    clock: Clock,
    board: TargetBoard,
    registry: Registry,
    stop: Stop,
) -> Result<(), tokio::task::JoinError> {
    let meters = scrape::Meters::new(&registry);
    let client = HttpClient::new();
    let mut tasks = tokio::task::JoinSet::new();
    for scrape in &config.scrape {
        for target in target::targets(scrape, &config) {
            let target = Arc::new(target);
            let cycle = scrape::cycle::Cycle::new(
                Arc::clone(&target),
                writer.clone(),
                client.clone(),
                clock,
                board.register(&target),
                meters.clone(),
            );
            tasks.spawn(schedule::scrape(cycle, stop.clone()));
        }
    }
    if config.host.enabled {
        let interval = config.host.interval.unwrap_or(config.interval);
        tasks.spawn(host::run(
            interval,
            config.labels.clone(),
            writer.clone(),
            clock,
            stop.clone(),
        ));
    }
    if !config.process.is_empty() {
        tasks.spawn(process::run(config, writer, clock, stop));
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

/// Readers of bytes from the network, for the fuzzer.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// The uncompressed body of a remote-write request.
    pub fn remote_write(body: &[u8]) {
        crate::remote_write::fuzz(body);
    }
}
