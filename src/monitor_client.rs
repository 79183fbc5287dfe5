//! Talks to a running monitor, for the commands that have it do things.

use crate::exit::{self, Failure};
use crate::wire;
use platform::http::{HttpClient, Method};
use runtime::Clock;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const LARGEST: usize = 64 << 20;

/// A monitor at a URL.
#[derive(Clone, Debug)]
pub(crate) struct MonitorClient {
    client: HttpClient,
    url: String,
    token: Option<String>,
}

/// The token in `file`.
pub(crate) fn token_in(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| {
        Failure::text(
            exit::DATA,
            format!("the token could not be read from {}: {error}", file.display()),
        )
    })?;
    Ok(text.trim().to_owned())
}

impl MonitorClient {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(url: &str, token_file: Option<&Path>) -> Result<Self, Failure> {
        let token = token_file.map(token_in).transpose()?;
        Ok(Self { client: HttpClient::new(), url: url.trim_end_matches('/').to_owned(), token })
    }

    /// Sends a request and reads the answer, which must be good.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.url);
        let authorization = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(authorization.as_deref().map(|it| ("authorization", it)));
        let deadline = Clock::system().monotonic() + TIMEOUT;
        let body = body.map(Value::to_string).unwrap_or_default();
        let gone = |error: platform::http::HttpError| {
            let text = format!(
                "no answer from the monitor at {}: {error}; start one with `forerunner demo` or `forerunner monitor`",
                self.url
            );
            Failure::text(exit::UNAVAILABLE, text)
        };
        let answer =
            self.client.send(method, &url, &headers, body, deadline).await.map_err(gone)?;
        let status = answer.status;
        let text = answer.body(LARGEST).await.map_err(gone)?;
        let text = String::from_utf8_lossy(&text);
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let said = value.get("error").and_then(Value::as_str).unwrap_or(&text).to_owned();
        Err(Failure::text(exit::DATA, said))
    }

    /// Runs SQL; its rows.
    pub(crate) async fn rows(&self, sql: &str) -> Result<chaos::Rows, Failure> {
        let asked = json!({ "query": sql });
        Ok(wire::whole_rows(&self.call(Method::POST, "/api/v1/sql", Some(&asked)).await?))
    }
}
