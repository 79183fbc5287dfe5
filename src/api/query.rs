//! SQL in, rows out.

use super::{Api, error};
use analyzer::Format;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    query: String,
    #[serde(default)]
    params: Vec<serde_json::Value>,
}

/// `POST /api/v1/sql`
pub(crate) async fn sql(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Body = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(cause) => {
            let text =
                format!("the body must be {{\"query\": \"SELECT …\", \"params\": […]}}: {cause}");
            return error::problem(StatusCode::BAD_REQUEST, &text);
        }
    };
    let accept =
        headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::from_accept(accept);
    let answer = match api.query.run(&body.query, &body.params).await {
        Ok(answer) => answer,
        Err(cause) => return error::query(&cause),
    };
    // Large answers take long to write down; other requests go on meanwhile.
    let encoded = tokio::task::spawn_blocking(move || answer.encode(format)).await;
    match encoded {
        Ok(Ok(bytes)) => ([(header::CONTENT_TYPE, format.media_type())], bytes).into_response(),
        Ok(Err(cause)) => error::query(&cause),
        Err(cause) => error::problem(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string()),
    }
}

/// `GET /api/v1/forecasts`: when each resource is full.
pub(crate) async fn capacity(State(api): State<Api>) -> Response {
    match api.query.capacity(None).await {
        Ok(capacity) => axum::Json(capacity).into_response(),
        Err(cause) => error::query(&cause),
    }
}
