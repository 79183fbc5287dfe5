//! A store's samples, or the rows of a query, into one file; by windows of time, so that of any number of samples
//! only some are in memory.

use crate::exit::{self, Failure};
use crate::query::Place;
use crate::query::source::Source;
use crate::role::block_on;
use analyzer::{Format, ParquetWriter};
use clap::Args;
use model::Timestamp;
use platform::durable;
use serde_json::Value;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What `export` takes.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// The file to write; a Parquet file, or with SQL also .csv, .json or .arrow
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Only this metric; repeat for more [default: all]
    #[arg(long = "metric", conflicts_with = "sql")]
    metrics: Vec<String>,
    /// From this time on, RFC 3339 or milliseconds since 1970 [default: the first sample]
    #[arg(long, value_parser = time, conflicts_with = "sql")]
    from: Option<Timestamp>,
    /// Up to this time, without it [default: after the last sample]
    #[arg(long, value_parser = time, conflicts_with = "sql")]
    to: Option<Timestamp>,
    /// The query whose rows are exported; without it, samples are
    sql: Option<String>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "no time: RFC 3339, or milliseconds since 1970".to_owned())
}

/// The first window of time of a metric; it halves while it holds too many samples.
const WINDOW: i64 = 24 * 3_600_000;

pub(crate) fn run(args: ExportArgs) -> Result<(), Failure> {
    telemetry::trace::start("error");
    block_on(async {
        let source = Source::open(args.place.clone()).await?;
        let rows = match &args.sql {
            Some(sql) => return rows_of(&source, sql, &args.out).await,
            None => samples(&source, &args).await?,
        };
        eprintln!("{}: {rows} samples", args.out.display());
        Ok(())
    })
}

async fn rows_of(source: &Source, sql: &str, out: &Path) -> Result<(), Failure> {
    let format = match out.extension().and_then(|kind| kind.to_str()) {
        Some("parquet") => Format::Parquet,
        Some("csv") => Format::Csv,
        Some("json") => Format::Json,
        Some("arrow") => Format::Arrow,
        _ => {
            let text = "--out must end with .parquet, .csv, .json or .arrow";
            return Err(Failure::text(exit::USAGE, text));
        }
    };
    let bytes = source.run(sql, format).await?;
    durable::replace(out, &bytes).map_err(exit::with(exit::SYSTEM))?;
    eprintln!("{}: {} bytes", out.display(), bytes.len());
    Ok(())
}

async fn samples(source: &Source, args: &ExportArgs) -> Result<u64, Failure> {
    if args.out.extension().is_none_or(|kind| kind != "parquet") {
        return Err(Failure::text(
            exit::USAGE,
            "--out must end with .parquet; with SQL it may be another file",
        ));
    }
    let spans = spans(source, args).await?;
    // Whole or not at all: a reader never sees half a file under this name.
    let mut partial = args.out.clone().into_os_string();
    partial.push(".new");
    let partial = PathBuf::from(partial);
    let file = File::create(&partial).map_err(|error| {
        Failure::text(exit::SYSTEM, format!("{} could not be made: {error}", partial.display()))
    })?;
    let mut writer = ParquetWriter::new(BufWriter::new(&file));
    let written = async {
        for (metric, first, last) in spans {
            copy(source, &metric, first, last, &mut writer).await?;
        }
        // Without any sample the file has the columns all the same.
        let nothing = "SELECT time, metric, labels, value FROM samples WHERE metric = '' AND false";
        writer
            .append(&source.run(nothing, Format::Arrow).await?)
            .map_err(exit::with(exit::SYSTEM))?;
        writer.finish().map_err(exit::with(exit::SYSTEM))
    };
    let outcome = written.await;
    let outcome = outcome.and_then(|rows| {
        (&file).flush().and_then(|()| file.sync_all()).map_err(exit::with(exit::SYSTEM))?;
        durable::rename(&partial, &args.out).map_err(exit::with(exit::SYSTEM))?;
        Ok(rows)
    });
    if outcome.is_err() {
        let _ = durable::remove_file(&partial);
    }
    outcome
}

/// Each metric with its first and last time, cut to what is asked for.
async fn spans(source: &Source, args: &ExportArgs) -> Result<Vec<(String, i64, i64)>, Failure> {
    let sql = "SELECT metric, CAST(CAST(min(first_time) AS BIGINT) AS VARCHAR), \
               CAST(CAST(max(last_time) AS BIGINT) AS VARCHAR) FROM series GROUP BY metric ORDER BY metric";
    let answer = source.run(sql, Format::Json).await?;
    let answer: Value = serde_json::from_slice(&answer).map_err(exit::with(exit::SOFTWARE))?;
    let mut spans = Vec::new();
    for row in answer["rows"].as_array().into_iter().flatten() {
        let text = |at: usize| row[at].as_str().unwrap_or_default().to_owned();
        let (metric, first, last) = (text(0), text(1).parse(), text(2).parse());
        let (Ok(first), Ok(last)) = (first, last) else { continue };
        if !args.metrics.is_empty() && !args.metrics.contains(&metric) {
            continue;
        }
        let first: i64 = args.from.map_or(first, |from| from.millis().max(first));
        let last: i64 = args.to.map_or(last, |to| to.millis().saturating_sub(1).min(last));
        spans.push((metric, first, last));
    }
    let missing = args.metrics.iter().find(|metric| !spans.iter().any(|span| span.0 == **metric));
    match missing {
        Some(metric) => Err(Failure::text(exit::DATA, format!("no metric is named {metric}"))),
        None => Ok(spans),
    }
}

/// Copies the samples of `metric` in `first..=last`, window by window.
async fn copy<W: Write + Send>(
    source: &Source,
    metric: &str,
    first: i64,
    last: i64,
    writer: &mut ParquetWriter<W>,
) -> Result<(), Failure> {
    let (mut from, mut window) = (first, WINDOW);
    let quoted = metric.replace('\'', "''");
    while from <= last {
        let to = from.saturating_add(window - 1).min(last);
        let sql = format!(
            "SELECT time, metric, labels, value FROM samples WHERE metric = '{quoted}' \
             AND time >= to_timestamp_millis({from}) AND time <= to_timestamp_millis({to})"
        );
        match source.run(&sql, Format::Arrow).await {
            Ok(stream) => {
                writer.append(&stream).map_err(exit::with(exit::SYSTEM))?;
                from = to.saturating_add(1);
                window = window.saturating_mul(2).min(WINDOW);
            }
            // Over a limit: in smaller pieces.
            Err(failure) if window > 1_000 && is_limit(&failure) => window /= 2,
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Whether a query failed for the size of its answer, as the limits of `[query]` say it.
fn is_limit(failure: &Failure) -> bool {
    let text = failure.error.to_string();
    ["query.max_rows", "query.memory", "query.timeout"].iter().any(|limit| text.contains(limit))
}
