//! Two-sample scan over the ring of blocks: for each recent window, fit what came before, and ask
//! whether the cost in the window is another one.
//!
//! A window-limited generalised likelihood ratio test with an estimated baseline (Siegmund and
//! Venkatraman 1995, Annals of Statistics 23; Lai 1995, JRSS B 57). A pure function of the ring:
//! the same blocks give the same numbers. Cost: a few passes over the ring, one small solve per
//! window. Fails where noise is not stationary: a baseline of one calm day underrates the next.

use super::fit::{Fit, Moments};

/// Blocks a day.
pub(super) const DAY: usize = 48;
const WEEK: usize = 7 * DAY;
/// Test windows in blocks, 3 h to 7 d. Shorter would take one odd job of two hours for a drift.
const WINDOWS: [usize; 13] = [6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 336];
/// Fewest valid blocks in a window, so that one or two odd ones cannot decide.
const WINDOW_VALID: f64 = 4.0;
/// Fewest valid blocks of a baseline (hourly samples fill every second block only).
const BASE_VALID: f64 = 20.0;
/// Residuals are clipped at this many standard deviations: one incident is not a level.
const CLIP: f64 = 3.0;
/// Least relative noise of a block: below it rounding and scrape jitter rule.
const NOISE_FLOOR: f64 = 0.002;
/// Least blocks that say whether the change is still there.
const RECENT: usize = 8;
/// How much the daily profile may differ from day to day, squared share.
const DAYS_DIFFER: f64 = 0.2 * 0.2;

/// One valid block, relative to the means of the ring.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Load over the ring's mean load (1 where no load is known).
    pub(super) u: f64,
    /// Cpu over the ring's mean cpu.
    pub(super) v: f64,
    /// Block of the day, 0 to 47.
    pub(super) slot: usize,
}

/// The best window and its numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Standardised excess of the window.
    pub(super) z: f64,
    /// Mean excess over the baseline, clipped, relative (0.05 = 5 %).
    pub(super) excess: f64,
    /// Its standard error, with autocorrelation and the baseline's own uncertainty.
    pub(super) error: f64,
    /// Index of the first block after the change.
    pub(super) change: usize,
    /// Median excess of the last quarter of the window: has it gone away already?
    pub(super) recent: f64,
    /// Blocks in the window.
    pub(super) window: usize,
    /// Baseline fit.
    pub(super) fit: Fit,
    /// Least and greatest relative load of the baseline.
    pub(super) range: (f64, f64),
}

/// What is known about the noise of the residuals.
#[derive(Clone, Copy)]
struct Noise {
    /// Standard deviation of one block.
    sd: f64,
    /// Long-run variance: `var(mean of n) = long / n`.
    long: f64,
    /// Profile by block of the day.
    profile: [f64; DAY],
    /// Variance of the profile's part in a mean over less than a day.
    doubt: f64,
}

impl Noise {
    /// The usual excess at this time of the day.
    fn habit(&self, row: &Row) -> f64 {
        self.profile.get(row.slot).copied().unwrap_or(0.0)
    }
}

/// Scans `rows` (oldest first, None where nothing is known). `sign` is 1 for dearer, -1 for
/// cheaper; windows shorter than `least` blocks and baselines shorter than `base` blocks are left
/// out.
pub(super) fn scan(rows: &[Option<Row>], sign: f64, least: usize, base: usize) -> Option<Found> {
    let half = (rows.len() / 2).max(base).min(rows.len());
    let old = rows.get(..half)?;
    let mut moments = Moments::default();
    old.iter().flatten().for_each(|r| moments.add(r.u, r.v));
    if moments.n < BASE_VALID {
        return None;
    }
    let rough = moments.solve(0.03 * 0.03);
    let mut noise = noise_of(old, &rough, robust_sd(old, &rough), false);
    let clipped = winsorise(rows, &rough, CLIP * noise.sd);
    let prefix = boundaries(&clipped, base);
    // The first pass finds the window, the second measures the noise of that window's baseline.
    let first = best(rows, &prefix, &noise, sign, least)?;
    let before = rows.len() - first.window;
    noise =
        noise_of(rows.get(..before)?, &first.fit, robust_sd(rows.get(..before)?, &first.fit), true);
    let mut found = best(rows, &prefix, &noise, sign, least)?;
    found.change = change_point(rows, &found, &noise, base);
    finish(rows, &mut found, &noise);
    Some(found)
}

