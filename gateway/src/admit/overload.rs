//! Work refused at the door while our own processor is the bottleneck: told by how late a timer wakes.
//!
//! If even the least delay of an interval is over the target, tasks queue for the processor without end, as packets do in CoDel's
//! model; then a growing share of requests is refused before any work is done for them, until the delay is back.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// A delay that is no overload.
const TARGET: Duration = Duration::from_millis(10);
/// Readings of which the least counts: at one each 10 ms a tenth of a second.
const READINGS: u32 = 10;
/// Never all: some must get in, or nothing would show that it is over.
const MOST: u32 = 950;

/// The share of requests that is refused.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// In thousandths.
    share: AtomicU32,
    least: AtomicU64,
    readings: AtomicU32,
    lot: AtomicU32,
    /// The last interval's least delay in microseconds.
    delay: AtomicU64,
}

impl Overload {
    /// Between two readings.
    pub(crate) const EVERY: Duration = Duration::from_millis(10);

    /// A timer woke this late.
    pub(crate) fn woke(&self, late: Duration) {
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let first = self.readings.load(Ordering::Relaxed) == 0;
        let least = if first { late } else { late.min(self.least.load(Ordering::Relaxed)) };
        self.least.store(least, Ordering::Relaxed);
        if self.readings.fetch_add(1, Ordering::Relaxed) + 1 < READINGS {
            return;
        }
        self.readings.store(0, Ordering::Relaxed);
        self.delay.store(least, Ordering::Relaxed);
        let share = self.share.load(Ordering::Relaxed);
        let over = least > u64::try_from(TARGET.as_micros()).unwrap_or(u64::MAX);
        let share = if over { (share + 100).min(MOST) } else { share.saturating_sub(50) };
        self.share.store(share, Ordering::Relaxed);
    }

    /// Whether this request is among those refused: evenly, not by chance.
    pub(crate) fn refuses(&self) -> bool {
        let share = self.share.load(Ordering::Relaxed);
        if share == 0 {
            return false;
        }
        // Steps of a number without a common factor with 1,000 meet every rest once.
        let lot = self.lot.fetch_add(1, Ordering::Relaxed).wrapping_mul(617) % 1_000;
        lot < share
    }

    /// The last interval's least delay.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_micros(self.delay.load(Ordering::Relaxed))
    }

    /// The share of requests that is refused, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        f64::from(self.share.load(Ordering::Relaxed)) / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_delay_refuses_a_growing_share_and_its_end_none() {
        let overload = Overload::default();
        let refused = || (0..1_000).filter(|_| overload.refuses()).count();
        let woke = |times: u32, millis| {
            (0..times).for_each(|_| overload.woke(Duration::from_millis(millis)));
        };
        woke(10, 1);
        assert_eq!(refused(), 0);
        woke(9, 200);
        woke(1, 1); // one good reading: no standing delay
        assert_eq!(refused(), 0);
        woke(30, 200);
        assert_eq!((refused(), overload.share()), (300, 0.3));
        woke(1_000, 200);
        assert_eq!(refused(), 950);
        woke(190, 0);
        assert_eq!((refused(), overload.delay()), (0, Duration::ZERO));
    }
}
