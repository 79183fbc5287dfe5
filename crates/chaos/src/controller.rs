//! One event from its turn to its recovery. Schedule, API and command line all come in by [`Controller::ask`].

use crate::book::{Book, Event, Outcome, Source};
use crate::compose::{Floor, PATIENCE, Wish};
use crate::experiment::{ChaosConfig, Experiment};
use crate::hands::{Hands, seconds};
use crate::impact;
use crate::steady::{Ask, complaint, too_much};
use model::Timestamp;
use parking_lot::Mutex;
use runtime::{Clock, Jitter, Stop, Tick};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// A fault that is not kept up ends after this.
const LEASE: Duration = Duration::from_secs(15);
/// A lease is this much longer than the fault, so that who ends it still learns what it met.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// An experiment that nobody could look at for so long is broken off.
const BLIND: Duration = Duration::from_secs(10);
/// A time of the schedule that passed so long ago is missed.
const MISSED: Duration = Duration::from_secs(30);
/// All must be well at so many looks in a row before it counts.
const WELL: usize = 3;
/// What is done in a moment, such as a kill, shows in the series within this.
const SHOWS_WITHIN: Duration = Duration::from_secs(3);
/// Before an event begins, all must be well within this.
const STEADY_WITHIN: Duration = Duration::from_secs(10);
/// Findings and alerts of the event come within this after its recovery.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// Why an experiment is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not fit.
    #[error("{0}")]
    Unfit(String),
    /// There is no such experiment or event.
    #[error("{0}")]
    Unknown(String),
    /// Too many wait.
    #[error("too many experiments wait for their turn; try again later")]
    Full,
}

/// Runs experiments. Clones share it.
#[derive(Clone)]
pub struct Controller(Arc<Inner>);

struct Inner {
    config: ChaosConfig,
    book: Book,
    hands: Box<dyn Hands>,
    ask: Ask,
    clock: Clock,
    floor: Mutex<Floor<String>>,
    /// What ends each event that runs.
    stops: Mutex<BTreeMap<String, Stop>>,
    wake: Notify,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Controller")
    }
}

impl Controller {
    /// With what it needs; nothing runs until [`Controller::run`].
    pub fn new(
        config: ChaosConfig,
        book: Book,
        hands: impl Hands + 'static,
        ask: Ask,
        clock: Clock,
    ) -> Self {
        let floor = Mutex::new(Floor::new(config.budget));
        let (hands, stops, wake) = (Box::new(hands), Mutex::default(), Notify::new());
        Self(Arc::new(Inner { config, book, hands, ask, clock, floor, stops, wake }))
    }

    /// What is configured.
    pub fn config(&self) -> &ChaosConfig {
        &self.0.config
    }

    /// The events.
    pub fn book(&self) -> &Book {
        &self.0.book
    }

    /// Those that wait for their turn, by id.
    pub fn waiting(&self) -> Vec<String> {
        self.0.floor.lock().waiting()
    }

    /// Asks for an experiment; its event's id. It begins when it is its turn.
    ///
    /// # Errors
    /// It is not fit, or too many wait.
    pub fn ask(&self, experiment: Experiment, source: Source) -> Result<String, Refused> {
        let due = self.0.clock.now();
        self.ask_for(experiment, source, due)
    }

    fn ask_for(
        &self,
        experiment: Experiment,
        source: Source,
        due: Timestamp,
    ) -> Result<String, Refused> {
        let faults = experiment.faults();
        if !faults.is_empty() {
            return Err(Refused::Unfit(faults.join("; ")));
        }
        let now = self.0.clock.now();
        let at = u64::try_from(now.millis()).unwrap_or(0);
        let lot = u128::from(Jitter::random().next_u64());
        let id = ulid::Ulid::from_parts(at, lot).to_string();
        let wish = Wish {
            it: id.clone(),
            target: experiment.target(),
            alone: experiment.alone(),
            until: self.0.clock.monotonic() + PATIENCE,
        };
        // Written down first: whoever gives it its turn must find it.
        self.0.book.put(&Event {
            id: id.clone(),
            experiment,
            source,
            due,
            began: None,
            ended: None,
            outcome: Outcome::Running,
            detail: "waits for its turn".to_owned(),
            hits: None,
            requests: None,
            failing: [None; 2],
            seconds: [None; 2],
            detector: None,
            alert: None,
            recovery_seconds: None,
        });
        if !self.0.floor.lock().wish(wish) {
            self.finish(&id, Outcome::LeftOut, "too many wait");
            return Err(Refused::Full);
        }
        self.0.wake.notify_one();
        Ok(id)
    }

