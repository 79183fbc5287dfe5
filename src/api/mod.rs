//! The monitor's HTTP interface: routes, body limit, authentication.
//!
//! - `alerts`: alerts, and what people do about them; `runbook`: what to do about each; `openapi`: all of it described
//! - `chaos`: experiments
//! - `access`: tokens, roles, and pages of others; `findings`: what detectors found, and what people say of it
//! - `query`: SQL in, rows out; `push`: remote-write in; `targets`: what is scraped and how it is
//! - `health`: `/live`, `/ready`, `/health`, `/metrics`; `page.html`: the page for people
//! - `connections`: how many, and for how long; `body`: whole before its handler; `error`: failures as status codes and bodies, in one place

mod access;
mod alerts;
mod body;
mod chaos;
mod connections;
mod error;
mod findings;
mod health;
mod openapi;
mod push;
mod query;
mod runbook;
mod targets;

use crate::config::ApiConfig;
use crate::exit::{self, Failure};
use ::alerts as alerts_room;
pub(crate) use access::{Access, Caller};
use analyzer::{Findings, Query};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Html;
use axum::routing::{delete, get, post};
use collector::{RemoteWrite, TargetBoard};
use runtime::{Clock, Stop};
use telemetry::Registry;
use tokio::net::TcpListener;

/// What the handlers need.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) query: Query,
    pub(crate) findings: Findings,
    pub(crate) desk: alerts_room::Desk,
    pub(crate) chaos: ::chaos::Controller,
    pub(crate) board: TargetBoard,
    pub(crate) remote_write: RemoteWrite,
    pub(crate) max_push: usize,
    pub(crate) registry: Registry,
    pub(crate) access: Access,
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

/// Serves until stopped, then lets open requests finish.
pub(crate) async fn serve(
    listener: TcpListener,
    api: Api,
    config: &ApiConfig,
    stop: Stop,
) -> std::io::Result<()> {
    let most: body::Limit = (config.max_body_size.as_usize(), "api.max_body_size");
    let guarded = Router::new()
        .route("/api/v1/sql", post(query::sql))
        .route("/api/v1/targets", get(targets::targets))
        .route("/api/v1/forecasts", get(query::capacity))
        .route("/api/v1/findings", get(findings::list))
        .route("/api/v1/findings/{id}", get(findings::one))
        .route("/api/v1/findings/{id}/feedback", post(findings::feedback))
        .route("/api/v1/alerts", get(alerts::list))
        .route("/api/v1/alerts/{id}/acknowledge", post(alerts::acknowledge))
        .route("/api/v1/incidents", get(alerts::incidents))
        .route("/api/v1/incidents/{id}/acknowledge", post(alerts::acknowledge))
        .route("/api/v1/silences", get(alerts::silences).post(alerts::silence))
        .route("/api/v1/silences/{id}", delete(alerts::end_silence))
        .route("/api/v1/rules", get(alerts::rules))
        .route("/api/v1/receivers", get(alerts::receivers))
        .route("/api/v1/notifications", get(alerts::notifications))
        .route("/api/v1/remediations", get(alerts::remediations))
        .route("/api/v1/remediation", get(alerts::remediation).post(alerts::switch))
        .route("/api/v1/audit", get(alerts::audit))
        .route("/api/v1/chaos", get(chaos::list).post(chaos::run))
        .route("/api/v1/chaos/{id}", get(chaos::one).delete(chaos::end))
        .route("/metrics", get(health::metrics))
        .layer(middleware::from_fn_with_state(most, body::whole))
        // These take their turn before they read.
        .route("/api/v1/write", post(push::remote_write))
        .route("/api/v1/import", post(push::import))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(api.clone(), access::authenticate));
    let router = Router::new()
        .merge(guarded)
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/runbook/{alert}", get(runbook::page))
        .route("/live", get(async || "live\n"))
        .route("/ready", get(async || "ready\n"))
        .route("/health", get(health::health))
        .fallback(async || {
            error::problem(StatusCode::NOT_FOUND, "nothing here; the page at / has links")
        })
        .with_state(api);
    connections::serve(listener, router, stop).await;
    Ok(())
}
