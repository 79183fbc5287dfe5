//! CPU drift: cost per unit of work against what the same series cost before.
//!
//! Samples `(cpu, load)` become blocks of 30 min (means of the middle half by cost, so that spikes
//! and collections fall out). Each block is tested against all before it in a ring of 14 days:
//! relative regression of cpu on load (`fit`), then a scan over windows of 3 h to 7 d (`scan`)
//! whose threshold follows from the false-alarm budget and whose unit is the measured,
//! autocorrelated noise.
//!
//! Sources: Page 1954, "Continuous inspection schemes", doi:10.1093/biomet/41.1-2.100; Siegmund
//! and Venkatraman 1995, "Using the generalized likelihood ratio statistic for sequential detection
//! of a change-point", Annals of Statistics 23; Bishop 2006, chapter 3 (Bayesian regression).
//!
//! Assumes: cost is near linear in load, noise is about proportional to the cost, the first day is
//! not all drift already. Cost: O(1) a sample and a scan of O(ring), 45 µs when
//! the ring is full, in a third of the blocks: 0.2 to 0.6 µs a sample at 60 s, 3 µs at 300 s.
//! Bytes: 6 KB.
//!
//! Failure modes: a new mix of work looks like drift (it is one, in cost); in the first week so
//! does a weekend with another mix; a creep below about 0.1 % a day leaves the ring before it
//! shows; an odd job of 3 h or more is told as a drift.

mod fit;
mod ring;
mod scan;
#[cfg(test)]
mod tests;

use ring::{BLOCK_MS, Blocks};
use scan::{DAY, scan};
use serde::{Deserialize, Serialize};

/// Least baseline in blocks: one whole day, so that each hour's load was seen.
const BASE: usize = DAY;
/// Independent looks a day: disjoint windows of 3, 6, 12 and 24 h are 8 + 4 + 2 + 1; the longer
/// ones add little.
const LOOKS: f64 = 16.0;
/// Share of the excess that the last quarter of the window must still show for an alarm.
const STILL: f64 = 0.5;
/// An alarm is over when a day's mean is back under this share of its excess.
const OVER: f64 = 0.25;
/// Scans cost, so a calm series (best window under this) is scanned every 2 h only, and a fall in
/// cost, which nobody waits for, every 12 h.
const CALM: f64 = 2.5;
/// Blocks between scans of a calm series.
const CALM_EVERY: i64 = 4;
/// Blocks between looks for a cheaper level.
const CHEAPER_EVERY: i64 = 24;
/// Days after which a changed level counts as the new normal.
const RELEARN_DAYS: i64 = 7;

/// What the detector is told. One set for all series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CostConfig {
    /// False alarms allowed per series and day. Default 0.0005, one in five years and a half.
    pub false_alarms_per_day: f64,
    /// Least excess worth a ticket, relative. Default 0.01.
    pub least_excess: f64,
    /// The same where load is unknown and the raw value is judged. Default 0.25.
    pub least_excess_raw: f64,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self { false_alarms_per_day: 0.0005, least_excess: 0.01, least_excess_raw: 0.25 }
    }
}

/// How soon a person should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// In working hours.
    Ticket,
}

/// The numbers of the best window; a pure function of the samples since `evidence_from`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostEstimate {
    /// End of the last block, ms; the first sample from here on decides.
    pub at: i64,
    /// Most likely start of the change, ms.
    pub since: i64,
    /// Cost per unit of work now over the baseline's.
    pub ratio: f64,
    /// 95 % interval of `ratio`.
    pub ratio_low: f64,
    /// Upper end of the interval.
    pub ratio_high: f64,
    /// Baseline: cpu at no load, in cores (in raw mode its mean).
    pub base_a: f64,
    /// Baseline: cpu per unit of load (0 in raw mode).
    pub base_b: f64,
    /// Baseline's first time, ms.
    pub base_from: i64,
    /// Baseline's last time, ms.
    pub base_to: i64,
    /// Load of the last block (NaN in raw mode).
    pub load: f64,
    /// Least load that the baseline saw.
    pub load_low: f64,
    /// Greatest load that the baseline saw.
    pub load_high: f64,
    /// The same ratio over the last quarter of the window (4 h at least): is it still so?
    pub ratio_recent: f64,
    /// Standardised excess that was compared with the threshold.
    pub z: f64,
    /// Length of the test window, ms.
    pub window_ms: i64,
    /// Feed a fresh detector from here to get the same numbers.
    pub evidence_from: i64,
    /// Whether load was known.
    pub normalised: bool,
}

