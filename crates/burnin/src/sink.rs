//! A receiver of webhooks: which alert came when.

use runtime::Clock;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Messages kept, and the largest.
const MOST: usize = 10_000;
const LARGEST: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// One alert of one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// The alert's name.
    pub alert: String,
    /// The job or process it is of.
    pub job: String,
    /// Whether it fires.
    pub firing: bool,
}

/// What has come. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Sink(Arc<Mutex<Vec<Told>>>);

impl Sink {
    /// Listens on a free port of this machine, for ever.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn listen(&self, clock: Clock) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let sink = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let sink = sink.clone();
                tokio::spawn(async move {
                    let _ = timeout(TIMEOUT, sink.take(socket, clock)).await;
                });
            }
        });
        Ok(address)
    }

    async fn take(&self, mut socket: TcpStream, clock: Clock) -> std::io::Result<()> {
        let mut read = Vec::new();
        let body = loop {
            if socket.read_buf(&mut read).await? == 0 || read.len() > LARGEST {
                return Ok(());
            }
            if let Some(body) = body_of(&read) {
                break body;
            }
        };
        let at = clock.now().millis();
        let message: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let alerts = message.get("alerts").and_then(Value::as_array).cloned().unwrap_or_default();
        {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for alert in alerts {
                let label = |name: &str| alert.get("labels")?.get(name)?.as_str();
                let told = Told {
                    at,
                    alert: label("alertname").unwrap_or_default().to_owned(),
                    job: label("job").or(label("process")).unwrap_or_default().to_owned(),
                    firing: alert.get("status").and_then(Value::as_str) == Some("firing"),
                };
                if kept.len() < MOST {
                    kept.push(told);
                }
            }
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await
    }

    /// All that has come.
    pub fn told(&self) -> Vec<Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn body_of(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    bytes.get(end + 4..)?.get(..length.unwrap_or(0))
}
