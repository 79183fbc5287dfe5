//! The life of one request: admit → route → answer → record.

use crate::config::ToolConfig;
use crate::health::Vitals;
use crate::meters::Meters;
use crate::route::{self, Route};
use crate::tool;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use runtime::Jitter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// For the body of a request.
const BODY_TIME: Duration = Duration::from_secs(5);

/// What every request needs.
#[derive(Debug)]
pub(crate) struct DataPlane {
    pub(crate) tools: Vec<ToolConfig>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) meters: Meters,
    pub(crate) max_body: usize,
    pub(crate) seed: u64,
}

static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// One of the places for requests in flight; given back when dropped, also when the client goes away.
struct Place<'a>(&'a Vitals);

impl<'a> Place<'a> {
    fn take(vitals: &'a Vitals) -> Option<Self> {
        let take = |n| (n < vitals.max_in_flight).then_some(n + 1);
        vitals.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Self(vitals))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl DataPlane {
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let start = Instant::now();
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let route = route::find(&self.tools, request.uri().path());
        let name = route.name();
        let mut response = match Place::take(&self.vitals) {
            Some(_place) => self.admitted(request, route, number).await,
            None => {
                self.meters.shed.inc();
                refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests in flight, try again")
            }
        };
        let id = format!("{:016x}", self.seed.wrapping_add(number));
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-correlation-id", id);
        }
        self.meters.requests.with([&name, response.status().as_str()]).inc();
        self.meters.seconds.with([&name]).observe(start.elapsed().as_secs_f64());
        response
    }

    async fn admitted(
        &self,
        request: Request<Incoming>,
        route: Route<'_>,
        number: u64,
    ) -> Response<Full<Bytes>> {
        let (tool, action) = match route {
            Route::Tool(tool, action) => (tool, action),
            Route::Unknown(reason) => return refuse(StatusCode::NOT_FOUND, reason),
        };
        let body = Limited::new(request.into_body(), self.max_body).collect();
        let received = match timeout(BODY_TIME, body).await {
            Ok(Ok(body)) => body.to_bytes().len(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is over max_body_size");
            }
            Ok(Err(_)) => return refuse(StatusCode::BAD_REQUEST, "the body could not be read"),
            Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
        };
        let jitter = Jitter::seeded(self.seed.wrapping_add(number));
        let answer = tool::call(tool, action, received, jitter).await;
        json(StatusCode::OK, serde_json::to_string(&answer).unwrap_or_default())
    }
}

fn refuse(code: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let error = code.canonical_reason().unwrap_or("refused");
    let body = serde_json::json!({ "success": false, "error": error, "reason": reason });
    let mut response = json(code, body.to_string());
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json(code: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let value = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
