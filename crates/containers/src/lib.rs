//! Containers by the Docker Engine API, over a Unix socket, a named pipe or TCP: list, readings, logs, health, restart. What only asks is
//! asked again when it fails for a moment; nothing is asked without an end. Speaks to Docker and to Podman alike.

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use bollard::query_parameters::{
    ListContainersOptions, LogsOptions, RestartContainerOptions, StatsOptions,
};
use futures_util::StreamExt;
use runtime::{Backoff, Jitter};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::timeout;

/// For one question; a restart may take as long again as the container is given to end.
const TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(1), attempts: 3 };
/// Containers that are listed.
pub const MOST: usize = 500;
/// Bytes of logs that are read.
const LONGEST_LOG: usize = 256 << 10;

/// An engine that cannot be asked, or refuses.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The address is none.
    #[error(
        "{address:?} is no address of a container engine: {cause}; give unix:///run/podman/podman.sock, npipe:////./pipe/docker_engine or tcp://127.0.0.1:2375"
    )]
    Address {
        /// What was given.
        address: String,
        /// Why it is none.
        cause: String,
    },
    /// There is no such container.
    #[error("there is no container {0:?}")]
    Unknown(String),
    /// It did not answer in time.
    #[error("the container engine gave no answer within {0:?}")]
    Timeout(Duration),
    /// Anything else.
    #[error("the container engine: {0}")]
    Failed(String),
}

impl EngineError {
    /// Whether it may be over in a moment.
    fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Failed(_))
    }
}

/// How a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name, without the slash.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Whether its process runs.
    pub running: bool,
    /// What its own health check says; none where it has none.
    pub healthy: Option<bool>,
    /// The exit code of its last run.
    pub exit_code: i64,
    /// Whether the kernel killed it because memory ran out.
    pub oom_killed: bool,
    /// Times that the engine restarted it by itself.
    pub restarts: u64,
}

/// What a container takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Seconds of processor time.
    pub cpu_seconds: f64,
    /// Bytes of memory, without what can be dropped at once.
    pub memory: u64,
    /// Its limit; zero where there is none.
    pub memory_limit: u64,
    /// Bytes received and sent, on all its interfaces; zero with the network of the host.
    pub received: u64,
    /// As above.
    pub sent: u64,
}

/// An engine. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Place>);

#[derive(Debug)]
struct Place {
    address: Option<String>,
    /// Opened at the first question that finds its socket: an engine may begin after us.
    opened: OnceLock<Docker>,
}

impl Engine {
    /// At an address, or where Docker usually is. Nothing is opened yet.
    ///
    /// # Errors
    /// The address is none.
    pub fn at(address: Option<&str>) -> Result<Self, EngineError> {
        let known = ["unix://", "npipe://", "tcp://", "http://", "/"];
        if let Some(odd) = address.filter(|it| !known.iter().any(|start| it.starts_with(start))) {
            return Err(EngineError::Address {
                address: odd.to_owned(),
                cause: "it has no known beginning".to_owned(),
            });
        }
        let address = address.map(str::to_owned);
        Ok(Self(Arc::new(Place { address, opened: OnceLock::new() })))
    }

    fn docker(&self) -> Result<&Docker, EngineError> {
        if let Some(opened) = self.0.opened.get() {
            return Ok(opened);
        }
        let seconds = TIMEOUT.as_secs() * 24; // an end is set here, to each question
        let version = bollard::API_DEFAULT_VERSION;
        let opened = match self.0.address.as_deref() {
            None => Docker::connect_with_local_defaults(),
            Some(tcp) if tcp.starts_with("tcp://") || tcp.starts_with("http://") => {
                Docker::connect_with_http(tcp, seconds, version)
            }
            Some(local) => Docker::connect_with_socket(local, seconds, version),
        };
        let opened = opened.map_err(|error| EngineError::Failed(error.to_string()))?;
        Ok(self.0.opened.get_or_init(|| opened))
    }

    /// The names of all containers, running or not, at most [`MOST`].
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn names(&self) -> Result<Vec<String>, EngineError> {
        let all = again(|| {
            let options = ListContainersOptions { all: true, ..Default::default() };
            within(TIMEOUT, async {
                let asked = self.docker()?.list_containers(Some(options)).await;
                asked.map_err(|error| failure("", &error))
            })
        });
        let name = |names: Vec<String>| Some(names.first()?.trim_start_matches('/').to_owned());
        let mut names: Vec<String> =
            all.await?.into_iter().filter_map(|it| name(it.names?)).collect();
        names.sort();
        names.truncate(MOST);
        Ok(names)
    }

    /// How a container stands.
    ///
    /// # Errors
    /// There is none of this name, or the engine does not answer.
    pub async fn inspect(&self, name: &str) -> Result<Container, EngineError> {
        let found = again(|| {
            within(TIMEOUT, async {
                let asked = self.docker()?.inspect_container(name, None).await;
                asked.map_err(|error| failure(name, &error))
            })
        });
        Ok(container(name, found.await?))
    }

