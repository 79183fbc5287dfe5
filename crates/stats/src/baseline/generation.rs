//! One generation of the detector: pooling into minutes, residual, evidence, verdict.
use super::evidence::{JEFFREYS, Ladder, Residual};
use super::model::{Model, Prediction};
use super::pool::{Pooled, Pooler};
use super::tail::Tail;
use super::watch::{FlatWatch, NoiseWatch};
use super::{BaselineAlarm, BaselineConfig, Estimate, Kind, Reason, Severity};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const DAY_MS: i64 = 86_400_000;
/// Times beyond this (285 000 years) are nonsense; the bound keeps sums from overflowing.
const MAX_MS: u64 = 1 << 53;
/// Larger values (and loads below one over it) are nonsense.
const MAX_VALUE: f64 = 1e15;
/// A change that lasts this long is the new normal: longer than most faults, shorter than a
/// holiday, which is then one finding.
const RELEARN_MS: i64 = 6 * 3_600_000;
/// Residuals kept for the onset and the numbers of an alarm.
const RECENT: usize = 64;
/// An alarm ends when the score stayed under half the threshold this long.
const CALM_MS: i64 = 600_000;
/// Noise is not judged this long after an alarm: its edges look like noise.
const SETTLE_MS: i64 = 3_600_000;
/// Lowest threshold of the score, standard deviations.
const Z_FLOOR: f64 = 3.7;
/// Highest threshold that a lasting change must pass to be learned.
const Z_RELEARN: f64 = 6.0;
/// A z beyond this is no part of the usual noise.
const UNSTEADY: f64 = 3.5;
/// Evidence of this many thresholds is overwhelming.
const TICKET: f64 = 1.6;
/// Alarms of a week beyond the second raise the threshold by this share each: a series that alarms
/// often says little.
const FATIGUE: f64 = 0.5;
const FATIGUE_FREE: f64 = 2.0;
const FATIGUE_MS: f64 = 7.0 * 86_400_000.0;
/// Without load, a weekend cannot be told from a fault before a week is known (days) ...
const WEEK_DAYS: f64 = 7.25;
/// ... so until then a fault must go beyond a factor of 2.5 (ln), which weekends seldom do.
const WEEKEND: f64 = 0.92;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Recent {
    ms: i64,
    e: f32,
    w: f32,
    mid: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Active {
    calm_since: i64,
    ticket: bool,
}

/// One generation. 8.3 KB with its rings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generation {
    kind: Kind,
    first_ms: i64,
    last_ms: i64,
    done_ms: i64,
    pooler: Pooler,
    with_load: bool,
    model: Model,
    ladder: Ladder,
    tail: Tail,
    noise: NoiseWatch,
    flat: FlatWatch,
    z: f64,
    out_since: [Option<i64>; 2],
    active: Option<Active>,
    quiet_from: i64,
    fatigue: f64,
    fatigue_ms: i64,
    recent: VecDeque<Recent>,
}

impl Generation {
    /// Knows nothing yet.
    pub(crate) fn new(config: &BaselineConfig) -> Self {
        let kind = config.kind;
        Self {
            kind,
            first_ms: i64::MIN,
            last_ms: i64::MIN,
            done_ms: i64::MIN,
            pooler: Pooler::new(kind),
            with_load: false,
            model: Model::new(kind == Kind::Latency, kind == Kind::Errors),
            ladder: Ladder::new(kind.floor(), kind == Kind::Throughput),
            tail: Tail::new(config.budget_per_day, Z_FLOOR, 336),
            noise: NoiseWatch::new(config.budget_per_day),
            flat: FlatWatch::default(),
            z: 0.0,
            out_since: [None; 2],
            active: None,
            quiet_from: i64::MIN,
            fatigue: 0.0,
            fatigue_ms: 0,
            recent: VecDeque::with_capacity(RECENT),
        }
    }

    /// Age, ms.
    pub(crate) fn age(&self) -> i64 {
        if self.first_ms == i64::MIN { 0 } else { self.last_ms.saturating_sub(self.first_ms) }
    }

