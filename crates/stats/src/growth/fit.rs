//! Line with at most a few bends through hourly values, against a driver (hours or served load).
//!
//! The value is split in a time-of-day shape (rotation saws) and a piecewise linear growth against
//! the cumulative driver. Bends are found one after another by the hinge that lowers the residual
//! sum of squares most; the test corrects for lag-1 autocorrelation.

use super::shift;
use crate::order::median;

/// Hours in a day.
pub(super) const DAY: usize = 24;
/// A bend must leave this many hours behind it: one daily cycle on the old side.
const MIN_BEFORE: usize = 24;
/// and this many on the new side: half a cycle, as the daily shape is already known.
const MIN_AFTER: usize = 6;
/// Twice the log likelihood gain a bend must bring (three parameters searched, p about 0.001).
const BEND_GAIN: f64 = 14.0;
/// A bend smaller than this share of the rate is not worth a new start.
const BEND_MIN: f64 = 0.12;
/// Growth noise is taken as independent after this many hours (half a cycle).
const CORRELATED_H: f64 = 12.0;
/// Price of a bend in -2 log likelihood when drivers are compared.
const BEND_PRICE: f64 = 10.0;
/// Autocorrelation is bounded so that a random walk still leaves some evidence.
const MAX_PHI: f64 = 0.97;

/// Growth fitted to a run of hours. Rates are value units per driver unit.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    /// Growth per driver unit since `since`.
    pub(super) rate: f64,
    /// Its standard error, corrected for autocorrelation.
    pub(super) se: f64,
    /// Growth per driver unit over the last day alone, same hours compared.
    pub(super) recent: f64,
    /// First hour (index into the run) of the present rate.
    pub(super) since: usize,
    /// Growth per driver unit before `since`, if a bend was found.
    pub(super) previous: Option<f64>,
    /// Season-free level at the last hour.
    pub(super) level: f64,
    /// What the last hours lie over that level.
    pub(super) residual: f64,
    /// Time-of-day shape, indexed by hour of day, mean about zero.
    pub(super) season: [f64; DAY],
    /// Standard deviation of the residuals.
    pub(super) sigma: f64,
    /// Residual sum of squares of the best single-bend line over the whole run.
    pub(super) rss: f64,
}

/// Best hinge of a run: position, slope before and after, residual sums with and without.
#[derive(Clone, Copy, Debug)]
struct Hinge {
    at: usize,
    before: f64,
    after: f64,
    var_after: f64,
    rss_line: f64,
    rss: f64,
    line: f64,
    var_line: f64,
}

/// Hour of day of index `i` in a run that starts at `first`.
pub(super) fn hour_of_day(first: i64, i: usize) -> usize {
    (first + i as i64).rem_euclid(DAY as i64) as usize
}

/// Running sum of the driver: `cum[i]` is what was served up to the middle of hour `i`.
pub(super) fn cumulate(driver: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut last = 0.0;
    driver
        .iter()
        .map(|&x| {
            sum += 0.5 * (last + x);
            last = x;
            sum
        })
        .collect()
}

/// Time-of-day shape: the median over the last seven days of value minus its centred daily mean,
/// less the driver's own daily shape at the local growth rate.
pub(super) fn season(first: i64, y: &[f64], cum: &[f64]) -> [f64; DAY] {
    let mut out = [0.0; DAY];
    let n = y.len();
    let half = DAY / 2;
    if n < 2 * DAY {
        return out;
    }
    let centred = |v: &[f64], i: usize| {
        let w = &v[i - half..=i + half];
        let inner: f64 = w[1..DAY].iter().sum();
        v[i] - (inner + 0.5 * (w[0] + w[DAY])) / DAY as f64
    };
    let mut per_hour: Vec<Vec<f64>> = vec![Vec::new(); DAY];
    let from = half.max((n - half).saturating_sub(7 * DAY));
    for i in from..n - half {
        let served = cum[i + half] - cum[i - half];
        let rate = if served > 0.0 { (y[i + half] - y[i - half]) / served } else { 0.0 };
        per_hour[hour_of_day(first, i)].push(centred(y, i) - rate * centred(cum, i));
    }
    for (o, v) in out.iter_mut().zip(&mut per_hour) {
        *o = median(v).unwrap_or(0.0);
    }
    let mean = out.iter().sum::<f64>() / DAY as f64;
    out.iter_mut().for_each(|o| *o -= mean);
    out
}

