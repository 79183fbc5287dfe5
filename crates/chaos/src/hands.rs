//! A fault begun, kept up and ended where it takes place: at the gateway's control listener, or by the watchdog. What is begun is begun
//! for a short time and kept up from here, so that it ends by itself when we do.

use crate::experiment::{ChaosConfig, Experiment, Place};
use model::Timestamp;
use platform::durable;
use platform::http::{HttpClient, Method};
use runtime::Clock;
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(3);
const LARGEST: usize = 1 << 20;
/// A watchdog takes a request within this.
const HEEDED: Duration = Duration::from_secs(5);

/// A future in a box.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What does a fault.
pub trait Hands: Send + Sync {
    /// Begins it for `lease`, or gives it a new lease. `id` is the event's.
    fn begin<'a>(
        &'a self,
        it: &'a Experiment,
        id: &'a str,
        lease: Duration,
    ) -> Boxed<'a, Result<(), String>>;

    /// Ends it; how many calls or questions it has met, where that is counted.
    fn end<'a>(&'a self, it: &'a Experiment) -> Boxed<'a, Result<Option<u64>, String>>;
}

/// A gateway, and the watchdog that keeps it.
#[derive(Debug)]
pub struct RealHands {
    config: ChaosConfig,
    client: HttpClient,
    clock: Clock,
}

impl RealHands {
    /// Must be called within a tokio runtime.
    pub fn new(config: ChaosConfig, clock: Clock) -> Self {
        Self { config, client: HttpClient::new(), clock }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let gateway = self.config.gateway.as_deref().ok_or("chaos.gateway is not set")?;
        let url = format!("{}/admin/chaos{path}", gateway.trim_end_matches('/'));
        let token = self.config.token_file.as_ref().map(std::fs::read_to_string).transpose();
        let token = token.map_err(|error| format!("chaos.token_file: {error}"))?;
        let authorization = token.map(|token| format!("Bearer {}", token.trim()));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(authorization.as_deref().map(|it| ("authorization", it)));
        let deadline = self.clock.monotonic() + TIMEOUT;
        let answer = self.client.send(method, &url, &headers, body.to_string(), deadline).await;
        let answer = answer.map_err(|error| format!("{url}: {error}"))?;
        let status = answer.status;
        let text = answer.body(LARGEST).await.map_err(|error| format!("{url}: {error}"))?;
        if !(200..300).contains(&status) {
            let said: String = String::from_utf8_lossy(&text).chars().take(300).collect();
            return Err(format!("{url} answered {status}: {said}"));
        }
        Ok(serde_json::from_slice(&text).unwrap_or(Value::Null))
    }

    /// Asks the watchdog, by a file.
    async fn request(&self, action: &str, id: &str, seconds: f64) -> Result<(), String> {
        let dir = self.config.watchdog_dir.clone().ok_or("chaos.watchdog_dir is not set")?;
        let request = json!({
            "id": id, "by": "chaos", "reason": "an experiment", "action": action, "seconds": seconds,
            "at": self.clock.now(),
        });
        let (folder, file) = (dir.join("requests"), format!("{}.json", self.config.job));
        let path = folder.join(&file);
        let written = tokio::task::spawn_blocking(move || {
            durable::create_dir(&folder)
                .and_then(|()| durable::replace(&folder.join(file), request.to_string().as_bytes()))
        });
        let written = written.await.map_err(|error| error.to_string())?;
        written.map_err(|error| format!("the watchdog could not be asked: {error}"))?;
        // Who heeds it takes it away.
        let deadline = self.clock.monotonic() + HEEDED;
        while path.exists() {
            if self.clock.monotonic() > deadline {
                let _ = durable::remove_file(&path);
                return Err(format!(
                    "no watchdog with the folder {} and a child {:?} has taken the request",
                    dir.display(),
                    self.config.job
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

impl Hands for RealHands {
    fn begin<'a>(
        &'a self,
        it: &'a Experiment,
        id: &'a str,
        lease: Duration,
    ) -> Boxed<'a, Result<(), String>> {
        Box::pin(async move {
            let ttl = lease.as_secs_f64();
            match it.fault.place() {
                Place::Tool(mode) => {
                    let mut body =
                        json!({ "tool": it.tool, "mode": mode, "pct": it.percent, "ttl": ttl });
                    if let (Some(amount), Some(body)) = (it.amount, body.as_object_mut()) {
                        body.insert("amount".to_owned(), amount.into());
                    }
                    self.call(Method::POST, "/tool", body).await.map(drop)
                }
                Place::Own => {
                    let body = json!({ "fault": it.fault.name(), "amount": it.amount, "ttl": ttl });
                    self.call(Method::POST, "/own", body).await.map(drop)
                }
                Place::Component(ailment) => {
                    let body = json!({ "component": it.component, "ailment": ailment });
                    self.call(Method::POST, "/component", body).await.map(drop)
                }
                Place::Process(action) => self.request(action, id, it.duration.as_secs_f64()).await,
            }
        })
    }

    fn end<'a>(&'a self, it: &'a Experiment) -> Boxed<'a, Result<Option<u64>, String>> {
        Box::pin(async move {
            let (list, own) = match it.fault.place() {
                Place::Tool(_) => ("", format!("/tool/{}", it.tool.as_deref().unwrap_or_default())),
                Place::Own => ("/own", format!("/own/{}", it.fault.name())),
                // They end by themselves.
                Place::Component(_) | Place::Process(_) => return Ok(None),
            };
            let there = self.call(Method::GET, list, Value::Null).await?;
            let met = there.get("faults").and_then(Value::as_array).and_then(|all| {
                let ours = all.iter().find(|one| {
                    one.get("tool").and_then(Value::as_str) == it.tool.as_deref()
                        && one.get("fault").and_then(Value::as_str)
                            == (list == "/own").then(|| it.fault.name()).as_deref()
                })?;
                ours.get("calls_hit").or(ours.get("hits"))?.as_u64()
            });
            self.call(Method::DELETE, &own, Value::Null).await.map(|_| met)
        })
    }
}

/// When an event began, for whoever compares times.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.millis() - from.millis()) as f64 / 1_000.0
}
