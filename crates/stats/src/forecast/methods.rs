//! The forecasting methods that are combined, each from the values before an origin.

use super::holt_winters::{self, HoltWinters};

/// Hours in a day and in a week.
pub(super) const DAY: usize = 24;
pub(super) const WEEK: usize = 168;
/// Days over which trends and seasonal means look back: the least, a working week, four weeks.
const DRIFT_DAYS: usize = 2;
const SHORT_DAYS: usize = 5;
const LONG_DAYS: usize = 28;

/// A method of the ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Method {
    /// The last value (random walk).
    Last,
    /// The value of the same hour yesterday.
    SameHour,
    /// The value of the same hour last week.
    SameHourOfWeek,
    /// Same hour of the last two days, plus their difference carried on.
    Drift,
    /// Line through the last five daily means, plus the daily shape.
    ShortTrend,
    /// Line through up to 28 daily means, plus daily and weekly shape.
    LongTrend,
    /// Additive damped Holt-Winters with a daily season.
    HoltWinters,
    /// Mean of the same hour (of the week, when two are known), with the last deviation fading.
    SeasonalMean,
}

/// All methods, in the order of weights and forecasts.
pub const METHODS: [Method; 8] = [
    Method::Last,
    Method::SameHour,
    Method::SameHourOfWeek,
    Method::Drift,
    Method::ShortTrend,
    Method::LongTrend,
    Method::HoltWinters,
    Method::SeasonalMean,
];

/// Forecasts of all methods at one origin; empty where a method needs more history.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Number of values before it.
    pub(super) at: usize,
    /// One forecast per method.
    pub(super) by_method: Vec<Vec<f64>>,
}

/// Forecasts at each of the rising `origins`, `steps(origin)` hours far.
pub(super) fn run(y: &[f64], origins: &[usize], steps: impl Fn(usize) -> usize) -> Vec<Origin> {
    let start = origins.first().copied().unwrap_or(0).max(2 * DAY);
    let mut smooth = y.get(..start).and_then(|v| holt_winters::choose(v, DAY));
    let mut chosen_at = start;
    let mut seen = 0;
    origins
        .iter()
        .map(|&at| {
            if at >= 2 * chosen_at {
                smooth = y.get(..at).and_then(|v| holt_winters::choose(v, DAY)).or(smooth.take());
                (seen, chosen_at) = (0, at);
            }
            if let Some(s) = smooth.as_mut() {
                y.iter().take(at).skip(seen).for_each(|&v| {
                    s.update(v);
                });
            }
            seen = at;
            let past = y.get(..at).unwrap_or(y);
            let h = steps(at);
            Origin { at, by_method: METHODS.map(|m| one(m, past, h, smooth.as_ref())).into() }
        })
        .collect()
}

fn one(method: Method, past: &[f64], h: usize, smooth: Option<&HoltWinters>) -> Vec<f64> {
    let n = past.len();
    let last = past.last().copied().unwrap_or(0.0);
    let periodic = |p: usize| match n.checked_sub(p).and_then(|i| past.get(i..)) {
        Some(cycle) => cycle.iter().copied().cycle().take(h).collect(),
        None => Vec::new(),
    };
    match method {
        Method::Last => vec![last; h],
        Method::SameHour => periodic(DAY),
        Method::SameHourOfWeek => periodic(WEEK),
        Method::Drift => trend(past, DRIFT_DAYS, h),
        Method::ShortTrend => trend(past, SHORT_DAYS, h),
        Method::LongTrend => trend(past, LONG_DAYS, h),
        Method::HoltWinters => smooth.map(|s| s.forecast(h)).unwrap_or_default(),
        Method::SeasonalMean => seasonal_mean(past, h),
    }
}

/// Line through the daily means before the origin (days end at the origin), with the mean shape
/// of the day and, from two weeks on, of the week.
fn trend(past: &[f64], most: usize, h: usize) -> Vec<f64> {
    let days = (past.len() / DAY).min(most);
    if days < 2 {
        return Vec::new();
    }
    let recent = &past[past.len() - days * DAY..];
    let means: Vec<f64> =
        recent.chunks_exact(DAY).map(|c| c.iter().sum::<f64>() / DAY as f64).collect();
    let mid = (days as f64 - 1.0) / 2.0;
    let mean = means.iter().sum::<f64>() / days as f64;
    let sxx: f64 = (0..days).map(|d| (d as f64 - mid).powi(2)).sum();
    let sxy: f64 = means.iter().enumerate().map(|(d, m)| (d as f64 - mid) * (m - mean)).sum();
    let slope = sxy / sxx; // per day
    let line = |hour: f64| mean + slope * ((hour - 11.5) / DAY as f64 - mid);
    let mut shape = [0.0; DAY];
    for (i, v) in recent.iter().enumerate() {
        shape[i % DAY] += (v - line(i as f64)) / days as f64;
    }
    let mut week = [0.0; 7];
    if days >= 14 {
        let whole = days / 7 * 7;
        for (d, m) in means.iter().enumerate().skip(days - whole) {
            let over = m - line(d as f64 * 24.0 + 11.5);
            week[(d + 7 - days % 7) % 7] += over / (whole / 7) as f64;
        }
        let centre = week.iter().sum::<f64>() / 7.0;
        week.iter_mut().for_each(|w| *w -= centre);
    }
    (0..h).map(|k| line((days * DAY + k) as f64) + shape[k % DAY] + week[(k / DAY) % 7]).collect()
}

/// Mean of the same hour over up to four weeks; the last hours' deviation fades as fast as the
/// deviations' own lag-1 autocorrelation says.
fn seasonal_mean(past: &[f64], h: usize) -> Vec<f64> {
    let n = past.len();
    let period = if n >= 2 * WEEK { WEEK } else { DAY };
    let cycles = (n / period).min(LONG_DAYS * DAY / period);
    if cycles < 2 {
        return Vec::new();
    }
    let recent = &past[n - cycles * period..];
    let mut mean = vec![0.0; period];
    for (i, v) in recent.iter().enumerate() {
        mean[i % period] += v / cycles as f64;
    }
    let (mut square, mut cross, mut last) = (0.0, 0.0, 0.0);
    for (i, v) in recent.iter().enumerate() {
        let e = v - mean[i % period];
        square += e * e;
        cross += e * last;
        last = e;
    }
    let phi = if square > 0.0 { (cross / square).clamp(0.0, 0.999) } else { 0.0 };
    let mut fade = 1.0;
    (0..h)
        .map(|k| {
            fade *= phi;
            mean[k % period] + fade * last
        })
        .collect()
}