/// A drift that should be told to a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostAlarm {
    /// The numbers.
    pub estimate: CostEstimate,
    /// Always a ticket: drift wastes money, it does not wake anyone.
    pub severity: Severity,
}

/// The detector of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    config: CostConfig,
    threshold: f64,
    blocks: Blocks,
    /// Standardised excess at the last scan.
    last_z: f64,
    /// The block after which it was looked last, for more and for less.
    looked: i64,
    looked_cheaper: i64,
    standing: Option<Standing>,
}

/// What is remembered of an alarm that was raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Standing {
    raised: i64,
    since: i64,
    excess: f64,
    /// Cpu = a + b load + c (load / mean - 1)^2, with the mean load.
    curve: [f64; 4],
}

impl Cost {
    /// A detector that has seen nothing.
    pub fn new(config: CostConfig) -> Self {
        let threshold = threshold(config.false_alarms_per_day);
        Self {
            config,
            threshold,
            blocks: Blocks::new(),
            last_z: 0.0,
            looked: 0,
            looked_cheaper: 0,
            standing: None,
        }
    }

    /// Takes a sample: cpu in cores, load in any unit of work per second (NaN when unknown).
    /// A block is judged when the first sample after it comes.
    pub fn push(&mut self, time_ms: i64, cpu: f64, load: f64) -> Option<CostAlarm> {
        if self.blocks.push(time_ms, cpu, load) { self.judge() } else { None }
    }

    /// A person says that the present cost is right: learn anew from the change on.
    pub fn accept(&mut self) {
        let from = match self.standing.take() {
            Some(s) => s.since.div_euclid(BLOCK_MS),
            None => self.blocks.end(),
        };
        self.blocks.drop_before(from);
    }

    /// Whether an alarm stands that has neither gone away nor been accepted.
    pub fn is_standing(&self) -> bool {
        self.standing.is_some()
    }

    /// The most suspicious window at the end of the last whole block; None while learning.
    pub fn estimate(&self) -> Option<CostEstimate> {
        self.look(1.0, 1).map(|(estimate, _)| estimate)
    }

    /// Decides about the block just closed.
    fn judge(&mut self) -> Option<CostAlarm> {
        if let Some(standing) = &self.standing {
            let age = self.blocks.end().saturating_mul(BLOCK_MS).saturating_sub(standing.raised);
            if age >= DAY as i64 * BLOCK_MS && self.is_over(standing) {
                self.standing = None;
            } else if age >= RELEARN_DAYS * 86_400_000 {
                // All of the last five days came after the change: they are the new baseline.
                self.standing = None;
                self.blocks.drop_before(self.blocks.end().saturating_sub(5 * DAY as i64));
            }
            return None;
        }
        // By what has passed, not by the clock: samples an hour apart may close odd blocks alone.
        let end = self.blocks.end();
        if end.saturating_sub(self.looked_cheaper) >= CHEAPER_EVERY {
            self.looked_cheaper = end;
            let cheaper = self.look(-1.0, DAY);
            if let Some((e, _)) = cheaper.filter(|(e, _)| e.z >= self.threshold && e.normalised) {
                self.blocks.drop_before(e.since.div_euclid(BLOCK_MS));
                return None;
            }
        }
        if self.last_z < CALM && end.saturating_sub(self.looked) < CALM_EVERY {
            return None;
        }
        self.looked = end;
        let (e, curve) = self.look(1.0, 1)?;
        self.last_z = e.z;
        let least =
            if e.normalised { self.config.least_excess } else { self.config.least_excess_raw };
        let excess = e.ratio - 1.0;
        let gone = e.ratio_recent - 1.0 < STILL * excess;
        if e.z < self.threshold || excess < least || gone {
            return None;
        }
        self.standing = Some(Standing { raised: e.at, since: e.since, excess, curve });
        Some(CostAlarm { estimate: e, severity: Severity::Ticket })
    }

