//! Novelty of one gauge: has this series been here before, and if so, lately?
//!
//! For any series without a detector of its own. Five views ask how far a sample is from the
//! nearest one seen: the value against all ever, and against the last one to two weeks; its
//! residual from the usual value of the hour of day, and of the hour of week; the mean of twelve
//! samples against all such means. A distance counts relative to the range of the view (the recent
//! one relative to the local spread), times the logarithm of its return period in days. The
//! largest is the score; what is left of the last high score is taken off, so that one incident is
//! one finding. A sixth, `flatness`, notes a gauge that sticks. One set of constants for all.
//!
//! Sources: nearest-neighbour conformal anomaly detection (Laxhammar and Falkman 2015,
//! doi:10.1007/s10472-013-9381-7; KNN-CAD, Burnaev and Ishimtsev 2016, arXiv:1608.04585); return
//! periods as in Gumbel, "Statistics of Extremes"; judged on NAB (Ahmad and others 2017,
//! doi:10.1016/j.neucom.2017.04.070) and Microsoft's Cloud Monitoring Dataset.
//! Assumes time-ordered gauges (difference counters first) and seasons by the UTC clock.
//! Cost: 0.3 us a sample, 8 KB a series, no look-ahead.
//! Failure modes: slow drift is never new; what repeats daily is a habit after a few days, also
//! when it is a fault; what lasts is noted when it starts, not again; an absurd outlier blunts the
//! view over all values, which leaves the recent one; change of variance alone is seen only by the
//! new values that it brings; no score in the first 24 samples, no alarm in the first day.

mod block;
mod budget;
mod ewma;
mod history;
mod nearest;
mod season;
#[cfg(test)]
mod tests;
mod view;

use block::Block;
use budget::Budget;
use ewma::Ewma;
use history::History;
use nearest::RecentNearest;
use season::Season;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use view::{Age, View, surprise};

const DAY_MS: f64 = 86_400_000.0;
const HOUR_MS: f64 = 3_600_000.0;
/// Samples (and blocks) without score at the start: nearly all are new. A day, if hourly.
const WARM_UP: u64 = 24;
/// Days before the hour of day, and of week, count: four periods, as a slot averages over five.
const DAY_VIEW_FROM: f64 = 4.0;
const WEEK_VIEW_FROM: f64 = 28.0;
/// Samples at which a score counts half: what few have not shown may still be common.
const HALF_TRUST: f64 = 300.0;
/// A residual's range is a few times narrower than the value's, so it counts less.
const SEASON_WEIGHT: f64 = 0.3;
/// Means of blocks scatter less than samples, so their range is narrower too.
const BLOCK_WEIGHT: f64 = 0.1;
/// The recent view counts in local deviations, of which a range has some tens to a hundred.
const RECENT_WEIGHT: f64 = 0.01;
/// A run of one value this many times as long as any before is a flat line.
const FLAT_EXCESS: f64 = 10.0;
/// Makes such a run worth a note, at the default budget, after a week.
const FLAT_WEIGHT: f64 = 0.01;
/// Least local deviation as a share of the range, so that a long pause does not make it vanish.
const RESOLUTION: f64 = 1e-3;
/// Deviations that a move off a constant level counts for, where the spread is still 0.
const OFF_CONSTANT: f64 = 10.0;
/// Samples behind the printed expectation.
const WINDOW: usize = 64;
/// Larger magnitudes are taken for garbage; squares of smaller ones stay finite.
const LARGEST: f64 = 1e30;
/// Raw score that maps to one half; no influence on order.
const MIDDLE: f64 = 0.02;

/// What an operator may set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoveltyConfig {
    /// Alarms per series and day that may be false. Default 0.05: one in twenty days.
    pub budget_per_day: f64,
    /// Hours in which a score fades to 1/e, so stops lowering the next ones. Default 10: a shift.
    pub fatigue_hours: f64,
    /// Days after which (at the latest after twice as many) an unseen value is new again.
    /// Default 8: a week and a day, so that a weekly value stays known.
    pub memory_days: f64,
}

impl Default for NoveltyConfig {
    fn default() -> Self {
        Self { budget_per_day: 0.05, fatigue_hours: 10.0, memory_days: 8.0 }
    }
}

/// Which question the value failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Never seen in this series.
    NewValue,
    /// Seen, but not at this hour of the day.
    TimeOfDay,
    /// Seen, but not at this hour of the week.
    TimeOfWeek,
    /// Not seen lately, and reached in one step.
    Jump,
    /// Not seen lately, and reached gradually.
    Level,
    /// Unchanged for far longer than ever before.
    FlatLine,
}

/// Score of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// 0 (nothing new) to 1, comparable across series.
    pub score: f64,
    /// Set where the score is over the budget's threshold.
    pub alarm: Option<NoveltyAlarm>,
}

impl Reading {
    const NOTHING: Self = Self { score: 0.0, alarm: None };
}

