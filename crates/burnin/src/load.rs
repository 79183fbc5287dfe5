//! Open-loop load: requests leave at their rate whatever the answers do, so that a slow server cannot hide
//! its slowness by slowing its clients.

use platform::http::{HttpClient, Method};
use runtime::{Clock, Jitter, Stop, Tick};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// `http://host:port`.
    pub base_url: String,
    /// Requests a second.
    pub rate: f64,
    /// Paths and how often each is taken, relative to the others.
    pub mix: Vec<(String, u32)>,
    /// What is sent; `{n}` in it is a number under `variants`.
    pub body: String,
    /// How many different bodies there are.
    pub variants: u64,
    /// Requests in flight at most; those over it are counted as not sent.
    pub max_in_flight: usize,
    /// For one request.
    pub timeout: Duration,
}

/// What came back so far. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    unsent: AtomicU64,
}

impl Tally {
    /// Requests answered with a status under 500.
    pub fn answered(&self) -> u64 {
        self.0.answered.load(Ordering::Relaxed)
    }

    /// Requests answered with 500 and over, or not at all.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// Requests not sent because too many were in flight.
    pub fn unsent(&self) -> u64 {
        self.0.unsent.load(Ordering::Relaxed)
    }
}

/// Sends until stopped, then waits for what is in flight.
pub async fn run(load: Load, clock: Clock, tally: Tally, stop: Stop) {
    let client = HttpClient::new();
    let slots = Arc::new(Semaphore::new(load.max_in_flight));
    let mut jitter = Jitter::random();
    let start = clock.monotonic();
    let mut sent = 0_u64;
    // The schedule is absolute: a late wake-up does not lower the rate.
    while stop.wait_until(start + Duration::from_secs_f64(sent as f64 / load.rate)).await
        == Tick::Elapsed
    {
        sent += 1;
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tally.0.unsent.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let url = format!("{}{}", load.base_url, pick(&load.mix, &mut jitter));
        let (client, tally) = (client.clone(), tally.clone());
        let deadline = clock.monotonic() + load.timeout;
        let body =
            load.body.replace("{n}", &(jitter.next_u64() % load.variants.max(1)).to_string());
        tokio::spawn(async move {
            let headers = [("content-type", "application/json")];
            let answer = client.send(Method::POST, &url, &headers, body, deadline).await;
            let good = match answer {
                Ok(answer) => answer.status < 500 && answer.body(1 << 20).await.is_ok(),
                Err(_) => false,
            };
            let count = if good { &tally.0.answered } else { &tally.0.failed };
            count.fetch_add(1, Ordering::Relaxed);
            drop(slot);
        });
    }
    let all = u32::try_from(load.max_in_flight).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(load.timeout, slots.acquire_many(all)).await;
}

fn pick<'a>(mix: &'a [(String, u32)], jitter: &mut Jitter) -> &'a str {
    let total: u32 = mix.iter().map(|(_, weight)| weight).sum();
    let mut left = (jitter.unit() * f64::from(total)) as u32;
    for (path, weight) in mix {
        if left < *weight {
            return path;
        }
        left -= weight;
    }
    "/"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_picked_by_their_weight() {
        let mix = [("/a".to_owned(), 3), ("/b".to_owned(), 1)];
        let mut jitter = Jitter::seeded(1);
        let hits = (0..10_000).filter(|_| pick(&mix, &mut jitter) == "/a").count();
        assert!((7_300..7_700).contains(&hits), "{hits}");
        assert_eq!(pick(&[], &mut jitter), "/");
    }
}
