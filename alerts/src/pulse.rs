//! Whether rules are looked at and messages are made: the sign of life stands for both.

use parking_lot::Mutex;
use runtime::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A look that has not come to its end for so long never may: a disk that stands still, a lock that nobody gives back.
const LONGEST: Duration = Duration::from_secs(60);

/// Ends of looks. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    clock: Clock,
    last: Arc<[Mutex<Instant>; 2]>,
}

/// What looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Rules,
    Messages,
}

impl Pulse {
    pub(crate) fn new(clock: Clock) -> Self {
        let now = clock.monotonic();
        Self { clock, last: Arc::new([Mutex::new(now), Mutex::new(now)]) }
    }

    /// A look has come to its end.
    pub(crate) fn beat(&self, part: Part) {
        if let Some(last) = self.last.get(part as usize) {
            *last.lock() = self.clock.monotonic();
        }
    }

    /// What stands still, if something does.
    pub(crate) fn stands_still(&self) -> Option<&'static str> {
        let words = ["rules are not looked at", "no messages are made"];
        let now = self.clock.monotonic();
        let still = |last: &Mutex<Instant>| now.saturating_duration_since(*last.lock()) > LONGEST;
        self.last.iter().zip(words).find(|(last, _)| still(last)).map(|(_, words)| words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_to_no_end_any_more_stands_still() {
        let pulse = Pulse::new(Clock::system());
        tokio::time::advance(LONGEST).await;
        pulse.beat(Part::Rules);
        assert_eq!(pulse.stands_still(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pulse.stands_still(), Some("no messages are made"));
        pulse.beat(Part::Messages);
        assert_eq!(pulse.stands_still(), None);
    }
}
