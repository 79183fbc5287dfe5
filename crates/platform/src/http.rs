//! Requests to others: bounded in bytes and in time, with failures that name their kind.

use bytes::{Bytes, BytesMut};
pub use http::Method;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Why a request got no usable answer. A closed set, fit for a label.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is no `http://` URL.
    #[error("{0:?} is no URL of the form http://host:port/path")]
    Url(String),
    /// The host's name has no address.
    #[error("could not resolve the host name: {0}")]
    Resolve(String),
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No connection for another reason.
    #[error("could not connect: {0}")]
    Connect(String),
    /// The connection ended before the answer did.
    #[error("connection closed before the answer was complete: {0}")]
    Closed(String),
    /// The time was up.
    #[error("no complete answer within the time limit")]
    Timeout,
    /// More bytes than allowed.
    #[error("answer is larger than the limit of {0} bytes")]
    TooLarge(usize),
}

impl HttpError {
    /// A short constant name, fit for a label value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url(_) => "url",
            Self::Resolve(_) => "resolve",
            Self::Refused => "refused",
            Self::Connect(_) => "connect",
            Self::Closed(_) => "closed",
            Self::Timeout => "timeout",
            Self::TooLarge(_) => "too_large",
        }
    }
}

/// A client with a small pool of idle connections. Clones share it.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

/// An answer whose head has arrived.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The `Content-Type` header, if it is readable.
    pub content_type: Option<String>,
    /// The `Content-Encoding` header, if it is readable; the body is handed over as it came.
    pub content_encoding: Option<String>,
    body: Incoming,
    deadline: Instant,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    /// A client; must be used within a tokio runtime.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(2)
            .build(connector);
        Self { inner }
    }

    /// Sends a request and waits for the head of the answer. The deadline covers the body too.
    ///
    /// # Errors
    /// No answer came in time, or none at all.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
        deadline: Instant,
    ) -> Result<Answer, HttpError> {
        let uri: Uri = url.parse().map_err(|_| HttpError::Url(url.to_owned()))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err(HttpError::Url(url.to_owned()));
        }
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body.into()))
            .map_err(|error| HttpError::Url(format!("{url}: {error}")))?;
        let sent = timeout_at(deadline, self.inner.request(request)).await;
        let answer = sent.map_err(|_| HttpError::Timeout)?.map_err(|error| classify(&error))?;
        let (head, body) = answer.into_parts();
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            content_type: header(http::header::CONTENT_TYPE).map(str::to_owned),
            content_encoding: header(http::header::CONTENT_ENCODING).map(str::to_owned),
            body,
            deadline,
        })
    }
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// The connection broke, or the deadline passed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = timeout_at(self.deadline, self.body.frame()).await;
            match frame.map_err(|_| HttpError::Timeout)? {
                None => return Ok(None),
                Some(Err(error)) => return Err(HttpError::Closed(root(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// It has more, the connection broke, or the deadline passed.
    pub async fn body(mut self, limit: usize) -> Result<Bytes, HttpError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > limit {
                return Err(HttpError::TooLarge(limit));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

fn classify(error: &hyper_util::client::legacy::Error) -> HttpError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(link) = cause {
        if let Some(io) = link.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return HttpError::Refused;
        }
        if link.to_string().contains("dns error") {
            return HttpError::Resolve(root(error));
        }
        cause = link.source();
    }
    if error.is_connect() {
        HttpError::Connect(root(error))
    } else {
        HttpError::Closed(root(error))
    }
}

/// The innermost cause, which says most.
fn root(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Sends `answer` to the first client, then holds the connection open if `hold`.
    async fn get(answer: &'static str, hold: bool, limit: usize) -> Result<Bytes, HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _ = socket.read(&mut request).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            if hold {
                std::future::pending::<()>().await;
            }
        });
        let deadline = Instant::now() + Duration::from_millis(if hold { 150 } else { 5_000 });
        let client = HttpClient::new();
        let outcome = match client.send(Method::GET, &url, &[], "", deadline).await {
            Ok(answer) => answer.body(limit).await,
            Err(error) => Err(error),
        };
        server.abort();
        outcome
    }

    #[tokio::test]
    async fn each_failure_has_its_kind() {
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(get(whole, false, 5).await.unwrap(), "hello");
        for (answer, hold, limit, kind) in [
            (whole, false, 4, "too_large"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel", false, 99, "closed"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
                false,
                99,
                "closed",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel", true, 99, "timeout"),
            ("", true, 99, "timeout"),
            ("", false, 99, "closed"),
        ] {
            let error = get(answer, hold, limit).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{answer:?}: {error}");
        }
    }

    #[tokio::test]
    async fn bad_urls_and_closed_ports_are_told_apart() {
        let client = HttpClient::new();
        let soon = Instant::now() + Duration::from_secs(5);
        for url in ["", "nonsense", "https://127.0.0.1/", "/path", "ftp://x/"] {
            let error = client.send(Method::GET, url, &[], "", soon).await.unwrap_err();
            assert_eq!(error.kind(), "url", "{url}");
        }
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let url = format!("http://127.0.0.1:{port}/");
        let error = client.send(Method::GET, &url, &[], "", soon).await.unwrap_err();
        assert_eq!(error.kind(), "refused");
    }
}