/// Blocks with their cpu pulled to within `clip` (relative) of the fit.
fn winsorise(rows: &[Option<Row>], fit: &Fit, clip: f64) -> Vec<Option<Row>> {
    rows.iter()
        .map(|row| {
            row.map(|r| {
                let f = fit.at(r.u);
                Row { v: f * (1.0 + (r.v / f - 1.0).clamp(-clip, clip)), ..r }
            })
        })
        .collect()
}

/// Moments of everything before each window, for windows that leave a long enough baseline.
fn boundaries(rows: &[Option<Row>], base: usize) -> Vec<(usize, Moments)> {
    let mut out = Vec::with_capacity(WINDOWS.len());
    let mut moments = Moments::default();
    let mut at = 0;
    for window in WINDOWS.iter().rev() {
        let Some(end) = rows.len().checked_sub(*window) else {
            continue;
        };
        rows.iter().take(end).skip(at).flatten().for_each(|r| moments.add(r.u, r.v));
        at = end;
        if end >= base && moments.n >= BASE_VALID {
            out.push((*window, moments));
        }
    }
    out
}

/// The window with the greatest standardised excess.
fn best(
    rows: &[Option<Row>],
    prefix: &[(usize, Moments)],
    noise: &Noise,
    sign: f64,
    least: usize,
) -> Option<Found> {
    let mut top: Option<Found> = None;
    for (window, moments) in prefix.iter().filter(|(w, _)| *w >= least) {
        let fit = moments.solve(noise.long);
        let from = rows.len() - window;
        let Some(mean) = window_mean(rows.get(from..), &fit, noise) else {
            continue;
        };
        let profile = if *window < DAY { noise.doubt } else { 0.0 };
        let variance = noise.long / mean.n + fit.variance(mean.gradient) + profile;
        let error = variance.sqrt();
        let mut z = sign * mean.excess / error;
        // The same hours of a day or a week before had it too: a habit, no drift.
        for (lag, longest) in [(DAY, DAY / 3), (WEEK, 2 * DAY)] {
            let Some(start) = from.checked_sub(lag).filter(|_| *window <= longest) else {
                continue;
            };
            if let Some(ago) = window_mean(rows.get(start..start + window), &fit, noise) {
                z = z.min(sign * (mean.excess - ago.excess) / error);
            }
        }
        if top.is_none_or(|t| z > t.z) {
            top = Some(Found {
                z,
                excess: mean.excess,
                error,
                change: from,
                recent: 0.0,
                window: *window,
                fit,
                range: (0.0, 0.0),
            });
        }
    }
    top
}

struct WindowMean {
    excess: f64,
    gradient: [f64; 3],
    n: f64,
}

/// Mean clipped excess of a window over `fit`, and the mean gradient; None if too few blocks are
/// valid.
fn window_mean(rows: Option<&[Option<Row>]>, fit: &Fit, noise: &Noise) -> Option<WindowMean> {
    let mut out = WindowMean { excess: 0.0, gradient: [0.0; 3], n: 0.0 };
    let clip = CLIP * noise.sd;
    for row in rows?.iter().flatten() {
        let (inverse, gradient) = fit.inverse(row.u);
        out.excess += (row.v * inverse - 1.0 - noise.habit(row)).clamp(-clip, clip);
        for (sum, g) in out.gradient.iter_mut().zip(gradient) {
            *sum += g;
        }
        out.n += 1.0;
    }
    if out.n < WINDOW_VALID {
        return None;
    }
    out.excess /= out.n;
    out.gradient = out.gradient.map(|g| g / out.n);
    Some(out)
}

