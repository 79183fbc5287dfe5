//! Series from CSV files, in the forms that people have: `t,value,load` with seconds, `timestamp,value`,
//! `TimeStamp,Value,Label`, and recordings of a process with a column for each reading.

use super::DetectError;
use model::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One series with what its file says of it. All have as many entries; NaN where a field is empty.
#[derive(Debug, Default)]
pub(crate) struct Series {
    /// The path below the folder, without `.csv`; of a recording also the column.
    pub(crate) name: String,
    /// Milliseconds since the epoch, ascending as in the file.
    pub(crate) times: Vec<i64>,
    /// The times as they were written.
    pub(crate) texts: Vec<String>,
    pub(crate) values: Vec<f64>,
    /// Requests a second.
    pub(crate) loads: Vec<f64>,
    /// Whether a row is labelled as anomalous; empty where nobody said.
    pub(crate) labels: Vec<bool>,
    /// Readings of the whole process, for saturation; empty but in recordings.
    pub(crate) process: Vec<stats::saturation::Reading>,
    /// What the series is of, and where it ends, if the folder says so.
    pub(crate) about: About,
}

/// What `series.json` or `truth.json` says of a series before it is judged; nothing else is read from them here.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// `memory`, `fd`, `cpu`, `disk`, `latency`, `errors`, `throughput` or another word.
    pub(crate) signal: Option<String>,
    /// Where the resource is exhausted.
    pub(crate) limit: Option<f64>,
    /// Rows at which the process was another one, as its start time tells a monitor; none where that is not known.
    pub(crate) restarts: Option<Vec<usize>>,
}

/// Times that count from 0 begin on this Monday, so that days and weeks are whole.
pub(super) const EPOCH: i64 = 1_704_067_200_000;

/// Every series in the CSV files of `folder` and the folders in it, by name.
///
/// # Errors
/// The folder could not be read, or a file has a row that is of no known form; the error names file and line.
pub(crate) fn folder(folder: &Path) -> Result<Vec<Series>, DetectError> {
    let mut paths = Vec::new();
    files(folder, 0, &mut paths)?;
    paths.sort();
    let about = about(folder)?;
    let mut all = Vec::new();
    for path in paths {
        let name = path.strip_prefix(folder).unwrap_or(&path).with_extension("");
        let name = name.to_string_lossy().into_owned();
        let mut found = file(&path, &name)?;
        for series in &mut found {
            let own = about.get(&series.name).or_else(|| about.get(&name));
            if let Some(own) = own {
                series.about = own.clone();
            }
        }
        all.extend(found);
    }
    if all.is_empty() {
        return Err(DetectError::NoSeries(folder.to_owned()));
    }
    Ok(all)
}

/// Folders within folders that are looked into.
const DEEPEST: usize = 8;

fn files(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), DetectError> {
    for path in platform::durable::list(folder)? {
        if path.is_dir() && depth < DEEPEST {
            files(&path, depth + 1, found)?;
        } else if path.extension().is_some_and(|kind| kind == "csv") {
            found.push(path);
        }
    }
    Ok(())
}

fn about(folder: &Path) -> Result<BTreeMap<String, About>, DetectError> {
    let mut about = BTreeMap::new();
    for name in ["truth.json", "series.json"] {
        let path = folder.join(name);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let list: Value = serde_json::from_str(&text)
            .map_err(|error| DetectError::File { path: path.clone(), cause: error.to_string() })?;
        for one in list.as_array().into_iter().flatten() {
            let text = |key: &str| one.get(key).and_then(Value::as_str).map(str::to_owned);
            let Some(id) = text("id") else { continue };
            let limit = one.get("limit").and_then(Value::as_f64);
            let rows = one.get("restarts").and_then(Value::as_array);
            let rows = rows.map(|rows| rows.iter().filter_map(Value::as_u64));
            let restarts = rows.map(|rows| rows.map(|row| row as usize).collect());
            about.insert(id, About { signal: text("signal"), limit, restarts });
        }
    }
    Ok(about)
}

/// Which column is what.
struct Columns {
    time: usize,
    value: Option<usize>,
    load: Option<usize>,
    label: Option<usize>,
    names: Vec<String>,
}

