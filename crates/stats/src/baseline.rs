//! Conditional baselines for latency, error ratio and throughput of a service: what the value
//! should be given the load, the time of day and last week, and sustained evidence that it is not.
//!
//! Design: ln residual against a level plus a curve over the load (latency), against the offered
//! load (throughput), or against requests times a slow rate (errors: over-dispersed counts), plus
//! a median decomposition into daily and weekly profile where that predicts better. Evidence:
//! exponentially weighted means over 3, 10 and 30 minutes, each against its own robust scale.
//! Threshold: the tail of the series' own hourly maxima, for a budget of false alarms per day.
//! Sources: Robbins and Monro 1951 (doi:10.1214/aoms/1177729586), Pickands 1975
//! (doi:10.1214/aos/1176343003), Page 1954 (doi:10.1093/biomet/41.1-2.100), the seasonal
//! decomposition of Cleveland et al. 1990 (STL) with medians.
//!
//! Assumptions: values >= 0; `load` is the offered demand, not what was served; a fault lasts
//! minutes to hours; what lasts 6 h is the new normal (so a holiday is one finding).
//!
//! Cost: about 0.2 us a sample at 10 to 60 s (2 to 4 us at 1 h, where the profile is due at each
//! sample), 8.3 KB; a second generation of the same size runs for half of the time, so that the
//! numbers of an alarm rest on at most 42 days of samples.
//!
//! Failure modes: without load, a burst of demand looks like a latency fault, and in the first
//! week only falls beyond a factor of 2.5 are seen; faults that grow over many hours are learned
//! as drift; a load never seen before is not judged for its first 15 samples; throughput that once
//! had load is silent while the load is missing; nights of a few requests make a throughput
//! series wild and so its threshold high.
mod evidence;
mod generation;
mod model;
mod pool;
mod season;
mod tail;
#[cfg(test)]
mod tests;
mod watch;

use self::generation::Generation;
use serde::{Deserialize, Serialize};

const DAY_MS: i64 = 86_400_000;
/// A second generation starts at this age of the first ...
const RENEW_MS: i64 = 28 * DAY_MS;
/// ... and takes over at this age of its own, when two weeks are known.
const GROWN_MS: i64 = 14 * DAY_MS;

/// What the series measures; decides which side is bad and what it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Time per request, any unit; up is bad.
    Latency,
    /// Share of failed requests, 0 to 1; up is bad.
    Errors,
    /// Requests served per second; down is bad.
    Throughput,
}

impl Kind {
    fn sign(self) -> f64 {
        if self == Kind::Throughput { -1.0 } else { 1.0 }
    }

    /// Smallest ratio (ln) worth a person's attention: 15 % for time and rate, 50 % for errors.
    fn min_effect(self) -> f64 {
        if self == Kind::Errors { 0.405 } else { 0.14 }
    }

    /// Standard deviation (ln) below which noise is treated as this much.
    fn floor(self) -> f64 {
        if self == Kind::Errors { 0.1 } else { 0.02 }
    }
}

/// What to watch and how often it may be wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineConfig {
    /// Which signal.
    pub kind: Kind,
    /// False alarms per day that the reader of the alarms tolerates from this series.
    pub budget_per_day: f64,
}

/// What deviates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Higher than usual.
    LevelUp,
    /// Lower than usual.
    LevelDown,
    /// The noise has at least doubled for about an hour.
    Variance,
    /// A value that used to change is stuck.
    FlatLine,
}

/// Weight of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// One series alone.
    Note,
    /// Overwhelming evidence.
    Ticket,
}

/// The numbers of the present deviation: means since the onset, in the unit of the series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Most likely onset, ms.
    pub since_ms: i64,
    /// Mean since the onset.
    pub observed: f64,
    /// What was expected instead.
    pub expected: f64,
    /// 95 % band of a single sample.
    pub expected_low: f64,
    /// Its upper end.
    pub expected_high: f64,
    /// Observed over expected, with its 95 % interval.
    pub ratio: f64,
    /// Its lower end.
    pub ratio_low: f64,
    /// Its upper end.
    pub ratio_high: f64,
    /// A fresh detector fed with the samples from here on gives the same numbers, ms.
    pub evidence_from: i64,
}

/// A deviation, with its numbers at the time of the alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineAlarm {
    /// When the evidence was enough, ms since the epoch.
    pub at_ms: i64,
    /// Which signal.
    pub kind: Kind,
    /// What is unusual.
    pub reason: Reason,
    /// How much attention it is worth.
    pub severity: Severity,
    /// -log10 of the share of hours with so much evidence.
    pub score: f64,
    /// The numbers.
    pub estimate: Estimate,
}

/// Detector of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    config: BaselineConfig,
    now: Generation,
    next: Option<Box<Generation>>,
}

impl Baseline {
    /// Knows nothing yet; says nothing for a day (two without load).
    pub fn new(config: BaselineConfig) -> Self {
        Self { now: Generation::new(&config), next: None, config }
    }

    /// Takes a sample: `time_ms` since the epoch, `value` in the unit of the kind, `load` offered
    /// requests/s (NaN unknown). Not finite, negative, repeated or late samples are ignored. An
    /// alarm is given once per deviation, and once more when it grows into a ticket.
    pub fn push(&mut self, time_ms: i64, value: f64, load: f64) -> Option<BaselineAlarm> {
        let alarm = self.now.push(time_ms, value, load);
        if let Some(next) = &mut self.next {
            next.push(time_ms, value, load);
        } else if self.now.age() >= RENEW_MS {
            self.next = Some(Box::new(Generation::new(&self.config)));
        }
        let ready = |n: &Generation| n.age() >= GROWN_MS && n.active().is_none();
        let grown = self.next.as_deref().is_some_and(ready);
        if grown
            && self.now.active().is_none()
            && let Some(next) = self.next.take()
        {
            self.now = *next;
        }
        alarm
    }

    /// Reason of the deviation that goes on, if one does.
    pub fn active(&self) -> Option<Reason> {
        self.now.active()
    }

    /// Present evidence, comparable across series: -log10 of the share of hours with so much of it.
    /// The budget of 0.02 a day is at 3.1.
    pub fn score(&self) -> f64 {
        self.now.score()
    }

    /// Expected next sample and its 95 % band, in the unit of the series.
    pub fn expected(&self) -> Option<(f64, f64, f64)> {
        self.now.expected()
    }

    /// Numbers of the present deviation, alarm or not.
    pub fn estimate(&self) -> Option<Estimate> {
        self.now.estimate()
    }
}
