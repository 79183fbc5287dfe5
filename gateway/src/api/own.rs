//! How the gateway is, asked on either listener.

use crate::body::Body;
use crate::health::board::{Board, State};
use crate::refusal::{Refusal, json};
use crate::request::DataPlane;
use http::{HeaderValue, Response, StatusCode, header};
use telemetry::Registry;

pub(crate) fn answer(plane: &DataPlane, path: &str) -> Result<Response<Body>, Refusal> {
    page(path, &plane.board, &plane.registry).ok_or_else(|| Refusal::not_found("no such page"))
}

/// `/live`, `/ready`, `/health` or `/metrics`.
pub(crate) fn page(path: &str, board: &Board, registry: &Registry) -> Option<Response<Body>> {
    let unless = |good: bool| match good {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    Some(match path {
        "/live" => text(StatusCode::OK, "live\n"),
        "/ready" => {
            let ready = board.is_ready();
            text(unless(ready), if ready { "ready\n" } else { "not ready\n" })
        }
        "/health" => {
            let report = board.report();
            let code = unless(report.status != State::Failed && board.is_sound());
            json(code, serde_json::to_string(&report).unwrap_or_default())
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, registry.page());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        _ => return None,
    })
}

fn text(code: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(text));
    *response.status_mut() = code;
    let value = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