fn file(path: &Path, name: &str) -> Result<Vec<Series>, DetectError> {
    let at = |line: u64, cause: String| DetectError::File {
        path: path.to_owned(),
        cause: format!("line {line}: {cause}"),
    };
    let mut rows = csv::ReaderBuilder::new()
        .flexible(true)
        .from_path(path)
        .map_err(|error| DetectError::File { path: path.to_owned(), cause: error.to_string() })?;
    let head = rows.headers().map_err(|error| at(1, error.to_string()))?;
    let names: Vec<String> = head.iter().map(|it| it.trim().to_ascii_lowercase()).collect();
    let find = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
    let Some(time) = find(&["t", "t_s", "time", "timestamp"]) else {
        return Ok(Vec::new()); // a table of something else
    };
    let columns = Columns {
        time,
        value: find(&["value"]),
        load: find(&["load"]),
        label: find(&["label", "is_anomaly"]),
        names,
    };
    let mut records = Vec::new();
    for record in rows.records() {
        let record = record.map_err(|error| at(0, error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = record.get(columns.time).unwrap_or("").trim().to_owned();
        let time = time_of(&text).ok_or_else(|| {
            at(line, format!("{text:?} is neither seconds nor a time such as 2026-01-31 12:00:00"))
        })?;
        records.push((time, text, record));
    }
    Ok(match columns.value {
        Some(value) => vec![plain(name, &columns, value, &records)],
        None => recording(name, &columns, &records),
    })
}

type Record = (i64, String, csv::StringRecord);

fn number(record: &csv::StringRecord, at: Option<usize>) -> f64 {
    at.and_then(|at| record.get(at)).and_then(|it| it.trim().parse().ok()).unwrap_or(f64::NAN)
}

fn plain(name: &str, columns: &Columns, value: usize, records: &[Record]) -> Series {
    let label = |record: &csv::StringRecord| {
        columns.label.map(|at| record.get(at).is_some_and(|it| it.trim() == "1"))
    };
    Series {
        name: name.to_owned(),
        times: records.iter().map(|(time, _, _)| *time).collect(),
        texts: records.iter().map(|(_, text, _)| text.clone()).collect(),
        values: records.iter().map(|(_, _, record)| number(record, Some(value))).collect(),
        loads: records.iter().map(|(_, _, record)| number(record, columns.load)).collect(),
        labels: records.iter().filter_map(|(_, _, record)| label(record)).collect(),
        ..Series::default()
    }
}

/// Columns of a recording that are resources, and what each is of.
const RESOURCES: [(&str, &str); 4] =
    [("rss_kib", "memory"), ("fds", "fd"), ("threads", "fd"), ("memory_mib", "memory")];

fn recording(name: &str, columns: &Columns, records: &[Record]) -> Vec<Series> {
    let find = |wanted: &str| columns.names.iter().position(|name| name == wanted);
    let times: Vec<i64> = records.iter().map(|(time, _, _)| *time).collect();
    let texts: Vec<String> = records.iter().map(|(_, text, _)| text.clone()).collect();
    let resource = |(column, signal): &(&str, &str)| {
        let at = find(column)?;
        Some(Series {
            name: format!("{name}.{column}"),
            times: times.clone(),
            texts: texts.clone(),
            values: records.iter().map(|(_, _, record)| number(record, Some(at))).collect(),
            loads: vec![f64::NAN; records.len()],
            about: About { signal: Some((*signal).to_owned()), ..About::default() },
            ..Series::default()
        })
    };
    let mut all: Vec<Series> = RESOURCES.iter().filter_map(resource).collect();
    if let (Some(cpu), Some(health)) = (find("cpu_pct"), find("health_ms")) {
        let code = find("health_code");
        let reading = |(_, _, record): &Record| stats::saturation::Reading {
            cpu_cores: number(record, Some(cpu)) / 100.0,
            offered_rps: f64::NAN,
            goodput_rps: f64::NAN,
            latency_s: number(record, Some(health)) / 1000.0,
            errors_rps: f64::NAN,
            answered: !code
                .and_then(|at| record.get(at))
                .is_some_and(|it| it.contains("Timeout") || it.contains("pending")),
        };
        all.push(Series {
            name: format!("{name}.process"),
            process: records.iter().map(reading).collect(),
            times,
            texts,
            ..Series::default()
        });
    }
    all
}

fn time_of(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let millis = seconds * 1000.0;
        let fits = millis.is_finite() && millis.abs() < 1e15;
        return fits.then(|| if millis.abs() < 1e11 { EPOCH } else { 0 } + millis as i64);
    }
    Timestamp::parse(text.trim_end_matches(" UTC")).map(Timestamp::millis)
}
