//! When a resource reaches its limit.
//!
//! Hourly means of four weeks are split in a time-of-day shape (rotation saws) and a piecewise
//! linear growth against a driver: served load when it explains the growth, else time with or
//! without a weekly cycle. The driver's coming days are a Bayesian mixture (no cycle, or five
//! days and two lower ones), so that a weekend that was not seen yet is expected, and an up-step
//! on Monday is not taken for a new rate. The limit's date is the first passage of shape plus
//! growth, which with a saw lies days before that of the mean.
//!
//! Sources: hinge (broken-stick) regression, Hinkley 1969 doi:10.1093/biomet/56.3.495; lag-1
//! correction, Bence 1995 doi:10.2307/1941218; split conformal intervals, Lei et al. 2018
//! doi:10.1080/01621459.2017.1307116, restarted at each change of rate (the aim of adaptive
//! conformal inference, Gibbs and Candes 2021, arXiv:2106.00170).
//!
//! Assumptions: growth goes on as it did since the last bend; at most four bends in four weeks;
//! load, when known, is a rate per second (any unit) of what writes the resource.
//!
//! Jumps of level (a big copy, a clean-up) are taken out when they are sudden, lasting and rare.
//! What was raised is over when the limit has been out of reach for six hours: of 120 fillings in
//! nine days without load, with saws and noise, 11 were called over too soon; with three hours 44.
//!
//! Cost: a push 0.05 us; at the end of an hour in which the limit can be near (every sixth hour
//! until the last day), a fit of 40 us with load, 200 us without: 0.15 and 0.45 us a sample of a
//! minute. `forecast` 0.1 and 0.3 ms. State 6 KB, all of it rings: the numbers are a pure
//! function of the last four weeks.
//!
//! Failure modes: a change of rate to come is not in the interval; a change less than half a day
//! old is not seen; without load and within the first week a weekend and a change of rate look
//! alike for two days; cycles longer than a day (weekly rotation) count as noise; a cache that
//! fills for more than a day gets a ticket, so that memory belongs to the leak detector.

mod calibrate;
mod fit;
mod project;
mod shift;
mod surge;
mod week;

#[cfg(test)]
mod tests;

use project::{Model, Run};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use surge::Surge;

const HOUR_MS: i64 = 3_600_000;
/// Hours kept: four weeks, so that each weekday is seen four times.
const RING_H: usize = 28 * 24;
/// The rings grow by these many hours.
const RING_STEP_H: usize = 4 * 24;
/// Hours before the first forecast: a day, and half a day to see the next one start.
const MIN_H: usize = 36;
/// Mark of an hour without a value: not NaN, which JSON snapshots lose and which equals nothing.
const GAP: f32 = f32::MIN;
/// Larger values are not resources; they would not fit the rings either.
const LARGEST: f64 = 1e30;
/// Standard normal quantiles of central 90 % and 80 % intervals.
const Z90: f64 = 1.645;
const Z80: f64 = 1.282;
/// The recent steepest growth, times this, bounds what the model may find (rates up to double).
const BOUND: f64 = 2.0;
/// Hours between fits while the limit is more than a day away.
const SLOW_H: i64 = 6;
/// Before a ticket a rate must have held for half the time that is left, between a day (one whole
/// cycle) and two (a crowd of batch jobs fills one).
const PERSISTS_H: f64 = 24.0;
/// A surge must beat every earlier rise over this many hours by this factor.
const SURGE_H: usize = 4;
const RECORD: f64 = 2.0;
/// An alarm is repeated after this time if it is still true.
const HOLD_MS: i64 = 7 * 24 * HOUR_MS;
/// What was raised is over when for so many hours the limit was this many times further away than
/// a ticket asks for, or not in sight, and less than this share of the resource was used.
const CLEAR_H: u8 = 6;
const CLEAR: f64 = 1.5;
const FULL: f64 = 0.95;
/// Shares of the limit that are projected.
pub const FRACTIONS: [f64; 4] = [0.7, 0.8, 0.9, 1.0];

/// Settings of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthConfig {
    /// Value at which the resource is exhausted; None when unknown.
    pub limit: Option<f64>,
    /// A ticket is due when the limit may be reached within this time, seconds.
    pub ticket_within_s: f64,
    /// A page is due when the limit is expected within this time, seconds.
    pub page_within_s: f64,
}

impl Default for GrowthConfig {
    fn default() -> Self {
        Self { limit: None, ticket_within_s: 7.0 * 86_400.0, page_within_s: 4.0 * 3_600.0 }
    }
}

/// A central 90 % interval and its middle.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Median.
    pub mid: f64,
    /// Upper end.
    pub high: f64,
}

