//! Tests of one stretch of floors: growth against a random walk, evenness, slowing, drawdown.
//!
//! The null hypothesis is a random walk, not white noise about a line: the live size of a healthy
//! process wanders, and ordinary least squares then calls half of all walks a trend (Granger and
//! Newbold 1974, doi:10.1016/0304-4076(74)90034-7). So the test is a t-test of the mean step from
//! block to block with the lag-1 long-run variance (Newey and West 1987, doi:10.2307/1913610).

use super::ring::{Blocks, RING};

/// What a stretch of floors says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trend {
    /// First block of the stretch.
    pub(crate) from: usize,
    /// Steps within lives.
    pub(crate) steps: usize,
    /// Growth over all steps, in units of the value.
    pub(crate) growth: f64,
    /// Standard error of that growth.
    pub(crate) error: f64,
    /// Seconds that the steps span.
    pub(crate) span_s: f64,
    /// Growth in the second half over growth in the first half.
    pub(crate) ratio: f64,
    /// Courses that growth may take, the line first.
    pub(crate) courses: [Course; 7],
    /// Growth per unit of load and second, and the weight of that clock against plain time.
    pub(crate) per_flow: (f64, f64),
    /// Long-run variance of a step.
    pub(crate) noise: f64,
    /// Lowest growth of the four quarters over an even quarter.
    pub(crate) weakest: f64,
    /// Greatest step over the whole growth: near 1 for a single step.
    pub(crate) step_share: f64,
    /// Greatest fall of the floor within a life, in the stretch and before it.
    pub(crate) drawdown: f64,
    /// What the change of load adds over the stretch, not part of `growth`.
    pub(crate) load_growth: f64,
}

impl Trend {
    /// Growth over its standard error.
    pub(crate) fn t(&self) -> f64 {
        (self.growth / self.error.max(f64::MIN_POSITIVE)).clamp(-1e6, 1e6)
    }

    /// Units of the value per second since the onset that explains the steps best.
    pub(crate) fn slope(&self) -> f64 {
        self.courses[0].now * self.steps as f64 / self.span_s.max(f64::MIN_POSITIVE)
    }

    /// Standard error of the slope.
    pub(crate) fn slope_error(&self) -> f64 {
        let share = self.courses[0].since.max(1) as f64 / self.steps.max(1) as f64;
        self.error / (share.sqrt() * self.span_s.max(f64::MIN_POSITIVE))
    }
}

/// Fewest steps that a stretch is judged by.
pub(crate) const MIN_STEPS: usize = 7;

/// Steps from block to block within lives, with the life and the mean load of each.
struct Steps {
    count: usize,
    steps: [(f64, f64); RING],
    lives: [u16; RING],
    flows: [f64; RING],
    load_change: f64,
}

impl Steps {
    fn new(blocks: &Blocks, from: usize) -> Self {
        let mut all = Steps {
            count: 0,
            steps: [(0.0, 0.0); RING],
            lives: [0; RING],
            flows: [0.0; RING],
            load_change: 0.0,
        };
        let mut room = 0;
        for i in from.saturating_add(1)..blocks.len {
            let same = blocks.life[i] == blocks.life[i - 1];
            if !same || i == from + 1 {
                let life = blocks.life[i];
                room = blocks.life[i..blocks.len].iter().take_while(|l| **l == life).count();
            }
            if !same || room < MIN_LIFE {
                continue;
            }
            let n = all.count;
            all.steps[n] = (blocks.lo[i] - blocks.lo[i - 1], blocks.time[i] - blocks.time[i - 1]);
            all.lives[n] = blocks.life[i];
            all.flows[n] = 0.5 * (blocks.flow[i] + blocks.flow[i - 1]);
            let change = blocks.load[i] - blocks.load[i - 1];
            all.load_change += if change.is_finite() { change } else { 0.0 };
            all.count = n + 1;
        }
        all
    }
}

/// Lives with fewer blocks cannot show that growth tires, so they do not count.
const MIN_LIFE: usize = 6;

