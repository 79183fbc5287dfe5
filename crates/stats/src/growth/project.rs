//! From a fitted growth to the time at which a level is passed.

use super::fit::{self, DAY, Fit};
use super::week::{self, Week};
use crate::order::normal_tail;

/// Hours in a week.
const WEEK: i64 = 7 * DAY as i64;
/// Forecasts end here: beyond a year the growth of today says nothing.
pub(super) const HORIZON_H: f64 = 400.0 * 24.0;
/// The last hours' deviation from the fitted level fades with this time constant.
const FADE_H: f64 = 12.0;
/// Rates drift by about this share per square root of a day, even when no change is seen.
const WANDER: f64 = 0.015;
/// No forecast is surer than this share of the growth that is left.
const FLOOR_SD: f64 = 0.012;
/// Prior day-to-day noise of served load, share of the mean.
const LOAD_NOISE: f64 = 0.03;
/// How much smaller the residual sum must be for a driver other than load to be preferred.
const PREFER_LOAD: f64 = 0.8;
/// Standard deviation of the hourly load, as share of its mean, under which load is as good as constant.
const VARIES: f64 = 0.05;
/// Rates under this many standard errors are not growth.
const SIGNIFICANT: f64 = 3.5;
/// Least growth of the last day, as share of the rate, of what is not levelling off (a first
/// weekend, seen without load, may bring half).
const GOES_ON: f64 = 0.5;
/// A rate is not carried further than this many times the span over which it was seen.
const REACH: f64 = 20.0;

/// A run of hours: values with gaps filled, which were measured, load (NaN when unknown).
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) first: i64,
    pub(super) y: Vec<f64>,
    pub(super) known: Vec<bool>,
    pub(super) load: Vec<f64>,
}

impl Run {
    /// The first `n` hours.
    pub(super) fn prefix(&self, n: usize) -> Run {
        let n = n.min(self.y.len());
        Run {
            first: self.first,
            y: self.y.iter().take(n).copied().collect(),
            known: self.known.iter().take(n).copied().collect(),
            load: self.load.iter().take(n).copied().collect(),
        }
    }
}

/// A fitted growth and what is expected to drive it.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) fit: Fit,
    pub(super) load_driven: bool,
    /// Hours over which the present rate was seen.
    pub(super) seen_h: f64,
    last_hour: i64,
    profile: [f64; DAY],
    week: Week,
}

fn filled_load(run: &Run) -> Option<Vec<f64>> {
    let known = run.load.iter().filter(|x| x.is_finite()).count();
    if known * 10 < run.load.len() * 9 {
        return None;
    }
    let mut last = *run.load.iter().find(|x| x.is_finite())?;
    let fill = |&x: &f64| {
        if x.is_finite() {
            last = x.max(0.0);
        }
        last
    };
    Some(run.load.iter().map(fill).collect())
}

/// Whether load changes enough from hour to hour to explain anything.
fn varies(load: &[f64]) -> bool {
    let known = || load.iter().copied().filter(|x| x.is_finite());
    let n = known().count().max(1) as f64;
    let mean = known().sum::<f64>() / n;
    let var = known().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    var.sqrt() > VARIES * mean.abs()
}

/// Mean driver by hour of day over the last week, relative to its mean.
fn daily_profile(first: i64, x: &[f64]) -> [f64; DAY] {
    let from = x.len().saturating_sub(WEEK as usize);
    let mut acc = [(0.0, 0.0); DAY];
    for (i, v) in x.iter().enumerate().skip(from) {
        let a = &mut acc[fit::hour_of_day(first, i)];
        a.0 += 1.0;
        a.1 += v;
    }
    let all = x.iter().skip(from).sum::<f64>() / (x.len() - from).max(1) as f64;
    acc.map(|(n, s)| if n > 0.0 && all > 0.0 { s / n / all } else { 1.0 })
}

/// Hours of a day that must be known before the day says anything about the week: the first hour
/// may have been watched in part, and alone on its day it would look like a day of less growth.
const DAY_KNOWN: usize = 6;

/// Amounts per day since the epoch, of days that are known enough.
fn daily_load(first: i64, x: &[f64], profile: &[f64; DAY]) -> Vec<(i64, f64)> {
    let mut days: Vec<(i64, f64, f64, usize)> = Vec::new();
    for (i, v) in x.iter().enumerate() {
        let h = first + i as i64;
        let (day, p) = (h.div_euclid(24), profile[fit::hour_of_day(first, i)]);
        match days.last_mut() {
            Some(d) if d.0 == day => *d = (day, d.1 + v, d.2 + p, d.3 + 1),
            _ => days.push((day, *v, p, 1)),
        }
    }
    days.iter().filter(|d| d.3 >= DAY_KNOWN && d.2 > 0.0).map(|d| (d.0, d.1 / d.2)).collect()
}

