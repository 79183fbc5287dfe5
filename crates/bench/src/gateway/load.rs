//! Requests on connections that are kept: as fast as they are answered, or at their rate whatever the answers do.

use super::upstream::find;
use crate::system::BenchError;
use runtime::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// For one answer, as a client that gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests at once, at most, when they leave at their rate.
const MOST_AT_ONCE: usize = 8_000;

/// Where to, and what.
#[derive(Clone)]
pub(super) struct Load {
    address: SocketAddr,
    request: Arc<[u8]>,
}

/// What came back; latencies in seconds, sorted.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) good: Vec<f64>,
    pub(super) refused: Vec<f64>,
    pub(super) unanswered: u64,
    pub(super) seconds: f64,
}

enum Outcome {
    Good(f64),
    Refused(f64),
    None,
}

impl Tally {
    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Good(took) => self.good.push(took),
            Outcome::Refused(took) => self.refused.push(took),
            Outcome::None => self.unanswered += 1,
        }
    }

    fn ready(mut self, seconds: f64) -> Result<Self, BenchError> {
        if self.good.is_empty() {
            let refused = self.refused.len();
            let words = format!("no good answer; {refused} refused, {} none", self.unanswered);
            return Err(BenchError::Other(words));
        }
        self.good.sort_by(f64::total_cmp);
        self.refused.sort_by(f64::total_cmp);
        self.seconds = seconds;
        Ok(self)
    }
}

impl Load {
    pub(super) fn new(address: SocketAddr, request: &str) -> Self {
        Self { address, request: request.as_bytes().into() }
    }

    /// `requests` in all on `connections`, each sending the next when it has its answer.
    pub(super) async fn closed(
        &self,
        connections: usize,
        requests: u64,
    ) -> Result<Tally, BenchError> {
        let left = Arc::new(AtomicU64::new(requests));
        let start = Clock::system().monotonic();
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (load, left) = (self.clone(), Arc::clone(&left));
            clients.spawn(async move {
                let (mut tally, mut link) = (Tally::default(), None);
                let take = |n: u64| n.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    tally.note(load.one(&mut link).await);
                }
                tally
            });
        }
        let mut all = Tally::default();
        while let Some(tally) = clients.join_next().await {
            let tally = tally.map_err(BenchError::task)?;
            all.good.extend(tally.good);
            all.refused.extend(tally.refused);
            all.unanswered += tally.unanswered;
        }
        all.ready(start.elapsed().as_secs_f64())
    }

    /// `rate` requests a second for `time`; their instants do not depend on the answers. A latency counts from when the request was due.
    pub(super) async fn open(self, rate: f64, time: Duration) -> Result<Tally, BenchError> {
        let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
        let idle: Arc<parking::Idle> = Arc::default();
        let (tell, mut told) = tokio::sync::mpsc::channel(MOST_AT_ONCE);
        let collect = tokio::spawn(async move {
            let mut tally = Tally::default();
            while let Some(outcome) = told.recv().await {
                tally.note(outcome);
            }
            tally
        });
        let start = Clock::system().monotonic();
        let number = (rate * time.as_secs_f64()) as u64;
        for n in 0..number {
            let due = start + Duration::from_secs_f64(n as f64 / rate);
            tokio::time::sleep_until(due).await;
            let place = Arc::clone(&places).try_acquire_owned();
            let (load, idle, tell) = (self.clone(), Arc::clone(&idle), tell.clone());
            tokio::spawn(async move {
                let outcome = match place {
                    Err(_) => Outcome::None,
                    Ok(_place) => {
                        let mut link = idle.take();
                        let outcome = load.one(&mut link).await;
                        idle.put(link);
                        let late = due.elapsed().as_secs_f64();
                        match outcome {
                            Outcome::Good(_) => Outcome::Good(late),
                            Outcome::Refused(_) => Outcome::Refused(late),
                            Outcome::None => Outcome::None,
                        }
                    }
                };
                let _ = tell.send(outcome).await;
            });
        }
        drop(tell);
        let tally = collect.await.map_err(BenchError::task)?;
        tally.ready(time.as_secs_f64())
    }

    /// One request, on `link` if there is one.
    async fn one(&self, link: &mut Option<TcpStream>) -> Outcome {
        let start = Instant::now();
        let status = timeout(PATIENCE, self.exchange(link)).await;
        let took = start.elapsed().as_secs_f64();
        match status {
            Ok(Some(200..=299)) => Outcome::Good(took),
            Ok(Some(_)) => Outcome::Refused(took),
            _ => {
                *link = None;
                Outcome::None
            }
        }
    }

    async fn exchange(&self, link: &mut Option<TcpStream>) -> Option<u16> {
        if link.is_none() {
            let fresh = TcpStream::connect(self.address).await.ok()?;
            let _ = fresh.set_nodelay(true);
            *link = Some(fresh);
        }
        let stream = link.as_mut()?;
        stream.write_all(&self.request).await.ok()?;
        let mut answer = Vec::with_capacity(1 << 10);
        let (status, whole, stays) = loop {
            if stream.read_buf(&mut answer).await.ok()? == 0 {
                return None;
            }
            let Some(end) = find(&answer, b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(answer.get(..end)?).to_ascii_lowercase();
            let status = head.get(9..12)?.parse().ok()?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(Some(0), |length| length.trim().parse().ok())?;
            break (status, end + 4 + length, !head.contains("connection: close"));
        };
        while answer.len() < whole {
            if stream.read_buf(&mut answer).await.ok()? == 0 {
                return None;
            }
        }
        if !stays {
            *link = None;
        }
        Some(status)
    }
}

/// Connections that wait for the next request; the last in is the first out.
mod parking {
    use std::sync::Mutex;
    use tokio::net::TcpStream;

    #[derive(Default)]
    pub(super) struct Idle(Mutex<Vec<TcpStream>>);

    impl Idle {
        pub(super) fn take(&self) -> Option<TcpStream> {
            self.0.lock().ok()?.pop()
        }

        pub(super) fn put(&self, link: Option<TcpStream>) {
            if let (Ok(mut idle), Some(link)) = (self.0.lock(), link) {
                idle.push(link);
            }
        }
    }
}

/// Of sorted numbers; 0 where there are none.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0.0)
}
