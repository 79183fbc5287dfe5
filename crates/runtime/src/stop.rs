//! How a task learns that it shall end: between units of work, never in the middle of one.

use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A shared request to stop. Clones see the same request.
#[derive(Clone, Debug, Default)]
pub struct Stop(CancellationToken);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// The time has passed.
    Elapsed,
    /// Stop was requested.
    Stopped,
}

impl Stop {
    /// A request not yet made.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the request, for good.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// Whether the request was made.
    pub fn requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the request.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Waits `time`, or less when stop is requested.
    pub async fn wait_for(&self, time: Duration) -> Tick {
        self.wait_until(Instant::now() + time).await
    }

    /// Waits until `deadline`, or less when stop is requested.
    pub async fn wait_until(&self, deadline: Instant) -> Tick {
        tokio::select! {
            biased;
            () = self.0.cancelled() => Tick::Stopped,
            () = tokio::time::sleep_until(deadline) => Tick::Elapsed,
        }
    }
}
