//! Ours and the peers as processes on private ports and folders: how to start, feed and ask each.

use platform::PlatformError;
use platform::child::{Child, Command};
use platform::http::{HttpClient, HttpError, Method, percent};
use runtime::Clock;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Why a benchmark has no numbers.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A process could not be started or read.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A request got no answer.
    #[error("a request failed: {0}")]
    Http(#[from] HttpError),
    /// A request got an answer that says no.
    #[error("{url} answered {answer}")]
    Refused {
        /// Who.
        url: String,
        /// Status and text.
        answer: String,
    },
    /// A process did not come up.
    #[error("{name} was not ready within {limit:?}; its last words:\n{output}")]
    NotReady {
        /// Which system.
        name: &'static str,
        /// How long it had.
        limit: Duration,
        /// The end of its output.
        output: String,
    },
    /// Files or tasks.
    #[error("{0}")]
    Other(String),
}

impl BenchError {
    pub(crate) fn task(error: impl std::fmt::Display) -> Self {
        Self::Other(error.to_string())
    }
}

/// For a system to answer after its start.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// For a system to end when asked to.
const END_WITHIN: Duration = Duration::from_secs(60);

/// Half seconds without a change after which files count as settled.
const QUIET: u32 = 40;

/// Which system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Forerunner,
    Prometheus,
    VictoriaMetrics,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Forerunner, Self::Prometheus, Self::VictoriaMetrics];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Forerunner => "Forerunner",
            Self::Prometheus => "Prometheus",
            Self::VictoriaMetrics => "VictoriaMetrics",
        }
    }

    /// The program, if it is on this machine.
    fn program(self) -> Option<PathBuf> {
        let name = match self {
            Self::Forerunner => return std::env::current_exe().ok(),
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        };
        program(name)
    }

    /// Ours, and with `peers` those on this machine; says which are not.
    pub(crate) fn chosen(peers: bool) -> Vec<Self> {
        if !peers {
            return vec![Self::Forerunner];
        }
        let (here, missing): (Vec<Self>, Vec<Self>) =
            Self::ALL.into_iter().partition(|kind| kind.program().is_some());
        for kind in missing {
            eprintln!("{} is not installed, its column stays empty", kind.name());
        }
        here
    }
}

/// Targets to scrape, for the benchmark of scraping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Targets<'a>(pub(crate) &'a [String]);

/// A running system.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) kind: Kind,
    pub(crate) client: HttpClient,
    child: Child,
    dir: TempDir,
    command: Command,
    port: u16,
}

impl System {
    /// Starts one on an empty folder and waits until it answers.
    pub(crate) async fn start(kind: Kind, targets: Targets<'_>) -> Result<Self, BenchError> {
        let dir = TempDir::new().map_err(BenchError::task)?;
        let port = free_port()?;
        let program =
            kind.program().ok_or_else(|| BenchError::Other("not installed".to_owned()))?;
        let args = configure(kind, dir.path(), port, targets)?;
        let command = Command::new(program, args);
        let child = Child::start(&command, None)?;
        let mut system = Self { kind, client: HttpClient::new(), child, dir, command, port };
        system.wait_ready().await?;
        Ok(system)
    }

    async fn wait_ready(&mut self) -> Result<(), BenchError> {
        let path = match self.kind {
            Kind::Prometheus => "/-/ready",
            Kind::VictoriaMetrics => "/health",
            Kind::Forerunner => "/ready",
        };
        let clock = Clock::system();
        let end = clock.monotonic() + READY_WITHIN;
        while clock.monotonic() < end {
            let soon = clock.monotonic() + Duration::from_secs(1);
            let url = self.url(path);
            let answer = self.client.send(Method::GET, &url, &[], "", soon).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let output = self.child.last_lines().join("\n");
        Err(BenchError::NotReady { name: self.kind.name(), limit: READY_WITHIN, output })
    }

    /// Kills it without warning, starts it again on the same folder and returns the time until it answers.
    pub(crate) async fn kill_and_restart(&mut self) -> Result<Duration, BenchError> {
        self.child.end(Duration::ZERO).await.map_err(BenchError::task)?;
        let clock = Clock::system();
        let start = clock.monotonic();
        self.child = Child::start(&self.command, None)?;
        self.wait_ready().await?;
        Ok(clock.monotonic() - start)
    }

    pub(crate) async fn end(mut self) -> Result<(), BenchError> {
        self.child.end(END_WITHIN).await.map(drop).map_err(BenchError::task)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Where remote-write goes.
    pub(crate) fn write_url(&self) -> String {
        self.url("/api/v1/write")
    }

    /// Seconds of processor time so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, BenchError> {
        Ok(platform::process::read(self.child.pid())?.cpu_seconds)
    }

    /// The most bytes that it ever had in memory.
    pub(crate) fn peak_bytes(&self) -> Result<u64, BenchError> {
        let path = format!("/proc/{}/status", self.child.pid());
        let text = std::fs::read_to_string(path).map_err(BenchError::task)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| BenchError::Other("no VmHWM".to_owned()))
    }

