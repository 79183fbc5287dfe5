//! Files into a store: of a running monitor by remote-write for history, or of one that does not run.

use crate::exit::{self, Failure};
use crate::monitor_client::token_in;
use crate::query::Place;
use crate::role::block_on;
use clap::{Args, ValueEnum};
use collector::import::{ReadError, ReadReport, Row, read_csv, read_text};
use model::exposition::Dialect;
use model::{SeriesKey, Timestamp};
use platform::http::{HttpClient, Method};
use runtime::{Backoff, Clock, Jitter};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::{Batch, Opened, StoreConfig, StoreError, Times};
use telemetry::Registry;

/// What `import` takes.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    place: Place,
    /// The form of the files [default: by name: .prom and .txt, .om, .csv, .parquet]
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// The metric of CSV and Parquet files that have no column for it
    #[arg(long)]
    metric: Option<String>,
    /// The files
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Prometheus,
    Openmetrics,
    Csv,
    Parquet,
}

impl Form {
    fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|kind| kind.to_str()) {
            Some("prom" | "txt") => Ok(Self::Prometheus),
            Some("om") => Ok(Self::Openmetrics),
            Some("csv") => Ok(Self::Csv),
            Some("parquet") => Ok(Self::Parquet),
            _ => {
                let text =
                    format!("{}: its name does not say its form; give --format", path.display());
                Err(Failure::text(exit::USAGE, text))
            }
        }
    }
}

/// Samples sent at once.
const BATCH: usize = 10_000;
/// For one request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts at one request, while the monitor says that it may succeed later.
const ATTEMPTS: u32 = 8;

pub(crate) fn run(args: ImportArgs) -> Result<(), Failure> {
    telemetry::trace::start("error");
    block_on(async {
        tokio::task::spawn_blocking(move || import(args))
            .await
            .map_err(exit::with(exit::SOFTWARE))?
    })
}

fn import(args: ImportArgs) -> Result<(), Failure> {
    let forms = args.files.iter().map(|file| args.format.map_or_else(|| Form::of(file), Ok));
    let forms: Vec<Form> = forms.collect::<Result<_, _>>()?;
    let Place { url, data_dir, token_file } = args.place;
    let sink = match data_dir {
        Some(dir) => Sink::files(dir)?,
        None => Sink::monitor(url, token_file)?,
    };
    let mut rows = Rows { sink, held: BTreeMap::new(), count: 0, refused: 0, cause: None };
    let mut malformed = 0;
    for (file, form) in args.files.iter().zip(forms) {
        let report = read(file, form, args.metric.as_deref(), &mut rows)
            .map_err(|failure| failure.about(&file.display().to_string()))?;
        malformed += report.malformed;
        for cause in &report.first {
            eprintln!("{}: {cause}", file.display());
        }
        eprintln!(
            "{}: {} samples, {} lines not understood",
            file.display(),
            report.rows,
            report.malformed
        );
    }
    rows.send()?;
    rows.sink.finish()?;
    if let Some(cause) = &rows.cause {
        eprintln!("{} samples refused: {cause}", rows.refused);
    }
    if malformed > 0 || rows.refused > 0 {
        let text = "imported, but not whole";
        return Err(Failure::text(exit::NO, text));
    }
    Ok(())
}

fn read(
    path: &Path,
    form: Form,
    metric: Option<&str>,
    rows: &mut Rows,
) -> Result<ReadReport, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::text(exit::DATA, format!("{}: {error}", path.display())))?;
    let mut take = |row| rows.take(row);
    let read = match form {
        Form::Prometheus => read_text(BufReader::new(file), Dialect::Prometheus, &mut take),
        Form::Openmetrics => read_text(BufReader::new(file), Dialect::OpenMetrics, &mut take),
        Form::Csv => read_csv(BufReader::new(file), metric, &mut take),
        Form::Parquet => {
            let mut failure = None;
            let mut hand_on = |row| {
                take(row).map_err(|cause| {
                    failure = Some(cause);
                    analyzer::QueryError::Failed(String::new())
                })
            };
            match analyzer::read_parquet(file, metric, &mut hand_on) {
                Ok(rows) => Ok(ReadReport { rows, ..ReadReport::default() }),
                Err(cause) => match failure {
                    Some(failure) => Err(ReadError::Taken(failure)),
                    None => Err(ReadError::Form(cause.to_string())),
                },
            }
        }
    };
    read.map_err(|error| match error {
        ReadError::Taken(failure) => failure,
        ReadError::Io(error) => Failure::new(exit::DATA, error),
        ReadError::Form(cause) => Failure::text(exit::DATA, cause),
    })
}

/// Rows on their way, a bounded number at once.
struct Rows {
    sink: Sink,
    held: BTreeMap<SeriesKey, Vec<(Timestamp, f64)>>,
    count: usize,
    refused: u64,
    cause: Option<String>,
}

impl Rows {
    fn take(&mut self, (key, time, value): Row) -> Result<(), Failure> {
        self.held.entry(key).or_default().push((time, value));
        self.count += 1;
        if self.count >= BATCH { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.count = 0;
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Ok(());
        }
        if let Some((refused, cause)) = self.sink.send(&held)? {
            self.refused += refused;
            self.cause.get_or_insert(cause);
        }
        Ok(())
    }
}

