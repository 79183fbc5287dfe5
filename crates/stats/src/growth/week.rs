//! What the coming days bring relative to the past ones, when little more than a week is known.
//!
//! Bayesian mixture: no weekly cycle, or five days and two lower ones in one of seven phases.
//! The prior is the working week; the likelihood has its scale integrated out (Student t), so
//! that noisy days leave the prior as it is. With several weeks each weekday's own mean takes over.

/// Size of the two low days in the prior, as share of the five others.
const LOW: [f64; 6] = [0.95, 0.85, 0.75, 0.65, 0.55, 0.45];
/// Prior probability that there is no weekly cycle.
const FLAT: f64 = 0.4;
/// Prior degrees of freedom of the day-to-day noise.
const PRIOR_DF: f64 = 4.0;
/// Prior day-to-day noise of growth that is not explained by load, share of the mean.
pub(super) const GROWTH_NOISE: f64 = 0.10;
/// Own days of a weekday that weigh as much as the mixture.
const OWN_DAYS: f64 = 2.0;

/// Expected amount per day of the week.
#[derive(Clone, Copy, Debug)]
pub(super) struct Week {
    /// Expected amount on day `d` since the epoch: `by_day[d mod 7]`.
    pub(super) by_day: [f64; 7],
    /// Covariance of `by_day` from not knowing the cycle.
    pub(super) cov: [[f64; 7]; 7],
    /// Day-to-day standard deviation, share of the mean.
    pub(super) day_sd: f64,
}

fn low_day(day: i64, phase: i64) -> bool {
    (day - phase).rem_euclid(7) < 2
}

/// The weeks of the prior with their probabilities; low days differ, others are one.
pub(super) fn hypotheses() -> impl Iterator<Item = (Week, f64)> {
    let each = (1.0 - FLAT) / (7 * LOW.len()) as f64;
    let low = LOW.iter().flat_map(move |&l| (0..7).map(move |phase| (phase, l, each)));
    std::iter::once((0, 1.0, FLAT)).chain(low).map(|(phase, low, prior)| {
        let mut by_day = [1.0; 7];
        for (d, v) in by_day.iter_mut().enumerate() {
            if low_day(d as i64, phase) {
                *v = low;
            }
        }
        (Week { by_day, cov: [[0.0; 7]; 7], day_sd: GROWTH_NOISE }, prior)
    })
}

/// Learns the week from `(day since epoch, amount)`; `noise` is the prior day-to-day noise as a
/// share of the amount. None without any day or with a mean that is not positive.
pub(super) fn learn(days: &[(i64, f64)], noise: f64) -> Option<Week> {
    let n = days.len() as f64;
    let mean = days.iter().map(|d| d.1).sum::<f64>() / n;
    if days.is_empty() || !mean.is_finite() || mean <= 0.0 {
        return None;
    }
    let mut hypotheses = Vec::with_capacity(1 + 7 * LOW.len());
    let each = (1.0 - FLAT) / (7 * LOW.len()) as f64;
    hypotheses.push((0, 1.0, FLAT));
    for phase in 0..7 {
        hypotheses.extend(LOW.iter().map(|&low| (phase, low, each)));
    }
    let prior_ss = PRIOR_DF * noise * noise;
    let mut fitted: Vec<(f64, f64, i64, f64, f64)> = Vec::with_capacity(hypotheses.len());
    for (phase, low, prior) in hypotheses {
        let f = |d: i64| if low_day(d, phase) { low } else { 1.0 };
        let ff: f64 = days.iter().map(|d| f(d.0) * f(d.0)).sum();
        let base = days.iter().map(|d| d.1 * f(d.0)).sum::<f64>() / ff;
        let ss: f64 = days.iter().map(|d| (d.1 - base * f(d.0)).powi(2)).sum::<f64>();
        let rel = ss / (mean * mean);
        let log = f64::ln(prior) - 0.5 * (n - 1.0 + PRIOR_DF) * (prior_ss + rel).ln();
        fitted.push((log, base, phase, low, rel));
    }
    Some(mix(&fitted, days, prior_ss))
}

impl Week {
    /// Every day alike, known for sure.
    pub(super) const EVEN: Week =
        Week { by_day: [1.0; 7], cov: [[0.0; 7]; 7], day_sd: GROWTH_NOISE };

    /// Mean over the weeks of a mixture `(weight, by_day)`, and their covariance.
    pub(super) fn mixture(parts: &[(f64, [f64; 7])]) -> ([f64; 7], [[f64; 7]; 7]) {
        let total: f64 = parts.iter().map(|p| p.0).sum();
        let (mut mean, mut cov) = ([0.0; 7], [[0.0; 7]; 7]);
        for (w, v) in parts {
            mean.iter_mut().zip(v).for_each(|(m, x)| *m += w / total * x);
        }
        for (w, v) in parts {
            for (row, (x, m)) in cov.iter_mut().zip(v.iter().zip(&mean)) {
                let d = w / total * (x - m);
                let other = v.iter().zip(&mean).map(|(y, k)| y - k);
                row.iter_mut().zip(other).for_each(|(c, e)| *c += d * e);
            }
        }
        (mean, cov)
    }

    /// Share by which the mean amount over `hours` from hour `from` (since the epoch) on is
    /// uncertain because the cycle is: standard deviation over mean.
    pub(super) fn uncertainty(&self, from: i64, hours: f64) -> f64 {
        let mut days = [0.0; 7];
        let mut left = hours.clamp(1.0, 8.0 * 7.0 * 24.0);
        let (mut day, mut room) = (from.div_euclid(24), 24.0 - from.rem_euclid(24) as f64);
        while left > 0.0 {
            let part = left.min(room);
            if let Some(d) = days.get_mut(day.rem_euclid(7) as usize) {
                *d += part;
            }
            (left, room, day) = (left - part, 24.0, day + 1);
        }
        let sum: f64 = days.iter().zip(&self.by_day).map(|(a, b)| a * b).sum();
        let cross = |row: &[f64; 7]| row.iter().zip(&days).map(|(c, d)| c * d).sum::<f64>();
        let var: f64 = self.cov.iter().zip(&days).map(|(row, d)| d * cross(row)).sum();
        var.max(0.0).sqrt() / sum.abs().max(1e-300)
    }
}

fn mix(fitted: &[(f64, f64, i64, f64, f64)], days: &[(i64, f64)], prior: f64) -> Week {
    let top = fitted.iter().map(|f| f.0).fold(f64::NEG_INFINITY, f64::max);
    let (mut parts, mut ss, mut total) = (Vec::with_capacity(fitted.len()), 0.0, 0.0);
    for &(log, base, phase, low, rel) in fitted {
        let p = (log - top).exp();
        let mut by_day = [base; 7];
        for (d, v) in by_day.iter_mut().enumerate() {
            *v *= if low_day(d as i64, phase) { low } else { 1.0 };
        }
        parts.push((p, by_day));
        ss += p * rel;
        total += p;
    }
    let (mut by_day, cov) = Week::mixture(&parts);
    let mut own = [(0.0, 0.0); 7];
    for &(d, v) in days {
        let k = d.rem_euclid(7) as usize;
        if let (Some(o), Some(b)) = (own.get_mut(k), by_day.get(k)) {
            o.0 += 1.0;
            o.1 += v - b;
        }
    }
    for (b, o) in by_day.iter_mut().zip(own) {
        *b = (*b + o.1 / (o.0 + OWN_DAYS)).max(0.0);
    }
    let df = days.len() as f64 - 1.0 + PRIOR_DF;
    Week { by_day, cov, day_sd: ((prior + ss / total) / df).sqrt() }
}
