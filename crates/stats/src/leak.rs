//! Leak detector: growth without end of memory, handles, connections, threads, queues, tables.
//!
//! Idea (the "floor detector"): what a collection leaves is the live size, so the lowest value of
//! a bucket longer than the collection cycle is judged, not the value. Nine rings of buckets, each
//! four times coarser, with groups of one to three buckets, make a ladder of block lengths from
//! 1 s to 2 days; the same test runs on each, so a leak of minutes and one of days need no
//! settings. A stretch of floors is a leak when, after the part that load explains is taken out:
//! 1. its mean step is beyond chance against a random walk (t-test with long-run variance), or
//!    each of its quarters grew by more than the floor ever fell;
//! 2. it grew by more than twice the greatest fall remembered at this block length (collections,
//!    batch jobs and wandering heaps set this bar themselves);
//! 3. a line is likelier than growth that dies out before the limit (caches, warm-up), with time
//!    constants up to a day;
//! 4. it has lasted a quarter of the time that is left to the limit, or 20 h;
//! 5. it cannot be the first cycle of a collector or of a day that was not seen yet.
//!
//! Sources: Granger and Newbold 1974 (doi:10.1016/0304-4076(74)90034-7) for the random-walk null;
//! Newey and West 1987 (doi:10.2307/1913610) for the variance; Kass and Raftery 1995
//! (doi:10.2307/2291091) for the odds. The rest is the project's own study.
//!
//! Assumptions: growth is measured in an additive unit; load, when given, acts at once and in
//! proportion; a cache fills with a time constant of at most a day; a collector cycles in 12 h.
//!
//! Cost: about 0.65 µs a sample on healthy series at a step of 60 s, 0.8 to 0.9 µs where half of
//! the series leak; floors that stay level are told from two groups without building the blocks.
//! 24 bytes a bucket, 64 buckets a level: 8 KB at a step of 60 s over days, 14 KB at most. An
//! estimate costs some 50 µs.
//!
//! Failure modes: leaks under 0.3 % of the base an hour need days; leaks that grow in few bursts
//! or only under load are found late; two caches that fill one after another look like a leak; a
//! heap that has not collected once and has doubled (tripled after 5 min) is called a leak.

use serde::{Deserialize, Serialize};

use judge::{Context, DRAWDOWN_FACTOR, Finding, NEAR, START_S, findings, least_odds, quantile};
pub use limit::LimitSource;
use limit::WIDEN;
use ring::{Blocks, LEVELS, Level};
use trend::{MIN_STEPS, drawdown, load_coefficient};

mod judge;
mod limit;
mod ring;
mod trend;

#[cfg(test)]
mod tests;

const HOUR_S: f64 = 3600.0;
/// Falls of the floor are remembered with this time constant: a working week.
const MEMORY_S: f64 = 5.0 * 24.0 * HOUR_S;
/// From this level on (buckets of 256 s) each bucket is judged: they are few.
const SLOW_LEVEL: usize = 4;
/// The level of buckets of 64 s.
const MINUTE_LEVEL: usize = 3;
/// Buckets shorter than this are judged even when they hold one sample.
const YOUNG_S: u32 = 16;
/// A value below this share of the floors is a new process.
const FAR_BELOW: f64 = 0.7;
/// A floor that reached this multiple of its first had grown.
const GROWN: f64 = 1.5;
/// One alarm a day and series, unless it becomes urgent.
const REFRACTORY_MS: i64 = 24 * 3_600_000;
/// Blocks of one, two and three buckets fill the ladder between levels.
const SIZES: usize = 3;
/// Level floors are judged for their falls each so many groups, an eighth of the ring.
const LOOK: u32 = 8;
/// A level gives the load coefficient when it has this many buckets.
const LOAD_BUCKETS: usize = 24;

/// How eager the detector is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeakConfig {
    /// False alarms tolerated per series and day.
    pub sensitivity: f64,
}