/// When a share of the limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reach {
    /// Share of the limit.
    pub fraction: f64,
    /// Seconds from the forecast's time; None when not within 400 days.
    pub seconds: Option<Interval>,
    /// Probability of being reached within 400 days.
    pub probability: f64,
}

/// A forecast of growth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthForecast {
    /// Time of the last sample, milliseconds since the epoch.
    pub time_ms: i64,
    /// Growth per day, value units.
    pub rate_per_day: Interval,
    /// Since when that rate holds, milliseconds since the epoch.
    pub since_ms: i64,
    /// Growth per day before that; None without a change.
    pub previous_per_day: Option<f64>,
    /// True when growth follows the served load rather than time.
    pub load_driven: bool,
    /// Shares of the limit; None without a limit.
    pub reach: Option<[Reach; 4]>,
    /// A fresh detector fed from here on computes the same numbers.
    pub evidence_from_ms: i64,
}

/// How urgent an alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// Within days.
    Ticket,
    /// Within hours.
    Page,
}

/// The limit comes near.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthAlarm {
    /// How urgent.
    pub severity: Severity,
    /// The numbers.
    pub forecast: GrowthForecast,
}

/// What a sample shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// The limit comes near.
    Near(Box<GrowthAlarm>),
    /// The limit that came near does so no longer.
    Over,
}

/// Sums of the hour that is not over yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bin {
    hour: i64,
    sum: f64,
    n: u32,
    load_sum: f64,
    load_n: u32,
    /// Sum of the samples' times since the hour's start, milliseconds.
    offset_sum: i64,
}

/// Streaming growth of one series; see the module's head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    config: GrowthConfig,
    first_hour: i64,
    values: VecDeque<f32>,
    loads: VecDeque<f32>,
    bin: Bin,
    /// Mean time of the last hour's samples since its start, milliseconds.
    offset_ms: i64,
    surge: Surge,
    last_ms: Option<i64>,
    /// Until when the same severity stays silent, unless it stops being true.
    ticket_held_ms: Option<i64>,
    page_held_ms: Option<i64>,
    /// Hours for which what was raised has not been true.
    clear_h: u8,
}

impl Growth {
    /// A detector without history.
    pub fn new(config: GrowthConfig) -> Self {
        Self {
            config,
            first_hour: 0,
            values: VecDeque::new(),
            loads: VecDeque::new(),
            bin: Bin::default(),
            offset_ms: 0,
            surge: Surge::default(),
            last_ms: None,
            ticket_held_ms: None,
            page_held_ms: None,
            clear_h: 0,
        }
    }

    /// Replaces the limit.
    pub fn set_limit(&mut self, limit: Option<f64>) {
        self.config.limit = limit;
    }

    fn limit(&self) -> Option<f64> {
        self.config.limit.filter(|l| l.is_finite() && *l > 0.0)
    }

    /// Takes a sample; `load` is NaN when unknown.
    pub fn push(&mut self, time_ms: i64, value: f64, load: f64) -> Option<Shown> {
        let usable = value.is_finite() && value.abs() < LARGEST;
        if !usable || self.last_ms.is_some_and(|t| time_ms <= t) {
            return None;
        }
        let hour = time_ms.div_euclid(HOUR_MS);
        let mut shown = None;
        if self.last_ms.is_none() {
            self.bin = Bin { hour, ..Bin::default() };
            self.first_hour = hour;
        } else if hour != self.bin.hour {
            let turn = hour.div_euclid(SLOW_H) != self.bin.hour.div_euclid(SLOW_H);
            self.finish_bin(hour);
            // The forecast is of this sample's time: asked for after it, it is the same.
            self.last_ms = Some(time_ms);
            shown = self.judge(time_ms, turn);
        }
        if self.surge.push(time_ms, value) && shown.is_none() {
            shown = self.judge_surge(time_ms).map(|it| Shown::Near(Box::new(it)));
        }
        self.last_ms = Some(time_ms);
        self.bin.sum += value;
        self.bin.n = self.bin.n.saturating_add(1);
        self.bin.offset_sum += time_ms.rem_euclid(HOUR_MS);
        if load.is_finite() && load.abs() < LARGEST {
            self.bin.load_sum += load;
            self.bin.load_n += 1;
        }
        shown
    }

