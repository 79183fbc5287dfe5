//! Trends: the median of all pairwise slopes with its interval, the Mann–Kendall test, and when a trend meets a limit.
//!
//! Both count pairs by sorting, so that they are exact without looking at each pair.
//! Assumptions: none on the distribution. For values that depend on those before them the plain interval is too
//! narrow; [`effective`] gives the number of values that they are worth, and the intervals here use it.
//! Failure modes: a trend that bends is described by its middle; a step looks like a trend.

use crate::order::{median, normal_quantile, normal_tail};

/// A slope with the interval that holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Median of the slopes of all pairs: units of value for a unit of time.
    pub slope: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Median of `value - slope * time`.
    pub intercept: f64,
}

/// What the Mann–Kendall test says of a trend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Kendall's tau-b, -1 to 1.
    pub tau: f64,
    /// Normal score with correction for ties and continuity; positive when values rise.
    pub z: f64,
    /// Two-sided chance of such a score without a trend.
    pub p: f64,
}

/// Up to so many points, slopes are made and sorted; beyond, they are counted.
const FEW: usize = 512;

/// The median of all pairwise slopes (Theil 1950; Sen 1968, doi:10.1080/01621459.1968.10480934); holds with up to 29 %
/// of the values wrong. `confidence` in 0..1 is that of the interval, by Sen's normal approximation, widened for
/// dependence between neighbours.
///
/// Shape: as many times as values, times ascending. `None` where no two times differ or something is not finite.
/// Cost: O(n²) up to 512 points, O(60 n log n) beyond; 16 bytes a point.
pub fn theil_sen(times: &[f64], values: &[f64], confidence: f64) -> Option<Slope> {
    let points = Points::new(times, values)?;
    let pairs = points.pairs();
    if pairs == 0 {
        return None;
    }
    let slope = points.ranked(pairs / 2, (pairs - 1) / 2);
    let mut rest: Vec<f64> = times.iter().zip(values).map(|(t, v)| v - slope * t).collect();
    let worth = effective(&rest);
    let intercept = median(&mut rest)?;
    let z = normal_quantile(0.5 + confidence.clamp(0.0, 1.0) / 2.0);
    let n = times.len() as f64;
    let sigma = variance(n, &points.ties(times), &points.ties(values)).max(0.0).sqrt();
    let half = z * sigma * (n / worth).sqrt();
    let place = |middle: f64| middle.round().max(0.0) as u64;
    let low = place((pairs as f64 - half) / 2.0 - 1.0);
    let high = place((pairs as f64 + half) / 2.0).min(pairs - 1);
    Some(Slope { slope, low: points.ranked(low, low), high: points.ranked(high, high), intercept })
}

/// Whether values tend to rise or fall (Mann 1945, doi:10.2307/1907187; Kendall 1975), with the variance enlarged for
/// dependence between neighbours after the slope is taken out (Yue and Wang 2004,
/// doi:10.1023/B:WARM.0000043140.61082.60).
///
/// Shape: values in order of time, three or more. Cost: O(n log n).
pub fn mann_kendall(values: &[f64]) -> Option<Trend> {
    let n = values.len();
    if n < 3 {
        return None;
    }
    let times: Vec<f64> = (0..n).map(|at| at as f64).collect();
    let points = Points::new(&times, values)?;
    let ties = points.ties(values);
    let tied: f64 = ties.iter().map(|k| k * (k - 1.0) / 2.0).sum();
    let pairs = points.pairs() as f64;
    // A pair of equal values is neither rising nor falling.
    let score = pairs - tied - 2.0 * points.falling() as f64;
    let slope = points.ranked(points.pairs() / 2, (points.pairs() - 1) / 2);
    let rest: Vec<f64> = times.iter().zip(values).map(|(t, v)| v - slope * t).collect();
    let worth = effective(&rest);
    let variance = variance(n as f64, &[], &ties) * n as f64 / worth;
    let z = if variance > 0.0 { (score.abs() - 1.0).max(0.0) / variance.sqrt() } else { 0.0 };
    let tau = if pairs > tied { score / (pairs * (pairs - tied)).sqrt() } else { 0.0 };
    Some(Trend { tau, z: z.copysign(score), p: (2.0 * normal_tail(z)).min(1.0) })
}

/// How many independent values these are worth, by their correlation with the one before (Bayley and Hammersley 1946,
/// doi:10.2307/2983560, for a first-order process). At least 2 or all of them.
pub fn effective(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    if values.len() < 4 {
        return n;
    }
    let mean = values.iter().sum::<f64>() / n;
    let square: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let next = values.iter().zip(values.iter().skip(1));
    let cross: f64 = next.map(|(a, b)| (a - mean) * (b - mean)).sum();
    // Correlations below their own standard error are taken for chance.
    let rho = if square > 0.0 { cross / square } else { 0.0 };
    let rho = if rho > 1.0 / n.sqrt() { rho.min(0.999) } else { 0.0 };
    (n * (1.0 - rho) / (1.0 + rho)).max(2.0)
}

/// When a line meets a limit: units of time after `now`, 0 where it is there at `now`; `None` where it left it behind or never
/// gets there.
///
/// The interval comes from that of the slope. An end is `None` where that slope never gets there.
pub fn time_to(limit: f64, now: f64, line: &Slope) -> (Option<f64>, Option<f64>, Option<f64>) {
    let level = line.intercept + line.slope * now;
    let ahead = limit - level;
    let at = |slope: f64| {
        let time = if ahead == 0.0 { 0.0 } else { ahead / slope };
        (time >= 0.0 && time.is_finite()).then_some(time)
    };
    // The steeper slope towards the limit is the sooner.
    let (fast, slow) = if ahead >= 0.0 { (line.high, line.low) } else { (line.low, line.high) };
    (at(line.slope), at(fast), at(slow))
}