    /// Bytes of its files, without its log of what is not yet settled.
    pub(crate) fn settled_bytes(&self) -> u64 {
        let skip = ["wal", "chunks_head", "cache", "monitor.address"];
        bytes_under(&self.dir.path().join("data"), &skip)
    }

    /// Samples in those files, where not all of `sent` are.
    pub(crate) async fn settled_samples(&self, sent: u64) -> Result<u64, BenchError> {
        match self.kind {
            Kind::VictoriaMetrics => Ok(sent),
            Kind::Forerunner => {
                let sql = "SELECT sum(samples) AS n FROM segments WHERE resolution = 'raw'";
                self.sql_number(sql).await
            }
            Kind::Prometheus => {
                let data = self.dir.path().join("data");
                let entries = std::fs::read_dir(data).map_err(BenchError::task)?;
                let samples = |path: PathBuf| {
                    let text = std::fs::read(path.join("meta.json")).ok()?;
                    let meta: Value = serde_json::from_slice(&text).ok()?;
                    meta["stats"]["numSamples"].as_u64()
                };
                Ok(entries.flatten().filter_map(|entry| samples(entry.path())).sum())
            }
        }
    }

    async fn sql_number(&self, sql: &str) -> Result<u64, BenchError> {
        let body = json!({ "query": sql }).to_string();
        let deadline = Clock::system().monotonic() + Duration::from_secs(30);
        let headers = [("accept", "application/json")];
        let url = self.url("/api/v1/sql");
        let answer = self.client.send(Method::POST, &url, &headers, body, deadline).await?;
        if answer.status != 200 {
            return Ok(0); // no such table yet
        }
        let value: Value =
            serde_json::from_slice(&answer.body(1 << 20).await?).map_err(BenchError::task)?;
        Ok(value["rows"][0][0].as_u64().unwrap_or(0))
    }

    /// Asks until everything is in its final form.
    pub(crate) async fn settle(&self) -> Result<(), BenchError> {
        match self.kind {
            Kind::VictoriaMetrics => {
                self.get("/internal/force_flush").await?;
                self.get("/internal/force_merge").await?;
            }
            Kind::Prometheus | Kind::Forerunner => {}
        }
        // Settled is when nothing has changed for a while.
        let mut last = (0, 0);
        while last.1 < QUIET {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let bytes = self.settled_bytes();
            last = if bytes == last.0 { (bytes, last.1 + 1) } else { (bytes, 0) };
        }
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, BenchError> {
        let deadline = Clock::system().monotonic() + Duration::from_secs(120);
        let url = self.url(path);
        let answer = self.client.send(Method::GET, &url, &[], "", deadline).await?;
        let status = answer.status;
        let body = answer.body(1 << 30).await?;
        if status >= 300 {
            let text = String::from_utf8_lossy(&body).chars().take(500).collect::<String>();
            return Err(BenchError::Refused { url, answer: format!("{status}: {text}") });
        }
        Ok(body.to_vec())
    }

    /// Runs a query in the language of the system and returns the size of the answer.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Answered, BenchError> {
        match (self.kind, question) {
            (Kind::Forerunner, Question { sql, .. }) => {
                let deadline = Clock::system().monotonic() + Duration::from_secs(120);
                let body = json!({ "query": sql }).to_string();
                let headers = [("accept", "application/vnd.apache.arrow.stream")];
                let url = self.url("/api/v1/sql");
                let answer = self.client.send(Method::POST, &url, &headers, body, deadline).await?;
                let status = answer.status;
                let body = answer.body(1 << 30).await?;
                if status >= 300 {
                    let answer = format!("{status}: {}", String::from_utf8_lossy(&body));
                    return Err(BenchError::Refused { url, answer });
                }
                Ok(Answered { bytes: body.len() })
            }
            (_, Question { promql, start, end, step, .. }) => {
                let promql = percent(promql);
                let nocache = if self.kind == Kind::VictoriaMetrics { "&nocache=1" } else { "" };
                let path = if start == end {
                    format!("/api/v1/query?query={promql}&time={end}{nocache}")
                } else {
                    format!(
                        "/api/v1/query_range?query={promql}&start={start}&end={end}&step={step}{nocache}"
                    )
                };
                Ok(Answered { bytes: self.get(&path).await?.len() })
            }
        }
    }

