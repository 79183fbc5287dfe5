//! Functions over a range of one series, as PromQL defines them.

use super::OverTime;
use store::Points;

/// The value of `function` over points without staleness marks in the range `from..=to`, in milliseconds; `None` where there
/// are too few. O(points), a quantile O(n log n).
pub(super) fn over_time(
    function: OverTime,
    points: &Points,
    (from, to): (i64, i64),
    argument: f64,
) -> Option<f64> {
    let values = &points.values;
    let first = *values.first()?;
    let last = *values.last()?;
    let pairs = || values.iter().zip(values.iter().skip(1));
    let count = values.len() as f64;
    Some(match function {
        OverTime::Rate => {
            extrapolated(points, (from, to), true)? / (to - from).max(1) as f64 * 1_000.0
        }
        OverTime::Increase => extrapolated(points, (from, to), true)?,
        OverTime::Delta => extrapolated(points, (from, to), false)?,
        OverTime::Deriv => line(points)?.0,
        OverTime::PredictLinear => {
            let (slope, level) = line(points)?;
            let ahead = (to - points.times.first()?) as f64 / 1_000.0 + argument;
            level + slope * ahead
        }
        OverTime::Min => values.iter().copied().fold(f64::NAN, f64::min),
        OverTime::Max => values.iter().copied().fold(f64::NAN, f64::max),
        OverTime::Avg => values.iter().sum::<f64>() / count,
        OverTime::Sum => values.iter().sum(),
        OverTime::Count => count,
        OverTime::Last => last,
        OverTime::Changes => {
            pairs().filter(|(a, b)| a != b && !(a.is_nan() && b.is_nan())).count() as f64
        }
        OverTime::Resets => pairs().filter(|(a, b)| b < a).count() as f64,
        OverTime::Quantile => quantile(values, argument),
        OverTime::Absent | OverTime::Gone => first,
    })
}

/// The difference over the whole range, from the samples within: where a sample lies near an end, the trend is taken on to that
/// end, else by half the usual step; a counter is not taken below zero.
///
/// Source: `extrapolatedRate` in the documentation of Prometheus' `rate()`.
fn extrapolated(points: &Points, (from, to): (i64, i64), counter: bool) -> Option<f64> {
    let (first_time, last_time) = (*points.times.first()?, *points.times.last()?);
    let (first, last) = (*points.values.first()?, *points.values.last()?);
    if points.len() < 2 || last_time <= first_time {
        return None;
    }
    let mut difference = last - first;
    if counter {
        let pairs = points.values.iter().zip(points.values.iter().skip(1));
        difference += pairs.filter(|(a, b)| b < a).map(|(a, _)| a).sum::<f64>();
    }
    let sampled = (last_time - first_time) as f64;
    let step = sampled / (points.len() - 1) as f64;
    let mut before = (first_time - from) as f64;
    let after = (to - last_time) as f64;
    if counter && difference > 0.0 && first >= 0.0 {
        before = before.min(sampled * first / difference);
    }
    let near = 1.1 * step;
    let reach = |gap: f64| if gap < near { gap } else { step / 2.0 };
    Some(difference * (sampled + reach(before) + reach(after)) / sampled)
}

/// Slope in units a second and level at the first point, by least squares.
fn line(points: &Points) -> Option<(f64, f64)> {
    let start = *points.times.first()?;
    if points.len() < 2 {
        return None;
    }
    let n = points.len() as f64;
    let seconds = || points.times.iter().map(|time| (time - start) as f64 / 1_000.0);
    let mean_time = seconds().sum::<f64>() / n;
    let mean = points.values.iter().sum::<f64>() / n;
    let spread: f64 = seconds().map(|time| (time - mean_time).powi(2)).sum();
    let joint: f64 = seconds()
        .zip(&points.values)
        .map(|(time, value)| (time - mean_time) * (value - mean))
        .sum();
    (spread > 0.0).then(|| (joint / spread, mean - joint / spread * mean_time))
}

fn quantile(values: &[f64], share: f64) -> f64 {
    if share.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&share) {
        return if share < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let low = sorted.get(below).copied().unwrap_or(f64::NAN);
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    low + (high - low) * (place - place.floor())
}

/// The value under which a share of what a histogram counted lies, from its buckets `(upper bound, cumulative count)`.
///
/// Source: `histogram_quantile` in the documentation of PromQL: linear within a bucket.
pub(super) fn histogram_quantile(share: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some((bound, total)) = buckets.last().copied() else { return f64::NAN };
    if bound.is_finite() || buckets.len() < 2 || total.is_nan() || total <= 0.0 || share.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&share) {
        return if share < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let rank = share * total;
    let at = buckets.iter().position(|(_, count)| *count >= rank).unwrap_or(buckets.len() - 1);
    if at == buckets.len() - 1 {
        return buckets.get(at - 1).map_or(f64::NAN, |(bound, _)| *bound);
    }
    let (upper, count) = buckets.get(at).copied().unwrap_or((f64::NAN, f64::NAN));
    let (lower, under) = at
        .checked_sub(1)
        .and_then(|it| buckets.get(it))
        .copied()
        .unwrap_or((if upper > 0.0 { 0.0 } else { upper }, 0.0));
    if count <= under { upper } else { lower + (upper - lower) * (rank - under) / (count - under) }
}