/// Variance of Kendall's score.
fn variance(n: f64, ties_x: &[f64], ties_y: &[f64]) -> f64 {
    let part = |k: f64| k * (k - 1.0) * (2.0 * k + 5.0);
    let ties: f64 = ties_x.iter().chain(ties_y).map(|k| part(*k)).sum();
    (part(n) - ties) / 18.0
}

struct Points<'a> {
    times: &'a [f64],
    values: &'a [f64],
    /// All slopes, ascending, where they are few.
    slopes: Option<Vec<f64>>,
}

impl<'a> Points<'a> {
    fn new(times: &'a [f64], values: &'a [f64]) -> Option<Self> {
        let finite = times.iter().chain(values).all(|x| x.is_finite());
        let ascending = times.is_sorted();
        if times.len() != values.len() || !finite || !ascending || times.len() < 2 {
            return None;
        }
        let slopes = (times.len() <= FEW).then(|| slopes(times, values));
        Some(Self { times, values, slopes })
    }

    /// Pairs whose times differ.
    fn pairs(&self) -> u64 {
        let n = self.times.len() as u64;
        let same: f64 = self.ties(self.times).iter().map(|k| k * (k - 1.0) / 2.0).sum();
        n * (n - 1) / 2 - same as u64
    }

    /// Sizes of the groups of equal values.
    fn ties(&self, of: &[f64]) -> Vec<f64> {
        let mut sorted = of.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let groups = sorted.chunk_by(|a, b| a == b).map(<[f64]>::len);
        groups.filter(|k| *k > 1).map(|k| k as f64).collect()
    }

    /// The mean of the slopes of rank `a` and `b`, from 0.
    fn ranked(&self, a: u64, b: u64) -> f64 {
        match &self.slopes {
            Some(slopes) => {
                let at = |rank: u64| slopes.get(rank as usize).copied().unwrap_or(0.0);
                (at(a) + at(b)) / 2.0
            }
            None if a == b => self.counted(a),
            None => (self.counted(a) + self.counted(b)) / 2.0,
        }
    }

    /// The slope of a rank, by bisection over how many are under a slope.
    fn counted(&self, rank: u64) -> f64 {
        let (mut low, mut high) = self.bounds();
        for _ in 0..60 {
            let middle = low + (high - low) / 2.0;
            if middle <= low || middle >= high {
                break;
            }
            if self.under(middle) > rank { high = middle } else { low = middle }
        }
        low + (high - low) / 2.0
    }

    /// Neighbours in time have the least and the greatest slope.
    fn bounds(&self) -> (f64, f64) {
        let mut bounds = (f64::INFINITY, f64::NEG_INFINITY);
        // Of values at one time, the extremes count.
        let mut groups: Vec<(f64, f64, f64)> = Vec::new();
        for (t, v) in self.times.iter().zip(self.values) {
            match groups.last_mut().filter(|(time, _, _)| time == t) {
                Some((_, least, most)) => (*least, *most) = (least.min(*v), most.max(*v)),
                None => groups.push((*t, *v, *v)),
            }
        }
        for (a, b) in groups.iter().zip(groups.iter().skip(1)) {
            bounds.0 = bounds.0.min((b.1 - a.2) / (b.0 - a.0));
            bounds.1 = bounds.1.max((b.2 - a.1) / (b.0 - a.0));
        }
        bounds
    }

    /// Pairs with a slope under `slope`: inversions of `value - slope * time`.
    fn under(&self, slope: f64) -> u64 {
        let mut rest: Vec<(f64, f64)> =
            self.times.iter().zip(self.values).map(|(t, v)| (*t, v - slope * t)).collect();
        // Pairs of one time have no slope: sorted by value they are no inversion.
        rest.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut rest: Vec<f64> = rest.into_iter().map(|(_, v)| v).collect();
        inversions(&mut rest)
    }

    /// Pairs whose later value is less.
    fn falling(&self) -> u64 {
        inversions(&mut self.values.to_vec())
    }
}

fn slopes(times: &[f64], values: &[f64]) -> Vec<f64> {
    let mut slopes = Vec::with_capacity(times.len() * times.len().saturating_sub(1) / 2);
    for (at, (t0, v0)) in times.iter().zip(values).enumerate() {
        let later = times.iter().zip(values).skip(at + 1).filter(|(t, _)| *t > t0);
        slopes.extend(later.map(|(t, v)| (v - v0) / (t - t0)));
    }
    slopes.sort_unstable_by(f64::total_cmp);
    slopes
}

/// Pairs out of order, by merge sort; equal ones are in order.
fn inversions(values: &mut [f64]) -> u64 {
    let n = values.len();
    let mut from = values.to_vec();
    let mut to = from.clone();
    let mut count = 0;
    let mut width = 1;
    while width < n {
        for (source, target) in from.chunks(2 * width).zip(to.chunks_mut(2 * width)) {
            let (left, right) = source.split_at(width.min(source.len()));
            count += merge(left, right, target);
        }
        std::mem::swap(&mut from, &mut to);
        width *= 2;
    }
    count
}

fn merge(mut left: &[f64], mut right: &[f64], target: &mut [f64]) -> u64 {
    let mut count = 0;
    for slot in target {
        match (left.split_first(), right.split_first()) {
            (Some((l, rest)), Some((r, _))) if l <= r => (*slot, left) = (*l, rest),
            (_, Some((r, rest))) => {
                count += left.len() as u64;
                (*slot, right) = (*r, rest);
            }
            (Some((l, rest)), None) => (*slot, left) = (*l, rest),
            (None, None) => {}
        }
    }
    count
}

#[cfg(test)]
mod tests;
