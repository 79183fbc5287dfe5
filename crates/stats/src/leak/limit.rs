//! The limit that growth runs into, and the time until then.

use serde::{Deserialize, Serialize};

use super::ring::Blocks;
use super::trend::Trend;

/// Where a limit came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitSource {
    /// Configuration or control group.
    Configured,
    /// Highest value before a restart that followed growth.
    Learned,
}

/// Where the peaks stand and how fast they rise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ascent {
    /// Peak now: the highest value that collections leave and the usual load brings.
    pub(crate) peak: f64,
    /// Units of the value per second.
    pub(crate) slope: f64,
    /// Its standard error.
    pub(crate) slope_error: f64,
}

/// Peaks over the stretch: collections that wait for a share of the live size let the peak rise
/// faster than the floor, never slower, and at most in proportion.
pub(crate) fn ascent(blocks: &Blocks, trend: &Trend, flow: f64) -> Ascent {
    let n = blocks.len;
    let stretch = trend.from..n;
    let recent = n.saturating_sub(4).max(trend.from)..n;
    let mean = |range: std::ops::Range<usize>, of: &[f64]| -> f64 {
        let count = range.len().max(1) as f64;
        of[range].iter().sum::<f64>() / count
    };
    let (floor, peak) = (mean(recent.clone(), &blocks.lo), mean(recent.clone(), &blocks.hi));
    let slope = trend.slope();
    let proportion = if floor > 0.0 { (peak / floor).clamp(1.0, 10.0) } else { 1.0 };
    let own = peak_slope(blocks, stretch.clone()).unwrap_or(slope);
    let slope_up = own.min(slope * proportion).max(slope);
    let age = blocks.time[n - 1] - mean(recent, &blocks.time);
    // Ahead lies the usual load, not the load of the stretch.
    let (by_flow, weight) = trend.per_flow;
    let usual = if flow > 0.0 { by_flow * flow } else { slope };
    let ahead = slope + weight * (usual - slope);
    let doubt = (weight * (1.0 - weight)).sqrt() * (usual - slope);
    let factor = slope_up / slope.max(f64::MIN_POSITIVE);
    Ascent {
        peak: peak + slope_up * age,
        slope: ahead * factor,
        slope_error: trend.slope_error().hypot(doubt) * factor,
    }
}

/// Least-squares slope of the peaks within the last life of the stretch.
fn peak_slope(blocks: &Blocks, stretch: std::ops::Range<usize>) -> Option<f64> {
    let life = *blocks.life.get(stretch.end.checked_sub(1)?)?;
    let (mut n, mut sx, mut sy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let x0 = blocks.time[stretch.end - 1];
    for i in stretch.filter(|&i| blocks.life[i] == life) {
        let (x, y) = ((blocks.time[i] - x0) / blocks.block_s, blocks.hi[i]);
        n += 1.0;
        sx += x;
        sy += y;
        sxx += x * x;
        sxy += x * y;
    }
    let var = sxx - sx * sx / n;
    (n >= 5.0 && var > 0.0).then(|| (sxy - sx * sy / n) / var / blocks.block_s)
}

/// Widening of the interval: the stretch was chosen for its growth, its noise is remembered
/// longer than one block, and rates change; measured.
pub(crate) const WIDEN: f64 = 2.5;
/// Relative error of the room: peaks scatter even when the slope is exact.
const ROOM_ERROR: f64 = 0.1;

/// Seconds until `limit` with a 90 % interval, log-normal about the first.
pub(crate) fn time_to(limit: f64, ascent: &Ascent) -> (f64, f64, f64) {
    let room = (limit - ascent.peak).max(0.0);
    if ascent.slope <= 0.0 {
        return (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    }
    let relative = (WIDEN * ascent.slope_error / ascent.slope).hypot(ROOM_ERROR);
    // A slope that was chosen for its size is too steep by about its relative variance.
    let left = room / ascent.slope * (1.0 + (0.5 * relative * relative).min(0.5));
    // 1.645 is the 95th percentile of the normal law.
    let factor = (1.645 * relative).min(20.0).exp();
    (left, left / factor, left * factor)
}