/// Judges the blocks from `from` on; `load` is the load coefficient and its error,
/// `fall` the drawdown of the blocks. The courses stay empty until `follow`.
pub(crate) fn trend(blocks: &Blocks, from: usize, load: (f64, f64), fall: f64) -> Option<Trend> {
    let all = Steps::new(blocks, from);
    let count = all.count;
    let load_change = all.load_change;
    let steps = all.steps.get(..count)?;
    if count < MIN_STEPS {
        return None;
    }
    let growth: f64 = steps.iter().map(|s| s.0).sum();
    let span_s: f64 = steps.iter().map(|s| s.1).sum();
    let greatest = steps.iter().map(|s| s.0).fold(f64::MIN, f64::max);
    let level = blocks.lo[blocks.len - 1].abs();
    let noise = long_run_variance(&residuals(steps, growth / span_s)[..count]);
    let variance = noise * count as f64 + (load.1 * load_change).powi(2) + (1e-4 * level).powi(2);
    Some(Trend {
        from,
        steps: count,
        growth,
        error: variance.sqrt(),
        span_s,
        ratio: slowing(blocks, from),
        noise,
        per_flow: (0.0, 0.0),
        courses: [Course::default(); 7],
        weakest: weakest_quarter(steps, growth),
        step_share: if growth > 0.0 { (greatest / growth).clamp(0.0, 99.0) } else { 99.0 },
        drawdown: fall,
        load_growth: load.0 * load_change,
    })
}

/// Newest slope over the steepest earlier slope, both over a third of a life's blocks and summed
/// over the lives of the stretch: 1 for a line, below for growth that tires, also when level floors
/// lead the growth.
fn slowing(blocks: &Blocks, from: usize) -> f64 {
    let (mut newest, mut steepest) = (0.0, 0.0);
    let mut start = from;
    while start < blocks.len {
        let life = blocks.life[start];
        let count = blocks.life[start..blocks.len].iter().take_while(|l| **l == life).count();
        let third = (count - 1) / 3;
        if third >= 1 && count >= MIN_LIFE {
            let rise = |i: usize| blocks.lo[i] - blocks.lo[i - third];
            let last = start + count - 1;
            newest += rise(last);
            steepest += (start + third..=last - third).map(rise).fold(f64::MIN, f64::max);
        }
        start += count;
    }
    if steepest > 0.0 { (newest / steepest).clamp(-9.0, 99.0) } else { -9.0 }
}

/// Variance per step with the lag-1 autocovariance: white noise about a level makes steps that
/// cancel (lag 1 near -1/2), so the sum would seem free of error; a third of the plain variance is
/// the least that is believed.
fn long_run_variance(residuals: &[f64]) -> f64 {
    let n = residuals.len() as f64;
    let plain: f64 = residuals.iter().map(|r| r * r).sum::<f64>() / (n - 1.0);
    let lag: f64 = residuals.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / (n - 1.0);
    (plain + 2.0 * lag).max(plain / 3.0)
}

fn residuals(steps: &[(f64, f64)], slope: f64) -> [f64; RING] {
    let mut out = [0.0; RING];
    for (o, s) in out.iter_mut().zip(steps) {
        *o = s.0 - slope * s.1;
    }
    out
}

/// Growth with the load as clock, and the likelihood weight of that clock: some programs lose
/// memory by the request, others by the hour.
fn per_flow(steps: &[(f64, f64)], flows: &[f64], since: usize, noise: f64) -> (f64, f64) {
    let from = steps.len() - since.min(steps.len());
    let (steps, flows) = (&steps[from..], &flows[from..]);
    let growth: f64 = steps.iter().map(|s| s.0).sum();
    let passed: f64 = steps.iter().zip(flows).map(|(s, f)| f * s.1).sum();
    let span: f64 = steps.iter().map(|s| s.1).sum();
    if !(passed.is_finite() && passed > 0.0 && span > 0.0) {
        return (0.0, 0.0);
    }
    let (by_time, by_flow) = (growth / span, growth / passed);
    let (mut rest_time, mut rest_flow) = (0.0, 0.0);
    for (s, f) in steps.iter().zip(flows) {
        rest_time += (s.0 - by_time * s.1).powi(2);
        rest_flow += (s.0 - by_flow * f * s.1).powi(2);
    }
    let odds = (0.5 * (rest_time - rest_flow) / noise.max(1e-300)).min(50.0).exp();
    (by_flow, odds / (1.0 + odds))
}

