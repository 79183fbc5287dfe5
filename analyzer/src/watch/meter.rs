//! The rate of a group of counters that belong to one target: the rates of its counters, added up.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counters of one group; more are left out.
const MOST_SERIES: usize = 4096;

/// A counter not seen for so long, in milliseconds, is forgotten.
const FORGET: i64 = 3_600_000;

/// After so many intervals without a sample a rate says nothing of now: a scrape may miss, two may not.
const FRESH: f64 = 2.5;

/// Adds up counters of one target. Each has its own times, for they may come from several pages or senders.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meter {
    counters: BTreeMap<u64, Counter>,
    /// Between the last two samples of the counter that came last, in milliseconds; 0 while none came twice.
    step: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counter {
    at: i64,
    /// Since the sample before, in milliseconds; 0 before the second.
    step: i64,
    value: f64,
    /// A second, over the last two samples; none before the second.
    rate: Option<f64>,
}

impl Meter {
    /// Takes a counter's sample. One that is new while others are known began at zero a step ago, unless that
    /// would be a rate over `most_born`: then it was there before, unseen.
    pub(crate) fn take(&mut self, time: i64, series: u64, value: f64, most_born: f64) {
        let full = self.counters.len() >= MOST_SERIES && !self.counters.contains_key(&series);
        if !value.is_finite() || full || time <= 0 {
            return;
        }
        let (step, rate) = match self.counters.get(&series) {
            Some(before) if time <= before.at => return,
            Some(before) => {
                let rise = if value >= before.value { value - before.value } else { value };
                let step = time - before.at;
                self.step = step;
                (step, Some(rise / seconds(step)))
            }
            None if self.step > 0 => {
                let rate = value / seconds(self.step);
                (self.step, Some(if rate <= most_born { rate } else { 0.0 }))
            }
            None => (0, None),
        };
        self.counters.insert(series, Counter { at: time, step, value, rate });
    }

    /// Forgets counters that are gone.
    pub(crate) fn forget(&mut self, time: i64) {
        self.counters.retain(|_, counter| time - counter.at < FORGET);
    }

    /// The sum a second; NaN if it is not known of now.
    pub(crate) fn rate(&self, time: i64) -> f64 {
        let now = self.counters.values().filter(|it| it.is_fresh(time));
        let known =
            now.filter_map(|it| it.rate).fold(None, |sum, rate| Some(sum.unwrap_or(0.0) + rate));
        known.unwrap_or(f64::NAN)
    }

    /// Between two samples, in milliseconds; 0 while that is not known.
    pub(crate) fn step(&self) -> i64 {
        self.step
    }

    /// Says how far apart samples are where its own do not tell yet: then the first counter is a birth too.
    pub(crate) fn expect(&mut self, step: i64) {
        if self.step == 0 {
            self.step = step;
        }
    }

    /// Whether none of its counters was ever seen.
    pub(crate) fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }
}

impl Counter {
    fn is_fresh(&self, time: i64) -> bool {
        (time - self.at) as f64 <= FRESH * self.step as f64
    }
}

fn seconds(millis: i64) -> f64 {
    millis.max(1) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_add_up_through_resets_births_and_gaps() {
        let mut meter = Meter::default();
        let mut scrape = |time: i64, values: &[(u64, f64)]| {
            for (series, value) in values {
                meter.take(time, *series, *value, 100.0);
            }
            (meter.rate(time), meter.rate(time + 60_000))
        };
        assert!(scrape(1_000, &[(1, 100.0), (2, 50.0)]).0.is_nan());
        assert_eq!(scrape(11_000, &[(1, 110.0), (2, 60.0)]).0, 2.0);
        assert_eq!(scrape(21_000, &[(1, 5.0), (2, 60.0), (3, 15.0)]).0, 2.0, "a reset, a birth");
        let (now, later) = scrape(31_000, &[(1, 5.0), (2, 70.0), (3, 15.0), (4, 1e9)]);
        assert_eq!(now, 1.0, "what was there before unseen is not born");
        assert!(later.is_nan());
    }

    #[test]
    fn counters_with_times_of_their_own_have_their_own_rates() {
        let mut meter = Meter::default();
        for n in 0..10_i64 {
            for (series, behind) in [(1, 0), (2, 40), (3, 6_000)] {
                let time = 100_000 + n * 10_000 + behind;
                meter.take(time, series, 5.0 * n as f64, 0.0);
            }
        }
        assert!((meter.rate(197_000) - 1.5).abs() < 1e-9, "{}", meter.rate(197_000));
    }
}
