//! A Redis behind the cache, shared by several gateways. It is asked after ours and told of each answer; when it is slow or gone it is
//! left alone for a while, and nothing depends on it.

use bytes::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

/// For one question; slower than this it is no help.
const TIME: Duration = Duration::from_millis(50);
/// To connect.
const CONNECT: Duration = Duration::from_secs(1);
/// Left alone after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// Before each key, so that others may use the same server.
const PREFIX: &str = "forerunner:answer:";

/// The connection, or since when there is none.
#[derive(Debug)]
pub(crate) struct Second {
    client: redis::Client,
    link: Mutex<Link>,
}

#[derive(Debug, Clone)]
enum Link {
    Up(MultiplexedConnection),
    Down { until: Instant, reason: String },
}

impl Second {
    /// Of the server at `url`, such as `redis://127.0.0.1:6379/0`. Nothing is asked yet.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let client = redis::Client::open(url).map_err(|error| error.to_string())?;
        let link = Link::Down { until: Instant::now(), reason: "not connected yet".to_owned() };
        Ok(Self { client, link: Mutex::new(link) })
    }

    /// The answer to `key` with its remaining time, if it is there.
    pub(crate) async fn get(&self, key: &str) -> Option<(Bytes, Duration)> {
        let mut link = self.link()?;
        let key = format!("{PREFIX}{key}");
        let mut pipe = redis::pipe();
        pipe.get(&key).pttl(&key);
        let asked: Result<(Option<Vec<u8>>, i64), _> = self.ask(pipe.query_async(&mut link)).await;
        let (body, left) = asked.ok()?;
        let left = u64::try_from(left).ok()?;
        Some((Bytes::from(body?), Duration::from_millis(left)))
    }

    /// Keeps an answer for `time`.
    pub(crate) async fn put(&self, key: &str, body: &Bytes, time: Duration) {
        let Some(mut link) = self.link() else { return };
        let mut command = redis::cmd("SET");
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        command.arg(format!("{PREFIX}{key}")).arg(body.as_ref()).arg("PX").arg(millis);
        let _: Result<(), _> = self.ask(command.query_async(&mut link)).await;
    }

    /// Connects if there is no connection, and asks for a sign of life; how long that took, or why there is none.
    pub(crate) async fn probe(&self) -> Result<Duration, String> {
        let start = Instant::now();
        let paused = match &*self.link.lock() {
            Link::Down { until, reason } if *until > start => Some(reason.clone()),
            _ => None,
        };
        if let Some(reason) = paused {
            return Err(reason);
        }
        if self.link().is_none() {
            let connecting = timeout(CONNECT, self.client.get_multiplexed_async_connection());
            match connecting.await {
                Ok(Ok(connection)) => {
                    info!("the second cache is there");
                    *self.link.lock() = Link::Up(connection);
                }
                Ok(Err(error)) => self.down(&error.to_string()),
                Err(_) => self.down("no connection within 1 s"),
            }
        }
        if let Some(mut link) = self.link() {
            let ping = redis::cmd("PING");
            let pong: Result<String, String> = self.ask(ping.query_async(&mut link)).await;
            pong?;
            return Ok(start.elapsed());
        }
        match &*self.link.lock() {
            Link::Down { reason, .. } => Err(reason.clone()),
            Link::Up(_) => Ok(start.elapsed()),
        }
    }

    fn link(&self) -> Option<MultiplexedConnection> {
        match &*self.link.lock() {
            Link::Up(connection) => Some(connection.clone()),
            Link::Down { .. } => None,
        }
    }

    async fn ask<T>(
        &self,
        asking: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, String> {
        match timeout(TIME, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.down(&error.to_string());
                Err(error.to_string())
            }
            Err(_) => {
                self.down("no answer within 50 ms");
                Err("no answer within 50 ms".to_owned())
            }
        }
    }

    fn down(&self, reason: &str) {
        let mut link = self.link.lock();
        if matches!(*link, Link::Up(_)) {
            warn!(reason, "the second cache is left alone for a while");
        }
        *link = Link::Down { until: Instant::now() + PAUSE, reason: reason.to_owned() };
    }
}
