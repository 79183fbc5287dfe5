//! A call of a tool's action: read → grant → validate → cache → tool → answer → audit.

use crate::access::policy::Wish;
use crate::access::token::Claims;
use crate::admit::queue::Priority;
use crate::body::Body;
use crate::cache::store::Found;
use crate::pressure::Level;
use crate::refusal::{Refusal, json};
use crate::request::{Caller, DataPlane, bearer};
use crate::upstream::call::{self, Call, CallError};
use crate::upstream::tool::{Action, Tool};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The body of `/api/proxy-request`.
#[derive(Deserialize)]
struct ProxyRequest {
    agent_token: String,
    tool: String,
    action: String,
    params: Map<String, Value>,
}

/// `POST /api/proxy-request`.
pub(crate) async fn proxy_request(
    plane: &Arc<DataPlane>,
    request: Request<Incoming>,
    caller: &Caller,
) -> Result<Response<Body>, Refusal> {
    only(request.method(), &[Method::POST])?;
    let asked: ProxyRequest = plane.read_json(request.into_body()).await?;
    let tools = &plane.targets.tools;
    let tool = tools.iter().find(|tool| tool.config.name == asked.tool);
    let tool = tool.ok_or_else(|| Refusal::bad(format!("there is no tool {:?}", asked.tool)))?;
    let (action, _) = tool.action(&asked.action).ok_or_else(|| {
        Refusal::bad(format!("tool {:?} has no action {:?}", asked.tool, asked.action))
    })?;
    let subject = (&*tool.config.name, &*asked.action);
    let claims = plane.claims_of(Some(&asked.agent_token), caller, subject)?;
    call(plane, caller, claims, (tool, action), asked.params).await
}

/// `/t/{tool}/{action}`: the parameters are the body, or for GET the query.
pub(crate) async fn by_path(
    plane: &Arc<DataPlane>,
    request: Request<Incoming>,
    (tool, action): (usize, usize),
    caller: &Caller,
) -> Result<Response<Body>, Refusal> {
    only(request.method(), &[Method::GET, Method::POST])?;
    let tool = plane.targets.tools.get(tool).ok_or_else(|| Refusal::not_found("no such tool"))?;
    let name = tool.actions.get(action).map_or("", |action| &action.config.name);
    let claims = plane.claims_of(bearer(&request), caller, (&tool.config.name, name))?;
    let params = if request.method() == Method::GET {
        parameters(request.uri().query().unwrap_or_default())
    } else {
        let body = plane.read(request.into_body()).await?;
        match body.is_empty() {
            true => Map::new(),
            false => serde_json::from_slice(&body).map_err(|error| {
                Refusal::bad(format!("the body is no JSON object with parameters: {error}"))
            })?,
        }
    };
    call(plane, caller, claims, (tool, action), params).await
}

pub(crate) fn only(method: &Method, known: &[Method]) -> Result<(), Refusal> {
    if known.contains(method) {
        return Ok(());
    }
    let names: Vec<&str> = known.iter().map(Method::as_str).collect();
    let code = StatusCode::METHOD_NOT_ALLOWED;
    Err(Refusal::new(code, "Method not allowed", format!("only {}", names.join(", "))))
}

/// Grants, calls, and writes the audit whatever came of it.
async fn call(
    plane: &Arc<DataPlane>,
    caller: &Caller,
    claims: Option<Arc<Claims>>,
    (tool, action): (&Arc<Tool>, usize),
    params: Map<String, Value>,
) -> Result<Response<Body>, Refusal> {
    let Some(asked) = tool.actions.get(action) else {
        return Err(Refusal::not_found("no such action"));
    };
    let agent = claims.as_ref().map_or("", |claims| &claims.agent);
    let audited = plane.audited(caller, agent, (&tool.config.name, &asked.config.name));
    let answer = granted(plane, caller, claims.as_deref(), (tool, action, asked), params).await;
    let status = answer.as_ref().map_or_else(|refusal| refusal.code, Response::status);
    let detail = answer.as_ref().err().map_or("", |refusal| &refusal.reason);
    audited.end(status, detail);
    answer
}

