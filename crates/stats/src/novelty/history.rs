//! Histogram over the magnitude of a non-negative quantity, to ask how often it was exceeded.
//!
//! Buckets are quarters of an octave, cut from the bits of the number, so that an insert takes a
//! few instructions. Gives the *return period* of extreme value statistics: the mean time between
//! values at least this large, here by empirical rank (no tail is extrapolated). Assumes that the
//! history is exchangeable; a trend makes large values look rarer than they are.

use serde::{Deserialize, Serialize};

/// Quarter octaves from 2^-14 to 2^10, one for less, one for more.
const BUCKETS: usize = 98;
/// `bits >> 50` of 2^-14, the least number told apart from 0.
const LOWEST: u64 = (1023 - 14) << 2;

/// Counts of magnitudes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct History {
    counts: Vec<u32>,
}

impl Default for History {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl History {
    /// Bytes on the heap.
    pub(crate) const BYTES: usize = BUCKETS * size_of::<u32>();

    /// Bucket of a magnitude; anything not above 0 is in the first.
    fn bucket(magnitude: f64) -> usize {
        if magnitude.is_nan() || magnitude <= 0.0 {
            return 0;
        }
        let quarter = magnitude.to_bits() >> 50;
        (quarter + 1).saturating_sub(LOWEST).min(BUCKETS as u64 - 1) as usize
    }

    /// Least magnitude of a bucket, the inverse of `bucket`.
    fn least_of(bucket: usize) -> f64 {
        match bucket {
            0 => 0.0,
            b => f64::from_bits((b as u64 - 1 + LOWEST) << 50),
        }
    }

    /// Counts one magnitude.
    pub(crate) fn insert(&mut self, magnitude: f64) {
        if let Some(count) = self.counts.get_mut(Self::bucket(magnitude)) {
            *count = count.saturating_add(1);
        }
    }

    /// Number of magnitudes at least as large as this one; ties in the bucket count half.
    pub(crate) fn exceedances(&self, magnitude: f64) -> f64 {
        let at = Self::bucket(magnitude);
        let above: u64 = self.counts.iter().skip(at + 1).map(|c| u64::from(*c)).sum();
        let ties = self.counts.get(at).copied().unwrap_or(0);
        above as f64 + 0.5 * f64::from(ties)
    }

    /// Least magnitude that at most `allowed` of the past reached.
    pub(crate) fn exceeded_at_most(&self, allowed: f64) -> f64 {
        let mut above = 0.0;
        for (bucket, count) in self.counts.iter().enumerate().rev() {
            above += f64::from(*count);
            if above > allowed {
                return Self::least_of(bucket + 1);
            }
        }
        0.0
    }

    /// Halves all counts, so that the past weighs less; a single one stays, being an extreme.
    pub(crate) fn halve(&mut self) {
        self.counts.iter_mut().for_each(|c| *c = c.div_ceil(2));
    }
}
