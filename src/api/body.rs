//! A request's body, whole before its handler runs: within a size and a time.

use super::error;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use std::time::Duration;

/// For the whole body: whoever sends a byte now and then holds a connection no longer.
const WITHIN: Duration = Duration::from_secs(10);

/// Most bytes, and the setting that says so.
pub(super) type Limit = (usize, &'static str);

/// Reads `body`, or says why not.
pub(super) async fn read(body: Body, (most, setting): Limit) -> Result<Bytes, Box<Response>> {
    let refused = |code, text: String| Err(Box::new(error::problem(code, &text)));
    if body.size_hint().lower() > most as u64 {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {setting}"));
    }
    match tokio::time::timeout(WITHIN, to_bytes(body, most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(cause)) => {
            let text = format!("the body is over {setting} or broke off: {cause}");
            refused(StatusCode::PAYLOAD_TOO_LARGE, text)
        }
        Err(_) => {
            let text = format!("the body did not arrive within {WITHIN:?}");
            refused(StatusCode::REQUEST_TIMEOUT, text)
        }
    }
}

/// Lets a handler run once the body is there.
pub(super) async fn whole(State(limit): State<Limit>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match read(body, limit).await {
        Ok(body) => next.run(Request::from_parts(head, Body::from(body))).await,
        Err(refused) => *refused,
    }
}
