//! The rules by which a stretch of floors is called a leak.

use super::LeakConfig;
use super::limit::{LimitSource, ascent, time_to};
use super::ring::Blocks;
use super::trend::{MIN_STEPS, Trend, hinge, trend};
use crate::order::normal_quantile;

const HOUR_S: f64 = 3600.0;
/// Growth must last this share of the time that is left: alarms then come at a fifth of the
/// way, and a cache whose filling would reach the limit has lost enough speed to be told.
const CONFIRM_SHARE: f64 = 0.25;
/// Least odds of growth to the limit against growth that ends, at thresholds for 0.002 a day:
/// "strong" on Jeffreys' scale of evidence starts at 10 (see Kass and Raftery 1995,
/// doi:10.2307/2291091).
const ODDS: f64 = 10.0;
/// Thresholds aim at this share of the budget: on generated series most of which are hard (caches that fill for hours, restarts
/// with warm-up) more alarms are false than they say.
const STRICTER: f64 = 0.35;
/// Longest confirmation: most of a daily cycle of load.
const CONFIRM_MAX_S: f64 = 20.0 * HOUR_S;
/// Growth must have used up this share of the room to the limit, or `GROWTH_ENOUGH`: less is not
/// worth a person's time yet.
const ROOM_SHARE: f64 = 0.02;
/// Growth of this share of the first floor is enough however far the limit is.
const GROWTH_ENOUGH: f64 = 0.08;
/// Growth below this share of the floor is never spoken of.
const GROWTH_LEAST: f64 = 0.03;
/// No collector waits longer between collections than this; before, growth from the start of a
/// process may be its first cycle.
const CYCLE_MAX_S: f64 = 12.0 * HOUR_S;
/// Stretches shorter than this see cycles of small heaps only.
const SHORT_S: f64 = 300.0;
/// Fills of minutes (code, pools, buffers) seldom add more than this multiple of the first floor.
const FILL_SHORT: f64 = 2.0;
/// History to have before a stretch is believed: this many times its length, at most a day, so
/// that the daily cycle has been seen once.
const HISTORY_SPANS: f64 = 4.0;
const DAY_S: f64 = 24.0 * HOUR_S;
/// Growth over the greatest fall of the floor that was ever seen at the same block length.
pub(crate) const DRAWDOWN_FACTOR: f64 = 2.0;
/// Newest slope over the steepest earlier slope, at least.
const RATIO_MIN: f64 = 0.6;
/// Least t of growth that no fall ever matched, and its greatest step over the whole.
const EVEN_T: f64 = 2.0;
const EVEN_STEP: f64 = 0.45;
/// Above this share of the limit a floor is near exhaustion.
pub(crate) const NEAR: f64 = 0.7;
/// Above this share even growth of unknown kind is told.
const EXHAUSTED: f64 = 0.8;
/// After a start nothing is said for this long: healthy processes climb by half in 35 s.
pub(crate) const START_S: f64 = 60.0;
/// Without a limit, exhaustion is assumed at this multiple of the first floor.
const ASSUMED_LIMIT: f64 = 4.0;

/// What the rules need to know beside the blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// Limit and its origin.
    pub(crate) limit: Option<(f64, LimitSource)>,
    /// Value per unit of load and its standard error.
    pub(crate) load: (f64, f64),
    /// Usual load: the mean over days where known, else over all there is.
    pub(crate) flow: f64,
    /// Greatest fall of the floor remembered for this block length.
    pub(crate) fall: f64,
    /// Seconds of data before the running life of the process.
    pub(crate) earlier_lives_s: f64,
    /// Seconds of data known.
    pub(crate) history_s: f64,
    /// Least odds of growth to the limit, from the budget.
    pub(crate) odds: f64,
    /// Normal quantile of the false-alarm budget.
    pub(crate) quantile: f64,
}

/// One stretch with what follows from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    /// Its statistics.
    pub(crate) trend: Trend,
    /// Seconds to the limit (assumed when none is known) with its 90 % interval.
    pub(crate) left: (f64, f64, f64),
    /// Odds of growth to the limit against growth that ends before.
    pub(crate) odds: f64,
    /// Passes the rules that the rings alone decide.
    pub(crate) grows: bool,
    /// Passes all rules.
    pub(crate) leaks: bool,
}

/// Judges the stretches that end now: fixed lengths, and the hinge of the running life. With
/// `all` false those that cannot leak are left out at the first rule they break.
pub(crate) fn findings(
    blocks: &Blocks,
    drawdown: f64,
    context: &Context,
    all: bool,
) -> [Option<Finding>; 5] {
    let n = blocks.len;
    let mut found = [None; 5];
    if n < MIN_STEPS + 1 || !all && blocks.lo[n - 1] <= blocks.lo[n - 1 - MIN_STEPS] {
        return found;
    }
    let needed = DRAWDOWN_FACTOR * context.fall.max(drawdown);
    let least = blocks.lo[..n].iter().copied().fold(f64::MAX, f64::min);
    let single = blocks.life[0] == blocks.life[n - 1];
    if !all && single && blocks.lo[n - 1] - least < needed {
        return found;
    }
    let lengths = [17, 24, 34, 48];
    let starts = lengths.map(|l| n.checked_sub(l)).into_iter().chain([hinge(blocks)]);
    for (slot, from) in found.iter_mut().zip(starts) {
        let Some(from) = from else { continue };
        if !all && single && blocks.lo[n - 1] - blocks.lo[from] < needed {
            continue;
        }
        let trend = trend(blocks, from, context.load, drawdown);
        *slot = trend.and_then(|t| judge(blocks, t, context, all));
    }
    found
}

