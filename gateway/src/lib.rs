//! The gateway: serves traffic on the data listener, and says how it is on the control listener, which has
//! a thread of its own. Never knows that a monitor exists.
//!
//! - [`config`](GatewayConfig): listeners, limits, tools
//! - `listener`: accepts connections within limits and closes them in order
//! - `request`: the life of one request: admit → route → answer → record
//! - `route`: path to tool and action; `tool`: the answers of mock tools
//! - `control`: `/live`, `/ready`, `/health`, `/metrics`; `health`: one verdict a check
//! - `meters`: what is counted

mod config;
mod control;
mod error;
mod health;
mod listener;
mod meters;
mod request;
mod route;
mod tool;

pub use config::{GatewayConfig, ToolConfig};
pub use error::GatewayError;

use health::Vitals;
use meters::Meters;
use request::DataPlane;
use runtime::{Clock, Jitter, Stop, Tasks};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Registry;
use tracing::info;

/// Where a gateway listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For traffic.
    pub data: SocketAddr,
    /// For health, metrics and administration.
    pub control: SocketAddr,
}

/// Serves until stopped. `ready` learns the addresses once both listeners are bound.
///
/// # Errors
/// A listener could not be bound, or a task failed.
pub async fn run(
    config: GatewayConfig,
    clock: Clock,
    registry: Registry,
    stop: Stop,
    ready: impl FnOnce(Addresses),
) -> Result<(), GatewayError> {
    let data = listener::bind(config.listen).await?;
    let control = listener::bind(config.control).await?;
    let addresses = Addresses {
        data: data.local_addr().map_err(GatewayError::bind(config.listen))?,
        control: control.local_addr().map_err(GatewayError::bind(config.control))?,
    };
    let meters = Meters::new(&registry);
    let vitals = Arc::new(Vitals::new(clock, config.max_in_flight, config.max_connections));
    let control_thread = control::start(control, Arc::clone(&vitals), registry, stop.clone())?;
    let plane = Arc::new(DataPlane {
        tools: config.tool.clone(),
        vitals: Arc::clone(&vitals),
        meters,
        max_body: config.max_body_size.as_usize(),
        seed: Jitter::random().next_u64(),
    });
    info!(data = %addresses.data, control = %addresses.control, "gateway listens");
    ready(addresses);
    let mut tasks = Tasks::new(stop);
    let beating = Arc::clone(&vitals);
    tasks.spawn("heartbeat", |stop| async move {
        while stop.wait_for(health::BEAT).await == runtime::Tick::Elapsed {
            beating.beat();
        }
        Ok::<_, GatewayError>(())
    });
    tasks.spawn("listener", |stop| listener::serve(data, plane, config, vitals, stop));
    let outcome = tasks.run(Duration::from_secs(4)).await;
    let _ = tokio::task::spawn_blocking(move || control_thread.join()).await;
    outcome.map_err(|failed| GatewayError::Task(failed.to_string()))
}
