//! Sustained evidence: exponentially weighted means of the residual over a ladder of time
//! constants, each against its own robust scale.
use serde::{Deserialize, Serialize};

/// Time constants, s: a clear fault is seen in minutes, a faint one within an hour.
const TAU_S: [f64; 3] = [180.0, 600.0, 1800.0];
/// The same in samples, at least: one wild sample alone never carries a rung.
const TAU_SAMPLES: [f64; 3] = [1.0, 3.0, 8.0];
/// Share of |z| over 1 for a Gaussian; the scale is the quantile that leaves this share outside.
const OUTSIDE: f64 = 0.317;
/// Memory of a scale, samples: about a day of minutes.
const SCALE_MEMORY: f64 = 1500.0;
/// A sample that stands for more time than this is a mean by itself; shorter ones may be wild.
const WILD_S: f64 = 600.0;
/// Residuals count up to this many standard deviations: one sample cannot decide.
const CLIP: f64 = 8.0;
/// A jump of this many of its standard deviations counts in full ...
const EDGE_MOST: f64 = 6.0;
/// ... and this share of it adds to the z of the level: 1.5 at most.
const EDGE_SHARE: f64 = 0.35;
/// Jeffreys' pseudo count for a Poisson rate.
pub(crate) const JEFFREYS: f64 = 0.5;

/// One residual: relative deviation `e` with information `w` (1, or the expected count).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Residual {
    pub(crate) e: f64,
    pub(crate) w: f64,
    /// `w` is an expected count, `e` = (count - w) / w.
    pub(crate) counts: bool,
    /// Observations behind the prediction at this load, infinite when it does not depend on it.
    pub(crate) info: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rung {
    decay: f64,
    we: f64,
    w: f64,
    doubt: f64,
    scale: f64,
    z: f64,
}

impl Rung {
    fn z(&self, counts: bool, floor2: f64) -> f64 {
        let s2 = self.scale * self.scale + floor2 + self.doubt;
        if counts {
            let up = (self.we + self.w).max(0.0) + JEFFREYS;
            // an exponential window holds twice its sum in independent counts
            let s2 = s2 + 1.0 / (2.0 * self.w + JEFFREYS);
            (up / (self.w + JEFFREYS)).ln() / s2.sqrt()
        } else {
            self.we * (1.0 - self.decay) / s2.sqrt()
        }
    }
}

/// The ladder. 0.2 KB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ladder {
    rungs: [Rung; 3],
    step_s: f64,
    samples: f64,
    floor: f64,
    one: f64,
    before: [f64; 2],
    edges: bool,
    edge: Edge,
}

impl Ladder {
    /// `floor`: smallest standard deviation (ln units) that is of interest to a person; `edges`:
    /// an abrupt onset counts (where noise is slow, so that it has none).
    pub(crate) fn new(floor: f64, edges: bool) -> Self {
        Self {
            rungs: [Rung { scale: 0.1, ..Rung::default() }; 3],
            step_s: 0.0,
            samples: 0.0,
            floor,
            one: 0.1,
            before: [0.0; 2],
            edges,
            edge: Edge::default(),
        }
    }

    /// Forgets the running means, keeps the scales.
    pub(crate) fn reset(&mut self) {
        for r in &mut self.rungs {
            *r = Rung { scale: r.scale, decay: r.decay, ..Rung::default() };
        }
        self.before = [0.0; 2];
        self.edge = Edge { scale: self.edge.scale, ..Edge::default() };
    }

    /// z of the slowest rung, towards `sign`.
    pub(crate) fn slow(&self) -> f64 {
        self.rungs.last().map_or(0.0, |g| g.z)
    }

    /// Standard deviation of one residual.
    pub(crate) fn sd_one(&self, w: f64, counts: bool) -> f64 {
        let s = self.one * self.one + self.floor * self.floor;
        (if counts { s + 1.0 / (w + JEFFREYS) } else { s }).sqrt()
    }

    /// Standard deviation of a mean over `n` samples with `w` expected counts in all, from the
    /// widest rung that fits into them (so it holds for correlated noise).
    pub(crate) fn sd_mean(&self, n: f64, w: f64, counts: bool) -> f64 {
        let mut s = self.one;
        for g in &self.rungs {
            if n * (1.0 - g.decay) >= 2.0 {
                s = s.min(g.scale);
            }
        }
        let s = s * s + self.floor * self.floor;
        (if counts { s + 1.0 / (w + JEFFREYS) } else { s }).sqrt()
    }

