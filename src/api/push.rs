//! Remote-write in.

use super::{Api, error};
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use collector::PushError;
use std::time::Duration;

/// Seconds after which a sender that was turned away should come again.
const RETRY_AFTER: &str = "1";

/// For a request's body to arrive.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// `POST /api/v1/write`, Prometheus Remote-Write 1.0. Answered with 204 when durable.
pub(crate) async fn remote_write(State(api): State<Api>, request: Request) -> Response {
    take(api, request, false).await
}

/// `POST /api/v1/import`, the same for history: samples may be as old as retention allows.
pub(crate) async fn import(State(api): State<Api>, request: Request) -> Response {
    take(api, request, true).await
}

async fn take(api: Api, request: Request, history: bool) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.contains("io.prometheus.write.v2")) {
        let text = "remote-write 2.0 is not taken; set the sender's protobuf_message to prometheus.WriteRequest";
        return error::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    // The turn comes first: a body in memory is one of a few, however many send at once.
    let turn = api.remote_write.turn().await;
    let reading = to_bytes(request.into_body(), api.max_push);
    let body = match tokio::time::timeout(READ_WITHIN, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(cause)) => {
            let text = format!("the body is over api.max_push_size or broke off: {cause}");
            return error::problem(StatusCode::PAYLOAD_TOO_LARGE, &text);
        }
        Err(_) => {
            let text = format!("the body did not arrive within {READ_WITHIN:?}");
            return error::problem(StatusCode::REQUEST_TIMEOUT, &text);
        }
    };
    let taken = match history {
        false => api.remote_write.take(turn, body).await,
        true => api.remote_write.take_history(turn, body).await,
    };
    match taken {
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
