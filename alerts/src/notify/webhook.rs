//! JSON by HTTP POST, signed, with the same key in each attempt.

use super::text::{Links, payload};
use super::{Entry, Refused};
use crate::AlertsError;
use crate::config::WebhookConfig;
use crate::secret;
use platform::http::{HttpClient, HttpError, Method};
use platform::tls::Tls;
use ring::hmac;
use runtime::Clock;
use std::time::Duration;

/// A receiver by HTTP.
#[derive(Debug)]
pub(crate) struct Webhook {
    config: WebhookConfig,
    client: HttpClient,
    links: Links,
    clock: Clock,
}

/// What is read from files and the environment.
struct Secrets {
    url: String,
    key: Option<String>,
    token: Option<String>,
}

impl Webhook {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(
        config: WebhookConfig,
        links: Links,
        clock: Clock,
    ) -> Result<Self, AlertsError> {
        let tls = Tls { ca_file: config.ca_file.clone(), ..Tls::default() };
        Ok(Self { client: HttpClient::with_tls(&tls)?, config, links, clock })
    }

    /// Read anew each time: a secret may be renewed while we run.
    fn secrets(&self) -> Result<Secrets, String> {
        let it = &self.config;
        let url =
            secret::read("url", it.url.as_deref(), it.url_file.as_deref(), it.url_env.as_deref())?;
        let key =
            secret::read("secret", None, it.secret_file.as_deref(), it.secret_env.as_deref())?;
        let token = secret::read("bearer token", None, it.bearer_token_file.as_deref(), None)?;
        Ok(Secrets { url: url.unwrap_or_default(), key, token })
    }

    /// Whether all that it needs can be read now.
    pub(crate) fn ready(&self) -> Result<(), String> {
        self.secrets().map(drop)
    }

    pub(crate) async fn send(&self, entry: &Entry) -> Result<(), Refused> {
        self.post(payload(entry, &self.links).to_string(), &entry.key).await
    }

    /// Sends a body with its key.
    pub(crate) async fn post(&self, body: String, key: &str) -> Result<(), Refused> {
        let broken = |why: String| Refused { why, for_good: false, after: None };
        let Secrets { url, key: own_key, token } = self.secrets().map_err(broken)?;
        let time = (self.clock.now().millis() / 1_000).to_string();
        let signature = own_key.map(|secret| sign(&secret, &time, &body));
        let authorization = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![
            ("content-type", "application/json"),
            ("user-agent", "forerunner"),
            ("idempotency-key", key),
            ("x-forerunner-timestamp", &time),
        ];
        headers.extend(signature.as_deref().map(|it| ("x-forerunner-signature", it)));
        headers.extend(authorization.as_deref().map(|it| ("authorization", it)));
        let deadline = self.clock.monotonic() + self.config.timeout;
        let answer = self.client.send(Method::POST, &url, &headers, body, deadline).await;
        let answer = answer.map_err(|error| {
            // An URL may hold a secret.
            let why = match error {
                HttpError::Url(_) => {
                    "the receiver's URL is none that can be used; give http://host:port/path"
                        .to_owned()
                }
                other => other.to_string(),
            };
            Refused { why, for_good: false, after: None }
        })?;
        let (status, after) = (answer.status, answer.retry_after);
        if (200..300).contains(&status) {
            return Ok(());
        }
        let said = answer
            .body(4_096)
            .await
            .map(|it| String::from_utf8_lossy(&it).into_owned())
            .unwrap_or_default();
        let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
        // These say that the same message will never do; all others may be over in a while.
        let for_good = (400..500).contains(&status)
            && ![401, 403, 404, 407, 408, 409, 421, 423, 425, 429].contains(&status);
        Err(Refused {
            why: format!("status {status}: {said}"),
            for_good,
            after: after.or(backs_off(status)),
        })
    }
}

fn backs_off(status: u16) -> Option<Duration> {
    (status == 429).then_some(Duration::from_secs(5))
}

/// `sha256=` and the HMAC-SHA-256 of `TIMESTAMP.BODY` in hexadecimal.
pub(crate) fn sign(secret: &str, time: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{time}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}
