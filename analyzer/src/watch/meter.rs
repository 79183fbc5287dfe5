//! The rate of a group of counters that belong to one target: their increases between two scrapes, added up.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counters of one group; more are left out.
const MOST_SERIES: usize = 4096;

/// A counter not seen for so long, in milliseconds, is forgotten.
const FORGET: i64 = 3_600_000;

/// Adds up counters of one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meter {
    /// Time and value of each counter's last sample, by series.
    last: BTreeMap<u64, (i64, f64)>,
    /// When the last scrape with any of them was; 0 before the first.
    at: i64,
    /// Their increase in the scrape that is being taken.
    rising: f64,
    taken: bool,
    increase: f64,
    seconds: f64,
}

impl Meter {
    /// Takes a counter's sample of the scrape at `time`.
    pub(crate) fn take(&mut self, time: i64, series: u64, value: f64) {
        if !value.is_finite()
            || (self.last.len() >= MOST_SERIES && !self.last.contains_key(&series))
        {
            return;
        }
        self.taken = true;
        self.rising += match self.last.insert(series, (time, value)) {
            Some((_, before)) if value >= before => value - before,
            Some(_) => value,             // a reset
            None if self.at > 0 => value, // born since the last scrape
            None => 0.0,
        };
    }

    /// Ends the scrape at `time`.
    pub(crate) fn close(&mut self, time: i64) {
        if !std::mem::take(&mut self.taken) {
            return;
        }
        let first = self.at == 0;
        self.increase = if first { f64::NAN } else { std::mem::take(&mut self.rising) };
        self.rising = 0.0;
        self.seconds = (time - self.at) as f64 / 1000.0;
        self.at = time;
        if self.last.len() > 1 {
            self.last.retain(|_, (seen, _)| time - *seen < FORGET);
        }
    }

    /// Increase in the last scrape before or at `time`; NaN if none is so near that it says something of now.
    pub(crate) fn increase(&self, time: i64) -> f64 {
        // A scrape may miss; after two it is unknown.
        let fresh = self.at > 0 && (time - self.at) as f64 / 1000.0 <= 2.5 * self.seconds;
        if fresh { self.increase } else { f64::NAN }
    }

    /// The same a second.
    pub(crate) fn rate(&self, time: i64) -> f64 {
        if self.seconds > 0.0 { self.increase(time) / self.seconds } else { f64::NAN }
    }

    /// Whether any counter was ever taken.
    pub(crate) fn is_used(&self) -> bool {
        self.at > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_add_up_through_resets_births_and_gaps() {
        let mut meter = Meter::default();
        let mut scrape = |time: i64, values: &[(u64, f64)]| {
            for (series, value) in values {
                meter.take(time, *series, *value);
            }
            meter.close(time);
            (meter.rate(time), meter.rate(time + 60_000))
        };
        assert!(scrape(1_000, &[(1, 100.0), (2, 50.0)]).0.is_nan());
        assert_eq!(scrape(11_000, &[(1, 110.0), (2, 60.0)]).0, 2.0);
        assert_eq!(scrape(21_000, &[(1, 5.0), (2, 60.0), (3, 15.0)]).0, 2.0);
        let (now, later) = scrape(31_000, &[(1, f64::NAN), (2, 70.0), (3, 15.0)]);
        assert_eq!(now, 1.0);
        assert!(later.is_nan());
    }
}