    fn finish_bin(&mut self, next_hour: i64) {
        let mean = |sum: f64, n: u32| if n > 0 { (sum / f64::from(n)) as f32 } else { GAP };
        let bin = std::mem::take(&mut self.bin);
        self.offset_ms = bin.offset_sum / i64::from(bin.n.max(1));
        self.append(mean(bin.sum, bin.n), mean(bin.load_sum, bin.load_n));
        let gap = next_hour.saturating_sub(bin.hour + 1);
        if gap >= RING_H as i64 {
            self.values.clear();
            self.loads.clear();
            self.first_hour = next_hour;
        } else {
            (0..gap).for_each(|_| self.append(GAP, GAP));
        }
        self.bin.hour = next_hour;
    }

    fn append(&mut self, value: f32, load: f32) {
        if self.values.len() >= RING_H {
            self.values.pop_front();
            self.loads.pop_front();
            self.first_hour += 1;
        }
        for ring in [&mut self.values, &mut self.loads] {
            if ring.len() == ring.capacity() {
                ring.reserve_exact(RING_STEP_H); // not the doubling of push_back
            }
        }
        self.values.push_back(value);
        self.loads.push_back(load);
    }

    /// The kept hours with gaps filled in a straight line.
    fn run(&self) -> Option<Run> {
        let known: Vec<bool> = self.values.iter().map(|&v| v != GAP).collect();
        let mut y: Vec<f64> = self.values.iter().map(|&v| f64::from(v)).collect();
        let lead = known.iter().position(|&k| k)?;
        let end = known.iter().rposition(|&k| k)? + 1;
        let mut last = lead;
        for i in (lead..end).filter(|&i| known[i]) {
            let (from, to) = (y[last], y[i]);
            let step = (to - from) / (i - last).max(1) as f64;
            for (k, gap) in y[last..i].iter_mut().enumerate() {
                *gap = from + step * k as f64;
            }
            last = i;
        }
        Some(Run {
            first: self.first_hour + lead as i64,
            y: y.get(lead..end)?.to_vec(),
            known: known.get(lead..end)?.to_vec(),
            load: self.loads.iter().skip(lead).take(end - lead).map(|&x| known_or_nan(x)).collect(),
        })
    }

    /// The growth now; None before 36 hours of history.
    pub fn forecast(&self) -> Option<GrowthForecast> {
        self.forecast_at(self.last_ms?)
    }

    /// The same with times from `time_ms` on, which is not before the last sample.
    pub fn forecast_at(&self, time_ms: i64) -> Option<GrowthForecast> {
        let run = self.run()?;
        if run.y.len() < MIN_H {
            return None;
        }
        let model = Model::learn(&run)?;
        Some(self.describe(&run, &model, time_ms))
    }

    fn describe(&self, run: &Run, model: &Model, time_ms: i64) -> GrowthForecast {
        let z = Z90 * calibrate::scale(run, model);
        let last_hour = run.first + run.y.len() as i64 - 1;
        let middle = start_of(last_hour).saturating_add(self.offset_ms);
        let elapsed_s = time_ms.saturating_sub(middle) as f64 / 1e3;
        let per_day = model.mean_driver() * 24.0;
        let spread = z * model.rate_sd();
        let reach = self.limit().map(|limit| {
            FRACTIONS.map(|fraction| {
                let target = fraction * limit;
                Reach {
                    fraction,
                    seconds: seconds(model, target, z, elapsed_s),
                    probability: model.probability(target),
                }
            })
        });
        GrowthForecast {
            time_ms,
            rate_per_day: Interval {
                low: (model.fit.rate - spread) * per_day,
                mid: model.fit.rate * per_day,
                high: (model.fit.rate + spread) * per_day,
            },
            since_ms: start_of(run.first + model.fit.since as i64),
            previous_per_day: model.fit.previous.map(|r| r * per_day),
            load_driven: model.load_driven,
            reach,
            evidence_from_ms: start_of(self.first_hour),
        }
    }

    /// The last value, and growth per hour, the steepest of the last half day, day and three days: a cheap bound.
    fn steepest(&self) -> Option<(f64, f64)> {
        let known =
            |i: usize| self.values.get(i).map(|&v| known_or_nan(v)).filter(|v| v.is_finite());
        let end = self.values.iter().rposition(|&v| v != GAP)?;
        let last = known(end)?;
        // Samples may come hours apart: then the next one before counts.
        let back = |h: usize| {
            let spans = (h..=h + h / 2).filter_map(|span| Some((span, end.checked_sub(span)?)));
            let mut rates = spans.filter_map(|(span, i)| Some((last - known(i)?) / span as f64));
            rates.next()
        };
        let steepest = [12, 24, 72].into_iter().filter_map(back).reduce(f64::max)?;
        Some((last, steepest))
    }