/// Rules that need the steps alone: the growth is beyond chance, in every quarter, goes on, and
/// beyond the greatest fall. Growth in unequal bursts fails the t-test, but when its weakest
/// quarter exceeds every fall that was seen, no random walk looks like it.
fn rises(trend: &Trend, context: &Context) -> bool {
    let fall = context.fall.max(trend.drawdown);
    let even = trend.t() >= EVEN_T
        && trend.step_share <= EVEN_STEP
        && trend.weakest * trend.growth >= 4.0 * fall;
    trend.growth > 0.0
        && trend.weakest > 0.0
        && trend.ratio >= RATIO_MIN
        && trend.growth >= DRAWDOWN_FACTOR * trend.drawdown
        && (even || trend.t() >= t_critical(context.quantile, trend.steps as f64 - 1.0))
}

fn judge(blocks: &Blocks, mut trend: Trend, context: &Context, all: bool) -> Option<Finding> {
    let n = blocks.len;
    let rises = rises(&trend, context);
    let may_leak = rises && trend.growth >= DRAWDOWN_FACTOR * context.fall;
    if !(all || may_leak) {
        return None;
    }
    trend.follow(blocks);
    let floor = blocks.lo[n - 1];
    let start = blocks.lo[trend.from];
    let ascent = ascent(blocks, &trend, context.flow);
    let limit = context.limit.map_or(ASSUMED_LIMIT * start.max(0.0), |l| l.0);
    let left = time_to(limit, &ascent);
    let up = ascent.slope / trend.slope().max(f64::MIN_POSITIVE);
    let short = trend.span_s < SHORT_S;
    let fill = if short { FILL_SHORT * start.max(0.0) } else { f64::INFINITY };
    let odds = trend.odds(limit - ascent.peak, up, blocks.block_s, fill);
    let enough = (ROOM_SHARE * (limit - start)).min(GROWTH_ENOUGH * start.abs());
    let enough = enough.max(GROWTH_LEAST * floor.abs());
    let grows = rises
        && odds >= context.odds
        && trend.growth >= enough
        && trend.span_s >= (CONFIRM_SHARE * left.0).min(CONFIRM_MAX_S);
    let near = context.limit.is_some() && floor >= EXHAUSTED * limit;
    let leaks = grows
        && trend.growth >= DRAWDOWN_FACTOR * context.fall
        && (near || beyond_first_cycle(blocks, &trend, context));
    Some(Finding { trend, left, odds, grows, leaks })
}

/// Is the growth told from the first cycle of an unknown collector or of a day? It is when the
/// floor was quiet before, when earlier lives would have shown the cycle, after `CYCLE_MAX_S`,
/// or when the floor has multiplied: collectors start at about twice the live size (Go's
/// GOGC = 100), those whose cycles are long may be set to more.
fn beyond_first_cycle(blocks: &Blocks, trend: &Trend, context: &Context) -> bool {
    let n = blocks.len;
    let life = blocks.life[n - 1];
    let first = n - blocks.life[..n].iter().rev().take_while(|l| **l == life).count();
    let multiple = if trend.span_s < SHORT_S { 2.0 } else { 3.0 };
    if blocks.lo[n - 1] >= multiple * blocks.lo[first] {
        return true;
    }
    if context.history_s < DAY_S.min(HISTORY_SPANS * trend.span_s) {
        return false;
    }
    let from = trend.from.max(first);
    let before = (from - first).min(n - from);
    let quiet = before >= 4 && before >= (n - from) / 2 && {
        let rise = blocks.lo[from] - blocks.lo[from - before];
        rise < 0.5 * trend.slope() * before as f64 * blocks.block_s
    };
    quiet || context.earlier_lives_s >= trend.span_s || trend.span_s >= CYCLE_MAX_S
}

/// Normal quantile of the budget. A day holds tens of independent looks over all block lengths,
/// of which the other rules pass few; that the two cancel was measured on healthy series.
pub(crate) fn quantile(config: &LeakConfig) -> f64 {
    let p = (STRICTER * config.sensitivity).clamp(1e-9, 0.2);
    normal_quantile(1.0 - p)
}

/// Least odds from the budget; the square root halves the odds for a fourfold budget.
pub(crate) fn least_odds(config: &LeakConfig) -> f64 {
    ODDS * (0.002 / (STRICTER * config.sensitivity).max(1e-6)).sqrt().max(0.1)
}

/// Student's quantile from the normal one (Abramowitz and Stegun 26.7.5).
fn t_critical(z: f64, freedom: f64) -> f64 {
    let v = freedom.max(3.0);
    let z2 = z * z;
    let g1 = z * (z2 + 1.0) / 4.0;
    let g2 = z * (5.0 * z2 * z2 + 16.0 * z2 + 3.0) / 96.0;
    z + g1 / v + g2 / (v * v)
}
