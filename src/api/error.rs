//! Failures as status codes and bodies, in one place.

use analyzer::QueryError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A problem, as JSON.
pub(crate) fn problem(code: StatusCode, text: &str) -> Response {
    let body = json!({ "error": text }).to_string();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Why a query has no answer.
pub(crate) fn query(error: &QueryError) -> Response {
    let code = match error {
        QueryError::Invalid(_) => StatusCode::BAD_REQUEST,
        QueryError::Rows(_) => StatusCode::UNPROCESSABLE_ENTITY,
        QueryError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        QueryError::Memory(_) => StatusCode::SERVICE_UNAVAILABLE,
        QueryError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(code, &error.to_string())
}
