//! Time that a fault has: it runs out by itself, for whoever looks, though nobody is left to end the fault.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What leases are counted from.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

fn now() -> u64 {
    let origin = ORIGIN.get_or_init(Instant::now);
    u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A lease; none holds at first. To look costs one load while none was ever granted.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    until: AtomicU64,
    hits: AtomicU64,
}

impl Lease {
    /// From now on, for `time`, in place of what was left.
    pub(crate) fn grant(&self, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if !self.holds() {
            self.hits.store(0, Ordering::Relaxed);
        }
        self.until.store(now().saturating_add(time).max(1), Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.until.store(0, Ordering::Release);
    }

    pub(crate) fn holds(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until != 0 && now() < until
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_millis(self.until.load(Ordering::Acquire).saturating_sub(now()))
    }

    /// The same as [`Lease::holds`], for one that is met by it: it is counted.
    pub(crate) fn hits(&self) -> bool {
        let holds = self.holds();
        if holds {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        holds
    }

    /// How many it has met.
    pub(crate) fn met(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn r6_4_a_lease_runs_out_though_nobody_ends_it() {
        let lease = Lease::default();
        assert!(!lease.hits());
        lease.grant(Duration::from_secs(5));
        assert!(lease.hits() && lease.left() <= Duration::from_secs(5));
        tokio::time::advance(Duration::from_millis(5_001)).await;
        assert!(!lease.hits() && lease.left().is_zero());
        assert_eq!(lease.met(), 1);
        lease.grant(Duration::from_secs(5));
        lease.end();
        assert!(!lease.holds());
    }
}
