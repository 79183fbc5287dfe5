//! Requests passed on as they are: streamed both ways, without the headers that are between neighbours only.

use super::tool::{Tool, Uploading};
use crate::admit::limiter::Ending;
use crate::body::{Body, BodyError};
use crate::chaos::body::Maimed;
use crate::meters::Outcome;
use crate::request::InFlight;
use crate::upstream::call::CallError;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

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
/// What a client says of itself.
const CLAIMS: [HeaderName; 3] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// Passes a request on to `tool` and its answer back.
pub(crate) async fn pass(
    tool: &Arc<Tool>,
    mut request: Request<Upload>,
    target: Uri,
    from: &HeaderValue,
    in_flight: InFlight,
    (breakers, maimed): (bool, Option<Maimed>),
    credential: Option<String>,
) -> Result<Response<Body>, CallError> {
    let Some(links) = &tool.links else {
        return Err(CallError::Failed("it has no base_url".to_owned()));
    };
    let body = request.body_mut();
    body.uploading = body.is_coming().then(|| tool.let_upload()).transpose()?;
    let (ticket, mut place) = tool.enter(breakers).await?;
    let with_http_2 = request.version() == http::Version::HTTP_2;
    let upload = Arc::clone(&request.body().state);
    let mut request = forwarded(request, target, from);
    if let Some(own) = credential.and_then(|it| HeaderValue::try_from(format!("Bearer {it}")).ok())
    {
        request.headers_mut().insert(header::AUTHORIZATION, own);
    }
    let asked = tool.asked(ticket, Some(Arc::clone(&upload)), place.since());
    let mut asking = pin!(links.ask(request));
    let answer = loop {
        let before = upload.bytes();
        let step = timeout(tool.config.timeout, asking.as_mut()).await;
        // An upload has no limit but its pace.
        if step.is_ok() || upload.bytes() - before < pace(tool.config.timeout) {
            break step;
        }
    };
    let took = place.took();
    tool.meter.seconds.observe(took.as_secs_f64());
    let outcome = match &answer {
        Ok(Ok(answer)) if answer.status().as_u16() < 500 => Outcome::Good,
        Ok(Ok(_)) => Outcome::Failed,
        Ok(Err(_)) => Outcome::Unreachable,
        Err(_) => Outcome::Late,
    };
    let of_the_client = match outcome {
        Outcome::Late => upload.waits_for_client(),
        Outcome::Unreachable => upload.broke_off(),
        _ => false,
    };
    if of_the_client {
        // It did not send what it promised: that says nothing of the tool.
        asked.of_nothing();
        return Err(CallError::Unsent);
    }
    asked.ended(outcome);
    match answer {
        Ok(Ok(answer)) => {
            let ending = match answer.status().as_u16() {
                429 | 503 => Ending::Overloaded,
                _ => Ending::Answered,
            };
            place.ended_after(took, ending);
            let (mut head, body) = answer.into_parts();
            clean(&mut head.headers);
            head.version = http::Version::HTTP_11; // ours, whatever the tool's is
            let pause = tool.config.timeout;
            let body = Body::pass(body, place, in_flight, pause, (with_http_2, maimed));
            Ok(Response::from_parts(head, body))
        }
        Ok(Err(failed)) => Err(CallError::Failed(failed.words)),
        Err(_) => {
            place.ended(Ending::Overloaded);
            Err(CallError::Late)
        }
    }
}

/// The least that comes of an upload in `time`: 1 KiB a second.
fn pace(time: Duration) -> u64 {
    1_024 * time.as_secs().max(1)
}

