//! The monitor process: collector → store ← queries, and the HTTP interface.

use super::serving::{expose_process, tell_ready};
use super::{block_on, stop_on_request};
use crate::api::{self, Api};
use crate::cli::RoleArgs;
use crate::config::Config;
use crate::exit::{self, Failure};
use crate::wire;
use alerts::{Alerts, Parts, SignalSender, Signals};
use analyzer::{Analyzer, Findings, Forecasts, Query};
use chaos::{Controller, RealHands};
use collector::{Collector, CollectorConfig, RemoteWrite, ScrapeConfig, TargetBoard};
use runtime::{Clock, Tasks};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::{Opened, Reader, StoreError, Upkeep};
use telemetry::Registry;
use tokio::sync::watch;
use tracing::{info, warn};

/// For tasks to end after stop was requested; the demo and the watchdog wait a little longer.
const GRACE: Duration = Duration::from_millis(2_500);

/// The file in the data directory that says where the monitor listens.
pub(crate) const ADDRESS: &str = "monitor.address";

/// The folder in the data directory with what the analyzer found and knows.
pub(crate) const FINDINGS: &str = "analyzer";

/// The folder in the data directory with alerts and what was done about them.
pub(crate) const ALERTS: &str = "alerts";

/// The folder in the data directory with the experiments that were done.
pub(crate) const CHAOS: &str = "chaos";

/// Where a watchdog of the same configuration keeps its journal.
fn watchdog_dir(config: &Config) -> Option<PathBuf> {
    #[cfg(feature = "watchdog")]
    return (!config.watchdog.child.is_empty()).then(|| config.watchdog.dir.clone());
    #[cfg(not(feature = "watchdog"))]
    return config.alerts.remediation.watchdog_dir.clone();
}

/// Adds the monitor itself to what is scraped, unless a job has its name.
fn scrape_self(
    config: &Config,
    address: SocketAddr,
    collecting: &mut CollectorConfig,
) -> Result<(), Failure> {
    let named = collecting.scrape.iter().any(|it| it.job == "monitor");
    if named || !config.api.scrape_self {
        return Ok(());
    }
    let reach = if address.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    } else {
        address
    };
    let job = json!({ "job": "monitor", "targets": [reach.to_string()] });
    let mut own: ScrapeConfig = serde_json::from_value(job).map_err(exit::with(exit::SOFTWARE))?;
    own.bearer_token_file = api::Access::file_to_read(&config.api);
    collecting.scrape.push(own);
    Ok(())
}

pub(crate) fn run(args: RoleArgs) -> Result<(), Failure> {
    let config = Config::load_or_default(args.config.as_deref())?;
    telemetry::trace::start("info");
    block_on(serve(config, args))
}

async fn open_store(config: &Config, registry: &Registry) -> Result<Opened, Failure> {
    let (config, registry) = (config.store.clone(), registry.clone());
    let opening =
        tokio::task::spawn_blocking(move || store::open(config, Clock::system(), &registry));
    opening.await.map_err(exit::with(exit::SOFTWARE))?.map_err(exit::with(exit::UNAVAILABLE))
}

/// What the store must do in the background.
fn keep_up(upkeep: &Arc<Upkeep>, tasks: &mut Tasks) {
    let [sync, flush, merge, verify] = std::array::from_fn(|_| Arc::clone(upkeep));
    tasks.spawn("wal-sync", |stop| async move { sync.run_sync(stop).await });
    tasks.spawn("flush", |stop| async move { flush.run_flush(stop).await });
    tasks.spawn("compaction", |stop| async move { merge.run_compaction(stop).await });
    tasks.spawn("verify", |stop| async move {
        // Once, in the background: a damaged segment is found before a query needs it.
        let _ = tokio::task::spawn_blocking(move || verify.verify_segments()).await;
        stop.wait().await;
        Ok::<_, StoreError>(())
    });
}

/// Reads rules and what an earlier process kept of alerts; findings are told through the sender.
fn open_alerts(
    config: &Config,
    reader: &Reader,
    registry: &Registry,
    address: SocketAddr,
) -> Result<(Alerts, SignalSender), Failure> {
    let (told, signals): (_, Signals) = watch::channel(Arc::default());
    let parts = Parts {
        reader: reader.clone(),
        signals,
        clock: Clock::system(),
        registry: registry.clone(),
        url: format!("http://{address}"),
        watchdog_dir: watchdog_dir(config),
    };
    let dir = config.store.dir.join(ALERTS);
    let alerts = Alerts::open(config.alerts.clone(), &dir, parts);
    Ok((alerts.map_err(exit::with(exit::CONFIG))?, told))
}

