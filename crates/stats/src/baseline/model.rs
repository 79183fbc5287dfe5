//! What the value should be now: slow level + curve over the load + daily and weekly profile. Each
//! part is used only while it predicts better than its absence (judged before it learns).
use super::season::Season;
use serde::{Deserialize, Serialize};

/// Width of a load bin in ln units: 8 %.
const LOAD_BIN: f64 = 0.08;
/// Bins of the load curve: a range of factor 2800 around the first load.
const LOAD_BINS: usize = 100;
/// Samples after which a load bin is trusted.
const TRUSTED: f64 = 15.0;
/// Memory of a load bin, samples.
const CURVE_MEMORY: f64 = 3000.0;
/// Memory of the level, s: follows growth and holidays, hardly a fault of an hour.
const LEVEL_S: f64 = 43_200.0;
/// Memory of the comparison between models, s.
const SKILL_S: f64 = 172_800.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bin {
    centre: f32,
    info: f32,
}

/// Prediction in ln units; `trusted` is false where the load has hardly been seen before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prediction {
    pub(crate) mid: f64,
    pub(crate) trusted: bool,
    /// Observations behind the curve at this load.
    pub(crate) info: f64,
    curve: f64,
    season: Option<f64>,
}

/// What was seen: a ln value (`n` = 0) or `y` errors in `n` requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) y: f64,
    pub(crate) n: f64,
}

/// 4 KB with all parts in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    level: f64,
    level_info: f64,
    offset: f64,
    offset_info: f64,
    plain_error: f64,
    season_error: f64,
    seasonal: bool,
    load_ref: f64,
    curve: Vec<Bin>,
    pub(crate) season: Season,
    with_curve: bool,
    step_s: f64,
    keep_level: f64,
    keep_skill: f64,
}

impl Model {
    /// `with_curve`: learn a curve over the load; `counts`: see [`Seen`].
    pub(crate) fn new(with_curve: bool, counts: bool) -> Self {
        Self {
            level: 0.0,
            level_info: 0.0,
            offset: 0.0,
            offset_info: 0.0,
            plain_error: 0.0,
            season_error: 0.0,
            seasonal: false,
            load_ref: 0.0,
            curve: Vec::new(),
            season: Season::new(counts),
            with_curve,
            step_s: 0.0,
            keep_level: 1.0,
            keep_skill: 1.0,
        }
    }

    /// Has a level.
    pub(crate) fn started(&self) -> bool {
        self.level_info > 0.0
    }

    /// Takes the first observation as the level.
    pub(crate) fn start(&mut self, o: Seen) {
        self.level = if o.n > 0.0 { ((o.y + 0.5) / (o.n + 1.0)).ln() } else { o.y };
        self.level_info = if o.n > 0.0 { o.y + 0.5 } else { 1.0 };
    }

    /// Expected ln value without moving the clock; `None` before the start.
    pub(crate) fn peek(&self, time_ms: i64, load: f64) -> Option<f64> {
        let known = self.uses_curve() && load > 0.0 && load.is_finite();
        let curve = if known { self.curve_at(load).0 } else { 0.0 };
        let base = match (self.seasonal, self.season.expected(time_ms)) {
            (true, Some(s)) => s + self.offset,
            _ => self.level,
        };
        self.started().then_some(curve + base)
    }

    fn place(&self, load: f64) -> f64 {
        let x = (load.ln() - self.load_ref) / LOAD_BIN + LOAD_BINS as f64 / 2.0;
        x.clamp(0.0, LOAD_BINS as f64 - 1.001)
    }

    fn curve_at(&self, load: f64) -> (f64, f64) {
        let x = self.place(load);
        let i = x as usize;
        let f = x - i as f64;
        let (a, b) = match (self.curve.get(i), self.curve.get(i + 1)) {
            (Some(&a), Some(&b)) => (a, b),
            _ => return (0.0, 0.0),
        };
        let (wa, wb) = ((1.0 - f) * f64::from(a.info.min(500.0)), f * f64::from(b.info.min(500.0)));
        if wa + wb <= 0.0 {
            return (0.0, 0.0);
        }
        let v = (wa * f64::from(a.centre) + wb * f64::from(b.centre)) / (wa + wb);
        (v, wa + wb)
    }

