//! Usual value by the hour of the day and by the hour of the week, each an exponential average.
//!
//! Assumes that a season follows the clock in UTC; a shift by daylight saving is a novelty for a
//! day. With samples every hour a slot learns from one sample a day or week. Cost: 1 KB for both.

use serde::{Deserialize, Serialize};

const HOUR_MS: i64 = 3_600_000;
/// Weight of a new sample in its slot: about five samples of memory.
const WEIGHT: f64 = 0.2;

/// Averages over the slots of one period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Season {
    usual: Vec<f32>,
    known: Vec<bool>,
}

impl Season {
    /// A period of `hours` slots: 24 for the day, 168 for the week.
    pub(crate) fn new(hours: usize) -> Self {
        let hours = hours.max(1);
        Self { usual: vec![0.0; hours], known: vec![false; hours] }
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.usual.capacity() * size_of::<f32>() + self.known.capacity()
    }

    fn slot(&self, time_ms: i64) -> usize {
        time_ms.div_euclid(HOUR_MS).rem_euclid(self.usual.len().max(1) as i64) as usize
    }

    /// Usual value at this time; `None` before the slot has been seen.
    pub(crate) fn usual(&self, time_ms: i64) -> Option<f64> {
        let at = self.slot(time_ms);
        self.known.get(at).filter(|known| **known)?;
        self.usual.get(at).map(|v| f64::from(*v))
    }

    /// Takes in one sample.
    pub(crate) fn update(&mut self, time_ms: i64, x: f64) {
        let at = self.slot(time_ms);
        if let (Some(usual), Some(known)) = (self.usual.get_mut(at), self.known.get_mut(at)) {
            let before = if *known { f64::from(*usual) } else { x };
            *usual = (before + WEIGHT * (x - before)) as f32;
            *known = true;
        }
    }
}
