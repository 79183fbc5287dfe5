//! The life of a container that somebody else started: whether it runs, is healthy and answers, and its restart by its engine when not.

use crate::config::{ChildConfig, ContainerConfig, WatchdogConfig};
use crate::evidence::{Event, Remains};
use crate::meters::ChildMeters;
use crate::probe;
use crate::restart::Shared;
use containers::{Container, Engine, EngineError};
use platform::child::LAST_LINES;
use runtime::{Stop, Tick};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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

/// Looks in a row at which its engine knows no such container, before somebody is told.
const GONE: u32 = 3;

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
        let (mut wait, row) = (FIRST_WAIT, AtomicU32::new(0));
        loop {
            let ill = tokio::select! {
                ill = self.watch(&row) => ill,
                () = stop.wait() => return Ok(()),
            };
            self.meters.up.set(0.0);
            let cause = match &ill {
                Ill::Ended(it) if it.oom_killed => "out_of_memory",
                Ill::Ended(_) => "exited",
                Ill::Unwell(_) => "hung",
            };
            self.note(self.evidence(ill).await);
            let restarts = row.load(Ordering::Relaxed);
            if restarts == config.page_after {
                let name = &self.container.name;
                let words = format!("{restarts} restarts in a row have not cured container {name}");
                self.note(Event::NotCured { restarts });
                self.shared.pager.page("WatchdogRestartsDoNotHelp", name, &words);
            }
            let restarts = restarts + 1;
            row.store(restarts, Ordering::Relaxed);
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
    async fn watch(&self, restarts: &AtomicU32) -> Ill {
        let WatchdogConfig { interval, cured_after, .. } = *self.shared.config;
        let child = ChildConfig { probe: self.container.probe.clone(), ..ChildConfig::default() };
        let told_well = AtomicBool::new(false);
        let looks = async {
            let (mut well_since, mut missing, mut unknown) = (None::<Instant>, false, 0_u32);
            loop {
                let found = self.engine.inspect(&self.container.name).await;
                unknown =
                    if matches!(found, Err(EngineError::Unknown(_))) { unknown + 1 } else { 0 };
                if unknown == GONE {
                    let name = &self.container.name;
                    let words = format!("its engine knows no container {name} any more");
                    self.shared.pager.page("ContainerGone", name, &words);
                }
                match found {
                    Ok(it) if !it.running => return Ill::Ended(it),
                    Ok(it) if it.healthy == Some(false) => {
                        return Ill::Unwell("its health check fails".to_owned());
                    }
                    Ok(_) => {
                        if std::mem::take(&mut missing) && told_well.load(Ordering::Relaxed) {
                            self.meters.up.set(1.0);
                        }
                        if well_since.is_none() && self.container.probe.is_none() {
                            told_well.store(true, Ordering::Relaxed);
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
                // With a probe it is the probe that says so: what runs and never answers is not cured.
                if self.container.probe.is_none()
                    && well_since.is_some_and(|since| since.elapsed() > cured_after)
                {
                    self.cured(restarts);
                }
                tokio::time::sleep(interval).await;
            }
        };
        let shared = &self.shared;
        let asks = probe::watch(&child, &shared.config, &shared.client, shared.clock, |sign| {
            self.hear(sign, restarts, &told_well);
        });
        tokio::select! {
            ill = looks => ill,
            reason = asks => Ill::Unwell(reason),
        }
    }

    /// Takes in what a probe shows; a container without one shows it by its engine.
    fn hear(&self, sign: probe::Sign, restarts: &AtomicU32, told_well: &AtomicBool) {
        match sign {
            _ if self.container.probe.is_none() => {}
            probe::Sign::Well(after) => {
                let after_seconds = after.as_secs_f64();
                info!(container = %self.container.name, after_seconds, "container is well");
                told_well.store(true, Ordering::Relaxed);
                self.meters.up.set(1.0);
                self.note(Event::Healthy { after_seconds, recovery_seconds: None });
            }
            probe::Sign::Cured => self.cured(restarts),
            probe::Sign::Missed | probe::Sign::Recovered => {}
        }
    }

    fn cured(&self, restarts: &AtomicU32) {
        if restarts.swap(0, Ordering::Relaxed) > 0 {
            self.meters.not_cured.set(0.0);
            self.note(Event::Cured);
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