fn residual(row: &Row, fit: &Fit, noise: &Noise) -> f64 {
    row.v / fit.at(row.u) - 1.0 - noise.habit(row)
}

/// Spread of the residuals by their median absolute deviation.
fn robust_sd(rows: &[Option<Row>], fit: &Fit) -> f64 {
    let mut r: Vec<f64> = rows.iter().flatten().map(|r| (r.v / fit.at(r.u) - 1.0).abs()).collect();
    let mid = r.len() / 2;
    if r.is_empty() {
        return NOISE_FLOOR;
    }
    let (_, median, _) = r.select_nth_unstable_by(mid, f64::total_cmp);
    (1.4826 * *median).max(NOISE_FLOOR)
}

/// Noise of a baseline: deviation, long-run variance, and the daily profile if `seasonal`.
fn noise_of(rows: &[Option<Row>], fit: &Fit, sd: f64, seasonal: bool) -> Noise {
    let mut noise = Noise { sd, long: sd * sd, profile: [0.0; DAY], doubt: 0.0 };
    if seasonal {
        set_profile(rows, fit, &mut noise);
    }
    let clip = CLIP * sd;
    let (mut n, mut square, mut lag, mut pairs) = (0.0, 0.0, 0.0, 0.0_f64);
    let mut last: Option<f64> = None;
    // Sums over a quarter of a day: catches correlation that is too slow for lag 1.
    let (mut batch, mut filled, mut batches, mut batch_square) = (0.0, 0.0, 0.0, 0.0);
    for (i, row) in rows.iter().enumerate() {
        let r = row.as_ref().map(|r| residual(r, fit, &noise).clamp(-clip, clip));
        if let Some(r) = r {
            n += 1.0;
            square += r * r;
            batch += r;
            filled += 1.0;
            if let Some(l) = last {
                lag += r * l;
                pairs += 1.0;
            }
        }
        last = r;
        if i % 12 == 11 {
            if filled >= 4.0 {
                batch_square += batch * batch / filled;
                batches += 1.0;
            }
            (batch, filled) = (0.0, 0.0);
        }
    }
    if n < 8.0 {
        return noise;
    }
    let var = square / n;
    let rho = if pairs > 8.0 { lag / pairs / var.max(1e-12) + 1.0 / pairs } else { 0.0 };
    let rho = rho.clamp(0.0, 0.9);
    let mut long = var * (1.0 + rho) / (1.0 - rho);
    if batches >= 6.0 {
        long = long.max(batch_square / batches);
    }
    // An estimate of a variance from n values has a relative error of sqrt(2 / n).
    let effective = n * (1.0 - rho) / (1.0 + rho);
    noise.sd = var.sqrt().max(NOISE_FLOOR);
    noise.long = (long * (1.0 + (2.0 / effective).sqrt())).max(NOISE_FLOOR * NOISE_FLOOR);
    noise
}

/// Daily profile: two harmonics for a mix that changes over the day, shrunk by empirical Bayes
/// (James and Stein 1961).
fn set_profile(rows: &[Option<Row>], fit: &Fit, noise: &mut Noise) {
    let mut sum = [0.0; DAY];
    let mut count = [0.0_f64; DAY];
    let clip = 2.0 * CLIP * noise.sd;
    let mut square = 0.0;
    for row in rows.iter().flatten() {
        let r = (row.v / fit.at(row.u) - 1.0).clamp(-clip, clip);
        if let (Some(s), Some(c)) = (sum.get_mut(row.slot), count.get_mut(row.slot)) {
            *s += r;
            *c += 1.0;
            square += r * r;
        }
    }
    let n: f64 = count.iter().sum();
    let bins = count.iter().filter(|c| **c > 0.0).count() as f64;
    if n < 1.8 * bins || bins < DAY as f64 / 3.0 {
        return; // less than two days, or nights without data
    }
    let between: f64 = sum.iter().zip(count).map(|(s, c)| s * s / c.max(1.0)).sum();
    let within = (square - between).max(0.0) / (n - bins).max(1.0);
    let (curve, power) = harmonics(&sum, n);
    // Four coefficients explain 4 within / n by chance; 3 times that under autocorrelation.
    let trust = (1.0 - 12.0 * within / n / power.max(1e-12)).max(0.0);
    // Four coefficients of variance 2 sd^2 / n, and days that differ by a fifth of the profile.
    noise.doubt = trust * trust * (4.0 * noise.sd * noise.sd / n + DAYS_DIFFER * power);
    for (p, smooth) in noise.profile.iter_mut().zip(curve) {
        *p = trust * smooth;
    }
}