    /// Reason of the deviation that goes on.
    pub(crate) fn active(&self) -> Option<Reason> {
        if self.active.is_some() {
            let up = self.kind.sign() > 0.0;
            return Some(if up { Reason::LevelUp } else { Reason::LevelDown });
        }
        if self.flat.active() {
            return Some(Reason::FlatLine);
        }
        self.noise.active().then_some(Reason::Variance)
    }

    /// -log10 of the share of hours with so much evidence.
    pub(crate) fn score(&self) -> f64 {
        self.tail.rarity(self.z)
    }

    /// Takes a sample, see `Baseline::push`.
    pub(crate) fn push(&mut self, time_ms: i64, value: f64, load: f64) -> Option<BaselineAlarm> {
        // a latency of zero means that nothing was served
        let idle = value == 0.0 && self.kind == Kind::Latency;
        let sane = value.is_finite() && value >= 0.0 && !idle && time_ms.abs_diff(0) < MAX_MS;
        if !sane || time_ms <= self.last_ms {
            return None;
        }
        let value = value.min(MAX_VALUE);
        if self.last_ms == i64::MIN {
            self.first_ms = time_ms;
            self.with_load = self.kind == Kind::Throughput && load > 0.0;
        }
        self.last_ms = time_ms;
        // throughput goes with load or without, for good: the two baselines do not mix
        let wanted = self.kind != Kind::Throughput || self.with_load;
        let known = wanted && load > 1.0 / MAX_VALUE && load < MAX_VALUE;
        let load = if known { load } else { 0.0 };
        let mut alarm = None;
        for o in self.pooler.push(time_ms, value, load).into_iter().flatten() {
            alarm = self.observe(o).or(alarm);
        }
        let healthy_zero = self.kind == Kind::Errors && value == 0.0;
        let stuck = self.flat.push(time_ms, value, self.warm() && !healthy_zero);
        if alarm.is_none() && stuck {
            alarm = self.report(Reason::FlatLine, Severity::Note, Some(self.flat.since()));
        }
        alarm
    }

    fn observe(&mut self, o: Pooled) -> Option<BaselineAlarm> {
        let Pooled { ms, seen, load } = o;
        let counts = self.kind == Kind::Errors;
        if self.with_load && !load.is_finite() {
            return None;
        }
        let step_s = self.pooler.step_s();
        let dt_s =
            if self.done_ms == i64::MIN { step_s } else { (ms - self.done_ms) as f64 / 1000.0 };
        self.done_ms = ms;
        let p = self.model.predict(ms, load);
        if !self.model.started() {
            self.model.start(seen);
            return None;
        }
        let (e, w) = if counts {
            let mu = (p.mid.exp() * seen.n).max(1e-9);
            ((seen.y - mu) / mu, mu)
        } else {
            ((seen.y - p.mid).clamp(-5.0, 5.0), 1.0)
        };
        if dt_s > 3600.0_f64.max(3.0 * step_s) {
            self.ladder.reset();
            self.recent.clear();
        }
        let learn = self.active.is_none();
        if p.trusted {
            self.weigh(ms, e, w, &p, dt_s / step_s);
        }
        if learn {
            // two counts more are never much: a rate that is too low must be able to recover
            let few = if counts { 2.0 / w } else { 0.0 };
            let sd = 3.0 * self.ladder.sd_one(w, counts) + few;
            let limited = if p.trusted { e.clamp(-sd, sd) } else { e.clamp(-2.0, 2.0) };
            self.model.learn(&p, seen, limited, w, load, step_s);
        }
        if !p.trusted {
            return None;
        }
        let level = self.judge(ms);
        let calm = self.z < 0.7 * self.tail.threshold() && ms >= self.quiet_from;
        let noisy = !counts && self.noise.push(ms, e, step_s, calm, self.warm() && !self.blind());
        match level {
            None if noisy => self.report(Reason::Variance, Severity::Note, None),
            _ => level,
        }
    }

