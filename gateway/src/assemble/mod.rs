//! How the parts are put together, begun and ended.
//!
//! - `components`: what runs beside the data plane; `exposed`: what each part shows of itself

mod components;
mod exposed;

use crate::access::manage;
use crate::access::policy::{Policies, Policy, Spec};
use crate::access::quota::Quotas;
use crate::access::token::Signer;
use crate::admit::overload::Overload;
use crate::cache::flight::Flights;
use crate::cache::second::Second;
use crate::cache::store::Cache;
use crate::cache::warmer::{self, Orders, Warmer};
use crate::chaos::fault::Faults;
use crate::chaos::own::{self, OwnFaults};
use crate::component::{Components, Pulse};
use crate::control::{self, Admin};
use crate::database::Database;
use crate::database::audit::{self, Audit};
use crate::database::directory::Directory;
use crate::env::EnvFile;
use crate::health::board::Board;
use crate::meters::Meters;
use crate::pressure::{self, Pressure};
use crate::request::DataPlane;
use crate::settings::{self, Settings};
use crate::target::Targets;
use crate::upstream::tool::Tool;
use crate::{GatewayConfig, GatewayError, lane, listener};
use arc_swap::ArcSwap;
use http::Uri;
use parking_lot::Mutex;
use platform::durable;
use runtime::{Clock, Jitter, Stop, Tasks};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use telemetry::Registry;
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

/// Threads for components; one that blocks leaves the others one.
const COMPONENT_THREADS: usize = 2;

/// Where a gateway listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For traffic.
    pub data: SocketAddr,
    /// For health, metrics and administration.
    pub control: SocketAddr,
}

/// What is shared between the data plane, the components and the administration.
struct Parts {
    board: Arc<Board>,
    overload: Arc<[Overload]>,
    cache: Arc<Cache>,
    directory: Arc<Directory>,
    database: Arc<Database>,
    second: Option<Arc<Second>>,
    orders: Orders,
    warmer: Arc<Warmer>,
    pressure: Arc<Pressure>,
    audit: Audit,
    sink: Arc<tokio::sync::Mutex<audit::Sink>>,
    settings: Arc<ArcSwap<Settings>>,
    env: Option<EnvFile>,
    tools: Vec<Arc<Tool>>,
    meters: Meters,
}

/// Serves until stopped. `env` is the environment file. `ready` learns the addresses once both listeners are bound.
///
/// # Errors
/// A listener could not be bound, something that is configured is not fit for use, or a task failed.
pub async fn run(
    config: GatewayConfig,
    env: Option<PathBuf>,
    clock: Clock,
    registry: Registry,
    stop: Stop,
    ready: impl FnOnce(Addresses),
) -> Result<(), GatewayError> {
    durable::create_dir(&config.dir)?;
    pressure::give_back_by_itself();
    let acceptor = config.tls.as_ref().map(listener::tls).transpose()?;
    let (data, successor) = match listener::inherited()? {
        Some(listener) => (listener, true),
        None => (listener::bind(config.listen)?, false),
    };
    let control_listener = listener::bind(config.control)?;
    let addresses = Addresses {
        data: data.local_addr().map_err(GatewayError::bind(config.listen))?,
        control: control_listener.local_addr().map_err(GatewayError::bind(config.control))?,
    };
    let parts = parts(&config, env.as_deref(), clock, &registry)?;
    if let Err(error) = parts.directory.refresh(&parts.database).await {
        warn!(%error, "begun without the database; what was last known counts");
    }
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(COMPONENT_THREADS)
        .max_blocking_threads(4)
        .thread_name("component")
        .enable_all()
        .build()
        .map_err(GatewayError::Thread)?;
    let mut tasks = Tasks::new(stop.clone());
    let faults = Arc::new(Faults::default());
    let run_on = (threads.handle(), &registry);
    let components = components::begin(&config, &parts, clock, run_on, &mut tasks);

    exposed::expose(&registry, &parts);
    let admin = admin(&config, &parts, components, &faults, clock, &registry)?;
    // The control listener outlives the drain: who waits for the end can watch it.
    let drained = Stop::new();
    let control_thread = control::start(control_listener, admin, drained.clone())?;
    let plane = Arc::new(plane(&config, &parts, faults, clock, &registry)?);
    info!(data = %addresses.data, control = %addresses.control, "gateway listens");
    ready(addresses);
    let drain_time = config.drain_time;
    tasks.spawn("listener", |stop| {
        listener::serve((data, successor), plane, config, acceptor, stop)
    });
    let outcome = tasks.run(drain_time + Duration::from_millis(300)).await;
    settle_audit(&parts).await;
    drained.request();
    let _ = tokio::task::spawn_blocking(move || control_thread.join()).await;
    threads.shutdown_background();
    outcome.map_err(|failed| GatewayError::Task(failed.to_string()))
}