    /// What a container takes now.
    ///
    /// # Errors
    /// There is none of this name, it does not run, or the engine does not answer.
    pub async fn reading(&self, name: &str) -> Result<Reading, EngineError> {
        let options = StatsOptions { stream: false, one_shot: true };
        let mut answers = Box::pin(self.docker()?.stats(name, Some(options)));
        let answer = timeout(TIMEOUT, answers.next()).await;
        let answer = answer.map_err(|_| EngineError::Timeout(TIMEOUT))?;
        let stats = answer
            .ok_or_else(|| EngineError::Failed("no readings".to_owned()))?
            .map_err(|error| failure(name, &error))?;
        let cpu = stats.cpu_stats.and_then(|it| it.cpu_usage?.total_usage).unwrap_or(0);
        let memory = stats.memory_stats.unwrap_or_default();
        let idle = memory.stats.as_ref().and_then(|it| {
            it.get("inactive_file").or_else(|| it.get("total_inactive_file")).copied()
        });
        let networks = stats.networks.unwrap_or_default();
        let limit = memory.limit.unwrap_or(0);
        Ok(Reading {
            cpu_seconds: cpu as f64 / 1e9,
            memory: memory.usage.unwrap_or(0).saturating_sub(idle.unwrap_or(0)),
            // Without a limit engines say the machine's memory, or almost 2^64.
            memory_limit: if limit >= 1 << 60 { 0 } else { limit },
            received: networks.values().filter_map(|it| it.rx_bytes).sum(),
            sent: networks.values().filter_map(|it| it.tx_bytes).sum(),
        })
    }

    /// The last lines that a container printed, oldest first, at most `most` and 256 KiB.
    ///
    /// # Errors
    /// There is none of this name, or the engine does not answer.
    pub async fn last_lines(&self, name: &str, most: usize) -> Result<Vec<String>, EngineError> {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            tail: most.to_string(),
            ..Default::default()
        };
        let mut pieces = Box::pin(self.docker()?.logs(name, Some(options)));
        let mut text = Vec::new();
        let reading = async {
            while let Some(piece) = pieces.next().await {
                text.extend_from_slice(&piece.map_err(|error| failure(name, &error))?.into_bytes());
                if text.len() > LONGEST_LOG {
                    break;
                }
            }
            Ok(())
        };
        timeout(TIMEOUT, reading).await.map_err(|_| EngineError::Timeout(TIMEOUT))??;
        let lines: Vec<String> =
            String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
        Ok(lines[lines.len().saturating_sub(most)..].to_vec())
    }

    /// Restarts a container, or starts one that has ended; it is given `grace` to end. Not asked again: the first may have come through.
    ///
    /// # Errors
    /// There is none of this name, or it could not be done.
    pub async fn restart(&self, name: &str, grace: Duration) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = RestartContainerOptions { t: Some(seconds), signal: None };
        within(TIMEOUT * 2 + grace, async {
            let asked = self.docker()?.restart_container(name, Some(options)).await;
            asked.map_err(|error| failure(name, &error))
        })
        .await
    }
}

fn container(name: &str, found: ContainerInspectResponse) -> Container {
    let state = found.state.unwrap_or_default();
    let healthy = state.health.and_then(|it| match it.status? {
        HealthStatusEnum::HEALTHY | HealthStatusEnum::STARTING => Some(true),
        HealthStatusEnum::UNHEALTHY => Some(false),
        _ => None,
    });
    Container {
        name: name.to_owned(),
        image: found.config.and_then(|it| it.image).unwrap_or_default(),
        // Docker calls one that waits to be started again running, too.
        running: state.restarting != Some(true)
            && (state.status == Some(ContainerStateStatusEnum::RUNNING)
                || state.running == Some(true)),
        healthy,
        exit_code: state.exit_code.unwrap_or(0),
        oom_killed: state.oom_killed == Some(true),
        restarts: u64::try_from(found.restart_count.unwrap_or(0)).unwrap_or(0),
    }
}

async fn within<T>(
    time: Duration,
    asked: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    timeout(time, asked).await.unwrap_or(Err(EngineError::Timeout(time)))
}

fn failure(name: &str, error: &bollard::errors::Error) -> EngineError {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code: 404, .. } => {
            EngineError::Unknown(name.to_owned())
        }
        error => EngineError::Failed(error.to_string()),
    }
}

/// Asks again what may be over in a moment.
async fn again<T, F>(ask: impl Fn() -> F) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let (mut attempt, mut jitter) = (1, Jitter::random());
    loop {
        let outcome = ask().await;
        let again = matches!(&outcome, Err(error) if error.is_transient());
        attempt += 1;
        match BACKOFF.before(attempt, &mut jitter).filter(|_| again) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_told_and_not_waited_for() {
        let dir = std::env::temp_dir().join("no-engine-here.sock");
        let engine = Engine::at(Some(&format!("unix://{}", dir.display()))).unwrap();
        assert!(engine.names().await.is_err());
        let engine = Engine::at(Some("tcp://127.0.0.1:1")).unwrap();
        let error = engine.inspect("x").await.unwrap_err().to_string();
        assert!(error.starts_with("the container engine"), "{error}");
        assert!(Engine::at(Some("engine.sock")).unwrap_err().to_string().contains("unix://"));
    }
}