    /// Decides at the end of an hour. The model is fitted only when the limit can be near or was.
    fn judge(&mut self, time_ms: i64, turn: bool) -> Option<Shown> {
        let limit = self.limit()?;
        let (last, steepest) = self.steepest()?;
        let soon_h = (limit - last) / (BOUND * steepest).max(1e-300);
        let far = soon_h * 3600.0 > self.config.ticket_within_s;
        let raised = self.ticket_held_ms.is_some() || self.page_held_ms.is_some();
        if !last.is_finite() || (!raised && (far || (soon_h > 24.0 && !turn))) {
            return None;
        }
        let run = self.run()?;
        if run.y.len() < MIN_H {
            return None;
        }
        let model = Model::learn(&run)?;
        let within = seconds(&model, limit, Z80, 0.0);
        let clear_s = CLEAR * self.config.ticket_within_s;
        if raised && last < FULL * limit && within.is_none_or(|it| it.low > clear_s) {
            return self.cleared();
        }
        self.clear_h = 0;
        let within = within?;
        let must_h = (within.mid / 7200.0).clamp(PERSISTS_H, 2.0 * PERSISTS_H);
        let persists = model.seen_h >= must_h && Z90 * model.rate_sd() < model.fit.rate;
        if !persists || !model.goes_on() {
            return None;
        }
        let severity = if within.mid <= self.config.page_within_s {
            Severity::Page
        } else if within.low <= self.config.ticket_within_s {
            Severity::Ticket
        } else {
            return None;
        };
        if self.held(time_ms, severity) {
            return None;
        }
        let forecast = self.describe(&run, &model, time_ms);
        Some(Shown::Near(Box::new(self.raise(time_ms, severity, forecast))))
    }

    /// Another hour in which what was raised is not true.
    fn cleared(&mut self) -> Option<Shown> {
        self.clear_h += 1;
        if self.clear_h < CLEAR_H {
            return None;
        }
        (self.clear_h, self.ticket_held_ms, self.page_held_ms) = (0, None, None);
        Some(Shown::Over)
    }

    /// Decides at the end of five minutes, for what fills within hours.
    fn judge_surge(&mut self, time_ms: i64) -> Option<GrowthAlarm> {
        let limit = self.limit()?;
        let hours = self.surge.hours_to(limit)?;
        if hours * 3600.0 > self.config.page_within_s || !self.is_record(self.surge.last()?) {
            return None;
        }
        if self.held(time_ms, Severity::Page) {
            return None;
        }
        let forecast = self.forecast()?;
        Some(self.raise(time_ms, Severity::Page, forecast))
    }

    fn held(&self, time_ms: i64, severity: Severity) -> bool {
        let until = match severity {
            Severity::Page => self.page_held_ms,
            Severity::Ticket => self.ticket_held_ms,
        };
        until.is_some_and(|t| time_ms < t)
    }

    fn raise(&mut self, time_ms: i64, severity: Severity, forecast: GrowthForecast) -> GrowthAlarm {
        let until = Some(time_ms.saturating_add(HOLD_MS));
        self.clear_h = 0;
        match severity {
            Severity::Page => self.page_held_ms = until,
            Severity::Ticket => self.ticket_held_ms = until,
        }
        GrowthAlarm { severity, forecast }
    }

    /// True when the rise to `value` over the last hours is far over any such rise before.
    fn is_record(&self, value: f64) -> bool {
        let at = |i: usize| self.values.get(i).map_or(f64::NAN, |&v| known_or_nan(v));
        let Some(now) = self.values.len().checked_sub(SURGE_H) else { return false };
        let before = (SURGE_H..now).map(|i| at(i) - at(i - SURGE_H));
        let largest = before.filter(|d| d.is_finite()).fold(0.0, f64::max);
        value - at(now) > RECORD * largest
    }
}

fn start_of(hour: i64) -> i64 {
    hour.saturating_mul(HOUR_MS)
}

fn known_or_nan(v: f32) -> f64 {
    if v == GAP { f64::NAN } else { f64::from(v) }
}

/// Seconds until `target`, with the interval of normal quantile `z`.
fn seconds(model: &Model, target: f64, z: f64, elapsed_s: f64) -> Option<Interval> {
    if !model.grows() {
        return None;
    }
    let mid = model.passage(target, 1.0)?;
    if mid > model.reach_h() {
        return None;
    }
    let left = (target - model.fit.level).abs().max(1e-300);
    let sd = model.growth_sd(mid).hypot(model.fit.sigma / left);
    let at = |factor: f64| model.passage(target, factor).unwrap_or(project::HORIZON_H);
    let s = |hours: f64| (hours * 3600.0 - elapsed_s).max(0.0);
    Some(Interval { low: s(at((z * sd).exp())), mid: s(mid), high: s(at((-z * sd).exp())) })
}
