//! Retries cost at most a tenth of the calls, so that they cannot double the load of a tool that fails.

use std::sync::atomic::{AtomicI64, Ordering};

/// What a retry costs, and what a call brings in.
const RETRY: i64 = 10;
const CALL: i64 = 1;
/// Retries saved up at most, for a tool that is seldom called.
const MOST: i64 = 10 * RETRY;

/// The budget of one tool.
#[derive(Debug)]
pub(crate) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(MOST))
    }
}

impl Budget {
    /// A call is made.
    pub(crate) fn call(&self) {
        let add = |saved: i64| Some((saved + CALL).min(MOST));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether it may be tried again.
    pub(crate) fn retry(&self) -> bool {
        let take = |saved| (saved >= RETRY).then_some(saved - RETRY);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_at_most_a_tenth_of_the_calls_besides_what_was_saved() {
        let budget = Budget::default();
        let retries = (0..10_000).filter(|_| {
            budget.call();
            budget.retry()
        });
        let retries = retries.count();
        assert!((1_000..=1_010).contains(&retries), "{retries}");
    }
}
