//! Experiments: what is configured, what was done, and more of it.

use super::{Api, Caller, error};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chaos::{Event, Experiment, Refused, Source};
use serde::Deserialize;
use serde_json::{Value, json};

/// Events in one answer; SQL gives all.
const MOST: usize = 100;

/// What to run: one of the configuration by its name, or one that is given whole.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Asked {
    Named { run: String },
    Whole(Box<Experiment>),
}

/// `GET /api/v1/chaos`: what is configured, what waits, and the newest events.
pub(crate) async fn list(State(api): State<Api>) -> Response {
    let config = api.chaos.config();
    let events: Vec<Event> = api.chaos.book().events().into_iter().take(MOST).collect();
    Json(json!({
        "experiments": config.experiment,
        "schedule_counts_from": api.chaos.book().origin(),
        "waiting": api.chaos.waiting(),
        "events": events,
    }))
    .into_response()
}

/// `GET /api/v1/chaos/{id}`
pub(crate) async fn one(State(api): State<Api>, Path(id): Path<String>) -> Response {
    match api.chaos.book().event(&id) {
        Some(event) => Json(event).into_response(),
        None => refused(&Refused::Unknown(format!("no event has the id {id}"))),
    }
}

/// `POST /api/v1/chaos` with `{"run": "NAME"}`, or with an experiment as in the configuration.
pub(crate) async fn run(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let asked: Asked = match read(&body) {
        Ok(asked) => asked,
        Err(cause) => return error::problem(StatusCode::BAD_REQUEST, &cause),
    };
    aside(move || match asked {
        Asked::Named { run } => api.chaos.ask_by_name(&run, &caller.name),
        Asked::Whole(it) => api.chaos.ask(*it, Source::Person(caller.name)),
    })
    .await
}

/// An experiment without a name has that of its fault; what is wrong with one is said of it, not of the choice between two forms.
fn read(body: &Bytes) -> Result<Asked, String> {
    let form = r#"{"run": "NAME"} or {"fault": "latency", "tool": "…", "duration": "30s"}"#;
    let fault = |cause: String| format!("the body must be {form}: {cause}");
    let mut text: Value = serde_json::from_slice(body).map_err(|error| fault(error.to_string()))?;
    if text.get("run").is_some() {
        return serde_json::from_value(text).map_err(|error| fault(error.to_string()));
    }
    if let Some(it) = text.as_object_mut()
        && !it.contains_key("name")
    {
        it.insert("name".to_owned(), it.get("fault").cloned().unwrap_or_default());
    }
    let whole = serde_json::from_value(text).map_err(|error| fault(error.to_string()))?;
    Ok(Asked::Whole(whole))
}

/// `DELETE /api/v1/chaos/{id}`
pub(crate) async fn end(State(api): State<Api>, Path(id): Path<String>) -> Response {
    aside(move || api.chaos.end(&id).map(|()| id)).await
}

/// Changes wait for the disk, so they are made aside.
async fn aside(change: impl FnOnce() -> Result<String, Refused> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(change).await {
        Ok(Ok(id)) => Json(json!({ "id": id })).into_response(),
        Ok(Err(why)) => refused(&why),
        Err(cause) => error::problem(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string()),
    }
}

fn refused(why: &Refused) -> Response {
    let code = match why {
        Refused::Unfit(_) => StatusCode::BAD_REQUEST,
        Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::Full => StatusCode::SERVICE_UNAVAILABLE,
    };
    error::problem(code, &why.to_string())
}