async fn granted(
    plane: &Arc<DataPlane>,
    caller: &Caller,
    claims: Option<&Claims>,
    (tool, at, action): (&Arc<Tool>, usize, &Action),
    params: Map<String, Value>,
) -> Result<Response<Body>, Refusal> {
    let text = Bytes::from(serde_json::to_vec(&params).unwrap_or_default());
    // A `url` of which nobody can say where it leads is told as such: guards on hosts do not grant it.
    let host = params.get("url").map(|url| url.as_str().and_then(host_of).unwrap_or_default());
    let wish = Wish {
        agent: claims.map_or("", |claims| &claims.agent),
        role: claims.map_or("", |claims| &claims.role),
        tool: &tool.config.name,
        action: &action.config.name,
        size: text.len() as u64,
        host: host.as_deref(),
    };
    let policy_age = plane.grant(claims, action.config.permission, wish)?;
    for name in &action.config.required {
        if params.get(name).is_none_or(Value::is_null) {
            let (tool, action) = (&tool.config.name, &action.config.name);
            return Err(Refusal::bad(format!("{tool}:{action} needs the parameter {name:?}")));
        }
    }
    plane.count(claims, wish)?;
    let settings = plane.settings.load();
    let ages = action.ages.filter(|_| settings.flags.cache);
    let query = (action.method == Method::GET).then(|| query_of(&params));
    let level = plane.pressure.level();
    let call = Call {
        tool: Arc::clone(tool),
        action: at,
        params: text.clone(),
        query,
        flags: settings.flags.clone(),
        credential: settings.credential(tool.config.credential.as_deref()),
        narrow: level >= Level::High,
        jitter: plane.jitter(caller),
    };
    let cache_only = level >= Level::Critical && tool.config.priority == Priority::Low;
    let served = match ages {
        Some(ages) => {
            // What a mock said is no answer of the tool.
            let mock = if settings.flags.mock { "mock:" } else { "" };
            let key = format!("{mock}{}:{}:", tool.config.name, action.config.name);
            let key = key + &String::from_utf8_lossy(&text);
            through_cache(plane, tool, call, key, ages, cache_only).await?
        }
        None if cache_only => {
            let second = Duration::from_secs(1);
            return Err(Refusal::unavailable(
                "the gateway is narrow; this tool has a low priority",
                second,
            ));
        }
        None => Served::new(Box::pin(call::make(call, &plane.faults)).await?, "NONE"),
    };
    Ok(respond(&served, wish, caller, policy_age))
}

/// An answer and where it is from.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    body: Bytes,
    from: &'static str,
    age: Duration,
}

impl Served {
    fn new(body: Bytes, from: &'static str) -> Self {
        Self { body, from, age: Duration::ZERO }
    }
}

/// From the cache, or of one call for all who ask for the same; stale rather than none.
async fn through_cache(
    plane: &Arc<DataPlane>,
    tool: &Tool,
    call: Call,
    key: String,
    ages: crate::cache::store::Ages,
    cache_only: bool,
) -> Result<Served, Refusal> {
    let found = plane.cache.get(&key);
    let serve = |found: Found, from| Served { body: found.body, from, age: found.age };
    let fresh = found.as_ref().is_some_and(|found| found.fresh);
    if let Some(found) = found.clone().filter(|_| fresh || cache_only) {
        let (counter, from) =
            if fresh { (&tool.meter.hit, "HIT") } else { (&tool.meter.stale, "STALE") };
        counter.inc();
        if found.ageing && !call.narrow {
            let until = Instant::now() + ages.fresh.saturating_sub(found.age);
            warm(plane, call, key, ages, until);
        }
        return Ok(serve(found, from));
    }
    if cache_only {
        let second = Duration::from_secs(1);
        return Err(Refusal::unavailable(
            "the gateway is narrow; only what is cached is served to this tool's callers",
            second,
        ));
    }
    let asking = {
        let (plane, key) = (Arc::clone(plane), key.clone());
        Box::pin(async move { ask(&plane, call, &key, ages, false).await })
    };
    let (answer, ours) = plane.flights.join(key, || asking).await;
    match answer.unwrap_or_else(|| Err(CallError::Failed("the call broke off".to_owned()))) {
        Ok(served) => {
            if !ours {
                tool.meter.joined.inc();
            }
            Ok(served)
        }
        Err(error) => match found.filter(|_| error.is_of_the_tool()) {
            Some(found) => {
                tool.meter.stale.inc();
                Ok(serve(found, "STALE"))
            }
            None => Err(error.into()),
        },
    }
}

/// Has the answer fetched anew before it is too old, at `until`, where the tool has a place to spare then.
fn warm(
    plane: &Arc<DataPlane>,
    mut call: Call,
    key: String,
    ages: crate::cache::store::Ages,
    until: Instant,
) {
    let (plane, tool) = (Arc::clone(plane), Arc::clone(&call.tool));
    let orders = plane.orders.clone();
    // On the thread of who asked: others may come to wait for this call, and theirs is no thread that anything blocks.
    let lane = tokio::runtime::Handle::current();
    let asking = async move {
        // What was true when it was ordered may be so no longer.
        let settings = plane.settings.load_full();
        let (narrow, door) = (plane.pressure.level() >= Level::High, tool.door.read());
        let spare = !door.pressed && door.waiting == 0 && door.inside < door.limit;
        let same = settings.flags.cache && settings.flags.mock == call.flags.mock;
        if narrow || !spare || !same || Instant::now() >= until {
            return;
        }
        call.flags = settings.flags.clone();
        call.credential = settings.credential(tool.config.credential.as_deref());
        let asking = {
            let (plane, key) = (Arc::clone(&plane), key.clone());
            Box::pin(async move { ask(&plane, call, &key, ages, true).await })
        };
        if let (Some(Ok(_)), true) = plane.flights.join(key, || asking).await {
            tool.meter.warmed.inc();
        }
    };
    orders.order(async move { drop(lane.spawn(asking).await) });
}

