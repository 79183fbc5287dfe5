//! The HTTP interface described, as OpenAPI 3.1.

use axum::Json;
use serde_json::{Map, Value, json};

/// Path, method, role, what it does, and the body that it takes.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

const NO_BODY: &str = "";

const OPERATIONS: [Row; 33] = [
    ("/live", "get", "", "Whether the process lives", NO_BODY),
    ("/ready", "get", "", "Whether it answers", NO_BODY),
    ("/health", "get", "", "How it is, check by check", NO_BODY),
    ("/metrics", "get", "read", "Our own metrics, as Prometheus text", NO_BODY),
    ("/runbook/{alert}", "get", "", "What to do about a built-in alert, as Markdown", NO_BODY),
    ("/api/v1/openapi.json", "get", "", "This document", NO_BODY),
    (
        "/api/v1/sql",
        "post",
        "read",
        "Runs a query; Accept chooses JSON, CSV, Arrow or Parquet",
        r#"{"query": "SELECT …", "params": []}"#,
    ),
    ("/api/v1/write", "post", "operate", "Takes samples by Prometheus Remote-Write 1.0", "snappy"),
    (
        "/api/v1/import",
        "post",
        "operate",
        "The same for samples as old as retention allows",
        "snappy",
    ),
    ("/api/v1/targets", "get", "read", "What is scraped, and how it is", NO_BODY),
    ("/api/v1/forecasts", "get", "read", "When each resource is full", NO_BODY),
    (
        "/api/v1/findings",
        "get",
        "read",
        "What detectors found; limit, severity, open, all",
        NO_BODY,
    ),
    ("/api/v1/findings/{id}", "get", "read", "One finding", NO_BODY),
    (
        "/api/v1/findings/{id}/feedback",
        "post",
        "operate",
        "Says what a finding was worth",
        r#"{"verdict": "nothing"}"#,
    ),
    (
        "/api/v1/alerts",
        "get",
        "read",
        "Alerts, firing ones first; limit, state, rule, severity, past",
        NO_BODY,
    ),
    (
        "/api/v1/alerts/{id}/acknowledge",
        "post",
        "operate",
        "Says that the caller looks after an alert, by its fingerprint",
        NO_BODY,
    ),
    ("/api/v1/incidents", "get", "read", "Incidents, the newest first; limit", NO_BODY),
    (
        "/api/v1/incidents/{id}/acknowledge",
        "post",
        "operate",
        "Says that the caller looks after all of an incident",
        NO_BODY,
    ),
    (
        "/api/v1/silences",
        "get",
        "read",
        "Silences that are not over, the newest first; limit, past",
        NO_BODY,
    ),
    (
        "/api/v1/silences",
        "post",
        "operate",
        "Sets a silence, with ends or duration",
        r#"{"matchers": "alertname=\"TargetDown\"", "duration": "2h", "reason": "moving the rack"}"#,
    ),
    ("/api/v1/silences/{id}", "delete", "operate", "Ends a silence now", NO_BODY),
    (
        "/api/v1/rules",
        "get",
        "read",
        "Rules with their health and the numbers of their alerts",
        NO_BODY,
    ),
    (
        "/api/v1/receivers",
        "get",
        "read",
        "Receivers with what waits for them; nothing secret",
        NO_BODY,
    ),
    ("/api/v1/notifications", "get", "read", "Messages, those that wait first; limit", NO_BODY),
    (
        "/api/v1/remediations",
        "get",
        "read",
        "Runs of runbooks, and how often each step helped; limit",
        NO_BODY,
    ),
    ("/api/v1/remediation", "get", "read", "Whether remediation is on", NO_BODY),
    (
        "/api/v1/remediation",
        "post",
        "operate",
        "The kill switch; forgive takes up steps again that were struck off",
        r#"{"allowed": false}"#,
    ),
    ("/api/v1/chaos", "get", "read", "Experiments: what is configured, waits, was done", NO_BODY),
    (
        "/api/v1/chaos",
        "post",
        "operate",
        "Runs an experiment, of the configuration by its name or as it is given",
        r#"{"fault": "latency", "tool": "serpapi", "amount": 0.5, "duration": "30s"}"#,
    ),
    ("/api/v1/chaos/{id}", "get", "read", "One event", NO_BODY),
    ("/api/v1/chaos/{id}", "delete", "operate", "Ends an event, or takes it back", NO_BODY),
    ("/api/v1/audit", "get", "read", "Who changed what; limit", NO_BODY),
    ("/", "get", "", "The page for people", NO_BODY),
];

/// `GET /api/v1/openapi.json`
pub(crate) async fn document() -> Json<Value> {
    let mut paths: Map<String, Value> = Map::new();
    for row in &OPERATIONS {
        let path = paths.entry(row.0).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(row.1.to_owned(), operation(row));
        }
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": { "title": "Forerunner monitor", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Problem": { "type": "object", "required": ["error"], "properties": { "error": { "type": "string" } } } },
        },
    }))
}

fn operation(&(path, _, role, summary, body): &Row) -> Value {
    let problem = |text: &str| json!({ "description": text, "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } } });
    let mut operation = json!({
        "summary": summary,
        "responses": { "200": { "description": "done" } },
    });
    let Some(own) = operation.as_object_mut() else { return operation };
    let parameter = |name: &str, place: &str, kind: &str| json!({ "name": name, "in": place, "required": place == "path", "schema": { "type": kind } });
    let mut parameters: Vec<Value> = path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .map(|name| parameter(name, "path", "string"))
        .collect();
    // Names after a semicolon are those of the query.
    for name in summary.split_once("; ").map_or("", |(_, rest)| rest).split(", ") {
        let kind = match name {
            "limit" => "integer",
            "open" | "all" | "past" => "boolean",
            "state" | "rule" | "severity" => "string",
            _ => continue,
        };
        parameters.push(parameter(name, "query", kind));
    }
    if !parameters.is_empty() {
        own.insert("parameters".to_owned(), Value::Array(parameters));
    }
    if body == "snappy" {
        own.insert(
            "requestBody".to_owned(),
            json!({ "content": { "application/x-protobuf": {} } }),
        );
    } else if !body.is_empty() {
        let example: Value = serde_json::from_str(body).unwrap_or_default();
        let content =
            json!({ "application/json": { "schema": { "type": "object" }, "example": example } });
        own.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
    }
    if !role.is_empty() {
        own.insert("security".to_owned(), json!([{ "token": [role] }]));
        if let Some(responses) = own.get_mut("responses").and_then(Value::as_object_mut) {
            responses
                .insert("400".to_owned(), problem("not understood; the error says what to give"));
            responses.insert("401".to_owned(), problem("no token, where one is needed"));
            responses.insert("403".to_owned(), problem("a token that does not allow this"));
        }
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::OPERATIONS;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes: Vec<&str> = include_str!("mod.rs")
            .lines()
            .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split('"').next())
            .collect();
        assert!(routes.len() > 20, "{routes:?}");
        for route in &routes {
            assert!(OPERATIONS.iter().any(|row| row.0 == *route), "{route} is not described");
        }
        for row in OPERATIONS {
            assert!(routes.contains(&row.0), "{} is no route", row.0);
            assert!(
                row.4.is_empty()
                    || row.4 == "snappy"
                    || serde_json::from_str::<serde_json::Value>(row.4).is_ok()
            );
        }
    }
}