    /// Adds a residual to the evidence, `steps` after the last.
    fn weigh(&mut self, ms: i64, e: f64, w: f64, p: &Prediction, steps: f64) {
        // in the first week a weekend would widen the scales
        let learn = self.active.is_none() && !(self.blind() && self.z.abs() > UNSTEADY);
        let counts = self.kind == Kind::Errors;
        let r = Residual { e, w, counts, info: p.info };
        let (sign, step_s) = (self.kind.sign(), self.pooler.step_s());
        self.z = self.ladder.push(r, sign, step_s, steps, learn);
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { ms, e: e as f32, w: w as f32, mid: p.mid as f32 });
    }

    fn warm(&self) -> bool {
        let days = if self.without_load() { 2 } else { 1 };
        self.age() >= days * DAY_MS
    }

    /// Only the clock explains the value, and last week is not known, yet or at this hour.
    fn blind(&self) -> bool {
        let season = &self.model.season;
        self.without_load() && (season.days() < WEEK_DAYS || season.in_hole())
    }

    fn without_load(&self) -> bool {
        match self.kind {
            Kind::Errors => false,
            Kind::Throughput => !self.with_load,
            Kind::Latency => !self.model.uses_curve(),
        }
    }

    fn judge(&mut self, ms: i64) -> Option<BaselineAlarm> {
        let h = self.tail.threshold();
        let z = self.z;
        self.relearn(ms, h.min(Z_RELEARN));
        let escalate = match &mut self.active {
            None => return self.fire(ms, h),
            Some(a) => {
                if z > 0.5 * h {
                    a.calm_since = ms;
                }
                let more = !a.ticket && z > TICKET * h;
                a.ticket |= more;
                if ms - a.calm_since > CALM_MS {
                    self.active = None;
                    self.quiet_from = ms + SETTLE_MS;
                }
                more
            }
        };
        if escalate { self.level_alarm(Severity::Ticket) } else { None }
    }

    fn fire(&mut self, ms: i64, h: f64) -> Option<BaselineAlarm> {
        let blind = self.blind();
        if !blind {
            self.tail.push(ms, self.z.min(1.2 * h));
        }
        let age = ms.saturating_sub(self.fatigue_ms) as f64;
        let tired = self.fatigue * (-age / FATIGUE_MS).exp();
        let h = h * (1.0 + FATIGUE * (tired - FATIGUE_FREE).max(0.0));
        if !self.warm() || self.z <= h {
            return None;
        }
        let est = self.estimate()?;
        let least = if blind { WEEKEND } else { self.kind.min_effect() };
        if self.kind.sign() * est.ratio.max(1e-9).ln() < least {
            return None;
        }
        self.fatigue = tired + 1.0;
        self.fatigue_ms = ms;
        let ticket = self.z > TICKET * h;
        self.active = Some(Active { calm_since: ms, ticket });
        self.level_alarm(if ticket { Severity::Ticket } else { Severity::Note })
    }

    fn level_alarm(&self, severity: Severity) -> Option<BaselineAlarm> {
        self.report(self.active()?, severity, None)
    }

    fn report(&self, why: Reason, severity: Severity, since: Option<i64>) -> Option<BaselineAlarm> {
        let mut estimate = self.estimate()?;
        if let Some(ms) = since {
            estimate.since_ms = ms;
        }
        let score = if why == Reason::Variance || why == Reason::FlatLine {
            self.tail.rarity(self.tail.threshold())
        } else {
            self.score()
        };
        let at_ms = self.last_ms;
        Some(BaselineAlarm { at_ms, kind: self.kind, reason: why, severity, score, estimate })
    }

    /// What lasts on one side for hours is the new normal.
    fn relearn(&mut self, ms: i64, h: f64) {
        let slow = self.ladder.slow();
        let out = [slow.max(self.z) > 0.7 * h, slow < -0.7 * h];
        for (since, out) in self.out_since.iter_mut().zip(out) {
            *since = if out { since.or(Some(ms)) } else { None };
        }
        let Some(onset) = self.out_since.iter().flatten().min().copied() else {
            return;
        };
        if ms - onset <= RELEARN_MS {
            return;
        }
        let delta = self.mean_since(ms - SETTLE_MS).0;
        self.model.accept(delta, onset);
        self.ladder.reset();
        self.active = None;
        self.quiet_from = ms + SETTLE_MS;
        self.out_since = [None; 2];
        self.z = 0.0;
    }

    /// ln ratio of observed to expected since `from`, with the number of samples and counts.
    fn mean_since(&self, from: i64) -> (f64, f64, f64) {
        let (mut s, mut w, mut n) = (0.0, 0.0, 0.0);
        for r in self.recent.iter().rev().take_while(|r| r.ms >= from) {
            s += f64::from(r.e) * f64::from(r.w);
            w += f64::from(r.w);
            n += 1.0;
        }
        let l = if w <= 0.0 {
            0.0
        } else if self.kind == Kind::Errors {
            (((s + w).max(0.0) + JEFFREYS) / (w + JEFFREYS)).ln()
        } else {
            s / w
        };
        (l, n, w)
    }

    /// Onset, where the sum of (residual - half its recent size) back from now is largest
    /// (the maximum likelihood estimate for a step, Page 1954), and the mean ln expectation since.
    fn onset(&self) -> Option<(i64, f64)> {
        let sign = self.kind.sign();
        let last = self.recent.back()?;
        let tail: f64 = self.recent.iter().rev().take(5).map(|r| sign * f64::from(r.e)).sum();
        let half = (tail / 10.0).max(0.02);
        let (mut sum, mut best, mut mids, mut n) = (0.0, f64::MIN, 0.0, 0.0);
        let mut found = (last.ms, f64::from(last.mid));
        for r in self.recent.iter().rev() {
            sum += (sign * f64::from(r.e) - half) * f64::from(r.w);
            mids += f64::from(r.mid);
            n += 1.0;
            if sum > best {
                best = sum;
                found = (r.ms, mids / n);
            }
        }
        Some(found)
    }

    /// Value at the ln prediction `mid`, in the unit of the series.
    fn value(&self, mid: f64) -> f64 {
        let (load, least) = (self.pooler.last_load(), self.pooler.least());
        let unit = if self.with_load { load + least } else { 1.0 };
        let v = (mid.exp() * unit - least).max(0.0);
        if self.kind == Kind::Errors { v.min(1.0) } else { v }
    }

    /// 95 % band of one sample around the ln prediction `mid` with standard deviation `sd`. Counts
    /// are even on the square root scale (Anscombe 1948) and come in steps of one.
    fn band(&self, mid: f64, sd: f64) -> (f64, f64) {
        let each = 1.96 * sd;
        if self.kind != Kind::Errors {
            return (self.value(mid - each), self.value(mid + each));
        }
        let (v, one) = (self.value(mid), 1.0 / self.pooler.requests());
        let low = v * (1.0 - each / 2.0).max(0.0).powi(2) - one;
        let high = v * (1.0 + each / 2.0).powi(2) + one;
        (low.max(0.0), high.min(1.0))
    }

    /// Numbers since the most likely onset.
    pub(crate) fn estimate(&self) -> Option<Estimate> {
        let counts = self.kind == Kind::Errors;
        let (since_ms, mid) = self.onset()?;
        let (l, n, w) = self.mean_since(since_ms);
        let sd = self.ladder.sd_one(w / n.max(1.0), counts);
        let (expected_low, expected_high) = self.band(mid, sd);
        let mean = 1.96 * self.ladder.sd_mean(n, w, counts);
        Some(Estimate {
            since_ms,
            observed: self.value(mid + l),
            expected: self.value(mid),
            expected_low,
            expected_high,
            ratio: l.exp(),
            ratio_low: (l - mean).exp(),
            ratio_high: (l + mean).exp(),
            evidence_from: self.first_ms,
        })
    }

    /// Next sample: (expected, low, high), 95 %.
    pub(crate) fn expected(&self) -> Option<(f64, f64, f64)> {
        let (step_s, load) = (self.pooler.sample_s(), self.pooler.last_load());
        let next = self.last_ms.saturating_add((step_s * 1000.0) as i64);
        let mid = self.model.peek(next, load)?;
        let counts = self.kind == Kind::Errors;
        let w = if counts { mid.exp() * self.pooler.requests() } else { 1.0 };
        let (low, high) = self.band(mid, self.ladder.sd_one(w, counts));
        Some((self.value(mid), low, high))
    }
}