/// One course that growth may take: steps that shrink by `exp(-decay)` from an onset on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Course {
    /// Loss of speed per step; 0 for a line.
    pub(crate) decay: f64,
    /// Reduction of the sum of squares by this course at its best onset.
    pub(crate) gain: f64,
    /// Step now.
    pub(crate) now: f64,
    /// Steps since the best onset.
    pub(crate) since: usize,
}

/// Decays over a whole stretch: time constants from 3.3 times the stretch to a tenth of it.
const DECAYS: [f64; 7] = [0.0, 0.3, 0.6, 1.2, 2.4, 4.8, 9.6];
/// Longest time constant of caches and warm-ups: a working set turns over within a day.
const FILL_MAX_S: f64 = 24.0 * 3600.0;
/// Fewest steps after an onset.
const MIN_ONSET: usize = 4;

/// Best onset of each course, by least squares on the steps; age counts anew in each life.
fn courses(steps: &[(f64, f64)], lives: &[u16]) -> [Course; 7] {
    let n = steps.len();
    let mut found = [Course::default(); 7];
    for (course, decay) in found.iter_mut().zip(DECAYS) {
        let decay = decay / n as f64;
        let keep = (-decay).exp();
        let (mut done_y, mut done_w, mut y, mut w) = (0.0, 0.0, 0.0, 0.0);
        let (mut age, mut ages, mut last_life, mut best_age) = (0.0, 0.0, true, 0.0);
        course.decay = decay;
        for i in (0..n).rev() {
            if i + 1 < n && lives[i] != lives[i + 1] {
                done_y += y;
                done_w += w;
                (y, w) = (0.0, 0.0);
                last_life = false;
            }
            y = steps[i].0 + keep * y;
            w = 1.0 + keep * keep * w;
            if last_life {
                ages = age;
                age += 1.0;
            }
            let (sum, weight) = (done_y + y, done_w + w);
            let gain = if sum > 0.0 { sum * sum / weight } else { 0.0 };
            if n - i >= MIN_ONSET && gain > course.gain {
                course.gain = gain;
                course.now = sum / weight;
                best_age = ages;
                course.since = n - i;
            }
        }
        course.now *= (-decay * best_age).exp();
    }
    found
}

impl Trend {
    /// Finds the courses and the clock of the growth.
    pub(crate) fn follow(&mut self, blocks: &Blocks) {
        let all = Steps::new(blocks, self.from);
        let steps = &all.steps[..all.count];
        self.courses = courses(steps, &all.lives);
        self.per_flow = per_flow(steps, &all.flows, self.courses[0].since, self.noise);
    }

    /// Odds of growth that reaches `room` against growth that ends before, at even prior odds:
    /// the line against exponential courses of log-uniform time constant (mean likelihood) whose
    /// whole amplitude has an exponential prior of mean `fill`.
    pub(crate) fn odds(&self, room: f64, up: f64, block_s: f64, fill: f64) -> f64 {
        let top = self.courses.iter().map(|c| c.gain).fold(0.0, f64::max);
        let likelihood = |c: &Course| (0.5 * (c.gain - top) / self.noise.max(1e-300)).exp();
        let weight = 1.0 / (DECAYS.len() - 1) as f64;
        let (mut on, mut ends) = (0.0, 1e-9);
        for c in &self.courses {
            if c.decay <= 0.0 {
                on += likelihood(c);
            } else if c.now / c.decay * up >= room {
                on += weight * likelihood(c);
            } else if c.decay * FILL_MAX_S >= block_s {
                let whole = c.now / c.decay * (c.decay * c.since as f64).min(50.0).exp();
                ends += weight * likelihood(c) * (-whole.max(0.0) / fill.max(1e-300)).exp();
            }
        }
        on / ends
    }
}

