//! One question to a series: how far is this from all before, and how rare is such a distance?
//!
//! The surprise is `weight x size x log10(1 + return period in days)`: both a large step and a
//! rare one matter, and a series in which such steps are common is forgiven them.

use super::history::History;
use super::nearest::Nearest;
use serde::{Deserialize, Serialize};

/// Distances of more ranges than this are as good as infinite.
const MOST_RANGES: f64 = 10.0;

/// How long a series is known, and by that the most that a record can count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age {
    days: f64,
    record: f64,
}

impl Age {
    /// Age of a series in days.
    pub(crate) fn new(days: f64) -> Self {
        let days = days.max(0.0);
        // The empirical return period of a record is twice the history (rank 1, less one half).
        Self { days, record: (1.0 + 2.0 * days).log10() }
    }

    /// Days known.
    pub(crate) fn days(self) -> f64 {
        self.days
    }

    /// Logarithm of a record's return period.
    pub(crate) fn record(self) -> f64 {
        self.record
    }
}

/// Surprise at `size`, which is counted; 0 where it cannot exceed `floor`, to save the work.
pub(crate) fn surprise(past: &mut History, size: f64, weight: f64, age: Age, floor: f64) -> f64 {
    let mut score = 0.0;
    if weight * size * age.record > floor {
        let period = age.days / (past.exceedances(size) + 0.5);
        score = weight * size * (1.0 + period).log10();
    }
    past.insert(size);
    score
}

/// The values a view has seen, and the distances they came with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct View {
    seen: Nearest,
    past: History,
}

impl View {
    /// Surprise at the distance from `x` to the nearest value, relative to the range; keeps `x`.
    pub(crate) fn surprise(&mut self, x: f64, weight: f64, age: Age, floor: f64) -> f64 {
        let range = self.seen.range();
        let distance = self.seen.observe(x).unwrap_or(0.0);
        let relative = match (range > 0.0, distance > 0.0) {
            (true, _) => (distance / range).min(MOST_RANGES),
            (false, off) => f64::from(u8::from(off)),
        };
        surprise(&mut self.past, relative, weight, age, floor)
    }

    /// The values seen.
    pub(crate) fn seen(&self) -> &Nearest {
        &self.seen
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.seen.bytes() + History::BYTES
    }
}