impl Default for LeakConfig {
    fn default() -> Self {
        LeakConfig { sensitivity: 0.002 }
    }
}

/// How urgent an alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// To be looked at in working hours.
    Ticket,
    /// Exhaustion is near.
    Page,
}

/// Numbers about growth of the floor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeakEstimate {
    /// Time of the newest sample, ms since the epoch.
    pub at: i64,
    /// When growth began, ms since the epoch.
    pub since: i64,
    /// Growth of the floor per hour, in units of the value.
    pub slope_per_hour: f64,
    /// Its 95 % interval.
    pub slope_interval: (f64, f64),
    /// Growth over its standard error.
    pub t: f64,
    /// Share of the raw growth that load explains, 0 to 1.
    pub load_share: f64,
    /// Floor now, at the mean load.
    pub floor: f64,
    /// Limit, if one is known, and where it came from.
    pub limit: Option<(f64, LimitSource)>,
    /// Seconds to the limit; `None` without limit or without growth.
    pub time_to_limit_s: Option<f64>,
    /// Its 90 % interval.
    pub time_interval_s: Option<(f64, f64)>,
    /// Length of the blocks over which the floor was taken, seconds.
    pub block_s: f64,
    /// Mean time between collections, seconds; `None` when the value does not fall in cycles.
    pub collection_s: Option<f64>,
    /// Odds of growth that reaches the limit against growth that ends before, as a cache does.
    pub odds: f64,
    /// Restarts seen.
    pub restarts: u32,
    /// Newest slope over the steepest earlier slope (thirds of a life): under 1 when it tires.
    pub ratio: f64,
    /// Weakest quarter over an even quarter.
    pub weakest: f64,
    /// Greatest step over the whole growth.
    pub step_share: f64,
    /// Growth over the stretch.
    pub growth: f64,
    /// Greatest fall of the floor in the blocks known.
    pub drawdown: f64,
    /// How urgent.
    pub severity: Severity,
    /// Samples since then reproduce these numbers, ms since the epoch.
    pub evidence_from: i64,
}

/// An alarm carries the estimate at its time.
pub type LeakAlarm = LeakEstimate;

/// Streaming leak detector for one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leak {
    config: LeakConfig,
    levels: Vec<Level>,
    falls: [[f32; SIZES]; LEVELS],
    load: (f64, f64),
    flow: f64,
    limit: Option<f64>,
    learned: Option<f64>,
    told: bool,
    leaky: bool,
    newest: f64,
    highest: f64,
    life: u16,
    restarts: u32,
    first: i64,
    life_start: i64,
    last: Option<i64>,
    step_ms: f64,
    alarmed: Option<(i64, Severity)>,
}

impl Leak {
    /// A detector that knows nothing yet.
    pub fn new(config: LeakConfig) -> Self {
        Leak {
            config,
            levels: (0..LEVELS as u32).map(|k| Level::new(4u32.pow(k))).collect(),
            falls: [[0.0; SIZES]; LEVELS],
            load: (0.0, 0.0),
            flow: 0.0,
            limit: None,
            learned: None,
            told: false,
            leaky: false,
            newest: f64::MIN,
            highest: f64::MIN,
            life: 0,
            restarts: 0,
            first: i64::MAX,
            life_start: i64::MIN,
            last: None,
            step_ms: 0.0,
            alarmed: None,
        }
    }

    /// Sets or clears the configured limit, in units of the value.
    pub fn set_limit(&mut self, limit: Option<f64>) {
        self.limit = limit.filter(|l| l.is_finite() && *l > 0.0);
    }

    /// Tells that the process started anew at `time_ms`; once told, restarts are not inferred. True if the old one was said to leak: that
    /// is over, and the new one may be said to leak as soon as it does.
    pub fn restarted(&mut self, time_ms: i64) -> bool {
        self.told = true;
        self.begin_life(time_ms);
        self.alarmed.take().is_some()
    }

