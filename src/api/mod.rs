//! The monitor's HTTP interface: routes, body limit, authentication.
//!
//! - `findings`: what detectors found, and what people say of it
//! - `query`: SQL in, rows out; `push`: remote-write in; `targets`: what is scraped and how it is
//! - `health`: `/live`, `/ready`, `/health`, `/metrics`; `page.html`: the page for people
//! - `error`: failures as status codes and bodies, in one place

mod error;
mod findings;
mod health;
mod push;
mod query;
mod targets;

use crate::config::ApiConfig;
use crate::exit::{self, Failure};
use analyzer::{Findings, Query};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use collector::{RemoteWrite, TargetBoard};
use runtime::{Clock, Stop};
use std::sync::Arc;
use telemetry::Registry;
use tokio::net::TcpListener;

/// What the handlers need.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) query: Query,
    pub(crate) findings: Findings,
    pub(crate) board: TargetBoard,
    pub(crate) remote_write: RemoteWrite,
    pub(crate) max_push: usize,
    pub(crate) registry: Registry,
    pub(crate) token: Option<Arc<str>>,
    pub(crate) clock: Clock,
}

/// Listens where the configuration says.
pub(crate) async fn bind(config: &ApiConfig) -> Result<TcpListener, Failure> {
    TcpListener::bind(config.listen).await.map_err(|error| {
        let listen = config.listen;
        let text = format!(
            "could not listen on api.listen {listen}: {error}; is another monitor running?"
        );
        Failure::text(exit::UNAVAILABLE, text)
    })
}

/// The token that clients must send, if one is configured.
pub(crate) fn read_token(config: &ApiConfig) -> Result<Option<Arc<str>>, Failure> {
    let Some(file) = &config.token_file else { return Ok(None) };
    let fault = |why: String| {
        Failure::text(exit::CONFIG, format!("api.token_file {}: {why}", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
    let token = text.trim();
    if token.len() < 16 {
        return Err(fault("needs a token of 16 characters or more".to_owned()));
    }
    Ok(Some(Arc::from(token)))
}

/// Serves until stopped, then lets open requests finish.
pub(crate) async fn serve(
    listener: TcpListener,
    api: Api,
    config: &ApiConfig,
    stop: Stop,
) -> std::io::Result<()> {
    let guarded = Router::new()
        .route("/api/v1/write", post(push::remote_write))
        .route("/api/v1/import", post(push::import))
        .route("/api/v1/sql", post(query::sql))
        .route("/api/v1/targets", get(targets::targets))
        .route("/api/v1/forecasts", get(query::capacity))
        .route("/api/v1/findings", get(findings::list))
        .route("/api/v1/findings/{id}", get(findings::one))
        .route("/api/v1/findings/{id}/feedback", post(findings::feedback))
        .route("/metrics", get(health::metrics))
        .layer(middleware::from_fn_with_state(api.clone(), authenticate));
    let router = Router::new()
        .merge(guarded)
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/live", get(async || "live\n"))
        .route("/ready", get(async || "ready\n"))
        .route("/health", get(health::health))
        .fallback(async || {
            error::problem(StatusCode::NOT_FOUND, "nothing here; the page at / has links")
        })
        .layer(DefaultBodyLimit::max(config.max_body_size.as_usize()))
        .with_state(api);
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.wait().await }).await
}

async fn authenticate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(token) = &api.token else { return next.run(request).await };
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if same(sent.as_bytes(), token.as_bytes()) {
        return next.run(request).await;
    }
    let text = "send the token of api.token_file as Authorization: Bearer …";
    error::problem(StatusCode::UNAUTHORIZED, text).into_response()
}

/// Compares in a time that does not depend on where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}
