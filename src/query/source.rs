//! Who answers: a running monitor over HTTP, or this process from the files of one that does not run.

use super::Place;
use crate::exit::{self, Failure};
use crate::role::monitor::{ADDRESS, ALERTS, CHAOS, FINDINGS};
use crate::wire;
use analyzer::{
    AnalyzerConfig, Capacity, Findings, Forecasts, Format, Query, QueryConfig, QueryError,
};
use model::Timestamp;
use platform::PlatformError;
use platform::http::{HttpClient, HttpError, Method};
use runtime::Clock;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use store::StoreError;
use tracing::warn;

const DEFAULT_URL: &str = "http://127.0.0.1:9490";
/// A little more than the monitor takes at most by default, so that its own words arrive.
const TIMEOUT: Duration = Duration::from_secs(60);
const LARGEST: usize = 1 << 30;

pub(crate) enum Source {
    Monitor { client: HttpClient, url: String, token: Option<String> },
    Files(Box<Query>),
}

impl Source {
    pub(crate) async fn open(place: Place) -> Result<Self, Failure> {
        let Place { url, data_dir, token_file } = place;
        let token = match token_file {
            Some(file) => {
                let text = std::fs::read_to_string(&file).map_err(exit::with(exit::DATA))?;
                Some(text.trim().to_owned())
            }
            None => None,
        };
        let Some(dir) = data_dir else {
            let url = url.unwrap_or_else(|| DEFAULT_URL.to_owned());
            return Ok(Self::Monitor { client: HttpClient::new(), url, token });
        };
        let folder = dir.clone();
        let opened =
            tokio::task::spawn_blocking(move || store::open_read_only(&folder, Clock::system()))
                .await;
        match opened.map_err(exit::with(exit::SOFTWARE))? {
            Ok((reader, replayed)) => {
                if replayed.torn_bytes + replayed.damaged_bytes > 0 {
                    warn!(
                        torn_bytes = replayed.torn_bytes,
                        damaged_bytes = replayed.damaged_bytes,
                        "the write-ahead log is damaged; what could be read is shown"
                    );
                }
                let config = AnalyzerConfig::default();
                let findings =
                    Findings::read(&dir.join(FINDINGS), &config).map_err(exit::with(exit::DATA))?;
                let forecasts =
                    Forecasts::open(&dir.join(FINDINGS), false).map_err(exit::with(exit::DATA))?;
                let limits = QueryConfig::default();
                let desk = alerts::Desk::read(&dir.join(ALERTS), Clock::system())
                    .map_err(exit::with(exit::DATA))?;
                let own = (findings, forecasts);
                let book = chaos::Book::read(&dir.join(CHAOS), Clock::system().now())
                    .map_err(exit::with(exit::DATA))?;
                let tables = wire::tables(desk, book);
                let query = Query::with_findings(limits, reader, config, own, tables);
                Ok(Self::Files(Box::new(query.map_err(exit::with(exit::SOFTWARE))?)))
            }
            Err(StoreError::Platform(PlatformError::Locked { holder, .. })) => {
                let url = address(&dir).ok_or_else(|| {
                    let dir = dir.display();
                    let text = format!(
                        "{dir} is in use by {holder}, and no address of a monitor is in it"
                    );
                    Failure::text(exit::UNAVAILABLE, text)
                })?;
                Ok(Self::Monitor { client: HttpClient::new(), url, token })
            }
            Err(error) => Err(Failure::new(exit::DATA, error)),
        }
    }

    /// Runs a query and returns the answer as it is to be printed.
    pub(crate) async fn run(&self, sql: &str, format: Format) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Files(query) => {
                let answer = query.run(sql, &[]).await.map_err(refused)?;
                answer.encode(format).map_err(refused)
            }
            Self::Monitor { client, url, token } => {
                ask(client, url, token.as_deref(), sql, format).await
            }
        }
    }
}

impl Source {
    /// What is forecast of all watched resources.
    pub(crate) async fn capacity(&self) -> Result<Capacity, Failure> {
        match self {
            Self::Files(query) => query.capacity(None).await.map_err(refused),
            Self::Monitor { client, url, token } => {
                let ask = Ask {
                    method: Method::GET,
                    path: "/api/v1/forecasts",
                    accept: "application/json",
                };
                let body = send(client, url, token.as_deref(), &ask, String::new()).await?;
                serde_json::from_slice(&body).map_err(exit::with(exit::UNAVAILABLE))
            }
        }
    }
}

impl Source {
    /// What the detectors would have found, as a table: `at`, `severity`, `kind`, `metric`, `labels`, `summary`.
    pub(crate) async fn backtest(&self, from: Timestamp, to: Timestamp) -> Result<String, Failure> {
        let Self::Files(query) = self else {
            let part = |function: &str| {
                format!(
                    "SELECT at, severity, kind, metric, labels, summary FROM {function}(\"from\" => '{from}', \"to\" => '{to}')"
                )
            };
            let parts = ["leaks", "drifts", "anomalies", "capacity"].map(part).join(" UNION ALL ");
            let rows = self.run(&format!("{parts} ORDER BY at"), Format::Table).await?;
            return Ok(String::from_utf8_lossy(&rows).into_owned());
        };
        let found = query.backtest(from, to).await.map_err(refused)?;
        let lines = found.iter().map(|it| {
            let (severity, kind) = (it.severity.name(), it.kind.name());
            format!("{} {severity} {kind} {}: {}\n", it.at, it.subject, it.summary())
        });
        Ok(format!("{}{} findings", lines.collect::<String>(), found.len()))
    }
}

/// Where the monitor that uses a data directory listens.
fn address(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join(ADDRESS)).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    Some(format!("http://{}", value.get("api")?.as_str()?))
}

/// One request.
struct Ask {
    method: Method,
    path: &'static str,
    accept: &'static str,
}

async fn ask(
    client: &HttpClient,
    url: &str,
    token: Option<&str>,
    sql: &str,
    format: Format,
) -> Result<Vec<u8>, Failure> {
    let ask = Ask { method: Method::POST, path: "/api/v1/sql", accept: format.media_type() };
    send(client, url, token, &ask, json!({ "query": sql }).to_string()).await
}

async fn send(
    client: &HttpClient,
    url: &str,
    token: Option<&str>,
    ask: &Ask,
    body: String,
) -> Result<Vec<u8>, Failure> {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("accept", ask.accept), ("content-type", "application/json")];
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    let unreachable = |error: HttpError| {
        let text = format!(
            "no answer from the monitor at {url}: {error}; start one with `forerunner demo` or \
             `forerunner monitor`, or read its files with --data-dir"
        );
        Failure::text(exit::UNAVAILABLE, text)
    };
    let deadline = Clock::system().monotonic() + TIMEOUT;
    let path = format!("{}{}", url.trim_end_matches('/'), ask.path);
    let answer = client
        .send(ask.method.clone(), &path, &headers, body, deadline)
        .await
        .map_err(unreachable)?;
    let status = answer.status;
    let body = answer.body(LARGEST).await.map_err(unreachable)?;
    if status == 200 {
        return Ok(body.to_vec());
    }
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = problem.get("error").and_then(Value::as_str).map(str::to_owned);
    let text =
        text.unwrap_or_else(|| format!("{url} answered with status {status}; is it a monitor?"));
    Err(Failure::text(if status < 500 { exit::DATA } else { exit::UNAVAILABLE }, text))
}

fn refused(error: QueryError) -> Failure {
    let code = if matches!(error, QueryError::Invalid(_)) { exit::DATA } else { exit::UNAVAILABLE };
    Failure::new(code, error)
}