enum Sink {
    Monitor { client: HttpClient, url: String, token: Option<String>, jitter: Jitter },
    Files(Box<Opened>),
}

/// Samples refused, and why the first was.
type Refused = Option<(u64, String)>;

impl Sink {
    fn monitor(url: Option<String>, token_file: Option<PathBuf>) -> Result<Self, Failure> {
        let url = url.unwrap_or_else(|| "http://127.0.0.1:9490".to_owned());
        let url = format!("{}/api/v1/import", url.trim_end_matches('/'));
        let token = token_file.as_deref().map(token_in).transpose()?;
        Ok(Self::Monitor { client: HttpClient::new(), url, token, jitter: Jitter::random() })
    }

    fn files(dir: PathBuf) -> Result<Self, Failure> {
        let config = StoreConfig::keeping_all(&dir);
        let opened = store::open(config, Clock::system(), &Registry::new());
        Ok(Self::Files(Box::new(opened.map_err(exit::with(exit::UNAVAILABLE))?)))
    }

    fn send(
        &mut self,
        rows: &BTreeMap<SeriesKey, Vec<(Timestamp, f64)>>,
    ) -> Result<Refused, Failure> {
        match self {
            Self::Monitor { client, url, token, jitter } => {
                let body = collector::encode(rows.iter().map(|(key, rows)| (key, rows.as_slice())));
                let sending = send(client, url, token.as_deref(), body, jitter);
                tokio::runtime::Handle::current().block_on(sending)
            }
            Self::Files(store) => append(store, rows),
        }
    }

    fn finish(&self) -> Result<(), Failure> {
        let Self::Files(store) = self else { return Ok(()) };
        let written = store.upkeep.flush_now().and_then(|()| store.upkeep.close());
        written.map_err(exit::with(exit::UNAVAILABLE))
    }
}

async fn send(
    client: &HttpClient,
    url: &str,
    token: Option<&str>,
    body: Vec<u8>,
    jitter: &mut Jitter,
) -> Result<Refused, Failure> {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers =
        vec![("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    let backoff = Backoff {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(10),
        attempts: ATTEMPTS,
    };
    let mut attempt = 1;
    loop {
        let deadline = Clock::system().monotonic() + TIMEOUT;
        let answer = client.send(Method::POST, url, &headers, body.clone(), deadline).await;
        let answer = answer.map_err(|error| {
            let text = format!(
                "no answer from the monitor at {url}: {error}; start one, or write files with --data-dir"
            );
            Failure::text(exit::UNAVAILABLE, text)
        })?;
        let status = answer.status;
        let text = answer.body(1 << 16).await.map_err(exit::with(exit::UNAVAILABLE))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        attempt += 1;
        match status {
            200..=299 => return Ok(None),
            // The rest is stored; the answer says how many are not.
            400 => match refused(&text) {
                Some(count) => return Ok(Some((count, text))),
                None => return Err(Failure::text(exit::DATA, text)),
            },
            429 | 503 => match backoff.before(attempt, jitter) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(Failure::text(exit::UNAVAILABLE, text)),
            },
            _ => {
                return Err(Failure::text(
                    exit::UNAVAILABLE,
                    format!("{url} answered {status}: {text}"),
                ));
            }
        }
    }
}

/// How many samples an answer says were refused, as in `3 of 7 samples refused, the rest is stored: …`.
fn refused(answer: &str) -> Option<u64> {
    let (counts, _) = answer.split_once(" samples refused")?;
    let (refused, all) = counts.rsplit_once(" of ")?;
    let digits = refused.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    all.parse::<u64>().ok()?;
    digits.parse().ok()
}

fn append(
    store: &Opened,
    rows: &BTreeMap<SeriesKey, Vec<(Timestamp, f64)>>,
) -> Result<Refused, Failure> {
    let writer = store.writer.for_history();
    let mut refused: Refused = None;
    let mut refuse = |count: u64, cause: String| match &mut refused {
        Some((all, _)) => *all += count,
        None => refused = Some((count, cause)),
    };
    let (mut series, mut values, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (key, rows) in rows {
        match writer.series(key) {
            Ok(handle) => {
                for (time, value) in rows {
                    series.push(handle.clone());
                    times.push(*time);
                    values.push(*value);
                }
            }
            Err(error) => refuse(rows.len() as u64, error.to_string()),
        }
    }
    let batch = Batch { series: series.into(), values, times: Times::Each(times) };
    let mut appended = writer.append(batch.clone());
    if let Err(StoreError::Backlog) = appended {
        store.upkeep.flush_now().map_err(exit::with(exit::UNAVAILABLE))?;
        appended = writer.append(batch);
    }
    let appended = appended.map_err(exit::with(exit::UNAVAILABLE))?;
    if appended.refused > 0 {
        refuse(appended.refused, "their time is in the future, or centuries ago".to_owned());
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_says_so_means_that_the_rest_is_stored() {
        let answer = r#"{"error":"3 of 70 samples refused, the rest is stored: too old"}"#;
        assert_eq!(refused(answer), Some(3));
        for answer in [
            "the body has 9 bytes uncompressed, over the limit of 5",
            "x of y samples refused",
            "bad request",
        ] {
            assert_eq!(refused(answer), None, "{answer}");
        }
    }
}
