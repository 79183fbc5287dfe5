//! Remote-write in.

use super::{Api, body, error};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use collector::PushError;

/// Seconds after which a sender that was turned away should come again.
const RETRY_AFTER: &str = "1";

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
    let body = match body::read(request.into_body(), (api.max_push, "api.max_push_size")).await {
        Ok(body) => body,
        Err(refused) => return *refused,
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
