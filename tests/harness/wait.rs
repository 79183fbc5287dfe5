//! Waits for a fact, never for a time.

use std::time::{Duration, Instant};

/// The longest wait; only a failing test takes it.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks until there is an answer, and panics with `what` when there is none in time.
pub(crate) fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_within(LIMIT, what, ask)
}

/// The same for facts that take longer.
pub(crate) fn wait_within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    #[allow(clippy::disallowed_methods, reason = "the limit of a test is real time")]
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        #[allow(clippy::disallowed_methods, reason = "the limit of a test is real time")]
        let late = Instant::now() > end;
        assert!(!late, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
