//! How the gateway is: atomics that the data plane writes and the control thread reads, so that an
//! overloaded or hung data plane cannot keep its health from being told.

use model::Timestamp;
use runtime::Clock;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

/// Between two heartbeats of the data plane.
pub(crate) const BEAT: Duration = Duration::from_millis(100);
/// A heartbeat older than this means that the data plane hangs.
const STALE: Duration = Duration::from_secs(2);

/// What both sides share.
#[derive(Debug)]
pub(crate) struct Vitals {
    clock: Clock,
    started: Timestamp,
    last_beat: AtomicI64,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) max_in_flight: usize,
    pub(crate) connections: AtomicUsize,
    pub(crate) max_connections: usize,
    draining: AtomicBool,
}

/// The answer of `/health`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    status: &'static str,
    uptime_seconds: f64,
    checks: [Check; 3],
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: &'static str,
    reason: String,
}

impl Vitals {
    pub(crate) fn new(clock: Clock, max_in_flight: usize, max_connections: usize) -> Self {
        let started = clock.now();
        Self {
            clock,
            started,
            last_beat: AtomicI64::new(started.millis()),
            in_flight: AtomicUsize::new(0),
            max_in_flight,
            connections: AtomicUsize::new(0),
            max_connections,
            draining: AtomicBool::new(false),
        }
    }

    /// The data plane lives.
    pub(crate) fn beat(&self) {
        self.last_beat.store(self.clock.now().millis(), Ordering::Relaxed);
    }

    /// No new work from here on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// How long ago the data plane last gave a sign of life.
    pub(crate) fn beat_age(&self) -> Duration {
        self.clock.now().since(Timestamp(self.last_beat.load(Ordering::Relaxed)))
    }

    /// Whether traffic should be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        self.beat_age() < STALE && !self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn report(&self) -> Report {
        let age = self.beat_age();
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let connections = self.connections.load(Ordering::Relaxed);
        let draining = self.draining.load(Ordering::Relaxed);
        let full = in_flight >= self.max_in_flight || connections >= self.max_connections;
        let checks = [
            Check {
                name: "data_plane",
                state: if age < STALE { "healthy" } else { "failed" },
                reason: format!("last heartbeat {} ms ago", age.as_millis()),
            },
            Check {
                name: "admission",
                state: if full { "degraded" } else { "healthy" },
                reason: format!(
                    "{in_flight} of {} requests, {connections} of {} connections",
                    self.max_in_flight, self.max_connections
                ),
            },
            Check {
                name: "shutdown",
                state: if draining { "degraded" } else { "healthy" },
                reason: if draining { "draining" } else { "not asked for" }.to_owned(),
            },
        ];
        let worst =
            ["failed", "degraded"].into_iter().find(|s| checks.iter().any(|c| c.state == *s));
        let uptime_seconds = self.clock.now().since(self.started).as_secs_f64();
        Report { status: worst.unwrap_or("healthy"), uptime_seconds, checks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn r8_1_a_hung_data_plane_is_not_ready_and_says_why() {
        let vitals = Vitals::new(Clock::paused_at(Timestamp(0)), 2, 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(vitals.is_ready());
        assert_eq!(vitals.report().status, "healthy");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!vitals.is_ready());
        let report = vitals.report();
        assert_eq!(
            (report.status, report.checks[0].reason.as_str()),
            ("failed", "last heartbeat 3000 ms ago")
        );
        vitals.beat();
        vitals.in_flight.store(2, Ordering::Relaxed);
        assert_eq!((vitals.is_ready(), vitals.report().status), (true, "degraded"));
        vitals.drain();
        assert!(!vitals.is_ready());
    }
}
