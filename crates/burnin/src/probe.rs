//! An outside prober of health, all along: how soon it answers, and how long it did not.

use crate::exchange::Exchange;
use runtime::{Stop, Tick};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Between two probes.
pub const EVERY: Duration = Duration::from_millis(250);
/// For one; what R1.3 allows.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Probes kept: a day and more of them.
const MOST: usize = 500_000;

/// One time that health was not good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    /// When it began, in seconds since the prober's start.
    pub from: f64,
    /// How long it lasted, from the first failed probe to the first good one.
    pub seconds: f64,
}

/// What the prober has seen. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Probed(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Milliseconds of each answer, good or not; one that did not come is not among them.
    answers: Vec<f32>,
    unanswered: u64,
    /// When, in seconds since the start; the first ones.
    unanswered_at: Vec<f64>,
    outages: Vec<Outage>,
    bad_since: Option<f64>,
    total: u64,
}

impl Probed {
    fn look<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, at: f64, took: Option<Duration>, good: bool) {
        self.look(|seen| {
            seen.total += 1;
            match took {
                Some(took) if seen.answers.len() < MOST => {
                    seen.answers.push(took.as_secs_f32() * 1_000.0);
                }
                Some(_) => {}
                None => {
                    seen.unanswered += 1;
                    if seen.unanswered_at.len() < MOST {
                        seen.unanswered_at.push(at);
                    }
                }
            }
            match (good, seen.bad_since) {
                (false, None) => seen.bad_since = Some(at),
                (true, Some(from)) => {
                    seen.bad_since = None;
                    seen.outages.push(Outage { from, seconds: at - from });
                }
                _ => {}
            }
        });
    }

    /// How often health was asked, and how often it gave no answer.
    pub fn counts(&self) -> (u64, u64) {
        self.look(|seen| (seen.total, seen.unanswered))
    }

    /// When it gave no answer, in seconds since the prober's start.
    pub fn unanswered(&self) -> Vec<f64> {
        self.look(|seen| seen.unanswered_at.clone())
    }

    /// Milliseconds of a quantile of all answers.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let mut all: Vec<f64> =
            self.look(|seen| seen.answers.iter().map(|it| f64::from(*it)).collect());
        stats::order::quantile(&mut all, q)
    }

    /// Outages that are over, and one that goes on at `now`.
    pub fn outages(&self, now: f64) -> Vec<Outage> {
        self.look(|seen| {
            let open = seen.bad_since.map(|from| Outage { from, seconds: now - from });
            seen.outages.iter().copied().chain(open).collect()
        })
    }

    /// Whether the last probe was good.
    pub fn is_good(&self) -> bool {
        self.look(|seen| seen.bad_since.is_none() && seen.total > 0)
    }
}

/// Probes until stopped.
pub async fn run(address: SocketAddr, path: String, probed: Probed, stop: Stop) {
    let mut exchange = Exchange::new(address);
    let start = Instant::now();
    let mut next = start;
    while stop.wait_until(next).await == Tick::Elapsed {
        next += EVERY;
        let asked = Instant::now();
        let answer = exchange.send("GET", &path, "", TIMEOUT).await;
        let took = answer.is_ok().then(|| asked.elapsed());
        let good = answer.is_ok_and(|answer| answer.status == 200);
        probed.note(asked.duration_since(start).as_secs_f64(), took, good);
        // One that took long is no reason to ask at once again and again.
        next = next.max(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_from_the_first_bad_probe_to_the_first_good_one() {
        let probed = Probed::default();
        let quick = Some(Duration::from_millis(2));
        for (at, took, good) in [
            (0.0, quick, true),
            (1.0, None, false),
            (2.0, quick, false),
            (3.5, quick, true),
            (9.0, None, false),
        ] {
            probed.note(at, took, good);
        }
        let over = Outage { from: 1.0, seconds: 2.5 };
        assert_eq!(probed.outages(10.0), [over, Outage { from: 9.0, seconds: 1.0 }]);
        assert_eq!(probed.counts(), (5, 2));
        assert!(!probed.is_good());
    }
}