    fn begin_life(&mut self, time_ms: i64) {
        // A life that leaked and ended at its top shows a ceiling.
        let grew = self.life_floors().is_some_and(|(first, _, last)| last >= GROWN * first);
        if self.leaky && grew && self.newest >= 0.9 * self.highest {
            self.learned = Some(self.learned.map_or(self.highest, |l| l.max(self.highest)));
        }
        self.leaky = false;
        self.highest = f64::MIN;
        self.life = self.life.wrapping_add(1);
        self.restarts = self.restarts.saturating_add(1);
        self.life_start = time_ms;
    }

    /// First, lowest and last floor of the running life at the coarsest level with eight of them.
    fn life_floors(&self) -> Option<(f64, f64, f64)> {
        let of_life = |b: &&ring::Bucket| b.life == self.life;
        self.levels.iter().rev().find_map(|level| {
            let floors = level.closed.iter().filter(of_life).skip(1).map(|b| f64::from(b.lo));
            let (mut first, mut least, mut last, mut count) = (0.0, f64::MAX, 0.0, 0);
            for floor in floors {
                first = if count == 0 { floor } else { first };
                least = floor.min(least);
                last = floor;
                count += 1;
            }
            (count >= 8).then_some((first, least, last))
        })
    }

    /// A fall far below every floor of this life, or from the limit to far below the last floor,
    /// is a restart: a collection frees garbage, not the live set.
    fn infer_restart(&mut self, time_ms: i64, value: f64) {
        if self.told || value >= FAR_BELOW * self.newest {
            return;
        }
        let Some((_, least, last)) = self.life_floors() else { return };
        let limit = self.limit.or(self.learned);
        let exhausted = limit.is_some_and(|l| self.highest >= 0.95 * l);
        if value < FAR_BELOW * least || exhausted && value < FAR_BELOW * last {
            self.begin_life(time_ms);
        }
    }

    /// Takes a sample; an alarm when the evidence is complete.
    pub fn push(&mut self, time_ms: i64, value: f64, load: f64) -> Option<LeakAlarm> {
        let known = value.is_finite() && time_ms >= 0;
        if !known || self.last.is_some_and(|last| time_ms <= last) {
            return None;
        }
        self.infer_restart(time_ms, value);
        self.keep_time(time_ms);
        self.newest = value;
        self.highest = self.highest.max(value);
        let mut blocks = None;
        let mut leaks = false;
        for k in 0..LEVELS {
            leaks |= self.push_level(k, time_ms, (value as f32, load as f32), &mut blocks);
        }
        self.leaky |= leaks;
        if !leaks
            || time_ms.saturating_sub(self.life_start) as f64 <= START_S * 1000.0
            || self.muted(time_ms)
        {
            return None;
        }
        let alarm = self.estimate()?;
        let (_, severity) = self.alarmed.unwrap_or((0, Severity::Ticket));
        let within = self.alarmed.is_some_and(|(at, _)| time_ms.saturating_sub(at) < REFRACTORY_MS);
        if within && severity >= alarm.severity {
            return None;
        }
        self.alarmed = Some((time_ms, alarm.severity));
        Some(alarm)
    }

    fn muted(&self, time_ms: i64) -> bool {
        self.alarmed.is_some_and(|(at, severity)| {
            severity == Severity::Page && time_ms.saturating_sub(at) < REFRACTORY_MS
        })
    }

    fn keep_time(&mut self, time_ms: i64) {
        if let Some(last) = self.last {
            let gap = (time_ms - last) as f64;
            self.step_ms = match self.step_ms {
                0.0 => gap,
                step => step + 0.1 * (gap.min(4.0 * step) - step),
            };
        } else {
            self.first = time_ms;
            self.life_start = self.life_start.max(time_ms);
        }
        self.last = Some(time_ms);
    }

