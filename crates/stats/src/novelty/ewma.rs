//! Local level and spread by an exponentially weighted moving average with clipped steps.
//!
//! Robust in Huber's sense: a sample moves the estimate by at most `CLIP` of its own standard
//! deviations, so that one outage does not hide the next. Cost: 24 bytes, some ten flops.

use serde::{Deserialize, Serialize};

/// Samples of memory: enough for a spread with 10 % error, short against a daily pattern.
const WINDOW: f64 = 100.0;
/// Clip of a step in standard deviations; 3 to 10 score alike.
const CLIP: f64 = 5.0;
/// Samples before clipping starts: the first spread is no yardstick.
const UNCLIPPED: f64 = 20.0;

/// Mean and variance of the recent past.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ewma {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Ewma {
    /// Mean of the recent past; 0 before the first sample.
    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    /// Standard deviation of the recent past, in the unit of the samples.
    pub(crate) fn deviation(&self) -> f64 {
        self.variance.max(0.0).sqrt()
    }

    /// Takes in one finite sample.
    pub(crate) fn update(&mut self, x: f64) {
        self.count = (self.count + 1.0).min(1e9);
        let weight = (1.0 / self.count).max(1.0 / WINDOW);
        let mut step = x - self.mean;
        if self.count > UNCLIPPED && self.variance > 0.0 {
            let most = CLIP * self.deviation();
            step = step.clamp(-most, most);
        }
        if self.count <= 1.0 {
            self.mean = x;
            return;
        }
        self.variance = (1.0 - weight) * (self.variance + weight * step * step);
        self.mean += weight * step;
    }
}
