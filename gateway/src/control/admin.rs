//! What an administrator, or a monitor, may have the gateway do. Each call says what it measured; each is noted; what lowers the service
//! ends by itself, so that a caller that died leaves nothing behind.

use super::flags;
use crate::access::manage;
use crate::api::chaos;
use crate::body::Body;
use crate::chaos::fault::Faults;
use crate::chaos::own::{self, OwnFaults};
use crate::component::{Ailment, Components};
use crate::database::Record;
use crate::database::audit::Audit;
use crate::env::EnvFile;
use crate::health::board::Board;
use crate::pressure::{Level, Pressure};
use crate::refusal::{Refusal, json};
use crate::settings::Settings;
use crate::upstream::tool::Tool;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use parking_lot::Mutex;
use runtime::Clock;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json as object;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use telemetry::Registry;
use tracing::info;

/// Answers kept for callers that ask again with the same key.
const KEPT: usize = 64;
/// What lowers the service ends after this unless the caller says when, and never later.
const USUAL_TTL: f64 = 60.0;
const LONGEST_TTL: f64 = 3_600.0;

/// What is needed for it.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) clock: Clock,
    pub(crate) board: Arc<Board>,
    pub(crate) registry: Registry,
    pub(crate) token: Option<String>,
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) components: Arc<Components>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) own_faults: Arc<OwnFaults>,
    pub(crate) tools: Vec<Arc<Tool>>,
    pub(crate) audit: Audit,
    pub(crate) env: Option<EnvFile>,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) answered: Mutex<VecDeque<(String, String)>>,
}

