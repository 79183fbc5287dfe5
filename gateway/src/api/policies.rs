//! Policies: listed, added, replaced, removed. While the database is away the list is as it was last read, and says how old it is.

use super::call::only;
use crate::access::policy::{Policy, Spec};
use crate::body::Body;
use crate::database::directory::ChangeError;
use crate::refusal::{Refusal, json};
use crate::request::{Caller, DataPlane};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use std::sync::Arc;

/// A policy as it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sent {
    name: String,
    #[serde(default)]
    role: Option<String>,
    #[serde(default, alias = "agent_id")]
    agent_id: Option<String>,
    spec: Spec,
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Database(error) => error.into(),
            ChangeError::TooMany => Self::bad(error.to_string()),
        }
    }
}

/// `/api/policies` and `/api/policies/{id}`.
pub(crate) async fn answer(
    plane: &Arc<DataPlane>,
    request: Request<Incoming>,
    caller: &Caller,
) -> Result<Response<Body>, Refusal> {
    plane.may_manage(&request, caller)?;
    let path = request.uri().path().trim_end_matches('/');
    let id = path.strip_prefix("/api/policies/").map(str::to_owned);
    match (request.method().clone(), id) {
        (Method::GET, id) => list(plane, id.as_deref()),
        (Method::POST, None) => {
            let id = plane.new_id(caller);
            put(plane, request, caller, id, StatusCode::CREATED).await
        }
        (Method::PUT, Some(id)) => {
            known(plane, &id)?;
            put(plane, request, caller, id, StatusCode::OK).await
        }
        (Method::DELETE, Some(id)) => {
            if !plane.directory.delete(&plane.database, &id).await? {
                return Err(none(&id));
            }
            plane.note(caller, "policy", "", format!("deleted {id}"), StatusCode::OK, "");
            Ok(json(StatusCode::OK, serde_json::json!({ "deleted": id }).to_string()))
        }
        (method, Some(_)) => {
            only(&method, &[Method::GET, Method::PUT, Method::DELETE])?;
            Err(Refusal::bad("no such call"))
        }
        (method, None) => {
            only(&method, &[Method::GET, Method::POST])?;
            Err(Refusal::bad("no such call"))
        }
    }
}

fn none(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no policy {id:?}"))
}

fn known(plane: &DataPlane, id: &str) -> Result<Policy, Refusal> {
    let known = plane.directory.known();
    let found = known.policies.all().iter().find(|policy| policy.id == id).cloned();
    found.ok_or_else(|| none(id))
}

fn list(plane: &DataPlane, id: Option<&str>) -> Result<Response<Body>, Refusal> {
    let all = plane.directory.known();
    let age = plane.directory.age(&all);
    let age = age.map_err(|why| Refusal::unavailable(why, std::time::Duration::from_secs(5)))?;
    let text = match id {
        Some(id) => serde_json::to_string(&known(plane, id)?),
        None => serde_json::to_string(&serde_json::json!({ "policies": all.policies.all() })),
    };
    let mut response = json(StatusCode::OK, text.unwrap_or_default());
    let headers = response.headers_mut();
    headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
    let from = if age.as_secs() > 15 { "STALE" } else { "HIT" };
    headers.insert("x-cache", HeaderValue::from_static(from));
    Ok(response)
}

async fn put(
    plane: &DataPlane,
    request: Request<Incoming>,
    caller: &Caller,
    id: String,
    code: StatusCode,
) -> Result<Response<Body>, Refusal> {
    let Sent { name, role, agent_id, spec } = plane.read_json(request.into_body()).await?;
    let policy = Policy { id, name, role, agent_id, spec };
    let faults = policy.faults();
    if !faults.is_empty() {
        return Err(Refusal::bad(faults.join("; ")));
    }
    plane.directory.put(&plane.database, &policy).await?;
    plane.note(caller, "policy", "", format!("put {} {:?}", policy.id, policy.name), code, "");
    Ok(json(code, serde_json::to_string(&policy).unwrap_or_default()))
}
