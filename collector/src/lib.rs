//! Pulls metrics from targets, the host and processes, takes pushed ones, and hands them to the store as
//! batches.
//!
//! The way of a scrape: `schedule` says when, `scrape/retry` how often, `scrape/fetch` gets the page,
//! `scrape/cycle` reads it into a batch with `up` and the scrape's own figures, `stage` appends it. Never
//! knows what a value means, which rule reads it, or that Parquet exists.
//!
//! - `config`: what to scrape; `discovery/`, `relabel`: which targets there are and with what labels; `job`,
//!   `target`: how they come and go, and what is known of each one's health
//! - `remote_write/`: what Prometheus and its agents push
//! - `import/`: rows from files
//! - `host/`: the machine, one module for each kernel file; `process`: processes by pid or name; `container`: containers by their engine

mod config;
mod container;
mod discovery;
mod host;
pub mod import;
mod job;
mod process;
mod relabel;
mod remote_write;
mod schedule;
mod scrape;
mod stage;
mod target;

pub use config::{
    BasicAuth, CollectorConfig, ContainersConfig, DnsKind, DnsSdConfig, FileSdConfig, HostConfig,
    ProcessConfig, Scheme, ScrapeConfig, TlsConfig,
};
pub use relabel::{Action, Anchored, RelabelConfig};
pub use remote_write::encode::encode;
pub use remote_write::{PushError, RemoteWrite, Turn};
pub use scrape::retry;
pub use target::{TargetBoard, TargetStatus};

use job::{Job, Tools};
use runtime::{Clock, Stop};
use std::sync::Arc;
use store::Writer;
use telemetry::Registry;

/// A collector ready to run.
#[derive(Debug)]
pub struct Collector {
    config: Arc<CollectorConfig>,
    jobs: Vec<Job>,
    writer: Writer,
    clock: Clock,
}

impl Collector {
    /// Prepares all jobs; must be called within a tokio runtime.
    pub fn new(
        config: CollectorConfig,
        writer: Writer,
        clock: Clock,
        board: TargetBoard,
        registry: &Registry,
    ) -> Self {
        let config = Arc::new(config);
        let meters = scrape::Meters::new(registry);
        let tools = Tools { writer: writer.clone(), clock, board, meters };
        let jobs = config.scrape.iter().map(|scrape| Job::new(scrape, &config, tools.clone()));
        let jobs = jobs.collect();
        Self { config, jobs, writer, clock }
    }

    /// Collects until stopped: one task a target, one for the host, one for all processes.
    ///
    /// # Errors
    /// A task panicked; none ends by itself.
    pub async fn run(self, stop: Stop) -> Result<(), tokio::task::JoinError> {
        let Self { config, jobs, writer, clock } = self;
        let mut tasks = tokio::task::JoinSet::new();
        for job in jobs {
            tasks.spawn(job.run(stop.clone()));
        }
        if config.host.enabled {
            let interval = config.host.interval.unwrap_or(config.interval);
            let labels = config.labels.clone();
            tasks.spawn(host::run(interval, labels, writer.clone(), clock, stop.clone()));
        }
        if !config.process.is_empty() {
            tasks.spawn(process::run((*config).clone(), writer.clone(), clock, stop.clone()));
        }
        for engine in config.containers.clone() {
            let (config, writer, stop) = ((*config).clone(), writer.clone(), stop.clone());
            tasks.spawn(container::run(config, engine, writer, clock, stop));
        }
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// Readers of bytes from the network, for the fuzzer.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// The uncompressed body of a remote-write request.
    pub fn remote_write(body: &[u8]) {
        crate::remote_write::fuzz(body);
    }
}
