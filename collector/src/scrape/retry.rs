//! Up to five attempts at one scrape, exponential backoff with full jitter in between, and never into
//! the next scrape.

use runtime::{Backoff, Jitter};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// How one scrape may be retried.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Waits and number of attempts.
    pub backoff: Backoff,
    /// For one attempt.
    pub timeout: Duration,
    /// The end of the last attempt, before the next scrape is due.
    pub deadline: Instant,
}

/// What came of the attempts.
#[derive(Debug)]
pub struct Outcome<T, E> {
    /// The page, or the failure of the last attempt.
    pub result: Result<T, E>,
    /// Attempts made.
    pub attempts: u32,
    /// The failures before the last attempt, in order.
    pub failures: Vec<E>,
}

impl Policy {
    /// The policy for a scrape at `interval` that must end by `deadline`: waits of at most a twentieth of the
    /// interval at first and a quarter at most, so that five quick failures fit.
    pub fn new(attempts: u32, interval: Duration, timeout: Duration, deadline: Instant) -> Self {
        let base = (interval / 20).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let cap = (interval / 4).min(Duration::from_secs(10)).max(base);
        Self { backoff: Backoff { base, cap, attempts }, timeout, deadline }
    }

    /// Calls `attempt` with its own deadline until it succeeds, fails for good, the attempts are used up, or
    /// the next wait would pass the deadline.
    pub async fn run<T, E, F>(
        &self,
        jitter: &mut Jitter,
        transient: impl Fn(&E) -> bool,
        mut attempt: impl FnMut(Instant) -> F,
    ) -> Outcome<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut attempts = 1;
        let mut failures = Vec::new();
        loop {
            let result = attempt(self.deadline.min(Instant::now() + self.timeout)).await;
            let error = match result {
                Err(error) if transient(&error) => error,
                result => return Outcome { result, attempts, failures },
            };
            let wait = self.backoff.before(attempts + 1, jitter);
            let resume = wait.map(|wait| Instant::now() + wait).filter(|at| *at < self.deadline);
            let Some(resume) = resume else {
                return Outcome { result: Err(error), attempts, failures };
            };
            failures.push(error);
            tokio::time::sleep_until(resume).await;
            attempts += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs one scrape of 1 s whose attempts each take `cost` and fail `fails` times; what it did and how long it took.
    async fn run(
        fails: u32,
        cost: Duration,
        lasting: bool,
        seed: u64,
    ) -> (bool, u32, usize, Duration) {
        let start = Instant::now();
        let policy = Policy::new(5, SECOND, SECOND / 2, start + SECOND);
        let mut left = fails;
        let outcome = policy
            .run(
                &mut Jitter::seeded(seed),
                |_: &&str| !lasting,
                |deadline| {
                    let failing = left > 0;
                    left = left.saturating_sub(1);
                    async move {
                        let done =
                            tokio::time::timeout_at(deadline, tokio::time::sleep(cost)).await;
                        if failing || done.is_err() { Err("no") } else { Ok(()) }
                    }
                },
            )
            .await;
        (outcome.result.is_ok(), outcome.attempts, outcome.failures.len(), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn r3_2_five_attempts_at_most_with_waits_that_fit_the_interval() {
        for seed in 0..200 {
            let quick = Duration::from_millis(1);
            for fails in 0..5 {
                let (ok, attempts, failures, took) = run(fails, quick, false, seed).await;
                assert_eq!((ok, attempts, failures), (true, fails + 1, fails as usize));
                assert!(took < SECOND, "{took:?}");
            }
            let (ok, attempts, failures, took) = run(9, quick, false, seed).await;
            assert_eq!((ok, attempts, failures), (false, 5, 4));
            assert!(took < SECOND, "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r3_2_attempts_that_hang_never_reach_into_the_next_scrape() {
        for seed in 0..200 {
            let (ok, attempts, _, took) = run(9, SECOND * 60, false, seed).await;
            assert!(!ok && attempts >= 2 && took <= SECOND, "{attempts} attempts in {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_will_not_pass_is_not_retried() {
        let (ok, attempts, _, _) = run(9, Duration::ZERO, true, 1).await;
        assert_eq!((ok, attempts), (false, 1));
    }
}