/// What is still on its way into the audit is written before the end, or goes to the journal.
async fn settle_audit(parts: &Parts) {
    let pulse = Pulse::alone();
    let settled = tokio::time::timeout(Duration::from_millis(500), async {
        let mut sink = parts.sink.lock().await;
        while parts.audit.waiting() > 0 || sink.has_some() {
            sink.work(&parts.database, &pulse).await;
        }
    });
    if settled.await.is_err() {
        info!("the database does not take the last audit records in time; they go to the journal");
        parts.sink.lock().await.save();
    }
}

/// A file or a credential that is not there is no reason not to start, but somebody has mistyped its name.
fn warn_of_missing(file: &EnvFile, config: &GatewayConfig) {
    let path = file.path();
    if !path.exists() {
        warn!(file = %path.display(), "the environment file is not there; defaults are used until it is");
    }
    let Ok((document, _)) = file.read() else { return };
    for tool in &config.tool {
        if let Some(key) = tool.credential.as_deref().filter(|key| document.get(key).is_none()) {
            warn!(tool = %tool.name, key, file = %path.display(), "the tool's credential is not in the environment file; it is called without");
        }
    }
}

fn parts(
    config: &GatewayConfig,
    env: Option<&Path>,
    clock: Clock,
    registry: &Registry,
) -> Result<Parts, GatewayError> {
    let setup = GatewayError::Setup;
    let meters = Meters::new(registry);
    let threads = lane::count();
    let board = Arc::new(Board::new(clock, threads));
    let cache = Arc::new(Cache::new(config.cache.max_size.as_usize()));
    let directory = Directory::open(&config.dir, config.database.max_policy_age, clock);
    let directory = Arc::new(directory);
    let database = Database::open(&config.database, &config.dir).map_err(setup)?;
    let second = config.cache.redis.as_deref().map(Second::new).transpose();
    let second = second.map_err(|error| setup(format!("gateway.cache.redis: {error}")))?;
    let narrow = (&config.pressure, config.dir.clone(), config.max_connections);
    let pressure = Pressure::new(narrow, Arc::clone(&cache), Arc::clone(&directory), registry);
    let (orders, warmer) = warmer::open();
    let (audit, sink) = audit::open(&config.dir, config.database.max_journal_size.get());
    let tls = tls_of_tools(config)?;
    let tool = |tool| {
        let meters = (&meters, registry);
        Tool::new(tool, &config.admission, tls.as_ref(), meters).map_err(setup)
    };
    let tools = config.tool.iter().map(tool).collect::<Result<_, _>>()?;
    let env = env.map(|path| EnvFile::new(path, clock));
    if let Some(file) = &env {
        warn_of_missing(file, config);
        own::mend_left(file, &config.dir)?;
        // Without it the gateway runs as well: a lock or journal of another user's must not keep it from starting.
        let left = file.recover().unwrap_or_else(|error| {
            warn!(%error, "changes of the environment file that nobody called good could not be looked for; give its lock and journal to the user of the gateway");
            Vec::new()
        });
        for version in left {
            warn!(
                version,
                "a change of the environment file that nobody called good was taken back"
            );
        }
    }
    let settings = Arc::new(ArcSwap::from_pointee(Settings::default()));
    settings::reload(env.as_ref(), &settings, &board);
    Ok(Parts {
        board,
        overload: (0..threads).map(|_| Overload::default()).collect(),
        cache,
        directory,
        database: Arc::new(database),
        second: second.map(Arc::new),
        orders,
        warmer: Arc::new(warmer),
        pressure: Arc::new(pressure),
        audit,
        sink,
        settings,
        env,
        tools,
        meters,
    })
}

