//! Relative least squares of cpu on load: `cpu / y_ref = a + b u + c (u - 1)^2`, `u = load /
//! x_ref`.
//!
//! Bayesian linear regression with a weak Gaussian prior (Bishop 2006, chapter 3.3). The prior
//! keeps a fit defined when load hardly moved, and its curvature term makes the variance grow
//! outside of the learned range, so that extrapolation widens the interval. Cost: O(1) a block, 3
//! x 3 solve a fit.

/// Prior mean of (idle share, share that follows load, curvature), relative to the mean cpu.
const PRIOR_MEAN: [f64; 3] = [0.2, 0.8, 0.0];
/// Prior standard deviations. 0.5 lets a and b go anywhere between "all idle" and "all load";
/// 0.1 says that at twice the usual load the cost may bend by 10 % of the mean.
const PRIOR_SD: [f64; 3] = [0.5, 0.5, 0.1];

/// Weighted normal equations of blocks `(u, v)`; noise is taken as proportional to the cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    a: [f64; 6],
    g: [f64; 3],
    /// Blocks added.
    pub(super) n: f64,
}

/// A solved fit: coefficients and their covariance (upper triangle 00 01 02 11 12 22).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fit {
    pub(super) theta: [f64; 3],
    cov: [f64; 6],
}

/// Features at relative load `u`.
fn features(u: f64) -> [f64; 3] {
    [1.0, u, (u - 1.0) * (u - 1.0)]
}

impl Moments {
    /// Adds one block: relative load `u` and relative cpu `v`, both about 1.
    pub(super) fn add(&mut self, u: f64, v: f64) {
        let weight = 1.0 / (PRIOR_MEAN[0] + PRIOR_MEAN[1] * u);
        let [p, q, r] = features(u).map(|f| f * weight);
        let y = v * weight;
        for (sum, term) in self.a.iter_mut().zip([p * p, p * q, p * r, q * q, q * r, r * r]) {
            *sum += term;
        }
        for (sum, term) in self.g.iter_mut().zip([p * y, q * y, r * y]) {
            *sum += term;
        }
        self.n += 1.0;
    }

    /// Posterior for noise variance `var` (relative, long-run, of one block).
    pub(super) fn solve(&self, var: f64) -> Fit {
        let precision = PRIOR_SD.map(|sd| 1.0 / (sd * sd));
        let mut h = self.a.map(|x| x / var);
        let mut rhs = self.g.map(|x| x / var);
        for ((sum, p), m) in rhs.iter_mut().zip(precision).zip(PRIOR_MEAN) {
            *sum += p * m;
        }
        h[0] += precision[0];
        h[3] += precision[1];
        h[5] += precision[2];
        let cov = invert(h);
        Fit { theta: times(cov, rhs), cov }
    }
}

impl Fit {
    /// Expected relative cpu at relative load `u`; at least 5 % of the mean, so that ratios stay
    /// finite.
    pub(super) fn at(&self, u: f64) -> f64 {
        dot(self.theta, features(u)).max(0.05)
    }

    /// Inverse of the expected cpu at `u`, and the sensitivity of a ratio to the coefficients.
    pub(super) fn inverse(&self, u: f64) -> (f64, [f64; 3]) {
        let inverse = 1.0 / self.at(u);
        (inverse, features(u).map(|x| x * inverse))
    }

    /// Variance of a mean ratio whose mean gradient is `c`: what the baseline itself does not
    /// know.
    pub(super) fn variance(&self, c: [f64; 3]) -> f64 {
        dot(times(self.cov, c), c).max(0.0)
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Symmetric 3 x 3 times vector.
fn times(m: [f64; 6], x: [f64; 3]) -> [f64; 3] {
    [
        m[0] * x[0] + m[1] * x[1] + m[2] * x[2],
        m[1] * x[0] + m[3] * x[1] + m[4] * x[2],
        m[2] * x[0] + m[4] * x[1] + m[5] * x[2],
    ]
}

/// Inverse of a symmetric positive definite 3 x 3 matrix by its adjugate.
fn invert(m: [f64; 6]) -> [f64; 6] {
    let [a, b, c, d, e, f] = m;
    let (m0, m1, m2) = (d * f - e * e, c * e - b * f, b * e - c * d);
    let det = (a * m0 + b * m1 + c * m2).max(f64::MIN_POSITIVE);
    [m0, m1, m2, a * f - c * c, b * c - a * e, a * d - b * b].map(|x| x / det)
}