/// What to clean, and how much of it.
#[derive(Deserialize)]
#[serde(default)]
struct Cleanup {
    /// The share of what the caches hold that stays: 0 lets all go.
    keep: f64,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self { keep: 0.0 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Degrade {
    level: String,
    #[serde(default = "usual_ttl")]
    ttl: f64,
    #[serde(default)]
    reason: String,
}

fn usual_ttl() -> f64 {
    USUAL_TTL
}

#[derive(Deserialize)]
struct Named {
    component: String,
}

#[derive(Deserialize)]
struct Ill {
    component: String,
    ailment: Ailment,
}

impl Admin {
    pub(super) async fn answer(
        self: &Arc<Self>,
        head: &Parts,
        path: &str,
        body: Bytes,
        peer: IpAddr,
    ) -> Result<Response<Body>, Refusal> {
        let given = head.headers.get(http::header::AUTHORIZATION);
        let given = given.and_then(|it| it.to_str().ok()).and_then(|it| it.strip_prefix("Bearer "));
        let token = self.token.as_deref();
        manage::may(&head.headers, given, token, peer, "gateway.admin_token_file")?;
        match (&head.method, path) {
            (&Method::POST, "/admin/cleanup") => self.cleanup(&head.headers, &body).await,
            (&Method::POST, "/admin/degrade") => self.degrade(&read(&body)?),
            (&Method::DELETE, "/admin/degrade") => {
                self.pressure.force(Level::Calm, Duration::ZERO, "");
                self.note("end of degradation", StatusCode::OK);
                Ok(self.level())
            }
            (&Method::GET, "/admin/degrade") => Ok(self.level()),
            (&Method::GET, "/admin/components") => Ok(self.list()),
            (&Method::POST, "/admin/restart-component") => {
                let Named { component } = read(&body)?;
                self.component(&component)?.restart();
                self.note(&format!("restart of {component}"), StatusCode::ACCEPTED);
                Ok(accepted(object!({ "component": component, "restarting": true })))
            }
            (&Method::POST, "/admin/chaos/component") => {
                let Ill { component, ailment } = read(&body)?;
                self.component(&component)?.ail(ailment);
                self.note(&format!("{component} made ill: {ailment:?}"), StatusCode::ACCEPTED);
                Ok(accepted(object!({ "component": component, "ailment": ailment })))
            }
            (&Method::POST, "/admin/drain") => {
                self.board.drain(true);
                self.note("drain", StatusCode::OK);
                Ok(ok(object!({ "draining": true })))
            }
            (&Method::DELETE, "/admin/drain") => {
                self.board.drain(false);
                self.note("end of drain", StatusCode::OK);
                Ok(ok(object!({ "draining": false })))
            }
            (&Method::GET, "/admin/flags") => flags::show(self).await,
            (&Method::POST, "/admin/flags") => flags::change(self, &body).await,
            (&Method::POST, "/admin/chaos/own") => {
                let what = self.begin_own(&body).await?;
                self.note(&what, StatusCode::OK);
                Ok(self.own_faults())
            }
            (&Method::GET, "/admin/chaos/own") => Ok(self.own_faults()),
            (&Method::DELETE, _) if path.starts_with("/admin/chaos/own/") => {
                let name = path.trim_start_matches("/admin/chaos/own/");
                let kind: own::Kind = read(&Bytes::from(object!(name).to_string()))?;
                let shown = self.own_faults();
                if !self.own_faults.end(kind) {
                    return Err(Refusal::not_found(format!("no fault {name}")));
                }
                self.note(&format!("end of {name}"), StatusCode::OK);
                Ok(shown)
            }
            (method, _) if path.starts_with("/admin/chaos") => {
                let rest = path.trim_start_matches("/admin/chaos");
                let (answer, what) = chaos::change(&self.faults, &self.tools, method, rest, &body)?;
                if let Some(what) = what {
                    self.note(&what, answer.status());
                }
                Ok(answer)
            }
            _ => Err(Refusal::not_found(
                "POST cleanup, restart-component; GET components; GET, POST, DELETE degrade; POST, DELETE drain; GET, POST flags; GET chaos, POST chaos/tool, DELETE chaos/tool/{tool}, POST chaos/component; GET, POST chaos/own, DELETE chaos/own/{fault}",
            )),
        }
    }

    /// Lets caches go and gives memory back; with the same `Idempotency-Key` it is done once and answered alike.
    async fn cleanup(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response<Body>, Refusal> {
        // A monitor may send its own words along; only `keep` is ours.
        let asked: Cleanup = if body.is_empty() { Cleanup::default() } else { read(body)? };
        if !(0.0..=1.0).contains(&asked.keep) {
            return Err(Refusal::bad("keep must be 0 to 1: the share of the caches that stays"));
        }
        let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
        let key = key.filter(|key| key.len() <= 200).map(str::to_owned);
        if let Some(key) = &key
            && let Some((_, text)) = self.answered.lock().iter().find(|(of, _)| of == key)
        {
            return Ok(json(StatusCode::OK, text.clone()));
        }
        let admin = Arc::clone(self);
        let freed = tokio::task::spawn_blocking(move || admin.pressure.clean(asked.keep, "admin"));
        let freed = freed.await.map_err(|error| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error", error.to_string())
        })?;
        let text = object!({ "cleaned": freed, "key": key }).to_string();
        self.note(&format!("cleanup: {text}"), StatusCode::OK);
        if let Some(key) = key {
            let mut answered = self.answered.lock();
            answered.truncate(KEPT - 1);
            answered.push_front((key, text.clone()));
        }
        Ok(json(StatusCode::OK, text))
    }

    fn degrade(&self, asked: &Degrade) -> Result<Response<Body>, Refusal> {
        let level = match asked.level.as_str() {
            "elevated" => Level::Elevated,
            "high" => Level::High,
            "critical" => Level::Critical,
            other => {
                let words = format!("level {other:?} is none of elevated, high, critical");
                return Err(Refusal::bad(words));
            }
        };
        if !(asked.ttl > 0.0 && asked.ttl <= LONGEST_TTL) {
            return Err(Refusal::bad("ttl must be over 0 and at most 3600 seconds"));
        }
        let time = Duration::from_secs_f64(asked.ttl);
        self.pressure.force(level, time, &asked.reason);
        let words = format!("degraded to {} for {time:?}: {}", asked.level, asked.reason);
        self.note(&words, StatusCode::OK);
        Ok(self.level())
    }

    /// Apart: it may wait for a lock or a disk, and health is answered on this thread.
    async fn begin_own(&self, body: &Bytes) -> Result<String, Refusal> {
        let (own, wanted) = (Arc::clone(&self.own_faults), read(body)?);
        let begun = tokio::task::spawn_blocking(move || own.begin(&wanted)).await;
        begun.unwrap_or_else(|error| Err(error.to_string())).map_err(Refusal::bad)
    }

    fn own_faults(&self) -> Response<Body> {
        ok(object!({ "faults": self.own_faults.list() }))
    }

    fn level(&self) -> Response<Body> {
        let forced = self.pressure.forced().map(|(level, left, reason)| {
            object!({ "level": level, "remaining_seconds": left.as_secs_f64(), "reason": reason })
        });
        ok(object!({ "level": self.pressure.level(), "asked_for": forced }))
    }

    fn component(&self, name: &str) -> Result<&Arc<crate::component::Component>, Refusal> {
        self.components.find(name).ok_or_else(|| {
            let names: Vec<&str> = self.components.list().iter().map(|it| it.name).collect();
            Refusal::not_found(format!("no component {name:?}; there are {}", names.join(", ")))
        })
    }

    fn list(&self) -> Response<Body> {
        let all: Vec<_> = self
            .components
            .list()
            .iter()
            .map(|it| {
                object!({
                    "name": it.name,
                    "illness": it.illness(),
                    "silent_seconds": it.silence().as_secs_f64(),
                    "restarts": it.restarts.load(Ordering::Relaxed),
                })
            })
            .collect();
        ok(object!({ "components": all }))
    }

    /// Writes the audit, and the log.
    pub(super) fn note(&self, what: &str, status: StatusCode) {
        info!(what, "asked for by an administrator");
        let time = self.clock.now();
        let at = u64::try_from(time.millis()).unwrap_or(0);
        self.audit.note(Record {
            id: ulid::Ulid::from_parts(at, u128::from(runtime::Jitter::random().next_u64()))
                .to_string(),
            time,
            kind: "admin".to_owned(),
            agent: String::new(),
            subject: what.chars().take(300).collect(),
            status: status.as_u16(),
            detail: String::new(),
            millis: 0,
        });
    }
}

pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("the body: {error}")))
}

pub(super) fn ok(text: serde_json::Value) -> Response<Body> {
    json(StatusCode::OK, text.to_string())
}

pub(super) fn accepted(text: serde_json::Value) -> Response<Body> {
    json(StatusCode::ACCEPTED, text.to_string())
}