/// Growth per driver unit over the last day: mean of the same-hour differences of a quarter day.
fn last_day(y: &[f64], cum: &[f64]) -> f64 {
    let from = y.len().saturating_sub(DAY / 4).max(DAY);
    let over = |v: &[f64]| (from..v.len()).map(|i| v[i] - v[i - DAY]).sum::<f64>();
    let served = over(cum);
    if served > 0.0 { over(y) / served } else { 0.0 }
}

/// Points of a run: hour index, cumulative driver, season-free value.
pub(super) type Point = (usize, f64, f64);

fn mean_of(points: &[Point], f: impl Fn(&Point) -> f64) -> f64 {
    points.iter().map(f).sum::<f64>() / points.len().max(1) as f64
}

/// The hinge that fits `points` best (Gaussian least squares, O(n) by suffix sums).
fn best_hinge(points: &[Point]) -> Option<Hinge> {
    let n = points.len();
    if n < 6 {
        return None;
    }
    let (ms, mu) = (mean_of(points, |p| p.1), mean_of(points, |p| p.2));
    let (mut sxx, mut sxu, mut suu) = (0.0, 0.0, 0.0);
    for p in points {
        let (s, u) = (p.1 - ms, p.2 - mu);
        sxx += s * s;
        sxu += s * u;
        suu += u * u;
    }
    if sxx <= 0.0 {
        return None;
    }
    let line = sxu / sxx;
    let rss_line = (suu - line * sxu).max(0.0);
    let mut best = Hinge {
        at: 0,
        before: line,
        after: line,
        var_after: 1.0 / sxx,
        rss_line,
        rss: rss_line,
        line,
        var_line: 1.0 / sxx,
    };
    let (mut c, mut a, mut b, mut u1, mut v) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (k, p) in points.iter().enumerate().rev() {
        let (s, u) = (p.1 - ms, p.2 - mu);
        c += 1.0;
        a += s;
        b += s * s;
        u1 += u;
        v += s * u;
        if n - k < MIN_AFTER || k < MIN_BEFORE {
            continue;
        }
        let (sh, ssh) = (a - s * c, b - s * a);
        let shh = b - 2.0 * s * a + s * s * c - sh * sh / n as f64 - ssh * ssh / sxx;
        let shu = v - s * u1 - ssh * line;
        if shh <= 1e-12 * sxx {
            continue;
        }
        let rss = (rss_line - shu * shu / shh).max(0.0);
        if rss < best.rss {
            let (bend, share) = (shu / shh, ssh / sxx);
            best.at = k;
            best.rss = rss;
            best.before = line - bend * share;
            best.after = line + bend * (1.0 - share);
            best.var_after = 1.0 / sxx + (1.0 - share) * (1.0 - share) / shh;
        }
    }
    Some(best)
}

/// Lag-1 autocorrelation and standard deviation of the residuals of `hinge` on `points`, and the
/// fitted level and residual of the last point.
fn residuals(points: &[Point], h: &Hinge, bent: bool) -> (f64, f64, f64, f64) {
    let (before, after) = if bent { (h.before, h.after) } else { (h.line, h.line) };
    let knot = points.get(h.at).map_or(0.0, |p| p.1);
    let shape = |p: &Point| {
        let d = p.1 - knot;
        d * if d > 0.0 { after } else { before }
    };
    let offset = mean_of(points, |p| p.2 - shape(p));
    let (mut sum, mut cross, mut last, mut recent) = (0.0, 0.0, 0.0, 0.0);
    for p in points {
        let e = p.2 - shape(p) - offset;
        sum += e * e;
        cross += e * last;
        last = e;
        recent += 0.5 * (e - recent);
    }
    let n = points.len() as f64;
    let phi = if sum > 0.0 { (cross / sum).clamp(0.0, MAX_PHI) } else { 0.0 };
    let level = points.last().map_or(0.0, |p| shape(p) + offset);
    (phi, (sum / (n - 3.0).max(1.0)).sqrt(), level, recent)
}

