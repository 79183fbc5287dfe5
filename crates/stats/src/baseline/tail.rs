//! Threshold for a budget of false alarms from the tail of a score's own hourly maxima: peaks over
//! threshold with an exponential tail (the Gumbel domain, Pickands 1975,
//! doi:10.1214/aos/1176343003), predictive quantile, and a prior for the first days.
use crate::order::median;
use serde::{Deserialize, Serialize};

/// Share of hourly maxima that make the tail.
const SHARE: f64 = 0.10;
/// What correlated Gaussian noise gives for the start and the mean excess of the tail ...
const PRIOR_START: f64 = 2.6;
const PRIOR_EXCESS: f64 = 0.45;
/// ... and the hours of data that this is worth: it bridges the first days.
const PRIOR_HOURS: f64 = 72.0;

/// Ring of hourly maxima with the tail fitted to it. 4 bytes an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tail {
    ring: Vec<f32>,
    hours: u32,
    next: u32,
    hour: i64,
    top: Option<f64>,
    budget_per_hour: f64,
    floor: f64,
    start: f64,
    excess: f64,
    weight: f64,
    threshold: f64,
}

impl Tail {
    /// `floor`: lowest threshold, whatever the tail; `hours`: maxima kept.
    pub(crate) fn new(budget_per_day: f64, floor: f64, hours: u32) -> Self {
        let budget = if budget_per_day > 0.0 { budget_per_day / 24.0 } else { 1e-6 };
        let mut t = Self {
            ring: Vec::with_capacity(hours as usize),
            hours: hours.max(1),
            next: 0,
            hour: i64::MIN,
            top: None,
            budget_per_hour: budget.clamp(1e-6, 0.05),
            floor,
            start: PRIOR_START,
            excess: PRIOR_EXCESS,
            weight: 1.0,
            threshold: floor,
        };
        t.fit();
        t
    }

    /// Score above which an hour's maximum comes less often than the budget.
    pub(crate) fn threshold(&self) -> f64 {
        self.threshold
    }

    /// -log10 of the share of hours whose maximum exceeds `z`.
    pub(crate) fn rarity(&self, z: f64) -> f64 {
        if z <= self.start {
            -(SHARE.log10()) * (z / self.start).max(0.0)
        } else {
            let x = (z - self.start) / (self.weight * self.excess);
            -(SHARE.log10()) + self.weight * x.ln_1p() / std::f64::consts::LN_10
        }
    }

    /// Takes a score; only calm times belong here.
    pub(crate) fn push(&mut self, time_ms: i64, score: f64) {
        let hour = time_ms.div_euclid(3_600_000);
        if hour != self.hour {
            if let Some(top) = self.top {
                self.close(top);
            }
            self.hour = hour;
            self.top = None;
        }
        self.top = Some(self.top.map_or(score, |t| t.max(score)));
    }

    fn close(&mut self, top: f64) {
        if self.ring.len() < self.hours as usize {
            self.ring.push(top as f32);
        } else if let Some(s) = self.ring.get_mut(self.next as usize) {
            *s = top as f32;
            self.next = (self.next + 1) % self.hours;
        }
        // a tail of two weeks moves slowly: every six hours will do once there is one
        if self.ring.len() < 24 || self.hour.rem_euclid(6) == 0 {
            self.fit();
        }
    }

    fn fit(&mut self) {
        let mut v: Vec<f64> = self.ring.iter().map(|&x| f64::from(x)).collect();
        let m = SHARE * v.len() as f64;
        let cut = v.len().saturating_sub(m as usize + 1);
        let (mut start, mut excess) = (PRIOR_START, PRIOR_EXCESS);
        if m >= 1.0 {
            let (_, &mut u, over) = v.select_nth_unstable_by(cut, f64::total_cmp);
            start = u;
            // the median excess, so that a fault in the past does not raise the threshold
            excess = (median(over).unwrap_or(f64::NAN) - u) / std::f64::consts::LN_2;
        }
        let m0 = SHARE * PRIOR_HOURS;
        self.weight = m + m0;
        self.start = (start * m + PRIOR_START * m0) / self.weight;
        self.excess = ((excess * m + PRIOR_EXCESS * m0) / self.weight).max(0.05);
        let p = (SHARE / self.budget_per_hour).max(1.0);
        let h = self.start + self.weight * self.excess * (p.powf(1.0 / self.weight) - 1.0);
        self.threshold = h.max(self.floor);
    }
}
