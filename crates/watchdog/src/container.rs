//! The life of a container that somebody else started: whether it runs, is healthy and answers, and its restart by its engine when not.

use crate::config::{ChildConfig, ContainerConfig, WatchdogConfig};
use crate::evidence::{Event, Remains};
use crate::meters::ChildMeters;
use crate::probe;
use crate::restart::Shared;
use containers::{Container, Engine, EngineError};
use platform::child::LAST_LINES;
use runtime::{Stop, Tick};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// The first wait between two restarts; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Keeps one container alive.
pub(crate) struct ContainerKeeper {
    container: ContainerConfig,
    engine: Engine,
    shared: Shared,
    meters: ChildMeters,
}

/// What is wrong.
enum Ill {
    Ended(Container),
    Unwell(String),
}

impl ContainerKeeper {
    pub(crate) fn new(
        container: ContainerConfig,
        shared: Shared,
        meters: ChildMeters,
    ) -> Result<Self, EngineError> {
        let engine = Engine::at(container.engine.as_deref())?;
        Ok(Self { container, engine, shared, meters })
    }

    /// Runs until stopped; the container goes on then.
    pub(crate) async fn run(self, stop: Stop) -> Result<(), EngineError> {
        let config = &self.shared.config;
        let (mut wait, mut restarts) = (FIRST_WAIT, 0_u32);
        loop {
            let ill = tokio::select! {
                ill = self.watch(&mut restarts) => ill,
                () = stop.wait() => return Ok(()),
            };
            self.meters.up.set(0.0);
            let cause = match &ill {
                Ill::Ended(it) if it.oom_killed => "out_of_memory",
                Ill::Ended(_) => "exited",
                Ill::Unwell(_) => "hung",
            };
            self.note(self.evidence(ill).await);
            if restarts == config.page_after {
                let name = &self.container.name;
                let words = format!("{restarts} restarts in a row have not cured container {name}");
                self.note(Event::NotCured { restarts });
                self.shared.pager.page("WatchdogRestartsDoNotHelp", name, &words);
            }
            restarts += 1;
            self.meters.not_cured.set(f64::from(restarts));
            if stop.wait_for(wait).await == Tick::Stopped {
                return Ok(());
            }
            wait = if restarts == 1 { FIRST_WAIT } else { (wait * 2).min(config.max_restart_wait) };
            match self.engine.restart(&self.container.name, config.stop_grace).await {
                Ok(()) => self.meters.restarted(cause),
                Err(error) => {
                    warn!(container = %self.container.name, %error, "could not be restarted");
                    self.note(Event::StartFailed { error: error.to_string() });
                }
            }
        }
    }

    /// Watches until something is wrong. An engine that does not answer says nothing of the container.
    async fn watch(&self, restarts: &mut u32) -> Ill {
        let WatchdogConfig { interval, cured_after, .. } = *self.shared.config;
        let child = ChildConfig { probe: self.container.probe.clone(), ..ChildConfig::default() };
        let looks = async {
            let (mut well_since, mut missing) = (None::<Instant>, false);
            loop {
                match self.engine.inspect(&self.container.name).await {
                    Ok(it) if !it.running => return Ill::Ended(it),
                    Ok(it) if it.healthy == Some(false) => {
                        return Ill::Unwell("its health check fails".to_owned());
                    }
                    Ok(_) => {
                        missing = false;
                        if well_since.is_none() && self.container.probe.is_none() {
                            self.meters.up.set(1.0);
                            self.note(Event::Healthy {
                                after_seconds: 0.0,
                                recovery_seconds: None,
                            });
                        }
                        well_since.get_or_insert_with(|| self.shared.clock.monotonic());
                    }
                    Err(error) => {
                        well_since = None;
                        self.meters.up.set(0.0);
                        if !std::mem::replace(&mut missing, true) {
                            warn!(container = %self.container.name, %error, "cannot be looked at");
                            self.note(Event::StartFailed { error: error.to_string() });
                        }
                    }
                }
                let cured = well_since.is_some_and(|since| since.elapsed() > cured_after);
                if cured && std::mem::take(restarts) > 0 {
                    self.meters.not_cured.set(0.0);
                    self.note(Event::Cured);
                }
                tokio::time::sleep(interval).await;
            }
        };
        let shared = &self.shared;
        let asks = probe::watch(&child, &shared.config, &shared.client, shared.clock, |sign| {
            if let (probe::Sign::Well(after), Some(_)) = (sign, &self.container.probe) {
                let after_seconds = after.as_secs_f64();
                info!(container = %self.container.name, after_seconds, "container is well");
                self.meters.up.set(1.0);
                self.note(Event::Healthy { after_seconds, recovery_seconds: None });
            }
        });
        tokio::select! {
            ill = looks => ill,
            reason = asks => Ill::Unwell(reason),
        }
    }

    async fn evidence(&self, ill: Ill) -> Event {
        let lines = self.engine.last_lines(&self.container.name, LAST_LINES).await;
        let mut remains = Remains { last_lines: lines.unwrap_or_default(), ..Remains::default() };
        match ill {
            Ill::Ended(it) => {
                warn!(container = %it.name, exit_code = it.exit_code, "container has ended");
                remains.status = format!("exit status: {}", it.exit_code);
                remains.out_of_memory = it.oom_killed;
                Event::Exited { after_seconds: 0.0, remains: Box::new(remains) }
            }
            Ill::Unwell(reason) => {
                warn!(container = %self.container.name, reason, "container is not well");
                Event::Hung { reason, remains: Box::new(remains) }
            }
        }
    }

    fn note(&self, event: Event) {
        self.shared.journal.write(&self.container.name, &event);
    }
}