/// Asks the second cache, unless its answer is the one that ages, then the tool; keeps the answer in both.
async fn ask(
    plane: &DataPlane,
    call: Call,
    key: &str,
    ages: crate::cache::store::Ages,
    ahead: bool,
) -> Result<Served, CallError> {
    let tool = Arc::clone(&call.tool);
    if let Some(second) = plane.second.as_ref().filter(|_| !ahead)
        && let Some((body, left)) = second.get(key).await
    {
        tool.meter.second.inc();
        let age = ages.fresh.saturating_sub(left);
        plane.cache.put_aged(key, body.clone(), ages, age);
        return Ok(Served { body, from: "HIT", age });
    }
    if !ahead {
        tool.meter.miss.inc();
    }
    let body = Box::pin(call::make(call, &plane.faults)).await?;
    plane.cache.put(key, body.clone(), ages);
    if let Some(second) = &plane.second
        && !ages.fresh.is_zero()
    {
        second.put(key, &body, ages.fresh).await;
    }
    Ok(Served::new(body, "MISS"))
}

/// `{success, data, metadata}`; the data as the tool gave it.
fn respond(
    served: &Served,
    wish: Wish<'_>,
    caller: &Caller,
    policy_age: Duration,
) -> Response<Body> {
    let metadata = serde_json::json!({
        "tool": wish.tool,
        "action": wish.action,
        "correlation_id": caller.id,
        "cache": served.from.to_ascii_lowercase(),
        "age_seconds": served.age.as_secs(),
        "response_time_ms": u64::try_from(caller.start.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    let metadata = metadata.to_string();
    let mut text = BytesMut::with_capacity(served.body.len() + metadata.len() + 48);
    for part in [
        b"{\"success\":true,\"data\":".as_slice(),
        &served.body,
        b",\"metadata\":",
        metadata.as_bytes(),
        b"}",
    ] {
        text.extend_from_slice(part);
    }
    let mut response = json(StatusCode::OK, text.freeze());
    let headers = response.headers_mut();
    if served.from != "NONE" {
        headers.insert("x-cache", HeaderValue::from_static(served.from));
        headers.insert(header::AGE, HeaderValue::from(served.age.as_secs()));
    }
    // Policies are read every few seconds; older ones are from before the database went away.
    if policy_age > Duration::from_secs(15) {
        headers.insert("x-policy-age", HeaderValue::from(policy_age.as_secs()));
    }
    response
}

/// The parameters of a query, each a text.
fn parameters(query: &str) -> Map<String, Value> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), Value::from(decoded(value)))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn query_of(params: &Map<String, Value>) -> String {
    let value = |value: &Value| match value {
        Value::String(text) => platform::http::percent(text),
        other => platform::http::percent(&other.to_string()),
    };
    let pair =
        |(name, it): (&String, &Value)| format!("{}={}", platform::http::percent(name), value(it));
    params.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// The host that a URL names, in lower case, an address in its one form. None of what readers of URLs take in different ways: blanks,
/// backslashes, users, other schemes, addresses as one number or in octal.
fn host_of(url: &str) -> Option<String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\' || c == '@';
    let uri: http::Uri = Some(url).filter(|url| !url.contains(odd))?.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().filter(|host| known && !host.is_empty())?;
    crate::access::policy::host(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_parameters_are_two_forms_of_the_same() {
        let params = parameters("q=a%20b+c&n=1&empty&%C3%A4=%2");
        let text = serde_json::to_string(&params).unwrap();
        assert_eq!(text, "{\"empty\":\"\",\"n\":\"1\",\"q\":\"a b c\",\"ä\":\"%2\"}");
        assert_eq!(parameters(&query_of(&params)), params);
    }

    #[test]
    fn a_host_is_what_the_tool_would_connect_to() {
        assert_eq!(host_of("http://API.example:80/x?y").as_deref(), Some("api.example"));
        assert_eq!(host_of("http://[::ffff:a9fe:a9fe]/").as_deref(), Some("169.254.169.254"));
        assert_eq!(host_of("http://[::1]:8/").as_deref(), Some("::1"));
        for url in [
            "/x",
            "//evil.net/x",
            "http://evil.net/a b",
            "http://good.org\\@evil.net/",
            "ht\ttp://evil.net/",
            "http://user@evil.net/",
            "ftp://evil.net/",
            "http://169.254.169.254/ x",
            "http://2852039166/latest",
            "http://0xA9FEA9FE/",
            "http://0251.0376.0251.0376/",
            "http://127.1/",
            "",
        ] {
            assert_eq!(host_of(url), None, "{url}");
        }
    }
}
