//! The monitor process: collector → store ← queries, and the HTTP interface.

use super::serving::{expose_process, tell_ready};
use super::{block_on, stop_on_request};
use crate::api::{self, Api};
use crate::cli::RoleArgs;
use crate::config::Config;
use crate::exit::{self, Failure};
use analyzer::{Analyzer, Findings, Forecasts, Query};
use collector::{Collector, RemoteWrite, TargetBoard};
use runtime::{Clock, Tasks};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use store::{Opened, StoreError};
use telemetry::Registry;
use tracing::info;

/// For tasks to end after stop was requested; the demo and the watchdog wait a little longer.
const GRACE: Duration = Duration::from_millis(2_500);

/// The file in the data directory that says where the monitor listens.
pub(crate) const ADDRESS: &str = "monitor.address";

/// The folder in the data directory with what the analyzer found and knows.
pub(crate) const FINDINGS: &str = "analyzer";

pub(crate) fn run(args: RoleArgs) -> Result<(), Failure> {
    let config = Config::load_or_default(args.config.as_deref())?;
    telemetry::trace::start("info");
    block_on(serve(config, args))
}

async fn serve(config: Config, args: RoleArgs) -> Result<(), Failure> {
    let stop = stop_on_request(args.with_parent);
    let registry = Registry::new();
    expose_process(&registry, "monitor");
    let listener = api::bind(&config.api).await?;
    let address = listener.local_addr().map_err(exit::with(exit::SYSTEM))?;
    let token = api::read_token(&config.api)?;
    let (store_config, store_registry) = (config.store.clone(), registry.clone());
    let opening = tokio::task::spawn_blocking(move || {
        store::open(store_config, Clock::system(), &store_registry)
    });
    let opened = opening.await.map_err(exit::with(exit::SOFTWARE))?;
    let Opened { writer, reader, upkeep, .. } = opened.map_err(exit::with(exit::UNAVAILABLE))?;
    let findings_dir = config.store.dir.join(FINDINGS);
    let findings =
        Findings::open(&findings_dir, &config.analyzer).map_err(exit::with(exit::UNAVAILABLE))?;
    let forecasts = Forecasts::open(&findings_dir, true).map_err(exit::with(exit::UNAVAILABLE))?;
    let query = Query::with_findings(
        config.query.clone(),
        reader.clone(),
        config.analyzer.clone(),
        findings.clone(),
        forecasts.clone(),
    )
    .map_err(exit::with(exit::SOFTWARE))?;
    let board = TargetBoard::new();
    let max_push = config.api.max_push_size.as_usize();
    let remote_write = RemoteWrite::new(writer.clone(), Clock::system(), max_push, &registry);
    let api = Api {
        query,
        findings: findings.clone(),
        remote_write,
        max_push,
        board: board.clone(),
        registry: registry.clone(),
        token,
        clock: Clock::system(),
    };

    let mut tasks = Tasks::new(stop);
    let upkeep = Arc::new(upkeep);
    let [sync, flush, merge, verify] = std::array::from_fn(|_| Arc::clone(&upkeep));
    tasks.spawn("wal-sync", |stop| async move { sync.run_sync(stop).await });
    tasks.spawn("flush", |stop| async move { flush.run_flush(stop).await });
    tasks.spawn("compaction", |stop| async move { merge.run_compaction(stop).await });
    tasks.spawn("verify", |stop| async move {
        // Once, in the background: a damaged segment is found before a query needs it.
        let _ = tokio::task::spawn_blocking(move || verify.verify_segments()).await;
        stop.wait().await;
        Ok::<_, StoreError>(())
    });
    let collector =
        Collector::new(config.collector.clone(), writer, Clock::system(), board, &registry)
            .map_err(exit::with(exit::CONFIG))?;
    tasks.spawn("collector", |stop| collector.run(stop));
    if config.analyzer.enabled {
        let settings = config.analyzer.clone();
        let kept = (findings, forecasts);
        let analyzer =
            Analyzer::new(settings, reader, kept, findings_dir, Clock::system(), &registry);
        tasks.spawn("analyzer", |stop| analyzer.run(stop));
    }
    let api_config = config.api.clone();
    tasks.spawn("api", |stop| async move { api::serve(listener, api, &api_config, stop).await });

    info!(%address, data = %config.store.dir.display(), "monitor is ready");
    let addresses = json!({ "api": address.to_string() });
    tell_ready(Some(&config.store.dir.join(ADDRESS)), &addresses)?;
    tell_ready(args.ready_file.as_deref(), &addresses)?;
    tasks.run(GRACE).await.map_err(exit::with(exit::SOFTWARE))?;
    let closing = tokio::task::spawn_blocking(move || upkeep.close()).await;
    closing.map_err(exit::with(exit::SOFTWARE))?.map_err(exit::with(exit::UNAVAILABLE))
}
