//! When an experiment runs, as a pure function of its schedule: the same after each restart.

use crate::experiment::Schedule;
use runtime::Jitter;
use std::time::Duration;

impl Schedule {
    /// The `n`th time, from 0, since the schedule began.
    pub(crate) fn at(&self, n: u64) -> Option<Duration> {
        let wanted = self.count.is_none_or(|count| n < count);
        if !wanted || n > 0 && self.every.is_none() {
            return None;
        }
        let step = u32::try_from(n).ok()?;
        let base = self.every.unwrap_or_default().checked_mul(step)?.checked_add(self.offset)?;
        let mut lot = Jitter::seeded(self.seed ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        base.checked_add(self.window.mul_f64(lot.unit()))
    }

    /// The first that is not before `since`, with its time.
    pub(crate) fn next(&self, since: Duration) -> Option<(u64, Duration)> {
        let every = self.every.unwrap_or(Duration::MAX);
        let passed = since.saturating_sub(self.offset + self.window);
        let first = (passed.as_nanos() / every.as_nanos().max(1)) as u64;
        (first..).map_while(|n| Some((n, self.at(n)?))).find(|(_, at)| *at >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600;

    fn schedule(offset: u64, every: u64, window: u64, seed: u64) -> Schedule {
        Schedule {
            offset: Duration::from_secs(offset),
            every: (every > 0).then(|| Duration::from_secs(every)),
            window: Duration::from_secs(window),
            seed,
            count: None,
        }
    }

    #[test]
    fn r6_1_the_windows_of_the_failed_burn_in_are_found_exactly() {
        let every_12_hours = schedule(6 * HOUR, 12 * HOUR, 0, 0);
        let mut since = Duration::ZERO;
        let mut hours = Vec::new();
        while let Some((n, at)) =
            every_12_hours.next(since).filter(|(_, at)| at.as_secs() < 48 * HOUR)
        {
            hours.push((n, at.as_secs() / HOUR));
            since = at + Duration::from_nanos(1);
        }
        assert_eq!(hours, [(0, 6), (1, 18), (2, 30), (3, 42)]);
        assert_eq!(schedule(5, 0, 0, 0).next(Duration::from_secs(6)), None);
        let twice = Schedule { count: Some(2), ..schedule(0, 10, 0, 0) };
        assert_eq!(twice.next(Duration::from_secs(11)), None);
    }

    proptest! {
        #[test]
        fn r6_1_each_time_is_in_its_window_and_none_is_left_out(
            offset in 0..500_u64, every in 1..500_u64, window in 0..500_u64, seed: u64, since in 0..5_000_u64,
        ) {
            let window = window.min(every);
            let it = schedule(offset, every, window, seed);
            let (n, at) = it.next(Duration::from_secs(since)).unwrap();
            let base = offset + n * every;
            prop_assert!(at >= Duration::from_secs(base) && at <= Duration::from_secs(base + window));
            prop_assert!(at >= Duration::from_secs(since));
            if n > 0 {
                prop_assert!(it.at(n - 1).unwrap() < Duration::from_secs(since));
            }
            prop_assert_eq!(it.at(n), it.at(n));
        }
    }
}
