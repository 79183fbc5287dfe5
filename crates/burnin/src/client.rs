//! A client as the failed burn-in had them: three agents of its own, tokens that it renews, and requests of which it knows whether they
//! must be granted or denied. A denial that was due is a success; one that was not is a failure, as is a grant that was not due.

use crate::exchange::{Answer, Exchange};
use crate::tally::{Kind, Tally};
use platform::http::HttpError;
use runtime::Jitter;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// As the clients of the failed run had it.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens are renewed after this.
const RENEW: Duration = Duration::from_secs(30 * 60);
/// After a refusal that names no time, and at most.
const COME_AGAIN: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Roles and what their policies grant.
pub const ROLES: [(&str, &[&str]); 3] = [
    ("scraper", &["serpapi:search", "http_fetch:get"]),
    ("enricher", &["http_fetch:get", "openai:chat"]),
    ("engager", &["gmail_send:send"]),
];

/// What is sent, in hundredths of all requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Calls that must be granted.
    pub granted: f64,
    /// Calls that must be denied.
    pub denied: f64,
}

/// The steady mix of the failed run; the rest are searches, granted too.
pub const STEADY: Mix = Mix { granted: 0.5, denied: 0.3 };
/// That of its spikes.
pub const SPIKE: Mix = Mix { granted: 0.7, denied: 0.2 };

/// One client.
#[derive(Debug)]
pub struct Client {
    number: usize,
    exchange: Exchange,
    tokens: Option<([String; 3], Instant)>,
    lot: Jitter,
    tally: Tally,
}

/// Policies that grant what [`ROLES`] say; one client makes them before all begin.
///
/// # Errors
/// The gateway did not take one.
pub async fn grant(address: SocketAddr) -> Result<(), String> {
    let mut exchange = Exchange::new(address);
    for (role, scopes) in ROLES {
        let body =
            json!({ "name": format!("burnin {role}"), "role": role, "spec": { "scopes": scopes } });
        let answer = exchange.send("POST", "/api/policies", &body.to_string(), TIMEOUT).await;
        match answer {
            Ok(answer) if answer.status == 201 => {}
            Ok(answer) => {
                let said = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(format!("POST /api/policies answered {}: {said}", answer.status));
            }
            Err(error) => return Err(format!("POST /api/policies: {error}")),
        }
    }
    Ok(())
}

