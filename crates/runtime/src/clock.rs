//! The only source of time, handed in so that tests can pause it.

use model::Timestamp;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Milliseconds that the machine's wall time is off by, on purpose.
static OFF_BY: AtomicI64 = AtomicI64::new(0);

/// Lets the wall time of this process jump, as a machine's clock may, for whoever wants to see what comes of that.
pub fn jump(millis: i64) {
    OFF_BY.fetch_add(millis, Ordering::Relaxed);
}

/// Wall time and monotonic time.
///
/// The paused form follows the runtime's paused timer, so wall time and time-outs move together.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    paused: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self { paused: None }
    }

    /// A clock that reads `start` now and moves with the runtime's timer; for tests with paused time.
    pub fn paused_at(start: Timestamp) -> Self {
        Self { paused: Some((start, Instant::now())) }
    }

    /// Wall time. May jump, in both directions.
    pub fn now(&self) -> Timestamp {
        match self.paused {
            Some((start, at)) => start.plus(at.elapsed()),
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place that reads the wall clock"
            )]
            None => {
                let Timestamp(now) = Timestamp::from_system(std::time::SystemTime::now());
                Timestamp(now.saturating_add(OFF_BY.load(Ordering::Relaxed)))
            }
        }
    }

    /// Time that never jumps, for durations and deadlines.
    pub fn monotonic(&self) -> Instant {
        Instant::now()
    }

    /// How long it is until wall time `at`; zero when it has passed.
    pub fn until(&self, at: Timestamp) -> Duration {
        at.since(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_moves_with_the_timer() {
        let clock = Clock::paused_at(Timestamp(5_000));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), Timestamp(7_000));
        assert_eq!(clock.until(Timestamp(7_500)), Duration::from_millis(500));
    }
}
