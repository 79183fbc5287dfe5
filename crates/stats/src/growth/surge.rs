//! Growth within hours: two slopes of five-minute means that both pass the limit soon.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const BIN_MS: i64 = 300_000;
/// Five-minute means kept: the longest page horizon.
const BINS: usize = 48;
/// Long and short slope, in bins: an hour, and its last twenty minutes.
const LONG: usize = 12;
const SHORT: usize = 4;
/// Below this share of the limit a steep hour is a batch job, not the end.
const NEAR: f64 = 0.85;
/// The short slope must keep this share of the long one: a filling that slows down is a plateau.
const KEEPS: f64 = 0.8;
/// The long slope in standard errors.
const STEEP: f64 = 6.0;

/// Five-minute means of the last four hours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Surge {
    bin: i64,
    sum: f64,
    n: u32,
    means: VecDeque<f32>,
}

impl Surge {
    /// Takes a sample; true when a bin was finished.
    pub(super) fn push(&mut self, time_ms: i64, value: f64) -> bool {
        let bin = time_ms.div_euclid(BIN_MS);
        let finished = self.n > 0 && bin != self.bin;
        if finished {
            if self.means.len() >= BINS {
                self.means.pop_front();
            }
            self.means.push_back((self.sum / f64::from(self.n)) as f32);
            if bin - self.bin > 1 {
                self.means.clear(); // a gap: slopes across it say nothing
            }
            (self.sum, self.n) = (0.0, 0);
        }
        self.bin = bin;
        self.sum += value;
        self.n += 1;
        finished
    }

    /// Slope per bin and its standard error over the last `n` bins.
    fn slope(&self, n: usize) -> Option<(f64, f64)> {
        let from = self.means.len().checked_sub(n)?;
        let mid = (n as f64 - 1.0) / 2.0;
        let v = || self.means.iter().skip(from).map(|&v| f64::from(v)).enumerate();
        let mean = v().map(|p| p.1).sum::<f64>() / n as f64;
        let sxx: f64 = v().map(|p| (p.0 as f64 - mid).powi(2)).sum();
        let sxy: f64 = v().map(|p| (p.0 as f64 - mid) * (p.1 - mean)).sum();
        let slope = sxy / sxx;
        let rss: f64 = v().map(|p| (p.1 - mean - slope * (p.0 as f64 - mid)).powi(2)).sum();
        Some((slope, (rss / (n as f64 - 2.0) / sxx).sqrt()))
    }

    /// Last five-minute mean.
    pub(super) fn last(&self) -> Option<f64> {
        self.means.back().map(|&v| f64::from(v))
    }

    /// Hours until `limit` by the slower of both slopes; None when they do not agree on a rise.
    pub(super) fn hours_to(&self, limit: f64) -> Option<f64> {
        let ((long, se), (short, _)) = (self.slope(LONG)?, self.slope(SHORT)?);
        let last = self.last()?;
        let rises = long > STEEP * se && short >= KEEPS * long && long > 0.0;
        if !rises || last < NEAR * limit {
            return None;
        }
        let bins = (limit - last).max(0.0) / long.min(short);
        Some(bins * BIN_MS as f64 / 3.6e6)
    }
}
