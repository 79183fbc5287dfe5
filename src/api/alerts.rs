//! Alerts, and what people do about them: silence, acknowledge, switch remediation.

use super::{Api, Caller, error};
use alerts::{NewSilence, Refusal};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// How much is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// At most so many.
    #[serde(default = "most")]
    limit: usize,
    /// Alerts of this phase alone.
    state: Option<String>,
    /// Alerts of this rule alone.
    rule: Option<String>,
    /// Alerts of this severity alone.
    severity: Option<String>,
    /// Also what is over.
    #[serde(default)]
    past: bool,
}

/// At most so many are given at once, whatever is asked for; SQL gives all.
const MOST: usize = 1_000;

fn most() -> usize {
    100
}

type AskedQuery = Result<Query<Asked>, QueryRejection>;

fn asked(query: AskedQuery) -> Result<Asked, Box<Response>> {
    query
        .map(|Query(asked)| Asked { limit: asked.limit.min(MOST), ..asked })
        .map_err(|cause| Box::new(error::problem(StatusCode::BAD_REQUEST, &cause.body_text())))
}

/// `GET /api/v1/alerts?limit=100&state=firing&rule=…&severity=…&past=true`
pub(crate) async fn list(State(api): State<Api>, query: AskedQuery) -> Response {
    let asked = match asked(query) {
        Ok(asked) => asked,
        Err(problem) => return *problem,
    };
    let is = |wanted: &Option<String>, have: &str| wanted.as_deref().is_none_or(|it| it == have);
    let (found, total) = api.desk.alerts(asked.limit, asked.past, |it| {
        is(&asked.state, it.standing.phase.name())
            && is(&asked.rule, &it.rule)
            && is(&asked.severity, it.severity())
    });
    Json(json!({ "alerts": found, "total": total, "counts": api.desk.counts() })).into_response()
}

/// `GET /api/v1/incidents?limit=100`
pub(crate) async fn incidents(State(api): State<Api>, query: AskedQuery) -> Response {
    match asked(query) {
        Ok(asked) => {
            let all: Vec<_> = api
                .desk
                .incidents(asked.limit)
                .into_iter()
                .map(|it| json!({ "recovery_seconds": it.recovery_seconds(), "incident": it }))
                .collect();
            Json(json!({ "incidents": all })).into_response()
        }
        Err(problem) => *problem,
    }
}

/// `GET /api/v1/notifications?limit=100`
pub(crate) async fn notifications(State(api): State<Api>, query: AskedQuery) -> Response {
    match asked(query) {
        Ok(asked) => {
            Json(json!({ "notifications": api.desk.notifications(asked.limit) })).into_response()
        }
        Err(problem) => *problem,
    }
}

/// `GET /api/v1/remediations?limit=100`
pub(crate) async fn remediations(State(api): State<Api>, query: AskedQuery) -> Response {
    match asked(query) {
        Ok(asked) => {
            let (runs, strikes) = (api.desk.remediations(asked.limit), api.desk.strikes());
            Json(json!({ "remediations": runs, "steps": strikes })).into_response()
        }
        Err(problem) => *problem,
    }
}

/// `GET /api/v1/audit?limit=100`
pub(crate) async fn audit(State(api): State<Api>, query: AskedQuery) -> Response {
    match asked(query) {
        Ok(asked) => Json(json!({ "audit": api.desk.audit(asked.limit) })).into_response(),
        Err(problem) => *problem,
    }
}

/// `GET /api/v1/rules`
pub(crate) async fn rules(State(api): State<Api>) -> Response {
    Json(json!({ "rules": api.desk.rules() })).into_response()
}

/// `GET /api/v1/receivers`
pub(crate) async fn receivers(State(api): State<Api>) -> Response {
    Json(json!({ "receivers": api.desk.receivers() })).into_response()
}

/// `GET /api/v1/silences?limit=100&past=true`
pub(crate) async fn silences(State(api): State<Api>, query: AskedQuery) -> Response {
    match asked(query) {
        Ok(asked) => {
            let mut silences = api.desk.silences(asked.past);
            let total = silences.len();
            silences.truncate(asked.limit);
            Json(json!({ "silences": silences, "total": total })).into_response()
        }
        Err(problem) => *problem,
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes, form: &str) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|cause| {
        let text = format!("the body must be {form}: {cause}");
        Box::new(error::problem(StatusCode::BAD_REQUEST, &text))
    })
}

/// Changes wait for the disk, so they are made aside.
async fn change<T: serde::Serialize + Send + 'static>(
    change: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(change).await {
        Ok(Ok(done)) => Json(done).into_response(),
        Ok(Err(Refusal::Invalid(why))) => error::problem(StatusCode::BAD_REQUEST, &why),
        Ok(Err(Refusal::Missing(why))) => error::problem(StatusCode::NOT_FOUND, &why),
        Err(cause) => error::problem(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string()),
    }
}

/// `POST /api/v1/silences` with `{"matchers": "alertname=\"…\"", "duration": "2h", "reason": "…"}`
pub(crate) async fn silence(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let form = r#"{"matchers": "alertname=\"TargetDown\"", "duration": "2h", "reason": "…"}"#;
    let new: NewSilence = match parse(&body, form) {
        Ok(new) => new,
        Err(problem) => return *problem,
    };
    change(move || api.desk.silence(&caller.name, new)).await
}

/// `DELETE /api/v1/silences/{id}`
pub(crate) async fn end_silence(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    change(move || api.desk.end_silence(&caller.name, &id)).await
}

/// `POST /api/v1/alerts/{id}/acknowledge` and `POST /api/v1/incidents/{id}/acknowledge`
pub(crate) async fn acknowledge(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    change(move || {
        let count = api.desk.acknowledge(&caller.name, &id)?;
        Ok(json!({ "acknowledged": count, "by": caller.name }))
    })
    .await
}

fn state(api: &Api) -> serde_json::Value {
    let (enabled, allowed, dry_run) = api.desk.remediation_state();
    json!({ "enabled": enabled, "allowed": allowed, "dry_run": dry_run })
}

/// `GET /api/v1/remediation`: whether it is on.
pub(crate) async fn remediation(State(api): State<Api>) -> Response {
    Json(state(&api)).into_response()
}

/// The kill switch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    allowed: Option<bool>,
    #[serde(default)]
    forgive: bool,
}

/// `POST /api/v1/remediation` with `{"allowed": false}`, or `{"forgive": true}`
pub(crate) async fn switch(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let form = r#"{"allowed": true or false} or {"forgive": true}"#;
    let wanted: Switch = match parse(&body, form) {
        Ok(wanted) => wanted,
        Err(problem) => return *problem,
    };
    change(move || {
        if let Some(allowed) = wanted.allowed {
            api.desk.allow(&caller.name, allowed);
        }
        if wanted.forgive {
            api.desk.forgive(&caller.name);
        }
        Ok(state(&api))
    })
    .await
}
