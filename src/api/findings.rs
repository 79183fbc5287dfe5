//! What detectors found, and what people say of it.

use super::{Api, error};
use analyzer::{Finding, Severity, Verdict};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

/// Which findings are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// At most so many, the newest first; a thousand at the most.
    #[serde(default = "most")]
    limit: usize,
    /// Of this severity and above.
    severity: Option<Severity>,
    /// Only those that go on.
    #[serde(default)]
    open: bool,
    /// Also those that belong to another.
    #[serde(default)]
    all: bool,
}

fn most() -> usize {
    100
}

/// `GET /api/v1/findings?limit=100&severity=ticket&open=true&all=true`
pub(crate) async fn list(
    State(api): State<Api>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(cause) => return error::problem(StatusCode::BAD_REQUEST, &cause.body_text()),
    };
    let wanted = |it: &Finding| {
        asked.severity.is_none_or(|least| it.severity >= least)
            && (!asked.open || it.until.is_none())
            && (asked.all || it.belongs_to.is_none())
    };
    Json(json!({ "findings": api.findings.newest(asked.limit.min(1_000), wanted) })).into_response()
}

fn missing(id: &str) -> Response {
    let text = format!("no finding has the id {id}; /api/v1/findings lists them");
    error::problem(StatusCode::NOT_FOUND, &text)
}

/// `GET /api/v1/findings/{id}`
pub(crate) async fn one(State(api): State<Api>, Path(id): Path<String>) -> Response {
    match api.findings.newest(1, |it| it.id == id).pop() {
        Some(finding) => Json(finding).into_response(),
        None => missing(&id),
    }
}

/// What a person says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    verdict: Verdict,
}

/// `POST /api/v1/findings/{id}/feedback` with `{"verdict": "nothing"}` or `{"verdict": "right"}`
pub(crate) async fn feedback(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let Feedback { verdict } = match serde_json::from_slice(&body) {
        Ok(feedback) => feedback,
        Err(cause) => {
            let text = format!(
                "the body must be {{\"verdict\": \"nothing\"}} or {{\"verdict\": \"right\"}}: {cause}"
            );
            return error::problem(StatusCode::BAD_REQUEST, &text);
        }
    };
    // Written to the journal, so it may wait for the disk.
    let (findings, own) = (api.findings.clone(), id.clone());
    match tokio::task::spawn_blocking(move || findings.judge(&own, verdict)).await {
        Ok(Some(finding)) => Json(finding).into_response(),
        Ok(None) => missing(&id),
        Err(cause) => error::problem(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string()),
    }
}
