//! How the monitor is.

use super::Api;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

/// `GET /metrics`
pub(crate) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.registry.page())
}

/// `GET /health`: the state of what we collect from, for people and programs.
pub(crate) async fn health(State(api): State<Api>) -> Json<Value> {
    let targets = api.board.read();
    let down = targets.iter().filter(|target| target.up == Some(false)).count();
    let reason = format!("{down} of {} targets down", targets.len());
    let state = if down == 0 { "healthy" } else { "degraded" };
    Json(json!({
        "status": state,
        "time": api.clock.now().to_string(),
        "checks": [{ "name": "targets", "state": state, "reason": reason }],
    }))
}
