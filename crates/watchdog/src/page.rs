//! Tells people by webhook, in the form of Alertmanager's, without the monitor: it may be what has died.

use model::Timestamp;
use platform::http::{HttpClient, Method};
use runtime::{Backoff, Clock, Jitter};
use serde_json::json;
use std::time::Duration;
use tracing::{info, warn};

/// Five attempts within about a minute, then the journal and the log must do.
const BACKOFF: Backoff =
    Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(20), attempts: 5 };
const TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to tell.
#[derive(Clone, Debug)]
pub(crate) struct Pager {
    urls: Vec<String>,
    client: HttpClient,
    clock: Clock,
}

impl Pager {
    pub(crate) fn new(urls: &[String], client: &HttpClient, clock: Clock) -> Self {
        Self { urls: urls.to_vec(), client: client.clone(), clock }
    }

    /// Tells all of them; does not wait until it is done.
    pub(crate) fn page(&self, alert: &str, child: &str, summary: &str) {
        let body = message(alert, child, summary, self.clock.now()).to_string();
        for url in self.urls.clone() {
            let (client, clock, body) = (self.client.clone(), self.clock, body.clone());
            tokio::spawn(async move {
                let mut jitter = Jitter::random();
                let mut attempt = 1;
                loop {
                    let deadline = clock.monotonic() + TIMEOUT;
                    let headers = [("content-type", "application/json")];
                    let sent =
                        client.send(Method::POST, &url, &headers, body.clone(), deadline).await;
                    let failed = match sent {
                        Ok(answer) if answer.status < 300 => {
                            info!(url, "a person was told");
                            return;
                        }
                        Ok(answer) => format!("answered {}", answer.status),
                        Err(error) => error.to_string(),
                    };
                    warn!(url, failed, attempt, "a person could not be told");
                    attempt += 1;
                    let Some(wait) = BACKOFF.before(attempt, &mut jitter) else { return };
                    tokio::time::sleep(wait).await;
                }
            });
        }
    }
}

fn message(alert: &str, child: &str, summary: &str, now: Timestamp) -> serde_json::Value {
    let labels = json!({ "alertname": alert, "job": child, "severity": "critical" });
    json!({
        "version": "4",
        "status": "firing",
        "receiver": "watchdog",
        "groupKey": format!("watchdog/{child}/{alert}"),
        "groupLabels": { "alertname": alert },
        "commonLabels": labels,
        "commonAnnotations": { "summary": summary },
        "externalURL": "",
        "truncatedAlerts": 0,
        "alerts": [{
            "status": "firing",
            "labels": labels,
            "annotations": { "summary": summary },
            "startsAt": now.to_string(),
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": format!("{alert}-{child}"),
        }],
    })
}