    fn set_step(&mut self, step_s: f64) {
        if (step_s - self.step_s).abs() <= 0.02 * self.step_s {
            return;
        }
        self.step_s = step_s;
        for (g, (&s, &n)) in self.rungs.iter_mut().zip(TAU_S.iter().zip(&TAU_SAMPLES)) {
            g.decay = (-1.0 / (s / step_s).max(n)).exp();
        }
    }

    /// Takes a residual that comes `steps` sampling steps after the last; learns the scales when
    /// `learn`. Returns the largest z towards `sign`.
    pub(crate) fn push(
        &mut self,
        r: Residual,
        sign: f64,
        step_s: f64,
        steps: f64,
        learn: bool,
    ) -> f64 {
        self.set_step(step_s);
        let sd = self.sd_one(r.w, r.counts);
        let e = if r.counts || step_s > WILD_S {
            r.e.clamp(-CLIP * sd, if r.counts { f64::MAX } else { CLIP * sd })
        } else {
            // the median of three removes single wild samples, which are normal for latency
            median3(r.e, self.before).clamp(-CLIP * sd, CLIP * sd)
        };
        self.before = [self.before[1], r.e];
        let eta = 2.0 / (self.samples + 10.0).min(SCALE_MEMORY);
        if learn {
            self.samples += 1.0;
            self.one = nudge(self.one, r.e / sd, eta);
        }
        let slow = self.rungs[2];
        // variance of the prediction: that of a mean over the observations behind it
        let doubt = 2.0 * slow.scale * slow.scale / ((1.0 - slow.decay) * r.info.max(1.0));
        let floor2 = self.floor * self.floor;
        let mut best = f64::NEG_INFINITY;
        for g in &mut self.rungs {
            let old = if steps > 1.5 { g.decay.powf(steps) } else { g.decay };
            g.we = g.we * old + e * r.w;
            g.w = g.w * old + r.w;
            // a normal number plus zero: no denormals as old doubt fades
            g.doubt = (g.doubt * old + doubt * (1.0 - g.decay) + 1e-12) - 1e-12;
            let z = g.z(r.counts, floor2);
            g.z = sign * z;
            best = best.max(g.z);
            if learn {
                g.scale = nudge(g.scale, z, eta);
            }
        }
        if !self.edges {
            return best;
        }
        let hold = self.rungs[1].decay;
        best + self.edge.push(sign * e, floor2, hold, learn.then_some(eta))
    }
}

/// Abruptness: faults begin at once, slow noise and errors of the profile do not. Compares the mean
/// of two residuals with the four before them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Edge {
    last: [f64; 6],
    scale: f64,
    held: f64,
}

impl Edge {
    /// Returns what the latest jump towards the bad side adds to z; fades by `hold` a sample.
    fn push(&mut self, e: f64, floor2: f64, hold: f64, eta: Option<f64>) -> f64 {
        self.last.rotate_left(1);
        self.last[5] = e;
        let [a, b, c, d, x, y] = self.last;
        let jump = (x + y) / 2.0 - (a + b + c + d) / 4.0;
        self.scale = self.scale.max(1e-3);
        let z = jump / (self.scale * self.scale + floor2).sqrt();
        if let Some(eta) = eta {
            self.scale = nudge(self.scale, z, eta);
        }
        self.held = (self.held * hold).max(z.min(EDGE_MOST));
        EDGE_SHARE * self.held.max(0.0)
    }
}

/// One step of stochastic approximation (Robbins and Monro 1951, doi:10.1214/aoms/1177729586)
/// towards the scale that leaves the share `OUTSIDE` of |z| over 1.
pub(crate) fn nudge(scale: f64, z: f64, eta: f64) -> f64 {
    let out = if z.abs() > 1.0 { 1.0 - OUTSIDE } else { -OUTSIDE };
    (scale * (1.0 + eta * out)).clamp(1e-6, 10.0)
}

fn median3(a: f64, [b, c]: [f64; 2]) -> f64 {
    a.min(b).max(a.max(b).min(c))
}
