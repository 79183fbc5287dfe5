//! What is scraped and how it is.

use super::Api;
use axum::Json;
use axum::extract::State;
use collector::TargetStatus;
use serde_json::{Value, json};

/// `GET /api/v1/targets`
pub(crate) async fn targets(State(api): State<Api>) -> Json<Value> {
    let targets: Vec<Value> = api.board.read().iter().map(target).collect();
    Json(json!({ "targets": targets }))
}

fn target(status: &TargetStatus) -> Value {
    let labels: serde_json::Map<String, Value> =
        status.labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    json!({
        "url": status.url,
        "labels": labels,
        "up": status.up,
        "last_scrape": status.last_scrape.map(|time| time.to_string()),
        "duration_seconds": status.duration.as_secs_f64(),
        "attempts": status.attempts,
        "samples": status.samples,
        "last_error": status.last_error,
        "malformed_lines": status.malformed_lines,
        "malformed": status.malformed.iter().map(|bad| json!({
            "line": bad.line,
            "reason": bad.reason.to_string(),
            "text": bad.excerpt,
        })).collect::<Vec<_>>(),
    })
}
