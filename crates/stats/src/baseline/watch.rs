//! Two watches beside the level: values that stop changing, and noise that grows.
use super::evidence::nudge;
use super::tail::Tail;
use serde::{Deserialize, Serialize};

/// A flat line: at least this many equal samples ...
const FLAT_SAMPLES: f64 = 10.0;
/// ... over this time ...
const FLAT_MS: i64 = 900_000;
/// ... and this many times the longest run of the series so far.
const FLAT_TIMES: f64 = 3.0;
/// Share of samples that changed before; under it a series is a step function by nature.
const LIVELY: f64 = 0.5;

/// Longest run of equal values and the present one. 0.1 KB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FlatWatch {
    last: f64,
    run: f64,
    since_ms: i64,
    longest: f64,
    samples: f64,
    changes: f64,
    on: bool,
}

impl FlatWatch {
    /// Takes a value; true once when it is stuck.
    pub(crate) fn push(&mut self, ms: i64, value: f64, warm: bool) -> bool {
        self.samples += 1.0;
        if value != self.last {
            if !self.on {
                self.longest = self.longest.max(self.run);
            }
            self.changes += 1.0;
            self.last = value;
            self.run = 0.0;
            self.since_ms = ms;
            self.on = false;
        }
        self.run += 1.0;
        let stuck = warm
            && !self.on
            && self.run >= FLAT_SAMPLES
            && self.run >= FLAT_TIMES * self.longest
            && ms - self.since_ms >= FLAT_MS
            && self.changes > LIVELY * (self.samples - self.run);
        self.on |= stuck;
        stuck
    }

    /// Start of the present run, ms.
    pub(crate) fn since(&self) -> i64 {
        self.since_ms
    }

    /// The value is stuck.
    pub(crate) fn active(&self) -> bool {
        self.on
    }
}

/// Time constants of the noise, s: an hour against the calm days before.
const FAST_S: f64 = 3600.0;
const SLOW_S: f64 = 259_200.0;
/// The noise must at least double.
const RATIO_LN: f64 = 0.693;
/// Noise under this (ln units) is of no interest.
const QUIET: f64 = 0.02;
/// Lowest threshold for the noise's own z.
const FLOOR: f64 = 4.5;

/// Mean absolute successive difference (von Neumann 1941, doi:10.1214/aoms/1177731677): blind to
/// level and season. 1.5 KB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NoiseWatch {
    before: Option<f64>,
    fast: f64,
    slow: f64,
    samples: f64,
    scale: f64,
    tail: Tail,
    on: bool,
}

impl NoiseWatch {
    /// Knows no noise yet.
    pub(crate) fn new(budget_per_day: f64) -> Self {
        Self {
            before: None,
            fast: 0.0,
            slow: 0.0,
            samples: 0.0,
            scale: 0.1,
            tail: Tail::new(budget_per_day, FLOOR, 168),
            on: false,
        }
    }

    /// ln of the present noise over the usual.
    pub(crate) fn ratio_ln(&self) -> f64 {
        ((self.fast + QUIET) / (self.slow + QUIET)).ln()
    }

    /// The noise is still high.
    pub(crate) fn active(&self) -> bool {
        self.on
    }

    /// Takes a residual; `calm` when no other alarm is near. True once when the noise has grown.
    pub(crate) fn push(&mut self, ms: i64, e: f64, step_s: f64, calm: bool, warm: bool) -> bool {
        let before = self.before.replace(e);
        let diff = before.map_or(0.0, |b| (e - b).abs());
        if before.is_none() || !calm {
            self.fast = self.slow;
            self.on = false;
            return false;
        }
        // single wild samples are normal: three times the usual at most
        let d = if self.samples > 30.0 { diff.min(3.0 * self.slow + QUIET) } else { diff };
        self.samples += 1.0;
        let gain = |tau: f64, n: f64| (step_s / tau).max(1.0 / n).min(1.0);
        self.fast += gain(FAST_S.max(8.0 * step_s), self.samples) * (d - self.fast);
        if !self.on {
            self.slow += gain(SLOW_S, self.samples) * (d - self.slow);
        }
        let l = self.ratio_ln();
        let z = l / self.scale;
        if !self.on {
            self.scale = nudge(self.scale, z, 2.0 / (self.samples + 10.0).min(1500.0)).max(0.03);
            self.tail.push(ms, z.min(1.2 * self.tail.threshold()));
        }
        let loud = z > self.tail.threshold() && l > RATIO_LN && warm;
        if self.on {
            self.on = l > 0.5 * RATIO_LN;
            return false;
        }
        self.on = loud;
        loud
    }
}
