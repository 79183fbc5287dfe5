//! What a client is told that gets no answer: a status, a short name, the reason, and when to come back.

use crate::body::Body;
use crate::upstream::call::CallError;
use http::{HeaderValue, Response, StatusCode, header};
use std::time::Duration;

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: StatusCode,
    pub(crate) error: &'static str,
    pub(crate) reason: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: StatusCode, error: &'static str, reason: impl Into<String>) -> Self {
        Self { code, error, reason: reason.into(), retry_after: None }
    }

    /// The request cannot be meant.
    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", reason)
    }

    pub(crate) fn not_found(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", reason)
    }

    /// Not now.
    pub(crate) fn unavailable(reason: impl Into<String>, retry_after: Duration) -> Self {
        let code = StatusCode::SERVICE_UNAVAILABLE;
        Self { retry_after: Some(retry_after), ..Self::new(code, "Service unavailable", reason) }
    }

    pub(crate) fn respond(&self) -> Response<Body> {
        let text = serde_json::json!({
            "success": false, "error": self.error, "reason": self.reason,
        });
        let mut response = json(self.code, text.to_string());
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        let second = Duration::from_secs(1);
        match error {
            CallError::Busy => {
                Self::unavailable("the tool has all the calls that it can take, try again", second)
            }
            CallError::LeftAlone(wait) => {
                Self::unavailable("the tool failed too often and is left alone for a while", wait)
            }
            CallError::Late => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "External API request failed",
                "the tool did not answer in time",
            ),
            CallError::Failed(why) => Self::new(
                StatusCode::BAD_GATEWAY,
                "External API request failed",
                format!("the tool failed: {why}"),
            ),
            CallError::Unsent => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "Bad request",
                "the body did not come whole, or too slowly",
            ),
            CallError::Refused(code, why) => Self::new(
                StatusCode::BAD_GATEWAY,
                "External API request failed",
                format!("the tool refused the request with {code}: {why}"),
            ),
        }
    }
}

/// An answer in JSON.
pub(crate) fn json(code: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(text));
    *response.status_mut() = code;
    let value = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