/// One finding; a note, never a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoveltyAlarm {
    /// Time of the sample, in ms since the epoch.
    pub at_ms: i64,
    /// The view that was surprised most.
    pub reason: Reason,
    /// Value seen against the samples before; reproducible from `evidence_from_ms`.
    pub estimate: Estimate,
    /// Usual value at this hour where the reason is a season; from longer memory.
    pub seasonal_mid: Option<f64>,
    /// Score, 0 to 1.
    pub score: f64,
    /// Threshold at that time, 0 to 1.
    pub threshold: f64,
}

/// The last sample against those just before it; needs no older state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Last sample.
    pub observed: f64,
    /// Median of the up to 63 samples before it.
    pub mid: f64,
    /// Their 5th percentile.
    pub low: f64,
    /// Their 95th percentile.
    pub high: f64,
    /// Time of the first sample used, in ms; a detector fed from there gives the same numbers.
    pub evidence_from_ms: i64,
}

/// The most surprising answer so far to one sample.
struct Answer {
    score: f64,
    reason: Reason,
    usual: Option<f64>,
}

impl Answer {
    fn raise(&mut self, score: f64, reason: Reason, usual: Option<f64>) {
        if score > self.score {
            *self = Self { score, reason, usual };
        }
    }
}

/// Detector for one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Novelty {
    config: NoveltyConfig,
    samples: u64,
    first_ms: i64,
    last_ms: i64,
    origin: f64,
    previous: f64,
    all: View,
    block: Block,
    by_block: View,
    recent: RecentNearest,
    recent_past: History,
    by_day: View,
    by_week: View,
    day: Season,
    week: Season,
    local: Ewma,
    run: f64,
    longest_run: f64,
    fatigue: f64,
    budget: Budget,
    window: VecDeque<(i64, f64)>,
}

impl Novelty {
    /// A detector that has seen nothing.
    pub fn new(config: NoveltyConfig) -> Self {
        let budget = Budget::new(config.budget_per_day);
        Self {
            config,
            samples: 0,
            first_ms: 0,
            last_ms: 0,
            origin: 0.0,
            previous: 0.0,
            all: View::default(),
            block: Block::default(),
            by_block: View::default(),
            recent: RecentNearest::default(),
            recent_past: History::default(),
            by_day: View::default(),
            by_week: View::default(),
            day: Season::new(24),
            week: Season::new(168),
            local: Ewma::default(),
            run: 0.0,
            longest_run: 0.0,
            fatigue: 0.0,
            budget,
            window: VecDeque::with_capacity(WINDOW),
        }
    }

    /// Takes in one sample; `time_ms` since the epoch. Values that are not finite, and times that
    /// do not advance, are ignored and score 0.
    pub fn push(&mut self, time_ms: i64, value: f64) -> Reading {
        let usable = value.is_finite() && value.abs() <= LARGEST;
        if !usable || (self.samples > 0 && time_ms <= self.last_ms) {
            return Reading::NOTHING;
        }
        if self.samples == 0 {
            self.start(time_ms, value);
        }
        self.samples = self.samples.saturating_add(1);
        // Relative to the origin, f32 keeps 7 digits of what varies instead of what is constant.
        let x = value - self.origin;
        let gap_ms = time_ms.saturating_sub(self.last_ms) as f64;
        let left = self.fatigue_left(gap_ms / HOUR_MS);
        let answer = self.ask(time_ms, value, x, left);
        self.remember(time_ms, value, x);
        if self.samples <= WARM_UP {
            return Reading::NOTHING;
        }
        let samples = self.samples as f64;
        let novelty = answer.score * samples / (samples + HALF_TRUST);
        self.fatigue = left.max(novelty);
        let raw = (novelty - left).max(0.0);
        let alarm = self.budget.exceeded_by(raw).then(|| self.alarm(raw, &answer)).flatten();
        self.budget.update(raw, gap_ms / DAY_MS, alarm.is_some());
        Reading { score: unit(raw), alarm }
    }

    /// The last sample against those before it; `None` until there are two.
    pub fn estimate(&self) -> Option<Estimate> {
        let (_, observed) = *self.window.back()?;
        let (evidence_from_ms, _) = *self.window.front()?;
        let before = self.window.len().checked_sub(1).filter(|n| *n > 0)?;
        let mut past: Vec<f64> = self.window.iter().take(before).map(|(_, v)| *v).collect();
        past.sort_by(f64::total_cmp);
        let at = |share: f64| past.get((share * (before - 1) as f64).round() as usize).copied();
        Some(Estimate {
            observed,
            mid: at(0.5)?,
            low: at(0.05)?,
            high: at(0.95)?,
            evidence_from_ms,
        })
    }

    /// Memory of the state in bytes, with what it holds on the heap.
    pub fn state_bytes(&self) -> usize {
        let views = [&self.all, &self.by_block, &self.by_day, &self.by_week].map(View::bytes);
        let histories = 2 * History::BYTES;
        let seasons = self.day.bytes() + self.week.bytes();
        let window = self.window.capacity() * size_of::<(i64, f64)>();
        let heap = views.iter().sum::<usize>() + self.recent.bytes() + histories + seasons + window;
        size_of::<Self>() + heap
    }

