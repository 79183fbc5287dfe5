//! Requests passed on as they are: streamed both ways, without the headers that are between neighbours only.

use super::tool::Tool;
use crate::admit::limiter::Ending;
use crate::body::{Body, BodyError};
use crate::lane;
use crate::meters::Outcome;
use crate::request::InFlight;
use crate::upstream::call::CallError;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Between neighbours only (RFC 9110, section 7.6.1).
const HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Idle connections to one tool are closed after this.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept to one tool.
const KEPT: usize = 64;

type Sent = UnsyncBoxBody<Bytes, BodyError>;
type Pool<C> = hyper_util::client::legacy::Client<C, Sent>;

/// Connections to tools, apart for each thread of the data plane.
#[derive(Debug)]
pub(crate) struct Client(Vec<Pools>);

#[derive(Debug)]
struct Pools {
    plain: Pool<HttpConnector>,
    tls: Option<Pool<HttpsConnector<HttpConnector>>>,
}

impl Client {
    /// With TLS only if a tool needs it: reading the system's authorities takes time and memory.
    pub(crate) fn new(with_tls: bool, threads: usize) -> Result<Self, platform::PlatformError> {
        (0..threads.max(1)).map(|_| Pools::new(with_tls)).collect::<Result<_, _>>().map(Self)
    }

    fn here(&self) -> Option<&Pools> {
        self.0.get(lane::here()).or(self.0.first())
    }

    /// Sends what is there whole.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, String> {
        self.pass(request.map(|body| body.map_err(|never| match never {}).boxed_unsync())).await
    }

    async fn pass(&self, request: Request<Sent>) -> Result<Response<Incoming>, String> {
        let Some(pools) = self.here() else { return Err("no connections".to_owned()) };
        let answer = match (&pools.tls, request.uri().scheme_str()) {
            (Some(tls), Some("https")) => tls.request(request).await,
            _ => pools.plain.request(request).await,
        };
        answer.map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.unwrap_or_else(|| error.to_string())
        })
    }
}

impl Pools {
    fn new(with_tls: bool) -> Result<Self, platform::PlatformError> {
        let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_max_idle_per_host(KEPT);
        builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new());
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(3)));
        let plain = builder.build(connector.clone());
        let tls = match with_tls {
            false => None,
            true => {
                connector.enforce_http(false);
                let config = platform::tls::Tls::default().client_config()?;
                let connector = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_tls_config(config)
                    .https_or_http()
                    .enable_http1()
                    .wrap_connector(connector);
                Some(builder.build(connector))
            }
        };
        Ok(Self { plain, tls })
    }
}

/// Passes a request on to `tool` and its answer back.
pub(crate) async fn pass(
    client: &Client,
    tool: &Arc<Tool>,
    request: Request<Upload>,
    target: Uri,
    peer: IpAddr,
    in_flight: InFlight,
    breakers: bool,
) -> Result<Response<Body>, CallError> {
    let (ticket, mut place) = tool.enter(breakers).await?;
    let with_http_2 = request.version() == http::Version::HTTP_2;
    let uploaded = Arc::clone(&request.body().uploaded);
    let request = forwarded(request, target, peer);
    let start = Instant::now();
    let answer = timeout(tool.config.timeout, client.pass(request)).await;
    tool.meter.seconds.observe(start.elapsed().as_secs_f64());
    let outcome = match &answer {
        Ok(Ok(answer)) if answer.status().as_u16() < 500 => Outcome::Good,
        Ok(Ok(_)) => Outcome::Failed,
        Ok(Err(_)) => Outcome::Unreachable,
        Err(_) => Outcome::Late,
    };
    if matches!(outcome, Outcome::Late | Outcome::Unreachable) && !uploaded.load(Ordering::Relaxed)
    {
        // The client did not send what it promised: that says nothing of the tool.
        return Err(CallError::Unsent);
    }
    tool.ended(ticket, outcome);
    match answer {
        Ok(Ok(answer)) => {
            place.ended(match answer.status().as_u16() {
                429 | 503 => Ending::Overloaded,
                _ => Ending::Answered,
            });
            let (mut head, body) = answer.into_parts();
            clean(&mut head.headers);
            let pause = tool.config.timeout;
            let body = Body::pass(body, place, in_flight, pause, with_http_2);
            Ok(Response::from_parts(head, body))
        }
        Ok(Err(error)) => Err(CallError::Failed(error)),
        Err(_) => {
            place.ended(Ending::Overloaded);
            Err(CallError::Late)
        }
    }
}

/// The request as the tool gets it.
fn forwarded(request: Request<Upload>, target: Uri, peer: IpAddr) -> Request<Sent> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok());
    let host = head.headers.remove(header::HOST).or(authority);
    for name in ["forwarded", "x-forwarded-host", "x-forwarded-proto"] {
        head.headers.remove(name); // what a client says of itself
    }
    clean(&mut head.headers);
    head.headers.remove(header::AUTHORIZATION); // the gateway's own, not the tool's
    let before = head.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let from = match before {
        Some(before) => format!("{before}, {peer}"),
        None => peer.to_string(),
    };
    if let Ok(from) = HeaderValue::from_str(&from) {
        head.headers.insert("x-forwarded-for", from);
    }
    if let Some(host) = host {
        head.headers.insert("x-forwarded-host", host);
    }
    head.uri = target;
    head.version = http::Version::HTTP_11;
    Request::from_parts(head, body.boxed_unsync())
}

/// A client's body: there already, or on its way; it tells when all of it is.
pub(crate) struct Upload {
    body: Part,
    uploaded: Arc<AtomicBool>,
}

enum Part {
    Whole(Full<Bytes>),
    Coming(Incoming),
}

impl Upload {
    /// All of it is there.
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { body: Part::Whole(Full::new(body)), uploaded: Arc::new(AtomicBool::new(true)) }
    }

    /// Passed on piece by piece.
    pub(crate) fn coming(body: Incoming) -> Self {
        let uploaded = Arc::new(AtomicBool::new(body.is_end_stream()));
        Self { body: Part::Coming(body), uploaded }
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.body {
            Part::Whole(body) => ready!(Pin::new(body).poll_frame(context))
                .map(|frame| frame.map_err(|never| match never {})),
            Part::Coming(body) => ready!(Pin::new(body).poll_frame(context))
                .map(|frame| frame.map_err(BodyError::from)),
        };
        if frame.is_none() || self.is_end_stream() {
            self.uploaded.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Part::Whole(body) => body.is_end_stream(),
            Part::Coming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Part::Whole(body) => body.size_hint(),
            Part::Coming(body) => body.size_hint(),
        }
    }
}

/// Takes off what is between neighbours only, and what `Connection` names.
fn clean(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).into_iter().filter_map(|it| it.to_str().ok());
    let named = named.flat_map(|names| names.split(','));
    let named: Vec<HeaderName> = named.filter_map(|name| name.trim().parse().ok()).collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
    HOP.iter().for_each(|name| drop(headers.remove(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_neighbours_only_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("x-end", "2"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        clean(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-end"]);
    }
}