    /// Whether the last day's cost is back at the baseline of the standing alarm.
    fn is_over(&self, standing: &Standing) -> bool {
        let [a, b, c, mean] = standing.curve;
        let (mut n, mut sum) = (0.0, 0.0);
        for block in self.blocks.latest().take(DAY) {
            let (cpu, load) = (f64::from(block.cpu), f64::from(block.load));
            let load = if b == 0.0 { 0.0 } else { load };
            let bend = if c == 0.0 { 0.0 } else { load / mean - 1.0 };
            let expected = a + b * load + c * bend * bend;
            if cpu >= 0.0 && (b == 0.0 || load >= 0.0) && expected > 0.0 {
                n += 1.0;
                sum += (cpu / expected - 1.0).min(3.0 * standing.excess);
            }
        }
        n >= DAY as f64 / 4.0 && sum / n < OVER * standing.excess
    }

    /// Scans the ring and puts units to the result; also the baseline as `Standing::curve`.
    fn look(&self, sign: f64, least: usize) -> Option<(CostEstimate, [f64; 4])> {
        let scale = self.blocks.scale()?;
        let rows = self.blocks.rows(&scale);
        let normalised = scale.normalised;
        let (least, base) = match normalised {
            true => (least, BASE),
            // The raw value follows the traffic: a whole day, against three.
            false => (least.max(DAY), 3 * DAY),
        };
        let found = scan(&rows, sign, least, base)?;
        let first = self.blocks.first();
        let ms = |i: usize| first.saturating_add(i as i64).saturating_mul(BLOCK_MS);
        let [a, b, c] = found.fit.theta;
        let curve = match normalised {
            true => [a * scale.cpu, b * scale.cpu / scale.load, c * scale.cpu, scale.load],
            false => [(a + b) * scale.cpu, 0.0, 0.0, 1.0],
        };
        let load = |u: f64| if normalised { u * scale.load } else { f64::NAN };
        let last = rows.iter().rev().flatten().next().map_or(f64::NAN, |r| r.u);
        let (ratio, half) = (1.0 + found.excess, 1.96 * found.error);
        let estimate = CostEstimate {
            at: ms(rows.len()),
            since: ms(found.change),
            ratio,
            ratio_low: ratio - half,
            ratio_high: ratio + half,
            base_a: curve[0],
            base_b: curve[1],
            base_from: ms(0),
            base_to: ms(rows.len() - found.window),
            load: load(last),
            load_low: load(found.range.0),
            load_high: load(found.range.1),
            ratio_recent: 1.0 + found.recent,
            z: found.z,
            window_ms: found.window as i64 * BLOCK_MS,
            evidence_from: ms(0),
            normalised,
        };
        Some((estimate, curve))
    }
}

/// Standard normal threshold for a scan: solves `LOOKS * h * pdf(h) = rate`, the leading term of
/// the false-alarm rate of a window-limited likelihood ratio scan.
fn threshold(per_day: f64) -> f64 {
    let rate = if per_day.is_finite() { per_day.clamp(1e-9, 1.0) } else { 0.0005 };
    let (mut low, mut high) = (1.0, 9.0);
    for _ in 0..60 {
        let h = 0.5 * (low + high);
        let tail = LOOKS * h * (-0.5 * h * h).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if tail > rate { low = h } else { high = h }
    }
    high
}