    /// True when the sample closes a bucket whose stretch leaks.
    fn push_level(
        &mut self,
        k: usize,
        time_ms: i64,
        (value, load): (f32, f32),
        scratch: &mut Option<Blocks>,
    ) -> bool {
        let Some(level) = self.levels.get_mut(k) else { return false };
        // Buckets shorter than the sampling step would be copies of the samples.
        let width_s = level.width_s;
        if f64::from(width_s) * 1000.0 < 0.75 * self.step_ms {
            return false;
        }
        let Some(closed) = level.push(time_ms, value, load, self.life) else { return false };
        self.learn_load(k, scratch);
        let mut leaks = false;
        // A page is out and the life known to leak: no judgement changes anything.
        let told = self.leaky && self.muted(time_ms);
        // A block of one sample has no floor; of a young process each sample counts all the same.
        let single = 2.0 * self.step_ms / 1000.0 > f64::from(width_s) && width_s >= YOUNG_S;
        let least = if single { 2 } else { 1 };
        for size in (least..=SIZES).filter(|s| due(closed, *s, k)) {
            let block_s = f64::from(width_s) * size as f64;
            // Level floors are most of a healthy life; their falls stay in the ring for a while.
            let looked = k >= SLOW_LEVEL || closed.div_ceil(size as u32).is_multiple_of(LOOK);
            if !looked && self.is_level(k, size) {
                self.remember(k, size, 0.0, block_s);
                continue;
            }
            let blocks = scratch.get_or_insert_with(Blocks::empty);
            self.blocks(k, size, blocks);
            let drawdown = drawdown(blocks);
            self.remember(k, size, drawdown, block_s);
            if told {
                continue;
            }
            let found = findings(blocks, drawdown, &self.context(k, size), false);
            leaks |= found.iter().flatten().any(|f| f.leaks);
        }
        leaks
    }

    /// True when the rules on the newest groups fail for certain, told without the blocks.
    fn is_level(&self, k: usize, size: usize) -> bool {
        let needed = DRAWDOWN_FACTOR * self.fall(k, size);
        let per_load = self.load.0 as f32;
        self.levels.get(k).is_some_and(|l| l.is_level(size, MIN_STEPS, per_load, needed as f32))
    }

    fn fall(&self, k: usize, size: usize) -> f64 {
        self.falls.get(k).and_then(|f| f.get(size - 1)).map_or(0.0, |f| f64::from(*f))
    }

    fn blocks(&self, k: usize, size: usize, blocks: &mut Blocks) {
        if let Some(level) = self.levels.get(k) {
            blocks.fill(level, size);
            blocks.remove_load(self.load.0);
        }
    }

    fn remember(&mut self, k: usize, size: usize, drawdown: f64, block_s: f64) {
        let keep = (1.0 - block_s / MEMORY_S).max(0.0) as f32;
        if let Some(fall) = self.falls.get_mut(k).and_then(|f| f.get_mut(size - 1)) {
            *fall = (drawdown as f32).max(*fall * keep);
        }
    }

    /// The coarsest level with enough buckets tells what load costs.
    fn learn_load(&mut self, k: usize, scratch: &mut Option<Blocks>) {
        let source = self.levels.iter().rposition(|l| l.closed.len() >= LOAD_BUCKETS);
        if let Some(level) = self.levels.get(k).filter(|_| source == Some(k)) {
            let blocks = scratch.get_or_insert_with(Blocks::empty);
            blocks.fill(level, 1);
            self.load = load_coefficient(blocks);
            let known = blocks.flow[..blocks.len].iter().filter(|f| f.is_finite());
            let (sum, count) = known.fold((0.0, 0.0), |(s, c), f| (s + f, c + 1.0));
            self.flow = if count > 0.0 { sum / count } else { 0.0 };
        }
    }

