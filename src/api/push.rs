//! Remote-write in.

use super::{Api, error};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use collector::PushError;

/// Seconds after which a sender that was turned away should come again.
const RETRY_AFTER: &str = "1";

/// `POST /api/v1/write`, Prometheus Remote-Write 1.0. Answered with 204 when durable.
pub(crate) async fn remote_write(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header(header::CONTENT_TYPE).contains("io.prometheus.write.v2") {
        let text = "remote-write 2.0 is not taken; set the sender's protobuf_message to prometheus.WriteRequest";
        return error::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    match api.remote_write.take(body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(cause @ (PushError::Malformed(_) | PushError::Refused { .. })) => {
            error::problem(StatusCode::BAD_REQUEST, &cause.to_string())
        }
        Err(cause @ PushError::Unavailable(_)) => {
            let answer = error::problem(StatusCode::SERVICE_UNAVAILABLE, &cause.to_string());
            ([(header::RETRY_AFTER, RETRY_AFTER)], answer).into_response()
        }
    }
}