/// The weekly cycle of growth, chosen jointly with a possible bend: an up-step is the end of a
/// weekend or a change of rate, and only the days around it can tell.
fn weekly_growth(run: &Run) -> Week {
    let n = run.y.len();
    let free = fit::season_free(run.first, &run.y, &run.known);
    let day = |p: &fit::Point| (run.first + p.0 as i64).div_euclid(DAY as i64);
    let same_day = |a: &fit::Point, b: &fit::Point| day(a) == day(b);
    let known = free.chunk_by(same_day).filter(|it| it.len() >= DAY_KNOWN);
    let free: Vec<fit::Point> = known.flatten().copied().collect();
    let mut fitted = Vec::with_capacity(43);
    for (week, prior) in week::hypotheses() {
        let x: Vec<f64> = (0..n).map(|i| by_day(&week, run.first + i as i64)).collect();
        if let Some(e) = fit::explain(&free, &x) {
            fitted.push((e.score - 2.0 * f64::ln(prior), e.rate, week));
        }
    }
    let Some(best) = fitted.iter().min_by(|a, b| a.0.total_cmp(&b.0)).copied() else {
        return Week::EVEN;
    };
    let unit = best.1.abs().max(1e-300);
    let parts: Vec<(f64, [f64; 7])> = fitted
        .iter()
        .map(|f| ((-0.5 * (f.0 - best.0)).exp(), f.2.by_day.map(|d| d * f.1 / unit)))
        .collect();
    Week { cov: Week::mixture(&parts).1, ..best.2 }
}

impl Model {
    /// Fits `run` by load and by time with a weekly cycle; keeps the better.
    pub(super) fn learn(run: &Run) -> Option<Model> {
        let n = run.y.len();
        let last_hour = run.first + n as i64 - 1;
        let load = Model::by_load(run);
        let even = fit::fit(run.first, &run.y, &run.known, &vec![1.0; n])?;
        // Load that beats an even week by far needs no other rival, and one that hardly changes says what time says.
        let beats = |m: &Model, rss: f64, by: f64| m.fit.rss * by < rss;
        if let Some(m) = &load
            && beats(m, even.rss, 1.0 / PREFER_LOAD)
        {
            return load;
        }
        let week = weekly_growth(run);
        let x: Vec<f64> = (0..n).map(|i| by_day(&week, run.first + i as i64)).collect();
        let fit = fit::fit(run.first, &run.y, &run.known, &x)?;
        if let Some(m) = &load
            && varies(&run.load)
            && beats(m, even.rss.min(fit.rss), PREFER_LOAD)
        {
            return load;
        }
        let seen_h = (n - fit.since) as f64;
        let profile = [1.0; DAY];
        Some(Model { fit, load_driven: false, seen_h, last_hour, profile, week })
    }

    fn by_load(run: &Run) -> Option<Model> {
        let x = filled_load(run)?;
        let profile = daily_profile(run.first, &x);
        let week = week::learn(&daily_load(run.first, &x, &profile), LOAD_NOISE)?;
        let fit = fit::fit(run.first, &run.y, &run.known, &x)?;
        let last_hour = run.first + run.y.len() as i64 - 1;
        let seen_h = (run.y.len() - fit.since) as f64;
        Some(Model { fit, load_driven: true, seen_h, last_hour, profile, week })
    }

    /// The same kind of model fitted to an earlier part of the run.
    pub(super) fn refit(&self, run: &Run) -> Option<Model> {
        if self.load_driven {
            return Model::by_load(run);
        }
        let n = run.y.len();
        let x: Vec<f64> = (0..n).map(|i| by_day(&self.week, run.first + i as i64)).collect();
        let fit = fit::fit(run.first, &run.y, &run.known, &x)?;
        let last_hour = run.first + n as i64 - 1;
        Some(Model { seen_h: (n - fit.since) as f64, fit, last_hour, ..self.clone() })
    }

    /// Expected driver in the hour that lies `ahead` hours after the last one.
    fn driver(&self, ahead: i64) -> f64 {
        let h = self.last_hour + ahead;
        by_day(&self.week, h) * self.profile[h.rem_euclid(DAY as i64) as usize]
    }

    /// Mean driver per hour over a coming week.
    pub(super) fn mean_driver(&self) -> f64 {
        (1..=WEEK).map(|t| self.driver(t)).sum::<f64>() / WEEK as f64
    }

