//! Conformal calibration: how far the model's own past forecasts were off, in units of the
//! standard deviation it claimed for them.

use super::fit::DAY;
use super::project::{Model, Run};

/// Horizons that are checked, hours: whole days, so that the daily shape cancels.
const HORIZONS: [usize; 3] = [24, 72, 168];
/// Past origins that are refitted at most.
const ORIGINS: usize = 8;
/// History an origin needs, and how long the present rate must have held before it, hours.
const LEAST: usize = 72;
const SETTLED: usize = 48;
/// Independent errors (days) that weigh as much as the model's own claim.
const TRUST: f64 = 10.0;
/// Bounds of the scale: some dozens of errors say no more. A weekly cycle that was fitted to the
/// same hours flatters the past, so that without load the scale only widens.
const NARROWEST: f64 = 0.7;
const WIDEST: f64 = 3.0;
/// Checked probability and the normal quantile that was claimed for it.
const LEVEL: f64 = 0.9;
const CLAIMED: f64 = 1.645;

/// Factor for the model's standard deviations: the conformal 90 % quantile of its standardised
/// past errors over the normal one, drawn towards one while errors are few.
pub(super) fn scale(run: &Run, model: &Model) -> f64 {
    let n = run.y.len();
    let start = LEAST.max(model.fit.since + SETTLED);
    if n < start + DAY {
        return 1.0;
    }
    let step = ((n - start) / ORIGINS).max(DAY);
    let mut errors: Vec<f64> = Vec::new();
    for at in (start..=n - DAY).step_by(step) {
        let Some(past) = model.refit(&run.prefix(at)) else { continue };
        for h in HORIZONS {
            let Some(&came) = run.y.get(at - 1 + h) else { continue };
            let expected = past.value(h as i64);
            let grown = expected - past.value(0);
            let sd = (past.growth_sd(h as f64) * grown).hypot(past.fit.sigma);
            if sd > 0.0 {
                errors.push((came - expected).abs() / sd);
            }
        }
    }
    errors.sort_by(f64::total_cmp);
    let rank = ((errors.len() + 1) as f64 * LEVEL).ceil() as usize;
    let Some(&q) = errors.get(rank.min(errors.len()).saturating_sub(1)) else { return 1.0 };
    let free = (n - start) as f64 / DAY as f64;
    let own = free / (free + TRUST);
    let narrowest = if model.load_driven { NARROWEST } else { 1.0 };
    (own * (q / CLAIMED).max(1e-3).ln()).exp().clamp(narrowest, WIDEST)
}
