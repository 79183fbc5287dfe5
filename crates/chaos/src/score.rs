//! A campaign: one event of each kind after the other, and for each whether it was noticed, how soon, and how soon all was well again;
//! and between them quiet, in which nothing may be noticed.

use crate::book::{Event, Outcome};
use crate::experiment::{Experiment, Fault};
use std::fmt::Write;
use std::time::Duration;

/// The experiments of a campaign: each kind once, with usual amounts. Kinds are in an order drawn by `seed`.
pub fn campaign(seed: u64, duration: Duration, tool: &str, component: &str) -> Vec<Experiment> {
    let mut kinds = Fault::ALL.to_vec();
    let mut lot = runtime::Jitter::seeded(seed);
    for at in (1..kinds.len()).rev() {
        kinds.swap(at, (lot.unit() * (at + 1) as f64) as usize);
    }
    let experiment = |fault: Fault| {
        let mut it = Experiment::new(&format!("score {}", fault.name()), fault, duration);
        it.tool = Some(tool.to_owned());
        it.component = Some(component.to_owned());
        it.amount = match fault {
            Fault::Latency | Fault::Jitter => Some(1.0),
            Fault::SlowBody => Some(20.0),
            Fault::DatabaseSlow => Some(0.3),
            Fault::CpuBurn => Some(2.0),
            Fault::MemoryBalloon => Some(256.0),
            Fault::MemoryLeak => Some(4.0),
            Fault::HandleHog => Some(5_000.0),
            Fault::ClockJump => Some(3_600.0),
            _ => None,
        };
        it
    };
    kinds.into_iter().map(experiment).collect()
}

/// How a campaign went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Score {
    /// One for each event.
    pub events: Vec<Scored>,
    /// Seconds of quiet that were watched.
    pub quiet_seconds: f64,
    /// Alerts and findings that began in them.
    pub false_alarms: Vec<String>,
}

/// One event of it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Scored {
    /// The kind.
    pub fault: String,
    /// How it went.
    pub outcome: String,
    /// Who noticed first, and after how many seconds.
    pub detector: Option<(String, f64)>,
    /// The first alert, and after how many seconds.
    pub alert: Option<(String, f64)>,
    /// Seconds from the end to all being well.
    pub recovery_seconds: Option<f64>,
    /// Share of requests that failed meanwhile.
    pub failing: Option<f64>,
}

impl Scored {
    /// Of an event that has ended.
    pub fn of(event: &Event) -> Self {
        Self {
            fault: event.experiment.fault.name(),
            outcome: event.outcome.name(),
            detector: event.detector.clone(),
            alert: event.alert.clone(),
            recovery_seconds: event.recovery_seconds,
            failing: event.failing[1],
        }
    }
}

impl Score {
    /// Whether every event was begun, and all was well again after each.
    pub fn recovered(&self) -> bool {
        let good = [Outcome::Recovered.name(), Outcome::Aborted.name()];
        self.events.iter().all(|it| good.contains(&it.outcome))
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        let mut out = format!(
            "{:<16} {:<14} {:>8} {:<28} {:>8} {:<28} {:>8} {:>8}\n",
            "fault", "outcome", "seen s", "by", "alert s", "alert", "well s", "failing"
        );
        let named = |it: &Option<(String, f64)>| match it {
            Some((name, after)) => (format!("{after:.1}"), name.clone()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        for it in &self.events {
            let ((seen, by), (after, alert)) = (named(&it.detector), named(&it.alert));
            let well = it.recovery_seconds.map_or("-".to_owned(), |it| format!("{it:.1}"));
            let failing = it.failing.map_or("-".to_owned(), |it| format!("{:.1} %", it * 100.0));
            let _ = writeln!(
                out,
                "{:<16} {:<14} {seen:>8} {by:<28} {after:>8} {alert:<28} {well:>8} {failing:>8}",
                it.fault, it.outcome
            );
        }
        let seen = self.events.iter().filter(|it| it.detector.is_some()).count();
        let alerted = self.events.iter().filter(|it| it.alert.is_some()).count();
        let _ = writeln!(
            out,
            "{seen} of {} noticed, {alerted} alerted; {} false alarms in {:.0} s of quiet{}",
            self.events.len(),
            self.false_alarms.len(),
            self.quiet_seconds,
            if self.false_alarms.is_empty() {
                String::new()
            } else {
                format!(": {}", self.false_alarms.join(", "))
            }
        );
        out
    }
}