/// The experiments that were done.
fn open_book(config: &Config) -> Result<chaos::Book, Failure> {
    let dir = config.store.dir.join(CHAOS);
    chaos::Book::open(&dir, Clock::system().now()).map_err(exit::with(exit::UNAVAILABLE))
}

/// What runs experiments against the gateway.
fn chaos(config: &Config, book: chaos::Book, query: Query) -> Controller {
    let mut settings = config.chaos.clone();
    settings.watchdog_dir = settings.watchdog_dir.or_else(|| watchdog_dir(config));
    let hands = RealHands::new(settings.clone(), Clock::system());
    Controller::new(settings, book, hands, wire::ask_rows(query), Clock::system())
}

/// Writes down where `forerunner query --data-dir` finds us. All others are served without it, as on a full disk.
fn leave_address(config: &Config, addresses: &serde_json::Value) {
    if let Err(failure) = tell_ready(Some(&config.store.dir.join(ADDRESS)), addresses) {
        warn!(error = %failure.error, "the address could not be written down for those who ask by the data directory");
    }
}

async fn serve(config: Config, args: RoleArgs) -> Result<(), Failure> {
    let stop = stop_on_request(args.with_parent);
    let registry = Registry::new();
    expose_process(&registry, "monitor");
    let listener = api::bind(&config.api).await?;
    let address = listener.local_addr().map_err(exit::with(exit::SYSTEM))?;
    let access = api::Access::read(&config.api)?;
    let Opened { writer, reader, upkeep, .. } = open_store(&config, &registry).await?;
    let findings_dir = config.store.dir.join(FINDINGS);
    let findings =
        Findings::open(&findings_dir, &config.analyzer).map_err(exit::with(exit::UNAVAILABLE))?;
    let forecasts = Forecasts::open(&findings_dir, true).map_err(exit::with(exit::UNAVAILABLE))?;
    let (alerts, told) = open_alerts(&config, &reader, &registry, address)?;
    let desk = alerts.desk();
    let book = open_book(&config)?;
    let query = Query::with_findings(
        config.query.clone(),
        reader.clone(),
        config.analyzer.clone(),
        (findings.clone(), forecasts.clone()),
        wire::tables(desk.clone(), book.clone()),
    )
    .map_err(exit::with(exit::SOFTWARE))?;
    let chaos = chaos(&config, book, query.clone());
    let board = TargetBoard::new();
    let max_push = config.api.max_push_size.as_usize();
    let remote_write = RemoteWrite::new(writer.clone(), Clock::system(), max_push, &registry);
    let api = Api {
        query: query.clone(),
        findings: findings.clone(),
        desk,
        chaos: chaos.clone(),
        remote_write,
        max_push,
        board: board.clone(),
        registry: registry.clone(),
        access,
        clock: Clock::system(),
    };

    let mut tasks = Tasks::new(stop);
    let upkeep = Arc::new(upkeep);
    keep_up(&upkeep, &mut tasks);
    let mut collecting = config.collector.clone();
    scrape_self(&config, address, &mut collecting)?;
    let collector = Collector::new(collecting, writer, Clock::system(), board, &registry);
    tasks.spawn("collector", |stop| collector.run(stop));
    if config.analyzer.enabled {
        let settings = config.analyzer.clone();
        let kept = (findings.clone(), forecasts);
        let analyzer =
            Analyzer::new(settings, reader, kept, findings_dir, Clock::system(), &registry);
        tasks.spawn("analyzer", |stop| analyzer.run(stop));
    }
    tasks.spawn("chaos", |stop| chaos.run(stop));
    if config.alerts.enabled {
        tasks.spawn("signals", |stop| wire::tell(findings, told, stop));
        let ask = wire::ask(query);
        tasks.spawn("alerts", |stop| alerts.run(ask, stop));
    }
    let api_config = config.api.clone();
    tasks.spawn("api", |stop| async move { api::serve(listener, api, &api_config, stop).await });

    info!(%address, data = %config.store.dir.display(), "monitor is ready");
    let addresses = json!({ "api": address.to_string() });
    leave_address(&config, &addresses);
    tell_ready(args.ready_file.as_deref(), &addresses)?;
    tasks.run(GRACE).await.map_err(exit::with(exit::SOFTWARE))?;
    let closing = tokio::task::spawn_blocking(move || upkeep.close()).await;
    closing.map_err(exit::with(exit::SOFTWARE))?.map_err(exit::with(exit::UNAVAILABLE))
}