/// First two harmonics of the day of per-block sums over `n` blocks, and the variance they
/// explain.
fn harmonics(sum: &[f64; DAY], n: f64) -> ([f64; DAY], f64) {
    let mut curve = [0.0; DAY];
    let mut power = 0.0;
    for k in 1..=2 {
        let wave = |i: usize| (k as f64 * i as f64 * std::f64::consts::TAU / DAY as f64).sin_cos();
        let (mut a, mut b) = (0.0, 0.0);
        for (i, s) in sum.iter().enumerate() {
            let (sin, cos) = wave(i);
            a += 2.0 * s * cos / n;
            b += 2.0 * s * sin / n;
        }
        power += 0.5 * (a * a + b * b);
        for (i, c) in curve.iter_mut().enumerate() {
            let (sin, cos) = wave(i);
            *c += a * cos + b * sin;
        }
    }
    (curve, power)
}

/// Maximum-likelihood start of a step of size `excess`: the last zero of the CUSUM with k = excess
/// / 2.
fn change_point(rows: &[Option<Row>], found: &Found, noise: &Noise, base: usize) -> usize {
    let reach = (3 * found.window).max(DAY);
    let first = rows.len().saturating_sub(reach).max(base);
    let clip = (CLIP * noise.sd).max(2.0 * found.excess.abs());
    let sign = found.excess.signum();
    let (mut sum, mut top, mut at) = (0.0, f64::NEG_INFINITY, rows.len() - found.window);
    for (i, row) in rows.iter().enumerate().skip(first).rev() {
        let Some(row) = row else { continue };
        let r = residual(row, &found.fit, noise).clamp(-clip, clip);
        sum += sign * r - 0.5 * found.excess.abs();
        if sum > top && i + 4 <= rows.len() {
            (top, at) = (sum, i);
        }
    }
    at
}

/// Replaces the clipped excess of the window by a robust one of its part after the change, and
/// notes the load range of the baseline.
fn finish(rows: &[Option<Row>], found: &mut Found, noise: &Noise) {
    let before = rows.len() - found.window;
    let from = found.change.max(before);
    let mut r: Vec<f64> =
        rows.iter().skip(from).flatten().map(|row| residual(row, &found.fit, noise)).collect();
    let (mid, n) = (r.len() / 2, r.len() as f64);
    if n >= WINDOW_VALID {
        let centre = *r.select_nth_unstable_by(mid, f64::total_cmp).1;
        let clip = CLIP * noise.sd * (1.0 + centre.max(0.0));
        found.excess = r.iter().map(|x| x.clamp(centre - clip, centre + clip)).sum::<f64>() / n;
        let valid = rows.iter().skip(before).flatten().count() as f64;
        let scale = (1.0 + found.excess.max(0.0)).powi(2);
        let more = noise.long * (scale / n - 1.0 / valid.max(1.0));
        found.error = (found.error * found.error + more.max(0.0)).sqrt();
    }
    let mut last: Vec<f64> = rows
        .iter()
        .skip(rows.len() - RECENT.max(found.window / 4).min(found.window))
        .flatten()
        .map(|row| residual(row, &found.fit, noise))
        .collect();
    let mid = last.len() / 2;
    found.recent = if last.is_empty() {
        found.excess
    } else {
        *last.select_nth_unstable_by(mid, f64::total_cmp).1
    };
    found.range = rows
        .iter()
        .take(before)
        .flatten()
        .fold((f64::MAX, 0.0), |(lo, hi), row| (lo.min(row.u), row.u.max(hi)));
}