/// Fits the growth of `y` (finite, gaps filled; `known` marks measured hours) against `driver`.
pub(super) fn fit(first: i64, y: &[f64], known: &[bool], driver: &[f64]) -> Option<Fit> {
    let cum = cumulate(driver);
    let season = season(first, y, &cum);
    let recent = last_day(y, &cum);
    let mut points: Vec<Point> = (0..y.len())
        .filter(|&i| known[i])
        .map(|i| (i, cum[i], y[i] - season[hour_of_day(first, i)]))
        .collect();
    shift::remove(&mut points);
    let mut rest: &[Point] = &points;
    let mut hinge = best_hinge(rest)?;
    let rss = hinge.rss;
    let (mut previous, mut since) = (None, points.first()?.0);
    let mut out = None;
    for _ in 0..4 {
        let (phi, _, _, _) = residuals(rest, &hinge, true);
        let n_eff = rest.len() as f64 * (1.0 - phi) / (1.0 + phi);
        let gain = n_eff * (hinge.rss_line / hinge.rss.max(1e-9 * hinge.rss_line)).ln();
        let step = (hinge.after - hinge.before).abs();
        let bent = hinge.at > 0
            && gain > BEND_GAIN
            && step > BEND_MIN * hinge.before.abs().max(hinge.after.abs());
        if bent || out.is_none() {
            let (phi, sigma, level, residual) = residuals(rest, &hinge, bent);
            let (rate, var) =
                if bent { (hinge.after, hinge.var_after) } else { (hinge.line, hinge.var_line) };
            let se = sigma * (var * (1.0 + phi) / (1.0 - phi)).sqrt();
            if bent {
                previous = Some(hinge.before);
                since = rest.get(hinge.at).map_or(since, |p| p.0);
            }
            out = Some(Fit {
                rate,
                se,
                recent,
                since,
                previous,
                level,
                residual,
                season,
                sigma,
                rss,
            });
        }
        if !bent {
            break;
        }
        rest = rest.get(hinge.at..)?;
        match best_hinge(rest) {
            Some(next) => hinge = next,
            None => break,
        }
    }
    out
}

/// What one driver explains: a score (lower is better) and the growth now per driver unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Explained {
    pub(super) score: f64,
    pub(super) rate: f64,
}

/// Season-free points of a run against time, jumps taken out, for `explain`.
pub(super) fn season_free(first: i64, y: &[f64], known: &[bool]) -> Vec<Point> {
    let hours: Vec<f64> = (0..y.len()).map(|i| i as f64).collect();
    let season = season(first, y, &hours);
    let mut points: Vec<Point> = (0..y.len())
        .filter(|&i| known[i])
        .map(|i| (i, i as f64, y[i] - season[hour_of_day(first, i)]))
        .collect();
    shift::remove(&mut points);
    points
}

/// Scores a driver on season-free points: -2 log likelihood of a line, or of a bent line at its
/// price, with one independent value per `CORRELATED_H` hours.
pub(super) fn explain(free: &[Point], driver: &[f64]) -> Option<Explained> {
    let cum = cumulate(driver);
    let points: Vec<Point> = free.iter().map(|&(i, _, u)| (i, cum[i], u)).collect();
    let h = best_hinge(&points)?;
    let n = points.len() as f64 / CORRELATED_H;
    let line = n * h.rss_line.max(1e-300).ln();
    let bent = n * h.rss.max(1e-300).ln() + BEND_PRICE;
    let up = h.after > 0.0;
    Some(if bent < line && up {
        Explained { score: bent, rate: h.after }
    } else {
        Explained { score: line, rate: h.line }
    })
}