    /// How many samples a metric has, or `None` while it is unknown.
    pub(crate) async fn count(&self, metric: &str, at: i64) -> Result<u64, BenchError> {
        if self.kind == Kind::Forerunner {
            return self.sql_number(&format!("SELECT count(*) AS n FROM {metric}")).await;
        }
        let promql = percent(&format!("sum(count_over_time({metric}[1d]))"));
        let nocache = if self.kind == Kind::VictoriaMetrics { "&nocache=1" } else { "" };
        let time = at as f64 / 1e3;
        let body = self.get(&format!("/api/v1/query?query={promql}&time={time}{nocache}")).await?;
        let value: Value = serde_json::from_slice(&body).map_err(BenchError::task)?;
        let text = value["data"]["result"][0]["value"][1].as_str().unwrap_or("0");
        Ok(text.parse::<f64>().unwrap_or(0.0) as u64)
    }
}

/// The same question in two languages.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) sql: String,
    pub(crate) promql: String,
    /// Seconds since the epoch; equal for one instant.
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Seconds.
    pub(crate) step: i64,
}

/// An answer came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) bytes: usize,
}

fn configure(
    kind: Kind,
    dir: &Path,
    port: u16,
    Targets(targets): Targets<'_>,
) -> Result<Vec<String>, BenchError> {
    let data = dir.join("data");
    let data = data.display();
    let list = targets.iter().map(|target| format!("\"{target}\"")).collect::<Vec<_>>().join(", ");
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        platform::durable::replace(&path, text.as_bytes())?;
        Ok::<_, BenchError>(path.display().to_string())
    };
    let scrape = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: bench\n  \
         static_configs:\n  - targets: [{list}]\n"
    );
    Ok(match kind {
        Kind::Forerunner => {
            let jobs = match targets {
                [] => String::new(),
                _ => format!("[[collector.scrape]]\njob = \"bench\"\ntargets = [{list}]\n"),
            };
            let text = format!(
                "[api]\nlisten = \"127.0.0.1:{port}\"\n[store]\ndir = \"{data}\"\n\
                 [collector]\ninterval = \"1s\"\n[collector.host]\nenabled = false\n{jobs}"
            );
            ["monitor".to_owned(), "--config".to_owned(), write("forerunner.toml", text)?].to_vec()
        }
        Kind::Prometheus => vec![
            format!("--config.file={}", write("prometheus.yml", scrape)?),
            format!("--storage.tsdb.path={data}"),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-remote-write-receiver".to_owned(),
            "--storage.tsdb.retention.time=90d".to_owned(),
            "--log.level=warn".to_owned(),
        ],
        Kind::VictoriaMetrics => {
            let mut args = vec![
                format!("-storageDataPath={data}"),
                format!("-httpListenAddr=127.0.0.1:{port}"),
                "-retentionPeriod=3".to_owned(),
                "-loggerLevel=WARN".to_owned(),
            ];
            if !targets.is_empty() {
                args.push(format!("-promscrape.config={}", write("scrape.yml", scrape)?));
            }
            args
        }
    })
}

/// The program of this name in the path.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, BenchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::task)?;
    Ok(listener.local_addr().map_err(BenchError::task)?.port())
}

fn bytes_under(path: &Path, skip: &[&str]) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let entries = entries
        .flatten()
        .filter(|entry| !skip.iter().any(|name| entry.file_name().to_str() == Some(name)));
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_under(&entry.path(), skip),
            Ok(meta) => meta.len(),
            Err(_) => 0, // gone meanwhile
        })
        .sum()
}
