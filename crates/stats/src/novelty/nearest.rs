//! Sorted, bounded sample of the values a stream has shown, to ask how far a new one is from all.
//!
//! A one-dimensional nearest-neighbour distance (the 1-NN case of conformal and KNN-CAD detectors).
//! Two values closer than `range / CAPACITY` are one value here, which bounds the memory at
//! `CAPACITY + 2` entries. Cost: a binary search, and a shift of at most 512 bytes when a value is
//! kept. Failure mode: one wild outlier widens the range, and with it the resolution, for as long
//! as the sample is kept.

use serde::{Deserialize, Serialize};

/// Distinct values told apart within the range. NAB scores the same from 128 up, less below.
const CAPACITY: usize = 128;

/// Values seen, ascending, as `f32` (callers subtract an origin first, so nothing is lost).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Nearest {
    seen: Vec<f32>,
}

impl Nearest {
    /// Distance from `x` to the nearest value seen; `None` while nothing was seen.
    pub(crate) fn distance(&self, x: f64) -> Option<f64> {
        self.place(x as f32).1
    }

    /// Where `key` belongs, and its distance to the nearer neighbour.
    fn place(&self, key: f32) -> (usize, Option<f64>) {
        let at = self.seen.partition_point(|v| *v < key);
        let apart = |v: &f32| (f64::from(*v) - f64::from(key)).abs();
        let up = self.seen.get(at).map(apart);
        let down = at.checked_sub(1).and_then(|i| self.seen.get(i)).map(apart);
        (at, min_of(up, down))
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.seen.capacity() * size_of::<f32>()
    }

    /// Largest less smallest value seen; 0 while there are fewer than two.
    pub(crate) fn range(&self) -> f64 {
        match (self.seen.first(), self.seen.last()) {
            (Some(low), Some(high)) => f64::from(*high) - f64::from(*low),
            _ => 0.0,
        }
    }

    /// Keeps `x`, unless a value that counts as the same is there. Returns the distance before.
    pub(crate) fn observe(&mut self, x: f64) -> Option<f64> {
        let key = x as f32;
        let (at, distance) = self.place(key);
        let same_within = self.range() / (2 * CAPACITY) as f64;
        if distance.is_none_or(|d| d > same_within) {
            // Doubling, as `insert` would grow it, wastes up to half of the memory.
            let room = (CAPACITY + 2).saturating_sub(self.seen.len());
            self.seen.reserve_exact(room);
            self.seen.insert(at, key);
            if self.seen.len() > CAPACITY {
                self.thin();
            }
        }
        distance
    }

    /// Whether `x` lies beyond all values seen.
    pub(crate) fn is_beyond(&self, x: f64) -> bool {
        let key = x as f32;
        self.seen.first().is_some_and(|v| key < *v) || self.seen.last().is_some_and(|v| key > *v)
    }

    /// Drops values nearer than `range / CAPACITY` to the one below; both ends stay.
    fn thin(&mut self) {
        let gap = (1.001 * self.range() / CAPACITY as f64) as f32;
        let top = self.seen.last().copied();
        let mut kept = f32::NEG_INFINITY;
        self.seen.retain(|v| {
            let keep = *v - kept >= gap || Some(*v) == top;
            if keep {
                kept = *v;
            }
            keep
        });
        // Holds already, except where `gap` underflows to 0.
        self.seen.truncate(CAPACITY + 2);
    }
}

/// Two samples in turn: the younger becomes the elder every `span`, so that values last seen more
/// than two spans ago are new again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecentNearest {
    younger: Nearest,
    elder: Nearest,
    turned_ms: i64,
}

impl RecentNearest {
    /// An empty pair whose first span starts at `time_ms`.
    pub(crate) fn new(time_ms: i64) -> Self {
        Self { turned_ms: time_ms, ..Self::default() }
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.younger.bytes() + self.elder.bytes()
    }

    /// Distance from `x` to the nearest value of the last one to two spans; keeps `x`, and lets
    /// the generations turn when `span_ms` has passed.
    pub(crate) fn observe(&mut self, time_ms: i64, span_ms: i64, x: f64) -> Option<f64> {
        let long_ago = self.elder.distance(x);
        if time_ms.saturating_sub(self.turned_ms) > span_ms {
            self.turned_ms = time_ms;
            self.elder = std::mem::take(&mut self.younger);
            self.younger.observe(x);
            let lately = self.elder.distance(x);
            return min_of(lately, long_ago);
        }
        min_of(self.younger.observe(x), long_ago)
    }
}

/// The lesser of two distances that may be missing.
fn min_of(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
