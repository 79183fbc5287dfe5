//! Faults of tools, begun and ended by an administrator.

use crate::access::manage;
use crate::body::Body;
use crate::chaos::fault::{Faults, ToolFault};
use crate::refusal::{Refusal, json};
use crate::request::{Caller, DataPlane, bearer};
use crate::upstream::tool::Tool;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;

/// `/api/admin/chaos`: POST and DELETE of `…/tool`, GET of all.
pub(crate) async fn answer(
    plane: &DataPlane,
    request: Request<Incoming>,
    caller: &Caller,
) -> Result<Response<Body>, Refusal> {
    let token = plane.admin_token.as_deref();
    let given = bearer(&request);
    manage::may(request.headers(), given, token, caller.peer, "gateway.admin_token_file")?;
    let path = request.uri().path().trim_start_matches("/api/admin/chaos").to_owned();
    let method = request.method().clone();
    let body = plane.read(request.into_body()).await?;
    let (answer, what) = change(&plane.faults, &plane.targets.tools, &method, &path, &body)?;
    if let Some(what) = what {
        tracing::warn!(what, "chaos");
        plane.note(caller, "admin", "", what, answer.status(), "chaos");
    }
    Ok(answer)
}

/// Begins, ends or lists; what was changed, for the audit.
pub(crate) fn change(
    faults: &Faults,
    tools: &[Arc<Tool>],
    method: &Method,
    path: &str,
    body: &Bytes,
) -> Result<(Response<Body>, Option<String>), Refusal> {
    let show = |code| json(code, serde_json::json!({ "faults": faults.list() }).to_string());
    match (method, path.trim_end_matches('/')) {
        (&Method::GET, "") => Ok((show(StatusCode::OK), None)),
        (&Method::POST, "/tool" | "") => {
            let fault: ToolFault = serde_json::from_slice(body)
                .map_err(|error| Refusal::bad(format!("the body: {error}")))?;
            if tools.iter().all(|tool| tool.config.name != fault.tool) {
                return Err(Refusal::bad(format!("there is no tool {:?}", fault.tool)));
            }
            let what = format!("{:?} for {} % of {}", fault.mode, fault.pct, fault.tool);
            let lease = faults.begin(fault).map_err(Refusal::bad)?;
            Ok((show(StatusCode::OK), Some(format!("{what}, for {lease:?}"))))
        }
        (&Method::DELETE, path) => {
            let tool = path.strip_prefix("/tool/").unwrap_or_default();
            if !faults.end(tool) {
                return Err(Refusal::not_found(format!("no fault of tool {tool:?}")));
            }
            Ok((show(StatusCode::OK), Some(format!("end of the fault of {tool}"))))
        }
        _ => Err(Refusal::not_found("GET here, POST …/tool, or DELETE …/tool/{tool}")),
    }
}