    /// Asks for an experiment of the configuration.
    ///
    /// # Errors
    /// There is none of this name, or too many wait.
    pub fn ask_by_name(&self, name: &str, by: &str) -> Result<String, Refused> {
        let all = &self.0.config.experiment;
        let found = all.iter().find(|it| it.name == name).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
            Refused::Unknown(format!("no experiment {name:?}; there are: {}", names.join(", ")))
        })?;
        self.ask(found.clone(), Source::Person(by.to_owned()))
    }

    /// Ends an event, or takes it back while it waits.
    ///
    /// # Errors
    /// It neither runs nor waits.
    pub fn end(&self, id: &str) -> Result<(), Refused> {
        if let Some(stop) = self.0.stops.lock().get(id) {
            stop.request();
            return Ok(());
        }
        if self.0.floor.lock().take_back(&id.to_owned()) {
            self.finish(id, Outcome::LeftOut, "taken back before its turn");
            return Ok(());
        }
        Err(Refused::Unknown(format!("event {id:?} neither runs nor waits")))
    }

    /// Runs events by their turn, and the schedule, until stopped; then ends what is there.
    ///
    /// # Errors
    /// Never.
    pub async fn run(self, stop: Stop) -> Result<(), Infallible> {
        let mut running = JoinSet::new();
        while !stop.requested() {
            self.schedule();
            let turn = self.0.floor.lock().turn(self.0.clock.monotonic());
            for id in turn.left_out {
                warn!(id, "an experiment is left out: others were there for too long");
                self.finish(&id, Outcome::LeftOut, "others were there for too long");
            }
            for id in turn.begin {
                let own = Stop::new();
                self.0.stops.lock().insert(id.clone(), own.clone());
                let it = self.clone();
                running.spawn(async move {
                    it.perform(&id, own).await;
                    it.0.stops.lock().remove(&id);
                    it.0.wake.notify_one();
                });
            }
            tokio::select! {
                () = stop.wait() => {}
                () = self.0.wake.notified() => {}
                _ = running.join_next(), if !running.is_empty() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.0.stops.lock().values().for_each(Stop::request);
        let ending = async { while running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), ending).await; // leases end the rest
        Ok(())
    }

    /// Asks for what the schedule says is due.
    fn schedule(&self) {
        let (now, origin) = (self.0.clock.now(), self.0.book.origin());
        for it in &self.0.config.experiment {
            let Some(schedule) = &it.schedule else { continue };
            let since = now.since(origin).saturating_sub(schedule.every.unwrap_or(Duration::MAX));
            // From one interval ago: what was missed by less is begun late, the rest is said to be missed.
            let mut next = schedule.next(since);
            while let Some((n, at)) = next.filter(|(_, at)| origin.plus(*at) <= now) {
                if !self.0.book.knows(&it.name, n, origin.plus(at)) {
                    self.due(it, n, origin.plus(at));
                }
                next = schedule.at(n + 1).map(|at| (n + 1, at));
            }
        }
    }

    fn due(&self, it: &Experiment, n: u64, due: Timestamp) {
        let missed = self.0.clock.now().since(due) > MISSED;
        match self.ask_for(it.clone(), Source::Schedule(n), due) {
            Ok(id) => {
                if missed {
                    self.0.floor.lock().take_back(&id);
                    self.finish(&id, Outcome::Missed, "nobody was there to begin it");
                }
            }
            Err(error) => {
                warn!(experiment = it.name, %error, "a time of the schedule is not taken")
            }
        }
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Event)) {
        if let Some(mut event) = self.0.book.event(id) {
            change(&mut event);
            self.0.book.put(&event);
        }
    }

    fn finish(&self, id: &str, outcome: Outcome, detail: &str) {
        self.change(id, |event| {
            event.outcome = outcome;
            event.detail = detail.to_owned();
        });
    }

    async fn perform(&self, id: &str, stop: Stop) {
        let Some(event) = self.0.book.event(id) else {
            self.0.floor.lock().ended(&id.to_owned());
            return;
        };
        let it = event.experiment;
        let done = self.done(id, &it, &stop).await;
        if let Some(aborted) = done {
            self.recover(id, &it, aborted).await;
        } else {
            self.0.floor.lock().ended(&id.to_owned());
        }
    }

    /// Does it, from its beginning to its end. Why it was broken off, if it was; none when it never began.
    async fn done(&self, id: &str, it: &Experiment, stop: &Stop) -> Option<Option<String>> {
        let Inner { hands, ask, clock, config, .. } = &*self.0;
        let begun = clock.monotonic();
        while let Some(why) = complaint(ask, config, it).await {
            if begun.elapsed() > STEADY_WITHIN || stop.wait_for(LOOK).await == Tick::Stopped {
                warn!(experiment = it.name, why, "not begun: not all is well");
                self.finish(id, Outcome::NotSteady, &why);
                return None;
            }
        }
        info!(experiment = it.name, id, fault = it.fault.name(), "an experiment begins");
        let began = clock.now();
        self.change(id, |event| {
            event.began = Some(began);
            event.detail = "goes on".to_owned();
        });
        let lease = LEASE.min(it.duration + GRACE);
        if let Err(error) = hands.begin(it, id, lease).await {
            warn!(experiment = it.name, error, "could not be begun");
            self.finish(id, Outcome::Failed, &error);
            return None;
        }
        let start = clock.monotonic();
        let (mut kept_up, mut known, mut aborted) = (start, start, None);
        let kept = !it.fault.at_once() && !it.alone();
        while start.elapsed() < it.duration && aborted.is_none() {
            let left = it.duration.saturating_sub(start.elapsed());
            if stop.wait_for(LOOK.min(left)).await == Tick::Stopped {
                aborted = Some("ended before its time".to_owned());
            }
            if kept && aborted.is_none() && kept_up.elapsed() > LEASE / 3 {
                kept_up = clock.monotonic();
                let left = it.duration.saturating_sub(start.elapsed());
                if let Err(error) = hands.begin(it, id, LEASE.min(left + GRACE)).await {
                    warn!(experiment = it.name, error, "could not be kept up");
                }
            }
            if aborted.is_some() {
                break;
            }
            aborted = match too_much(ask, config, it, began).await {
                Ok(why) => {
                    known = clock.monotonic();
                    why
                }
                // One that nobody can look at is none that is under control.
                Err(error) if known.elapsed() > BLIND => {
                    Some(format!("nobody knows whether it does too much: {error}"))
                }
                Err(_) => None,
            };
        }
        let hits = hands.end(it).await;
        info!(experiment = it.name, id, aborted, "an experiment has ended");
        self.change(id, |event| {
            event.ended = Some(clock.now());
            event.detail = aborted.clone().unwrap_or_else(|| "waits for recovery".to_owned());
            event.hits = hits.ok().flatten();
        });
        Some(aborted)
    }

    /// Waits until all is well, and writes down what it did and who noticed.
    async fn recover(&self, id: &str, it: &Experiment, aborted: Option<String>) {
        let Inner { ask, clock, config, .. } = &*self.0;
        let (ended, start) = (clock.now(), clock.monotonic());
        if it.fault.at_once() {
            // What was done in a moment shows only when somebody looks again.
            tokio::time::sleep(SHOWS_WITHIN).await;
        }
        let (mut looks, mut well_at, mut last) = (0, None, None);
        while looks < WELL && start.elapsed() < it.recovery {
            match complaint(ask, config, it).await {
                None => {
                    looks += 1;
                    well_at.get_or_insert_with(|| clock.now());
                }
                Some(why) => {
                    (looks, well_at) = (0, None);
                    last = Some(why);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        let recovered = well_at.filter(|_| looks >= WELL);
        // The next may begin; what is measured now is of this one's time.
        self.0.floor.lock().ended(&id.to_owned());
        let Some(mut event) = self.0.book.event(id) else { return };
        event.recovery_seconds = recovered.map(|at| seconds(ended, at));
        event.outcome = match (recovered, &aborted) {
            (None, _) => Outcome::NotRecovered,
            (Some(_), Some(_)) => Outcome::Aborted,
            (Some(_), None) => Outcome::Recovered,
        };
        event.detail = match (recovered, aborted) {
            (None, _) => format!("not well after {:?}: {}", it.recovery, last.unwrap_or_default()),
            (_, Some(why)) => why,
            _ => String::new(),
        };
        impact::measure(ask, config, &mut event).await;
        impact::noticed(ask, &mut event).await;
        self.0.book.put(&event);
        let waited = clock.monotonic();
        while event.alert.is_none() && waited.elapsed() < NOTICED_WITHIN {
            tokio::time::sleep(LOOK * 2).await;
            impact::noticed(ask, &mut event).await;
        }
        self.0.book.put(&event);
    }
}

#[cfg(test)]
mod tests;
