//! One connection of a client: requests and answers of HTTP/1.1, read just far enough to be judged. Costs a fraction of what a whole
//! client costs, so that the machine's time goes to the gateway.

use platform::http::HttpError;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// The largest answer that is read.
const LARGEST: usize = 4 << 20;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Whether it says when to come again.
    pub retry_after: Option<Duration>,
    /// Its body.
    pub body: Vec<u8>,
}

/// A connection that is opened when it is needed.
#[derive(Debug)]
pub struct Exchange {
    address: SocketAddr,
    stream: Option<TcpStream>,
    read: Vec<u8>,
}

impl Exchange {
    /// To `address`; nothing is opened yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, read: Vec::new() }
    }

    /// Sends a request and waits for its answer, at most for `time`. A connection that the server closed while it was idle is opened
    /// again once: that is no failure of the server's.
    ///
    /// # Errors
    /// No answer came in time, or none at all.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        time: Duration,
    ) -> Result<Answer, HttpError> {
        let deadline = Instant::now() + time;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let used = self.stream.is_some();
        let first = self.once(&request, deadline).await;
        match first {
            Err(HttpError::Closed(_)) if used && self.read.is_empty() => {
                self.once(&request, deadline).await
            }
            other => other,
        }
    }

    async fn once(&mut self, request: &str, deadline: Instant) -> Result<Answer, HttpError> {
        let outcome = timeout_at(deadline, self.talk(request)).await;
        let outcome = outcome.unwrap_or(Err(HttpError::Timeout));
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    async fn talk(&mut self, request: &str) -> Result<Answer, HttpError> {
        let closed = |error: std::io::Error| HttpError::Closed(error.to_string());
        if self.stream.is_none() {
            let opened =
                TcpStream::connect(self.address).await.map_err(|error| match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => HttpError::Refused,
                    _ => HttpError::Connect(error.to_string()),
                })?;
            let _ = opened.set_nodelay(true);
            self.stream = Some(opened);
        }
        let Some(stream) = &mut self.stream else { return Err(HttpError::Refused) };
        self.read.clear();
        stream.write_all(request.as_bytes()).await.map_err(closed)?;
        loop {
            if let Some((answer, keep)) = parse(&self.read)? {
                if !keep {
                    self.stream = None;
                }
                self.read.shrink_to(64 << 10);
                return Ok(answer);
            }
            if self.read.len() > LARGEST {
                return Err(HttpError::TooLarge(LARGEST));
            }
            if stream.read_buf(&mut self.read).await.map_err(closed)? == 0 {
                return Err(HttpError::Closed("end of the connection".to_owned()));
            }
        }
    }
}

/// A whole answer, if it is there, and whether the connection stays.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, bool)>, HttpError> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let odd = || HttpError::Closed("no answer of HTTP/1.1".to_owned());
    let head = std::str::from_utf8(bytes.get(..end).unwrap_or_default()).map_err(|_| odd())?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(odd)?;
    let (mut length, mut keep, mut retry_after) = (None, true, None);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            keep = !value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("retry-after") {
            retry_after = value.parse().ok().map(Duration::from_secs);
        }
    }
    let length: usize = length.ok_or_else(odd)?;
    let body = bytes.get(end + 4..).unwrap_or_default();
    match body.get(..length) {
        Some(body) => Ok(Some((Answer { status, retry_after, body: body.to_vec() }, keep))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_is_whole_or_not_there_yet() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\nRetry-After: 3\r\nconnection: close\r\n\r\nno";
        for at in 0..text.len() {
            assert_eq!(parse(&text[..at]).unwrap(), None, "{at}");
        }
        let retry_after = Some(Duration::from_secs(3));
        let answer = Answer { status: 503, retry_after, body: b"no".to_vec() };
        assert_eq!(parse(text).unwrap(), Some((answer, false)));
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
