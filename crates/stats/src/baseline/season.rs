//! Daily and weekly profile of a series from a ring of half-hour means (14 days), classical
//! decomposition with medians (moving daily mean, median seasonal, weekly term from the same time
//! a week ago). No calendar is assumed: the working days and the weekend are those of last week.
use crate::order::median;
use serde::{Deserialize, Serialize};

/// Width of a bin: short enough for a nightly batch window, long enough to average noise.
const BIN_MS: i64 = 1_800_000;
const PER_DAY: i64 = 48;
/// Two weeks: last week's day of the week plus enough days for a median time-of-day profile.
const SLOTS: usize = 672;
/// Half width in bins of the median that reads last week's level: a median of seven keeps the edge
/// of a weekend sharp and averages over 3.5 h.
const HALF: i64 = 3;

/// A hole in last week that is longer than this, in bins, leaves its level unknown.
const HOLE: i64 = 1;

/// For so many bins after it what was gathered meanwhile still weighs.
const UNSURE: i64 = 12;

/// Marks a bin without data (NaN does not survive every snapshot format).
const UNKNOWN: f32 = f32::MAX;

/// Ring of half-hour means with the profile derived from it. 3 KB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Season {
    ring: Vec<f32>,
    shape: Vec<f32>,
    bin: i64,
    sum: f64,
    weight: f64,
    first: i64,
    week: Option<f64>,
    /// The bin at which that was last week's level, and until which it is not sure because of a hole there.
    week_bin: i64,
    unsure_until: i64,
    counts: bool,
    /// Last week is known.
    pub(crate) weekly: bool,
}

impl Season {
    /// `counts`: `add` gets errors and requests, not ln values.
    pub(crate) fn new(counts: bool) -> Self {
        Self {
            ring: vec![UNKNOWN; SLOTS],
            shape: vec![UNKNOWN; PER_DAY as usize],
            bin: i64::MIN,
            sum: 0.0,
            weight: 0.0,
            first: i64::MIN,
            week: None,
            week_bin: i64::MIN,
            unsure_until: i64::MIN,
            counts,
            weekly: false,
        }
    }

    fn slot(bin: i64) -> usize {
        bin.rem_euclid(SLOTS as i64) as usize
    }

    fn at(&self, bin: i64) -> f64 {
        let inside = bin >= self.first && bin < self.bin && self.bin - bin < SLOTS as i64;
        match self.ring.get(Self::slot(bin)) {
            Some(&v) if inside && v != UNKNOWN => f64::from(v),
            _ => f64::NAN,
        }
    }

    fn shape_at(&self, bin: i64) -> f64 {
        let i = bin.rem_euclid(PER_DAY) as usize;
        match self.shape.get(i) {
            Some(&v) if v != UNKNOWN => f64::from(v),
            _ => f64::NAN,
        }
    }

    /// Days since the first bin.
    pub(crate) fn days(&self) -> f64 {
        if self.first == i64::MIN { 0.0 } else { (self.bin - self.first) as f64 / PER_DAY as f64 }
    }

    /// Moves to the bin of `time_ms`; closes the bins before it.
    pub(crate) fn advance(&mut self, time_ms: i64) {
        let bin = time_ms.div_euclid(BIN_MS);
        if bin == self.bin {
            return;
        }
        if self.bin == i64::MIN || bin < self.bin {
            self.first = bin;
            self.bin = bin;
            return;
        }
        let mean = match (self.weight > 0.0, self.counts) {
            (true, true) => ((self.sum + 0.5) / (self.weight + 1.0)).ln() as f32,
            (true, false) => (self.sum / self.weight) as f32,
            _ => UNKNOWN,
        };
        let gap = (bin - self.bin).min(SLOTS as i64);
        for k in 0..gap {
            // a series sampled each hour fills two bins; longer holes stay unknown
            let v = if k < 2 { mean } else { UNKNOWN };
            if let Some(s) = self.ring.get_mut(Self::slot(self.bin + k)) {
                *s = v;
            }
        }
        self.bin = bin;
        self.sum = 0.0;
        self.weight = 0.0;
        // the newest bins of the profile; after a hole, or where the profile is young, all of it
        let ahead = if gap > HALF { PER_DAY } else { HALF + 2 };
        for b in bin - HALF - 1..=bin + ahead {
            if b > bin + ahead - gap || self.shape_at(b).is_nan() {
                self.reshape(b);
            }
        }
        let week = self.level_near(bin - 7 * PER_DAY);
        if week.is_finite() {
            self.week = Some(week);
            self.week_bin = bin;
            self.weekly = true;
        } else if self.week.is_none() {
            let day = self.level_near(bin - PER_DAY);
            self.week = day.is_finite().then_some(day);
        } else if self.weekly && bin.saturating_sub(self.week_bin) > HOLE {
            self.unsure_until = bin.saturating_add(UNSURE);
        }
    }