    /// Sets what depends on the first sample.
    fn start(&mut self, time_ms: i64, value: f64) {
        (self.first_ms, self.last_ms) = (time_ms, time_ms);
        (self.origin, self.previous) = (value, value);
        self.recent = RecentNearest::new(time_ms);
    }

    /// Puts the sample to all views; what cannot exceed `floor` may be left out.
    fn ask(&mut self, time_ms: i64, value: f64, x: f64, floor: f64) -> Answer {
        let age = Age::new(time_ms.saturating_sub(self.first_ms) as f64 / DAY_MS);
        let beyond = self.all.seen().is_beyond(x);
        let mut best = Answer { score: floor, reason: Reason::NewValue, usual: None };
        best.raise(self.all.surprise(x, 1.0, age, floor), Reason::NewValue, None);
        let (off, reason) = self.lately(time_ms, value, x);
        let score = surprise(&mut self.recent_past, off, RECENT_WEIGHT, age, best.score);
        best.raise(score, reason, None);
        self.ask_seasons(time_ms, x, age, &mut best);
        if let Some((mean, blocks)) = self.block.update(x) {
            let score = self.by_block.surprise(mean, BLOCK_WEIGHT, age, best.score);
            best.raise(if blocks > WARM_UP { score } else { 0.0 }, Reason::Level, None);
        }
        if beyond {
            // Outside of all that was seen says more than unusual at this hour.
            (best.reason, best.usual) = (Reason::NewValue, None);
        }
        best.raise(self.flatness(value, age), Reason::FlatLine, None);
        best
    }

    /// Puts the residuals from the usual value of the hour to their views.
    fn ask_seasons(&mut self, time_ms: i64, x: f64, age: Age, best: &mut Answer) {
        let day = (&self.day, &mut self.by_day, DAY_VIEW_FROM, Reason::TimeOfDay);
        let week = (&self.week, &mut self.by_week, WEEK_VIEW_FROM, Reason::TimeOfWeek);
        for (season, view, from_days, reason) in [day, week] {
            let Some(usual) = season.usual(time_ms) else {
                continue;
            };
            let score = view.surprise(x - usual, SEASON_WEIGHT, age, best.score);
            if age.days() >= from_days {
                best.raise(score, reason, Some(usual + self.origin));
            }
        }
    }

    /// Distance to the values of the last weeks, in local standard deviations, and whether one
    /// step led there; keeps `x`.
    fn lately(&mut self, time_ms: i64, value: f64, x: f64) -> (f64, Reason) {
        let span_ms = (self.config.memory_days.clamp(0.01, 1e4) * DAY_MS) as i64;
        let distance = self.recent.observe(time_ms, span_ms, x).unwrap_or(0.0);
        let resolution = RESOLUTION * self.all.seen().range();
        let deviation = self.local.deviation().max(resolution);
        let off = match (deviation > 0.0, distance > 0.0) {
            (true, _) => distance / deviation,
            (false, true) => OFF_CONSTANT,
            (false, false) => 0.0,
        };
        let step = (value - self.previous).abs();
        let sudden = step >= 0.5 * (x - self.local.mean()).abs();
        (off, if sudden { Reason::Jump } else { Reason::Level })
    }

    /// Surprise at how long the value has not changed, against the longest such run before.
    fn flatness(&mut self, value: f64, age: Age) -> f64 {
        if value == self.previous {
            self.run += 1.0;
        } else {
            self.longest_run = self.longest_run.max(self.run);
            self.run = 1.0;
        }
        let ratio = self.run / (self.longest_run + 1.0);
        // Nothing before the full excess: fatigue would swallow a score that rises gradually.
        let excess = if ratio >= FLAT_EXCESS { ratio.log10() } else { 0.0 };
        FLAT_WEIGHT * excess * age.record()
    }

    /// Updates what the next sample is compared with.
    fn remember(&mut self, time_ms: i64, value: f64, x: f64) {
        self.day.update(time_ms, x);
        self.week.update(time_ms, x);
        self.local.update(x);
        self.last_ms = time_ms;
        self.previous = value;
        if self.window.len() >= WINDOW {
            self.window.pop_front();
        }
        self.window.push_back((time_ms, value));
    }

    /// What is left of the largest recent score, to be taken off the next.
    fn fatigue_left(&self, gap_hours: f64) -> f64 {
        let fade_hours = self.config.fatigue_hours.max(1e-3);
        self.fatigue * (-gap_hours / fade_hours).exp()
    }

    fn alarm(&self, raw: f64, answer: &Answer) -> Option<NoveltyAlarm> {
        Some(NoveltyAlarm {
            at_ms: self.last_ms,
            reason: answer.reason,
            estimate: self.estimate()?,
            seasonal_mid: answer.usual,
            score: unit(raw),
            threshold: unit(self.budget.threshold()),
        })
    }
}

/// Maps a raw score onto 0 to 1, keeping the order.
fn unit(raw: f64) -> f64 {
    raw / (raw + MIDDLE)
}