    /// True when growth is told from none.
    pub(super) fn grows(&self) -> bool {
        self.fit.rate > 0.0 && self.fit.rate > SIGNIFICANT * self.fit.se
    }

    /// True when the last day grew nearly as fast as the rate says: a filling cache does not.
    pub(super) fn goes_on(&self) -> bool {
        self.fit.recent > GOES_ON * self.fit.rate
    }

    /// How far the present rate may be carried, hours.
    pub(super) fn reach_h(&self) -> f64 {
        (REACH * self.seen_h).min(HORIZON_H)
    }

    /// Standard deviation of the growth over `hours` as a share of it, were the rate known.
    fn driver_sd(&self, hours: f64) -> f64 {
        let days = (hours / 24.0).max(0.25);
        let daily = self.week.day_sd.powi(2) / days;
        let week = self.week.uncertainty(self.last_hour + 1, hours);
        let drift = WANDER * WANDER * days;
        (FLOOR_SD.powi(2) + week * week + daily + drift).sqrt()
    }

    /// Standard deviation of the growth over `hours`, as a share of it.
    pub(super) fn growth_sd(&self, hours: f64) -> f64 {
        let se = self.fit.se / self.fit.rate.abs().max(1e-3 * self.fit.se).max(1e-300);
        se.hypot(self.driver_sd(hours))
    }

    /// Standard deviation of the rate over a coming week, value per driver unit.
    pub(super) fn rate_sd(&self) -> f64 {
        self.fit.se.hypot(self.driver_sd(WEEK as f64) * self.fit.rate)
    }

    /// Expected value `ahead` hours after the last one.
    pub(super) fn value(&self, ahead: i64) -> f64 {
        let grown: f64 = (1..=ahead).map(|t| self.driver(t)).sum();
        self.at(ahead, self.fit.rate * grown)
    }

    fn at(&self, ahead: i64, grown: f64) -> f64 {
        let hour = (self.last_hour + ahead).rem_euclid(DAY as i64) as usize;
        let fade = (-(ahead as f64) / FADE_H).exp();
        self.fit.level + grown + self.fit.season[hour] + self.fit.residual * fade
    }

    /// Hours after the last hour's middle until the value reaches `target` when the growth is
    /// `factor` times the fitted one; None beyond the horizon.
    pub(super) fn passage(&self, target: f64, factor: f64) -> Option<f64> {
        let rate = self.fit.rate * factor;
        let mut last = self.at(0, 0.0);
        if last >= target {
            return Some(0.0);
        }
        if rate <= 0.0 {
            return None;
        }
        let weekly = rate * self.mean_driver() * WEEK as f64;
        let top = self.fit.season.iter().copied().fold(0.0, f64::max) + self.fit.residual.abs();
        let skip = ((target - self.fit.level - top) / weekly.max(1e-300)).floor() - 1.0;
        if skip * WEEK as f64 > HORIZON_H {
            return None;
        }
        let weeks = skip.max(0.0) as i64;
        let mut grown = weekly * weeks as f64;
        if weeks > 0 {
            last = self.at(weeks * WEEK, grown);
        }
        for t in weeks * WEEK + 1..=HORIZON_H as i64 {
            grown += rate * self.driver(t);
            let v = self.at(t, grown);
            if v >= target {
                let part =
                    if v > last { ((target - last) / (v - last)).clamp(0.0, 1.0) } else { 1.0 };
                return Some(t as f64 - 1.0 + part);
            }
            last = v;
        }
        None
    }

    /// Probability that `target` is reached within the horizon.
    pub(super) fn probability(&self, target: f64) -> f64 {
        let top = self.fit.season.iter().copied().fold(0.0, f64::max);
        let need = target - self.fit.level - top;
        if need <= 0.0 {
            return 1.0;
        }
        let served = self.mean_driver() * HORIZON_H;
        let se = self.fit.se.max(1e-300);
        let sd = se.hypot(self.driver_sd(HORIZON_H) * self.fit.rate);
        // A spike at "no growth" in the prior: what is not told from zero does not extrapolate.
        let z = (self.fit.rate / se).max(0.0);
        let grows = 1.0 / (1.0 + (-0.5 * (z.min(30.0).powi(2) - 6.0)).exp());
        grows * normal_tail((need / served.max(1e-300) - self.fit.rate) / sd)
    }
}

fn by_day(week: &Week, hour: i64) -> f64 {
    week.by_day[hour.div_euclid(24).rem_euclid(7) as usize]
}
