//! CSV with a header: `time`, `value`, `metric`, and a column for each label.

use super::{ReadError, ReadReport, Row};
use csv::{ReaderBuilder, StringRecord};
use model::{Labels, SeriesKey, Timestamp};
use std::io::Read;

/// Hands every row to `take`; `metric` names the metric of a file without that column.
///
/// # Errors
/// The header lacks a column, the file could not be read, or `take` failed.
pub fn read_csv<E>(
    input: impl Read,
    metric: Option<&str>,
    take: &mut dyn FnMut(Row) -> Result<(), E>,
) -> Result<ReadReport, ReadError<E>> {
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(input);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(failed(error)),
    };
    let columns = Columns::find(&header, metric).map_err(ReadError::Form)?;
    let mut report = ReadReport::default();
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(report),
            Ok(true) => {}
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                let line = error.position().map_or(0, csv::Position::line);
                report.fault(line, "not valid UTF-8");
                continue;
            }
            Err(error) => return Err(failed(error)),
        }
        let line = record.position().map_or(0, csv::Position::line);
        match columns.row(&header, &record) {
            Ok(row) => {
                take(row).map_err(ReadError::Taken)?;
                report.rows += 1;
            }
            Err(cause) => report.fault(line, cause),
        }
    }
}

fn failed<E>(error: csv::Error) -> ReadError<E> {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => ReadError::Io(error),
        other => ReadError::Form(format!("{other:?}")),
    }
}

struct Columns<'a> {
    time: usize,
    value: usize,
    metric: Result<usize, &'a str>,
}

impl<'a> Columns<'a> {
    fn find(header: &StringRecord, metric: Option<&'a str>) -> Result<Self, String> {
        let at = |name: &str| {
            let found = header.iter().position(|column| column.trim() == name);
            found.ok_or_else(|| format!("no column named {name}"))
        };
        let metric = match (at("metric"), metric) {
            (_, Some(metric)) => Err(metric),
            (Ok(column), None) => Ok(column),
            (Err(cause), None) => return Err(format!("{cause}; name it with --metric")),
        };
        Ok(Self { time: at("time")?, value: at("value")?, metric })
    }

    fn row(&self, header: &StringRecord, record: &StringRecord) -> Result<Row, String> {
        let cell = |at: usize| record.get(at).map(str::trim).ok_or("a column is missing");
        let time = cell(self.time)?;
        let time = Timestamp::parse(time)
            .ok_or_else(|| format!("{time:?} is no time: RFC 3339, or milliseconds since 1970"))?;
        let value = cell(self.value)?;
        let value = value.parse().map_err(|_| format!("{value:?} is no number"))?;
        let metric = match self.metric {
            Ok(at) => cell(at)?,
            Err(metric) => metric,
        };
        if metric.is_empty() {
            return Err("no metric".to_owned());
        }
        let ours = [Some(self.time), Some(self.value), self.metric.ok()];
        let labels = header.iter().zip(record.iter()).enumerate();
        let labels = labels.filter(|(at, _)| !ours.contains(&Some(*at)));
        let labels = Labels::from_pairs(labels.map(|(_, (name, value))| (name.trim(), value)));
        Ok((SeriesKey::new(metric, labels), time, value))
    }
}