    /// Whether what stands for last week is from the edge of a hole in it, and may be that of another kind of day.
    pub(crate) fn in_hole(&self) -> bool {
        self.bin <= self.unsure_until
    }

    /// Adds a ln value (weight 1), or a number of errors in `weight` requests.
    pub(crate) fn add(&mut self, y: f64, weight: f64) {
        self.sum += y;
        self.weight += weight;
    }

    /// Sum and number of the known bins within half a day of `bin`.
    fn day_around(&self, bin: i64) -> (f64, f64) {
        let (mut sum, mut n) = (0.0, 0.0);
        let from = (bin - PER_DAY / 2).max(self.first);
        let len = ((bin + PER_DAY / 2).min(self.bin) - from).max(0) as usize;
        let (late, early) = self.ring.split_at(Self::slot(from).min(self.ring.len()));
        for &v in early.iter().chain(late).take(len) {
            if v != UNKNOWN {
                sum += f64::from(v);
                n += 1.0;
            }
        }
        (sum, n)
    }

    /// Median over the days of the value less that day's moving mean.
    fn reshape(&mut self, bin: i64) {
        let mut rest = [0.0_f64; 14];
        let mut n = 0;
        for d in 1..14 {
            let b = bin - d * PER_DAY;
            let v = self.at(b);
            if v.is_nan() {
                continue;
            }
            let (s, c) = self.day_around(b);
            if c >= PER_DAY as f64 / 2.0
                && let Some(r) = rest.get_mut(n)
            {
                *r = v - s / c;
                n += 1;
            }
        }
        let m = median(rest.get_mut(..n).unwrap_or_default()).unwrap_or(f64::NAN);
        if let Some(s) = self.shape.get_mut(bin.rem_euclid(PER_DAY) as usize) {
            *s = if m.is_finite() { m as f32 } else { UNKNOWN };
        }
    }

    /// Moves the history before `since_ms` by `delta`, after a lasting change of level.
    pub(crate) fn shift(&mut self, delta: f64, since_ms: i64) {
        let edge = since_ms.div_euclid(BIN_MS).max(self.bin - SLOTS as i64);
        for b in self.bin - SLOTS as i64..edge {
            if let Some(v) = self.ring.get_mut(Self::slot(b)) {
                *v = if *v == UNKNOWN { *v } else { *v + delta as f32 };
            }
        }
        self.week = self.week.map(|w| w + delta);
    }

    fn level_near(&self, bin: i64) -> f64 {
        let mut v = [0.0_f64; 2 * HALF as usize + 1];
        let mut n = 0;
        for b in bin - HALF..=bin + HALF {
            let x = self.at(b) - self.shape_at(b);
            if !x.is_nan()
                && let Some(s) = v.get_mut(n)
            {
                *s = x;
                n += 1;
            }
        }
        if n <= HALF as usize {
            return f64::NAN;
        }
        median(v.get_mut(..n).unwrap_or_default()).unwrap_or(f64::NAN)
    }

    /// Expected value at `time_ms` (in the bin last advanced to); `None` before a day is known.
    pub(crate) fn expected(&self, time_ms: i64) -> Option<f64> {
        let bin = time_ms.div_euclid(BIN_MS);
        let frac = time_ms.rem_euclid(BIN_MS) as f64 / BIN_MS as f64 - 0.5;
        let here = self.shape_at(bin);
        let next = self.shape_at(if frac < 0.0 { bin - 1 } else { bin + 1 });
        let next = if next.is_nan() { here } else { next };
        let v = self.week? + here + frac.abs() * (next - here);
        v.is_finite().then_some(v)
    }
}
