//! Additive Holt-Winters with damped trend (Holt 1957, Winters 1960, Gardner and McKenzie 1985).
//!
//! Recursion as in statsmodels `ExponentialSmoothing` and in Hyndman and Athanasopoulos,
//! "Forecasting: principles and practice", section 8.3 (component form).

/// Smoothing weights of level, trend and season, and the damping of the trend; all in 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// Weight of the newest value in the level.
    pub level: f64,
    /// Weight of the newest level step in the trend.
    pub trend: f64,
    /// Weight of the newest value in the season.
    pub season: f64,
    /// Share of the trend that is left after each step.
    pub damping: f64,
}

/// State after the values seen so far.
#[derive(Clone, Debug, PartialEq)]
pub struct HoltWinters {
    smoothing: Smoothing,
    level: f64,
    trend: f64,
    season: Vec<f64>,
    next: usize,
}

impl HoltWinters {
    /// Starts from a known state; `season` holds one period, its first entry is for the first
    /// value to come.
    pub fn new(smoothing: Smoothing, level: f64, trend: f64, season: Vec<f64>) -> Self {
        Self { smoothing, level, trend, season, next: 0 }
    }

    /// Starts from the first two periods of `values`: level and season from the first, trend from
    /// the difference of their means. None when there are fewer than two.
    pub fn from_start(smoothing: Smoothing, values: &[f64], period: usize) -> Option<Self> {
        let (one, two) = (values.get(..period)?, values.get(period..2 * period)?);
        let mean = |v: &[f64]| v.iter().sum::<f64>() / period as f64;
        let level = mean(one);
        let trend = (mean(two) - level) / period as f64;
        Some(Self::new(smoothing, level, trend, one.iter().map(|v| v - level).collect()))
    }

    /// Takes a value; returns what was forecast for it.
    pub fn update(&mut self, value: f64) -> f64 {
        let w = self.smoothing;
        let slot = self.next;
        let season = self.season.get(slot).copied().unwrap_or(0.0);
        let drift = w.damping * self.trend;
        let carried = self.level + drift;
        let level = w.level * (value - season) + (1.0 - w.level) * carried;
        let trend = w.trend * (level - self.level) + (1.0 - w.trend) * drift;
        if let Some(s) = self.season.get_mut(slot) {
            *s = w.season * (value - carried) + (1.0 - w.season) * season;
        }
        (self.level, self.trend) = (level, trend);
        self.next = if slot + 1 < self.season.len() { slot + 1 } else { 0 };
        carried + season
    }

    /// Forecasts of the next `steps` values.
    pub fn forecast(&self, steps: usize) -> Vec<f64> {
        let (mut sum, mut power) = (0.0, 1.0);
        let period = self.season.len().max(1);
        (0..steps)
            .map(|k| {
                power *= self.smoothing.damping;
                sum += power;
                let season = self.season.get((self.next + k) % period).copied().unwrap_or(0.0);
                self.level + sum * self.trend + season
            })
            .collect()
    }
}

/// Candidate weights: slow to fast level, still or slowly turning trend, slow or fast season.
const LEVELS: [f64; 4] = [0.05, 0.2, 0.5, 0.9];
const TRENDS: [f64; 2] = [0.0, 0.05];
const SEASONS: [f64; 2] = [0.05, 0.25];
/// Damping per hour: trends of a day or two are carried, later ones flatten.
const DAMPING: f64 = 0.985;

/// The candidate with the smallest one-step squared error over `values`.
pub(super) fn choose(values: &[f64], period: usize) -> Option<HoltWinters> {
    let mut best: Option<(f64, HoltWinters)> = None;
    for level in LEVELS {
        for trend in TRENDS {
            for season in SEASONS {
                let s = Smoothing { level, trend, season, damping: DAMPING };
                let start = HoltWinters::from_start(s, values, period)?;
                let mut run = start.clone();
                let (mut sse, skip) = (0.0, 2 * period);
                for (i, &v) in values.iter().enumerate() {
                    let e = v - run.update(v);
                    sse += if i >= skip { e * e } else { 0.0 };
                }
                if best.as_ref().is_none_or(|b| sse < b.0) {
                    best = Some((sse, start));
                }
            }
        }
    }
    best.map(|b| b.1)
}