fn weakest_quarter(steps: &[(f64, f64)], growth: f64) -> f64 {
    let n = steps.len();
    let quarter = |q: usize| -> f64 { steps[q * n / 4..(q + 1) * n / 4].iter().map(|s| s.0).sum() };
    let weakest = (0..4).map(quarter).fold(f64::MAX, f64::min);
    if growth > 0.0 { 4.0 * weakest / growth } else { -99.0 }
}

/// Greatest fall from a floor to a later floor of the same life.
pub(crate) fn drawdown(blocks: &Blocks) -> f64 {
    let mut worst: f64 = 0.0;
    let mut top = f64::MIN;
    for i in 0..blocks.len {
        if i > 0 && blocks.life[i] != blocks.life[i - 1] {
            top = f64::MIN;
        }
        top = top.max(blocks.lo[i]);
        worst = worst.max(top - blocks.lo[i]);
    }
    worst
}

/// Block at which a level stretch turns into a line, by least squares over the last life;
/// `None` when that life has fewer than nine blocks.
pub(crate) fn hinge(blocks: &Blocks) -> Option<usize> {
    let n = blocks.len;
    let life = *blocks.life.get(n.checked_sub(1)?)?;
    let start = (0..n).rev().take_while(|&i| blocks.life[i] == life).last()?;
    if n - start < MIN_STEPS + 2 {
        return None;
    }
    let m = (n - start) as f64;
    let y0 = blocks.lo[start];
    let x0 = blocks.time[n - 1];
    let scale = blocks.block_s;
    let (mut sum_y, mut sum_yy) = (0.0, 0.0);
    for i in start..n {
        let y = blocks.lo[i] - y0;
        sum_y += y;
        sum_yy += y * y;
    }
    let (mut c, mut sx, mut sxx, mut sy, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let mut best = (f64::MAX, start);
    for i in (start..n).rev() {
        let (x, y) = ((blocks.time[i] - x0) / scale, blocks.lo[i] - y0);
        c += 1.0;
        sx += x;
        sxx += x * x;
        sy += y;
        sxy += x * y;
        if n - i < MIN_STEPS + 1 {
            continue;
        }
        // u = x - x_i over the blocks from i on, 0 before.
        let su = sx - c * x;
        let suu = sxx - 2.0 * x * sx + c * x * x;
        let suy = sxy - x * sy;
        let (var, cov) = (suu - su * su / m, suy - su * sum_y / m);
        let rest = sum_yy - sum_y * sum_y / m - if var > 0.0 { cov * cov / var } else { 0.0 };
        if rest < best.0 {
            best = (rest, i);
        }
    }
    Some(best.1)
}

/// Value per unit of load and its standard error, from changes between neighbouring blocks;
/// (0, 0) where load is unknown or does not vary.
pub(crate) fn load_coefficient(blocks: &Blocks) -> (f64, f64) {
    let (mut n, mut sx, mut sy, mut sxx, mut sxy, mut syy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for i in 1..blocks.len {
        let x = blocks.load[i] - blocks.load[i - 1];
        if blocks.life[i] != blocks.life[i - 1] || !x.is_finite() {
            continue;
        }
        let y = blocks.lo[i] - blocks.lo[i - 1];
        n += 1.0;
        sx += x;
        sy += y;
        sxx += x * x;
        sxy += x * y;
        syy += y * y;
    }
    if n < 8.0 {
        return (0.0, 0.0);
    }
    let (vx, cxy, vy) = (sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n);
    let scale = sxx.max(f64::MIN_POSITIVE);
    if vx <= 1e-9 * scale || vx <= f64::MIN_POSITIVE {
        return (0.0, 0.0);
    }
    let slope = cxy / vx;
    let error = ((vy - slope * cxy).max(0.0) / (n - 2.0) / vx).sqrt();
    // A coefficient is shrunk by its own noise and never negative: memory does not fall with load.
    let t = slope / error.max(f64::MIN_POSITIVE);
    (if t > 0.0 { slope * (1.0 - 1.0 / (t * t)).max(0.0) } else { 0.0 }, error)
}