    fn context(&self, k: usize, size: usize) -> Context {
        let configured = self.limit.map(|l| (l, LimitSource::Configured));
        let before = self.life_start.saturating_sub(self.first.max(0)).max(0);
        Context {
            limit: configured.or(self.learned.map(|l| (l, LimitSource::Learned))),
            load: self.load,
            flow: self.flow,
            fall: self.fall(k, size),
            earlier_lives_s: before as f64 / 1000.0,
            history_s: (self.last.unwrap_or(0) - self.first.min(self.last.unwrap_or(0))) as f64
                / 1000.0,
            odds: least_odds(&self.config),
            quantile: quantile(&self.config),
        }
    }

    /// What the samples so far say; `None` while nothing grows.
    pub fn estimate(&self) -> Option<LeakEstimate> {
        let mut blocks = Blocks::empty();
        let mut best: Option<(Blocks, Finding, Context)> = None;
        for (k, size) in (0..LEVELS).flat_map(|k| (1..=SIZES).map(move |s| (k, s))) {
            self.blocks(k, size, &mut blocks);
            let context = self.context(k, size);
            for f in findings(&blocks, drawdown(&blocks), &context, true).into_iter().flatten() {
                let weight = |f: &Finding| if f.grows { f.trend.span_s } else { f.trend.t() };
                let rank = |f: &Finding| (f.leaks, f.grows, weight(f));
                if best.as_ref().is_none_or(|b| rank(&f) > rank(&b.1)) {
                    best = Some((blocks.clone(), f, context));
                }
            }
        }
        best.map(|(blocks, finding, context)| self.describe(&blocks, &finding, &context))
    }

    fn describe(&self, blocks: &Blocks, finding: &Finding, context: &Context) -> LeakEstimate {
        let Finding { trend, left, .. } = finding;
        let floor = blocks.lo[..blocks.len].last().copied().unwrap_or(0.0);
        let onset = blocks.len.saturating_sub(trend.courses[0].since + 1).max(trend.from);
        let onset = blocks.time.get(onset).copied().unwrap_or(0.0);
        let slope = trend.slope() * HOUR_S;
        let spread = 1.96 * WIDEN * trend.slope_error() * HOUR_S;
        let grows = context.limit.is_some() && trend.growth > 0.0 && left.0.is_finite();
        let near = context.limit.is_some_and(|l| floor >= NEAR * l.0);
        let urgent = grows && (left.0 <= 6.0 * HOUR_S || near && left.0 <= 24.0 * HOUR_S);
        let explained = trend.load_growth.max(0.0);
        let starts = self.levels.iter().filter_map(Level::start_ms);
        LeakEstimate {
            at: self.last.unwrap_or(0),
            since: (onset * 1000.0) as i64,
            slope_per_hour: slope,
            slope_interval: (slope - spread, slope + spread),
            t: trend.t(),
            load_share: explained / (explained + trend.growth.max(0.0)).max(f64::MIN_POSITIVE),
            floor,
            limit: context.limit,
            time_to_limit_s: grows.then_some(left.0),
            time_interval_s: grows.then_some((left.1, left.2)),
            block_s: blocks.block_s,
            collection_s: self.levels.iter().find_map(|l| l.cycle_s()),
            odds: finding.odds,
            restarts: self.restarts,
            ratio: trend.ratio,
            weakest: trend.weakest,
            step_share: trend.step_share,
            growth: trend.growth,
            drawdown: trend.drawdown,
            severity: if urgent { Severity::Page } else { Severity::Ticket },
            evidence_from: starts.min().unwrap_or(0).max(self.first),
        }
    }
}

/// Groups are judged when they end; single buckets every other time where they are short. Buckets
/// of a minute, the finest at common sampling steps, take most of the time, so half as often.
fn due(closed: u32, size: usize, level: usize) -> bool {
    let every = match level {
        MINUTE_LEVEL => 2,
        _ => 1,
    };
    match size {
        1 => level >= SLOW_LEVEL || closed.is_multiple_of(2 * every),
        _ => (closed + 1).is_multiple_of(size as u32 * every),
    }
}