impl Client {
    /// The client of a number, with lots drawn by `seed`.
    pub fn new(number: usize, seed: u64, address: SocketAddr, tally: Tally) -> Self {
        let lot = Jitter::seeded(seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let exchange = Exchange::new(address);
        Self { number, exchange, tokens: None, lot, tally }
    }

    /// Sends one request of the mix, after it has got itself tokens if it must. What came of it is in the tally.
    pub async fn go(&mut self, mix: Mix) {
        let Some([scraper, enricher, _]) = self.tokens().await else { return };
        let draw = self.lot.unit();
        let (token, tool, action, params, granted) = if draw < mix.granted {
            self.granted(&scraper, &enricher)
        } else if draw < mix.granted + mix.denied {
            let token = if self.lot.unit() < 0.5 { scraper } else { enricher };
            let params = json!({ "to": "test@example.com", "subject": "denied", "text": "no" });
            (token, "gmail_send", "send", params, false)
        } else {
            let params = json!({ "query": "chaos test query", "engine": "google" });
            (scraper, "serpapi", "search", params, true)
        };
        let body =
            json!({ "agent_token": token, "tool": tool, "action": action, "params": params });
        let start = Instant::now();
        let answer =
            self.exchange.send("POST", "/api/proxy-request", &body.to_string(), TIMEOUT).await;
        self.tally.note(judge(&answer, granted), start.elapsed());
        self.rest(&answer).await;
    }

    fn granted(
        &mut self,
        scraper: &str,
        enricher: &str,
    ) -> (String, &'static str, &'static str, Value, bool) {
        let draw = self.lot.unit();
        if draw < 0.4 {
            let query = format!("burnin query {}", (self.lot.unit() * 1e6) as u64);
            let params = json!({ "query": query, "engine": "google" });
            (scraper.to_owned(), "serpapi", "search", params, true)
        } else if draw < 0.7 {
            let params = json!({ "url": "https://httpbin.org/json" });
            (enricher.to_owned(), "http_fetch", "get", params, true)
        } else {
            let messages = json!([{ "role": "user", "content": "burnin test query" }]);
            let params = json!({ "model": "gpt-4o-mini", "messages": messages });
            (enricher.to_owned(), "openai", "chat", params, true)
        }
    }

    /// A client that is told to come again later does so.
    async fn rest(&mut self, answer: &Result<Answer, HttpError>) {
        let wait = match answer {
            Ok(answer) if matches!(answer.status, 429 | 503) => {
                answer.retry_after.unwrap_or(COME_AGAIN).min(LONGEST_WAIT)
            }
            Ok(_) => return,
            Err(_) => COME_AGAIN,
        };
        tokio::time::sleep(wait.mul_f64(0.5 + self.lot.unit())).await;
    }

    /// Its tokens, made or renewed when it must be; none if that did not work out this time.
    async fn tokens(&mut self) -> Option<[String; 3]> {
        if let Some((tokens, made)) = &self.tokens
            && made.elapsed() < RENEW
        {
            return Some(tokens.clone());
        }
        let mut agents = Vec::new();
        for (role, _) in ROLES {
            let name = format!("burnin_{role}_{}", self.number);
            let body = json!({ "name": name, "created_by": "burnin", "role": role });
            agents.push(self.make("/api/create-agent", &body, "agent_id").await?);
        }
        let mut tokens = Vec::new();
        for (agent, (_, scopes)) in agents.iter().zip(ROLES) {
            let tools: Vec<&str> = scopes.iter().filter_map(|it| it.split(':').next()).collect();
            let expires = runtime::Clock::system().now().plus(Duration::from_secs(45 * 60));
            let body = json!({
                "agent_id": agent, "tools": tools, "permissions": ["read", "write"],
                "expires_at": expires.to_string(),
            });
            tokens.push(self.make("/api/generate-token", &body, "agent_token").await?);
        }
        let tokens: [String; 3] = tokens.try_into().ok()?;
        self.tokens = Some((tokens.clone(), Instant::now()));
        Some(tokens)
    }

    async fn make(&mut self, path: &str, body: &Value, wanted: &str) -> Option<String> {
        let start = Instant::now();
        let answer = self.exchange.send("POST", path, &body.to_string(), TIMEOUT).await;
        let good = matches!(&answer, Ok(answer) if answer.status == 201);
        let kind = if good { Kind::Due } else { judge(&answer, true) };
        self.tally.note(kind, start.elapsed());
        self.rest(&answer).await;
        let body: Value = serde_json::from_slice(&answer.ok()?.body).ok()?;
        body.get(wanted)?.as_str().map(str::to_owned)
    }
}

/// What an answer is worth to one who must be granted, or must be denied.
fn judge(answer: &Result<Answer, HttpError>, granted: bool) -> Kind {
    match answer {
        Ok(answer) => match (answer.status, granted) {
            (200..300, true) | (403, false) => Kind::Due,
            (200..300, false) => Kind::WrongGrant,
            (401 | 403, true) => Kind::WrongDenial,
            // Refused for now, with the time to come again: that is backpressure, and no answer.
            (429 | 503, _) if answer.retry_after.is_some() => Kind::Shed,
            _ => Kind::Failed,
        },
        Err(HttpError::Timeout) => Kind::TimedOut,
        Err(_) => Kind::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_that_was_due_is_a_success_and_one_that_was_not_a_failure() {
        let answer = |status, retry_after| Ok(Answer { status, retry_after, body: Vec::new() });
        let second = Some(Duration::from_secs(1));
        for (answer, granted, kind) in [
            (answer(200, None), true, Kind::Due),
            (answer(403, None), false, Kind::Due),
            (answer(200, None), false, Kind::WrongGrant),
            (answer(403, None), true, Kind::WrongDenial),
            (answer(503, second), true, Kind::Shed),
            (answer(503, None), true, Kind::Failed),
            (answer(502, None), true, Kind::Failed),
            (Err(HttpError::Timeout), true, Kind::TimedOut),
            (Err(HttpError::Refused), false, Kind::Unreachable),
        ] {
            assert_eq!(judge(&answer, granted), kind, "{answer:?} {granted}");
        }
    }
}