/// The request as the tool gets it.
fn forwarded(request: Request<Upload>, target: Uri, from: &HeaderValue) -> Request<Upload> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok());
    let host = head.headers.remove(header::HOST).or(authority);
    if head.headers.keys().any(|name| CLAIMS.contains(name)) {
        CLAIMS.iter().for_each(|name| drop(head.headers.remove(name)));
    }
    clean(&mut head.headers);
    if body.is_coming() && body.size_hint().exact().is_none() {
        // A GET of unknown length would be taken for one without a body.
        head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    join_cookies(&mut head.headers);
    head.headers.remove(header::AUTHORIZATION); // the gateway's own, not the tool's
    let before = head.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let all = before.zip(from.to_str().ok()).map(|(before, from)| format!("{before}, {from}"));
    let from = all.and_then(|all| HeaderValue::try_from(all).ok()).unwrap_or_else(|| from.clone());
    head.headers.insert("x-forwarded-for", from);
    if let Some(host) = host {
        head.headers.insert("x-forwarded-host", host);
    }
    head.uri = target;
    head.version = http::Version::HTTP_11;
    Request::from_parts(head, body)
}

/// HTTP/2 clients may send several, HTTP/1 servers know one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(one) = HeaderValue::from_bytes(&all.join(b"; ".as_slice())) {
        headers.insert(header::COOKIE, one);
    }
}

/// How far a client's body is, and how much of it was passed on.
#[derive(Debug, Default)]
pub(super) struct UploadState(AtomicU8, AtomicU64);

/// The tool may have more of it and does not take it.
const THERE: u8 = 0;
/// The client has not sent what comes next.
const AWAITED: u8 = 1;
/// The client broke off.
const BROKEN_OFF: u8 = 2;
/// All of it was taken.
const WHOLE: u8 = 3;

impl UploadState {
    fn is(&self, state: u8) -> bool {
        self.0.load(Ordering::Relaxed) == state
    }

    fn bytes(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    pub(super) fn waits_for_client(&self) -> bool {
        self.is(AWAITED) || self.is(BROKEN_OFF)
    }

    fn broke_off(&self) -> bool {
        self.is(BROKEN_OFF)
    }
}

/// A client's body: there already, or on its way; it tells how far it is.
pub(crate) struct Upload {
    body: Part,
    state: Arc<UploadState>,
    /// While it is on its way to a tool.
    uploading: Option<Uploading>,
}

enum Part {
    Whole(Full<Bytes>),
    Coming(Incoming),
}

impl Upload {
    /// All of it is there.
    pub(crate) fn whole(body: Bytes) -> Self {
        let state = Arc::new(UploadState(AtomicU8::new(WHOLE), AtomicU64::new(0)));
        Self { body: Part::Whole(Full::new(body)), state, uploading: None }
    }

    /// Passed on piece by piece.
    pub(crate) fn coming(body: Incoming) -> Self {
        let state = if body.is_end_stream() { WHOLE } else { THERE };
        let state = Arc::new(UploadState(AtomicU8::new(state), AtomicU64::new(0)));
        Self { body: Part::Coming(body), state, uploading: None }
    }

    /// Whether its end is yet to come.
    fn is_coming(&self) -> bool {
        matches!(self.body, Part::Coming(_)) && !self.state.is(WHOLE)
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
            Part::Whole(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Part::Coming(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(BodyError::from))),
        };
        let state = match &frame {
            Poll::Pending => AWAITED,
            Poll::Ready(Some(Err(_))) => BROKEN_OFF,
            Poll::Ready(None) => WHOLE,
            Poll::Ready(Some(Ok(_))) if self.is_end_stream() => WHOLE,
            Poll::Ready(Some(Ok(_))) => THERE,
        };
        self.state.0.store(state, Ordering::Relaxed);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.state.1.fetch_add(length, Ordering::Relaxed);
        }
        if state == WHOLE {
            self.uploading = None;
        }
        frame
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
    // Most have none: to look at each is less than to look for all of them.
    if !headers.keys().any(|name| HOP.contains(name)) {
        return;
    }
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
        for value in ["a=1", "b=2"] {
            headers.append("cookie", HeaderValue::from_static(value));
        }
        join_cookies(&mut headers);
        let cookies: Vec<_> = headers.get_all("cookie").into_iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }
}
