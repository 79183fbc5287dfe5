//! When: scrapes are aligned to the wall clock and spread over the interval, each target at its own offset.

use crate::scrape::cycle::Cycle;
use crate::target::Target;
use model::Timestamp;
use runtime::{Clock, Stop, Tick};
use std::time::Duration;

/// Scrapes one target at its interval until it is gone; then its series end.
pub(crate) async fn scrape(mut cycle: Cycle, gone: Stop) {
    let target = cycle.target();
    let interval = target.manner.interval;
    let mut ticks = Ticks::new(interval, offset(&target), cycle.clock());
    while let Some(due) = ticks.next(&gone).await {
        cycle.run(due, due.plus(interval)).await;
    }
    cycle.end().await;
}

/// A target's share of the interval, the same in every run.
fn offset(target: &Target) -> Duration {
    let hash = twox_hash::XxHash3_64::oneshot(target.url.as_bytes());
    let millis = u64::try_from(target.manner.interval.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(hash % millis)
}

/// Instants at a fixed distance, told by the wall clock. After a jump of the clock, or when the reader was
/// late, they go on from there: none is made up for. Who wakes half an interval late, because the machine stood still, is given the
/// time that it is: what is read then is of then.
#[derive(Debug)]
pub(crate) struct Ticks {
    interval: i64,
    offset: i64,
    clock: Clock,
    last: Option<Timestamp>,
}

impl Ticks {
    pub(crate) fn new(interval: Duration, offset: Duration, clock: Clock) -> Self {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self { interval: millis(interval).max(1), offset: millis(offset), clock, last: None }
    }

    /// Waits for the next instant; `None` when stopped.
    pub(crate) async fn next(&mut self, stop: &Stop) -> Option<Timestamp> {
        let now = self.clock.now();
        let mut due = Timestamp(self.align(now.millis()));
        if self.last == Some(due) {
            due = Timestamp(due.millis().saturating_add(self.interval));
        }
        if stop.wait_for(self.clock.until(due)).await == Tick::Stopped {
            return None;
        }
        let woken = self.clock.now();
        let late = woken.millis().saturating_sub(due.millis());
        if late.saturating_mul(2) >= self.interval {
            due = woken;
        }
        self.last = Some(due);
        Some(due)
    }

    /// The first instant at or after `now`.
    fn align(&self, now: i64) -> i64 {
        let since = now.saturating_sub(self.offset).rem_euclid(self.interval);
        if since == 0 { now } else { now.saturating_add(self.interval - since) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ticks_are_aligned_and_a_late_reader_skips() {
        let clock = Clock::paused_at(Timestamp(10_150));
        let mut ticks = Ticks::new(Duration::from_secs(1), Duration::from_millis(300), clock);
        let stop = Stop::new();
        assert_eq!(ticks.next(&stop).await, Some(Timestamp(10_300)));
        assert_eq!(ticks.next(&stop).await, Some(Timestamp(11_300)));
        tokio::time::advance(Duration::from_millis(2_500)).await;
        assert_eq!(ticks.next(&stop).await, Some(Timestamp(14_300)));
        stop.request();
        assert_eq!(ticks.next(&stop).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_frozen_in_the_wait_reads_at_the_time_that_it_is() {
        let clock = Clock::paused_at(Timestamp(10_150));
        let mut ticks = Ticks::new(Duration::from_secs(1), Duration::from_millis(300), clock);
        let stop = Stop::new();
        let frozen = async {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_secs(60)).await;
        };
        let (woken, ()) = tokio::join!(ticks.next(&stop), frozen);
        assert_eq!(woken, Some(Timestamp(70_150)));
        assert_eq!(ticks.next(&stop).await, Some(Timestamp(70_300)));
    }
}