/// Only if a tool needs it: reading the system's authorities takes time and memory.
fn tls_of_tools(config: &GatewayConfig) -> Result<Option<TlsConnector>, GatewayError> {
    let secure = |url: &String| url.parse::<Uri>().is_ok_and(|it| it.scheme_str() == Some("https"));
    if !config.tool.iter().filter_map(|tool| tool.base_url.as_ref()).any(secure) {
        return Ok(None);
    }
    let config = platform::tls::Tls::default().client_config()?;
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

fn plane(
    config: &GatewayConfig,
    parts: &Parts,
    faults: Arc<Faults>,
    clock: Clock,
    registry: &Registry,
) -> Result<DataPlane, GatewayError> {
    let key = config.token_key_file.clone().unwrap_or_else(|| config.dir.join("token.key"));
    let management = manage::token_in(config.management_token_file.as_deref());
    let anonymous = Policy {
        id: String::new(),
        name: "gateway.anonymous".to_owned(),
        role: Some("anonymous".to_owned()),
        agent_id: None,
        spec: Spec { scopes: config.anonymous.clone(), ..Spec::default() },
    };
    Ok(DataPlane {
        clock,
        targets: Targets::new(parts.tools.clone(), &config.route, &parts.meters),
        meters: parts.meters.clone(),
        board: Arc::clone(&parts.board),
        overload: Arc::clone(&parts.overload),
        pressure: Arc::clone(&parts.pressure),
        signer: Signer::load(&key)?,
        quotas: Quotas::default(),
        anonymous: Policies::new(vec![anonymous]),
        directory: Arc::clone(&parts.directory),
        database: Arc::clone(&parts.database),
        audit: parts.audit.clone(),
        cache: Arc::clone(&parts.cache),
        second: parts.second.clone(),
        orders: parts.orders.clone(),
        flights: Flights::default(),
        settings: Arc::clone(&parts.settings),
        faults,
        management_token: management.map_err(GatewayError::Setup)?,
        admin_token: admin_token(config)?,
        registry: registry.clone(),
        key_makers: tokio::sync::Semaphore::new(2),
        readers: tokio::sync::Semaphore::new(config.max_in_flight.div_ceil(2)),
        max_in_flight: config.max_in_flight,
        max_body: config.max_body_size.as_usize(),
        read_timeout: config.read_timeout,
        seed: Jitter::random().next_u64(),
        number: AtomicU64::new(0),
    })
}

fn admin_token(config: &GatewayConfig) -> Result<Option<String>, GatewayError> {
    manage::token_in(config.admin_token_file.as_deref()).map_err(GatewayError::Setup)
}

fn admin(
    config: &GatewayConfig,
    parts: &Parts,
    components: Arc<Components>,
    faults: &Arc<Faults>,
    clock: Clock,
    registry: &Registry,
) -> Result<Arc<Admin>, GatewayError> {
    Ok(Arc::new(Admin {
        clock,
        board: Arc::clone(&parts.board),
        registry: registry.clone(),
        token: admin_token(config)?,
        pressure: Arc::clone(&parts.pressure),
        components,
        faults: Arc::clone(faults),
        own_faults: Arc::new(OwnFaults {
            database: Arc::clone(&parts.database),
            cache: Arc::clone(&parts.cache),
            audit: parts.audit.clone(),
            env: parts.env.clone(),
            dir: config.dir.clone(),
            running: Mutex::default(),
        }),
        tools: parts.tools.clone(),
        audit: parts.audit.clone(),
        env: parts.env.clone(),
        settings: Arc::clone(&parts.settings),
        answered: Mutex::default(),
    }))
}
