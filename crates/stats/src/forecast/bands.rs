//! Widths of the bands from the ensemble's own past errors, per horizon.

/// Upper ends of the horizon buckets, hours: errors within one are pooled.
pub(super) const BUCKETS: [usize; 10] = [1, 3, 6, 12, 24, 48, 96, 168, 336, 720];
/// Central probabilities of the bands.
pub(super) const LEVELS: [f64; 3] = [0.5, 0.8, 0.95];
/// Standard normal quantiles of the bands.
pub(super) const Z: [f64; 3] = [0.674_5, 1.281_6, 1.960_0];
/// Errors closer than this are not independent, hours.
const CORRELATED_H: f64 = 6.0;
/// Independent errors at which the empirical quantile weighs as much as the Gaussian one.
const TRUST: f64 = 10.0;

/// Band widths grow at least with this power of the horizon where no error is known: between a
/// stationary series (0) and a random walk (0.5); a trend may go up to 1.
const LEAST_POWER: f64 = 0.2;

/// The present forecast knows more of the cycles than the past ones did.
const SHRINK: f64 = 0.89;

/// Bucket of a horizon (hours from 1).
pub(super) fn bucket(step: usize) -> usize {
    BUCKETS.iter().position(|&b| step <= b).unwrap_or(BUCKETS.len() - 1)
}

/// Past errors of one bucket: size and weight.
pub(super) type Errors = Vec<(f64, f64)>;

/// Number of independent errors `step` hours ahead among origins that span `span_h` hours.
pub(super) fn independent(span_h: f64, step: usize) -> f64 {
    (span_h / (step as f64).max(CORRELATED_H)).max(1.0)
}

/// Half widths of the three bands from `errors` that span `span_h` hours of origins.
pub(super) fn half_widths(
    errors: &mut Errors,
    span_h: f64,
    step: usize,
    days: f64,
) -> Option<[f64; 3]> {
    if errors.is_empty() {
        return None;
    }
    let total: f64 = errors.iter().map(|e| e.1).sum();
    let rms = (errors.iter().map(|e| e.1 * e.0 * e.0).sum::<f64>() / total).sqrt();
    errors.sort_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
    let free = independent(span_h, step);
    let own = free / (free + TRUST);
    let mut out = [0.0; 3];
    for ((o, level), z) in out.iter_mut().zip(LEVELS).zip(Z) {
        let mut sum = 0.0;
        let found = errors.iter().find(|e| {
            sum += e.1;
            sum >= level * total
        });
        let empirical = found.or(errors.last()).map_or(rms, |e| e.0.abs());
        // Student's t over normal quantile (Cornish-Fisher): few errors or days, wider bands.
        let t = SHRINK * (1.0 + (z * z + 1.0) / (4.0 * free.min(days - 1.5).max(1.5)));
        *o = (own * empirical + (1.0 - own) * z * rms) * t;
    }
    Some(out)
}

/// Widths for the bucket after `widths`, grown as they grew from a day's horizon on.
pub(super) fn extrapolate(widths: &[[f64; 3]]) -> [f64; 3] {
    let b = widths.len();
    let Some(last) = widths.last() else { return [0.0; 3] };
    let step = |b: usize| BUCKETS.get(b).map_or(1.0, |&h| h as f64);
    let base = b.saturating_sub(3);
    let mut out = *last;
    for (i, o) in out.iter_mut().enumerate() {
        let before = widths.get(base).map_or(*o, |w| w[i]);
        let grown = (*o / before.max(1e-300)).max(1.0).ln();
        let power = grown / (step(b - 1) / step(base)).ln().max(0.1);
        *o *= (step(b) / step(b - 1)).powf(power.clamp(LEAST_POWER, 1.0));
    }
    out
}
