//! Requests to others: bounded in bytes and in time, with failures that name their kind.

use crate::PlatformError;
use crate::tls::Tls;
use bytes::{Bytes, BytesMut};
pub use http::Method;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Why a request got no usable answer. A closed set, fit for a label.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is no URL that this client takes.
    #[error(
        "{0:?} is no URL of the form http://host:port/path, or https:// from a client with TLS"
    )]
    Url(String),
    /// The host's name has no address.
    #[error("could not resolve the host name: {0}")]
    Resolve(String),
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The server's certificate is none that we trust, or it does not speak TLS.
    #[error("no trusted TLS connection: {0}")]
    Tls(String),
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
            Self::Tls(_) => "tls",
            Self::Connect(_) => "connect",
            Self::Closed(_) => "closed",
            Self::Timeout => "timeout",
            Self::TooLarge(_) => "too_large",
        }
    }
}

/// Text as it may stand in a URL, such as a value of a parameter: all but what RFC 3986 calls unreserved is encoded.
pub fn percent(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            (byte as char).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// A client with a small pool of idle connections. Clones share it.
#[derive(Clone, Debug)]
pub struct HttpClient(Arc<Pool>);

#[derive(Debug)]
enum Pool {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
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
    /// The `Retry-After` header, if it is a number of seconds.
    pub retry_after: Option<Duration>,
    body: Incoming,
    deadline: Instant,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    /// A client for `http://`; must be used within a tokio runtime.
    pub fn new() -> Self {
        Self(Arc::new(Pool::Plain(pool(connector()))))
    }

    /// A client for `https://` too; must be used within a tokio runtime.
    ///
    /// # Errors
    /// A file of `tls` could not be read, or its server name is none.
    pub fn with_tls(tls: &Tls) -> Result<Self, PlatformError> {
        let mut connector = connector();
        connector.enforce_http(false);
        let builder =
            HttpsConnectorBuilder::new().with_tls_config(tls.client_config()?).https_or_http();
        let builder = match &tls.server_name {
            None => builder,
            Some(name) => {
                let name = ServerName::try_from(name.clone()).map_err(|error| {
                    PlatformError::Reading { what: "the TLS server name", cause: error.to_string() }
                })?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
        };
        let pool = pool(builder.enable_http1().wrap_connector(connector));
        Ok(Self(Arc::new(Pool::Tls(pool))))
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
        let fits = match (&*self.0, uri.scheme_str()) {
            (_, Some("http")) | (Pool::Tls(_), Some("https")) => uri.host().is_some(),
            _ => false,
        };
        if !fits {
            return Err(HttpError::Url(url.to_owned()));
        }
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body.into()))
            .map_err(|error| HttpError::Url(format!("{url}: {error}")))?;
        let answer = match &*self.0 {
            Pool::Plain(client) => client.request(request),
            Pool::Tls(client) => client.request(request),
        };
        let sent = timeout_at(deadline, answer).await;
        let answer = sent.map_err(|_| HttpError::Timeout)?.map_err(|error| classify(&error))?;
        let (head, body) = answer.into_parts();
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            content_type: header(http::header::CONTENT_TYPE).map(str::to_owned),
            content_encoding: header(http::header::CONTENT_ENCODING).map(str::to_owned),
            retry_after: header(http::header::RETRY_AFTER)
                .and_then(|text| text.trim().parse().ok())
                .map(Duration::from_secs),
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

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

fn pool<C: Connect + Clone>(connector: C) -> Client<C, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(2)
        // Each idle connection keeps its buffer; an answer may be as long as it likes all the same.
        .http1_max_buf_size(64 << 10)
        .build(connector)
}

fn classify(error: &hyper_util::client::legacy::Error) -> HttpError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(link) = cause {
        if let Some(io) = link.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return HttpError::Refused;
        }
        // What rustls says comes wrapped in errors of the connection, which hide it from `source`.
        let mut io = link.downcast_ref::<io::Error>();
        while let Some(inner) = io.and_then(io::Error::get_ref) {
            if inner.is::<rustls::Error>() {
                return HttpError::Tls(inner.to_string());
            }
            io = inner.downcast_ref();
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

    /// A server that answers `ok` over TLS to clients that `authority` vouches for, or to any without.
    async fn tls_server(
        certificate: &rcgen::CertifiedKey<rcgen::KeyPair>,
        authority: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>,
    ) -> u16 {
        use rustls::pki_types::PrivateKeyDer;
        use rustls::server::WebPkiClientVerifier;
        let provider = std::sync::Arc::new(crate::tls::provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.cert.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
        let config = builder.with_single_cert(vec![certificate.cert.der().clone()], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                let mut request = [0; 512];
                let _ = stream.read(&mut request).await;
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        });
        port
    }

    #[tokio::test]
    async fn tls_servers_are_verified_and_want_to_know_us() {
        let dir = tempfile::tempdir().unwrap();
        let pem = |name: &str, text: String| {
            let path = dir.path().join(name);
            crate::durable::replace(&path, text.as_bytes()).unwrap();
            path
        };
        let server = rcgen::generate_simple_self_signed(["gateway.test".to_owned()]).unwrap();
        let ours = rcgen::generate_simple_self_signed(["monitor.test".to_owned()]).unwrap();
        let ca_file = Some(pem("server.pem", server.cert.pem()));
        let identity = Some((
            pem("ours.pem", ours.cert.pem()),
            pem("ours.key", ours.signing_key.serialize_pem()),
        ));
        let (open, strict) =
            (tls_server(&server, None).await, tls_server(&server, Some(&ours)).await);
        let named = Tls { server_name: Some("gateway.test".to_owned()), ..Tls::default() };
        let get = async |port: u16, tls: Tls| {
            let soon = Instant::now() + Duration::from_secs(5);
            let url = format!("https://127.0.0.1:{port}/");
            let client = HttpClient::with_tls(&tls).unwrap();
            match client.send(Method::GET, &url, &[], "", soon).await {
                Ok(answer) => answer.body(9).await.map_err(|error| error.kind()),
                Err(error) => Err(error.kind()),
            }
        };
        let trusting = Tls { ca_file: ca_file.clone(), ..named.clone() };
        assert_eq!(get(open, trusting.clone()).await.unwrap(), "ok");
        assert_eq!(get(open, Tls { ca_file, ..Tls::default() }).await, Err("tls"), "another name");
        let other = Some(pem("other.pem", ours.cert.pem()));
        assert_eq!(
            get(open, Tls { ca_file: other, ..named }).await,
            Err("tls"),
            "another authority"
        );
        let insecure = Tls { insecure: true, ..Tls::default() };
        assert_eq!(get(open, insecure).await.unwrap(), "ok");
        assert!(get(strict, trusting.clone()).await.is_err(), "it wants a certificate");
        assert_eq!(get(strict, Tls { identity, ..trusting }).await.unwrap(), "ok");
        let missing = Tls { ca_file: Some("/no/such.pem".into()), ..Tls::default() };
        let error = HttpClient::with_tls(&missing).unwrap_err().to_string();
        assert!(error.contains("could not read certificates from \"/no/such.pem\""), "{error}");
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
