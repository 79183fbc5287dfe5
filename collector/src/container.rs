//! Readings of containers, asked of their engine: they go on while what runs in one is stopped or hangs.

use crate::config::{CollectorConfig, ContainersConfig};
use crate::schedule::Ticks;
use crate::stage::Stage;
use containers::{Container, Engine, EngineError, Reading};
use futures_util::future::join_all;
use model::Labels;
use runtime::{Clock, Stop};
use std::time::Duration;
use store::Writer;
use tracing::{info, warn};

/// Reads all containers, or those that are named, at the interval until stopped.
pub(crate) async fn run(
    config: CollectorConfig,
    asked: ContainersConfig,
    writer: Writer,
    clock: Clock,
    stop: Stop,
) {
    let engine = match Engine::at(asked.engine.as_deref()) {
        Ok(engine) => engine,
        Err(error) => {
            warn!(%error, "no container is read");
            return;
        }
    };
    let host = platform::host::name();
    let pairs = config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let ours = [("job", "container"), ("instance", host.as_str())];
    let mut stage = Stage::new(writer, Labels::from_pairs(pairs.chain(ours)));
    let mut ticks = Ticks::new(config.interval, Duration::ZERO, clock);
    let mut was_up = None;
    while let Some(due) = ticks.next(&stop).await {
        let found = look(&engine, &asked.names).await;
        let up = found.is_ok();
        stage.push("up", &[], f64::from(u8::from(up)));
        if was_up.replace(up) != Some(up) {
            match &found {
                Ok(found) => info!(containers = found.len(), "the container engine answers"),
                Err(error) => warn!(%error, "the container engine does not answer"),
            }
        }
        for (container, reading) in found.unwrap_or_default() {
            add(&container, reading, &mut stage);
        }
        if let Err(error) = stage.append(due).await {
            warn!(%error, "container readings were not taken by the store");
        }
    }
}

/// Containers and what those that run take. One that ends in between is no error.
async fn look(
    engine: &Engine,
    names: &[String],
) -> Result<Vec<(Container, Option<Reading>)>, EngineError> {
    let names = if names.is_empty() { engine.names().await? } else { names.to_vec() };
    let all = join_all(names.into_iter().map(|name| one(engine.clone(), name))).await;
    let asked = all.len();
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for outcome in all {
        match outcome {
            Ok(it) => found.extend(it),
            Err(error) => failed.push(error),
        }
    }
    // One that cannot be asked about hides no other.
    match failed.pop() {
        Some(error) if failed.len() + 1 == asked => Err(error),
        Some(error) => {
            warn!(%error, "a container could not be read");
            Ok(found)
        }
        None => Ok(found),
    }
}

async fn one(
    engine: Engine,
    name: String,
) -> Result<Option<(Container, Option<Reading>)>, EngineError> {
    match engine.inspect(&name).await {
        Ok(it) if it.running => {
            let reading = engine.reading(&name).await.ok();
            Ok(Some((it, reading)))
        }
        Ok(it) => Ok(Some((it, None))),
        Err(EngineError::Unknown(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn add(it: &Container, reading: Option<Reading>, stage: &mut Stage) {
    let labels = [("container", it.name.as_str()), ("image", it.image.as_str())];
    let mut push = |metric: &str, value: f64| stage.push(metric, &labels, value);
    let flag = |yes: bool| f64::from(u8::from(yes));
    push("container_running", flag(it.running));
    push("container_oom_killed", flag(it.oom_killed));
    push("container_restarts_total", it.restarts as f64);
    if let Some(healthy) = it.healthy {
        push("container_healthy", flag(healthy));
    }
    if !it.running {
        push("container_exit_code", it.exit_code as f64);
    }
    let Some(reading) = reading else { return };
    push("container_cpu_usage_seconds_total", reading.cpu_seconds);
    push("container_memory_usage_bytes", reading.memory as f64);
    if reading.memory_limit > 0 {
        push("container_spec_memory_limit_bytes", reading.memory_limit as f64);
    }
    push("container_network_receive_bytes_total", reading.received as f64);
    push("container_network_transmit_bytes_total", reading.sent as f64);
}