    /// The load explains the value.
    pub(crate) fn uses_curve(&self) -> bool {
        self.with_curve && !self.curve.is_empty()
    }

    /// Expected ln value at `time_ms` given `load` (NaN: unknown).
    pub(crate) fn predict(&mut self, time_ms: i64, load: f64) -> Prediction {
        let weekly = self.season.weekly;
        self.season.advance(time_ms);
        if self.season.weekly && !weekly {
            // last week's value at this time takes over from the mean level
            self.offset = 0.0;
            self.offset_info = 0.0;
        }
        let known = load > 0.0 && load.is_finite();
        if self.with_curve && known && self.curve.is_empty() {
            self.load_ref = load.ln();
            self.curve = vec![Bin::default(); LOAD_BINS];
        }
        let (curve, info) = match (self.uses_curve(), known) {
            (true, true) => self.curve_at(load),
            (true, false) => (0.0, 0.0),
            _ => (0.0, f64::INFINITY),
        };
        let season = self.season.expected(time_ms);
        let mid = match (self.seasonal, season) {
            (true, Some(s)) => curve + s + self.offset,
            _ => curve + self.level,
        };
        Prediction { mid, trusted: info >= TRUSTED, info, curve, season }
    }

    /// Learns from the relative residual `e` (already limited) of a prediction. `y` is the ln
    /// value, `w` its information, `step_s` the time it stands for.
    pub(crate) fn learn(
        &mut self,
        p: &Prediction,
        o: Seen,
        e: f64,
        w: f64,
        load: f64,
        step_s: f64,
    ) {
        if step_s != self.step_s {
            self.step_s = step_s;
            self.keep_level = (-step_s / LEVEL_S).exp();
            self.keep_skill = (-step_s / SKILL_S).exp();
        }
        let keep = self.keep_level;
        self.level_info = self.level_info * keep + w;
        let base = p.mid - p.curve;
        let plain = e + base - self.level;
        self.level += plain * w / self.level_info;
        if let Some(s) = p.season {
            self.offset_info = self.offset_info * keep + w;
            let season = e + base - s - self.offset;
            self.offset += season * w / self.offset_info;
            let r = self.keep_skill;
            self.plain_error = self.plain_error * r + plain.abs() * w;
            self.season_error = self.season_error * r + season.abs() * w;
            let margin = if self.seasonal { 1.0 } else { 0.95 };
            self.seasonal = self.season_error < margin * self.plain_error;
        }
        if p.trusted || !self.uses_curve() {
            if o.n > 0.0 {
                self.season.add(o.y, o.n);
            } else {
                self.season.add((o.y - p.curve).clamp(base - 2.0, base + 2.0), 1.0);
            }
        }
        if self.uses_curve() && load > 0.0 && load.is_finite() {
            let x = self.place(load);
            let i = x as usize;
            let f = x - i as f64;
            let full = e + p.curve;
            for (i, g) in [(i, 1.0 - f), (i + 1, f)] {
                if let Some(b) = self.curve.get_mut(i) {
                    let info = (f64::from(b.info) + g).min(CURVE_MEMORY);
                    let c = f64::from(b.centre);
                    b.centre = (c + (full - c) * g / info.max(1e-9)) as f32;
                    b.info = info as f32;
                }
            }
        }
    }

    /// Accepts a lasting change of `delta` in ln units as the new normal.
    pub(crate) fn accept(&mut self, delta: f64, since_ms: i64) {
        self.level += delta;
        if self.season.weekly {
            self.season.shift(delta, since_ms);
        } else {
            self.offset += delta;
        }
    }
}
