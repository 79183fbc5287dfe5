//! Waits between attempts: exponential growth with full jitter.
//!
//! Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How often to try and how long to wait in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Upper bound of the first wait.
    pub base: Duration,
    /// Upper bound of every wait.
    pub cap: Duration,
    /// Attempts in all, the first included.
    pub attempts: u32,
}

impl Backoff {
    /// The wait before attempt `attempt` (2 is the first that waits): uniform between zero and
    /// `base · 2^(attempt − 2)`, at most `cap`. `None` when `attempt` is over the limit.
    pub fn before(&self, attempt: u32, jitter: &mut Jitter) -> Option<Duration> {
        if attempt > self.attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(2).min(31);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.cap);
        Some(ceiling.mul_f64(jitter.unit()))
    }
}

/// A source of spread, not of secrets: SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195).
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A sequence that is the same for the same `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence that differs from process to process.
    pub fn random() -> Self {
        Self(RandomState::new().hash_one(0_u64))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_under_a_doubling_ceiling_and_end_after_the_last_attempt() {
        let backoff = Backoff {
            base: Duration::from_millis(100),
            cap: Duration::from_millis(300),
            attempts: 5,
        };
        let mut jitter = Jitter::seeded(7);
        for (attempt, ceiling) in [(2, 100), (3, 200), (4, 300), (5, 300)] {
            let waits: Vec<Duration> =
                (0..1000).filter_map(|_| backoff.before(attempt, &mut jitter)).collect();
            let ceiling = Duration::from_millis(ceiling);
            assert!(waits.len() == 1000 && waits.iter().all(|wait| *wait < ceiling));
            let mean = waits.iter().sum::<Duration>() / 1000;
            assert!(mean > ceiling.mul_f64(0.45) && mean < ceiling.mul_f64(0.55), "{mean:?}");
        }
        assert_eq!(backoff.before(6, &mut jitter), None);
    }
}
