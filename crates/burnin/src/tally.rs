//! What came of all requests, by second and whether the time belongs to a chaos window; of constant size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What came of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    /// The answer that was due: a grant or a denial.
    Due,
    /// Refused for now, with the time to come again.
    Shed,
    /// An error, or an answer that nobody understands.
    Failed,
    /// No answer within the client's patience.
    TimedOut,
    /// No connection, or one that broke.
    Unreachable,
    /// Denied though a policy grants it.
    WrongDenial,
    /// Granted though no policy does.
    WrongGrant,
}

const KINDS: usize = 7;
/// Upper ends of latency buckets in milliseconds.
const BUCKETS: [u64; 16] =
    [1, 2, 5, 10, 20, 30, 50, 75, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000];

/// The counts. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By kind; outside chaos windows, and within.
    kinds: [[AtomicU64; KINDS]; 2],
    /// By latency, of what was due outside chaos windows.
    latency: [AtomicU64; BUCKETS.len() + 1],
    in_chaos: AtomicBool,
}

impl Tally {
    /// Notes one.
    pub fn note(&self, kind: Kind, took: Duration) {
        let chaos = self.0.in_chaos.load(Ordering::Relaxed);
        if let Some(count) = self.0.kinds[usize::from(chaos)].get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if kind == Kind::Due && !chaos {
            let millis = took.as_millis() as u64;
            let at = BUCKETS.iter().position(|end| millis <= *end).unwrap_or(BUCKETS.len());
            if let Some(count) = self.0.latency.get(at) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether what comes now is counted apart.
    pub fn in_chaos(&self, chaos: bool) {
        self.0.in_chaos.store(chaos, Ordering::Relaxed);
    }

    /// Requests of one kind, outside chaos windows or within.
    pub fn count(&self, kind: Kind, chaos: bool) -> u64 {
        self.0.kinds[usize::from(chaos)]
            .get(kind as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// All requests, outside chaos windows or within.
    pub fn all(&self, chaos: bool) -> u64 {
        self.0.kinds[usize::from(chaos)].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.all(false) + self.all(true)
    }

    /// The upper end in milliseconds of the bucket that holds a quantile.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let counts: Vec<u64> =
            self.0.latency.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let mut left = (all as f64 * q).ceil() as u64;
        for (at, count) in counts.iter().enumerate() {
            if all > 0 && left <= *count {
                return Some(BUCKETS.get(at).copied().unwrap_or(u64::MAX));
            }
            left = left.saturating_sub(*count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chaos_windows_are_counted_apart_and_quantiles_are_those_of_the_rest() {
        let tally = Tally::default();
        for millis in 1..=100 {
            tally.note(Kind::Due, Duration::from_millis(millis));
        }
        tally.in_chaos(true);
        tally.note(Kind::Failed, Duration::from_secs(9));
        tally.note(Kind::Due, Duration::from_secs(9));
        assert_eq!((tally.all(false), tally.all(true), tally.total()), (100, 2, 102));
        assert_eq!(tally.count(Kind::Failed, true), 1);
        assert_eq!((tally.quantile(0.5), tally.quantile(0.999)), (Some(50), Some(100)));
        assert_eq!(Tally::default().quantile(0.5), None);
    }
}
