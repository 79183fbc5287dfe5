//! What was said, as CSV.
//!
//! - `alarms.csv`: `series,detector,at,since,at_seconds,severity,estimate,estimate_low,estimate_high,limit,seconds_to_limit,
//!   seconds_to_limit_low,seconds_to_limit_high`; `at` as the file has it, `at_seconds` after the first sample
//! - `intervals.csv`: when a resource is full, every six hours: `series,at,at_seconds,seconds_to_limit,…_low,…_high`
//! - `scores/<series>.csv`: `timestamp,value,anomaly_score,label`, a row for each sample

use super::DetectError;
use super::read::Series;
use super::run::Outcome;
use platform::durable;
use std::fmt::Write;
use std::path::Path;

pub(super) fn write(out: &Path, all: &[Series], results: &[Outcome]) -> Result<(), DetectError> {
    durable::create_dir(out)?;
    let mut alarms = String::from(
        "series,detector,at,since_seconds,at_seconds,severity,estimate,estimate_low,estimate_high,limit,seconds_to_limit,seconds_to_limit_low,seconds_to_limit_high\n",
    );
    let mut intervals = String::from(
        "series,at,at_seconds,seconds_to_limit,seconds_to_limit_low,seconds_to_limit_high\n",
    );
    for (series, outcome) in all.iter().zip(results) {
        let name = quoted(&series.name);
        let start = series.times.first().copied().unwrap_or(0);
        let seconds = |time: i64| (time - start) as f64 / 1000.0;
        let text = |time: i64| {
            let at = series.times.partition_point(|it| *it < time);
            series.texts.get(at).map_or("", String::as_str)
        };
        for it in &outcome.alarms {
            let _ = write!(
                alarms,
                "{name},{},{},{},{},{}",
                it.detector,
                quoted(text(it.at)),
                seconds(it.since),
                seconds(it.at),
                it.severity
            );
            let numbers = it.estimate.iter().chain([&it.limit]).chain(&it.to_limit);
            numbers.for_each(|it| number(&mut alarms, *it));
            alarms.push('\n');
        }
        for it in &outcome.intervals {
            let _ = write!(intervals, "{name},{},{}", quoted(text(it.at)), seconds(it.at));
            it.to_limit.iter().for_each(|it| number(&mut intervals, *it));
            intervals.push('\n');
        }
        if !outcome.scores.is_empty() {
            scores(&out.join("scores"), series, &outcome.scores)?;
        }
    }
    durable::replace(&out.join("alarms.csv"), alarms.as_bytes())?;
    durable::replace(&out.join("intervals.csv"), intervals.as_bytes())?;
    Ok(())
}

fn scores(folder: &Path, series: &Series, scores: &[f64]) -> Result<(), DetectError> {
    let mut text = String::from("timestamp,value,anomaly_score,label\n");
    let rows = series.texts.iter().zip(&series.values).zip(scores).enumerate();
    for (at, ((time, value), score)) in rows {
        let label = series.labels.get(at).is_some_and(|label| *label);
        let _ = writeln!(text, "{},{value},{score},{}", quoted(time), u8::from(label));
    }
    let path = folder.join(format!("{}.csv", series.name));
    if let Some(parent) = path.parent() {
        durable::create_dir(parent)?;
    }
    Ok(durable::replace(&path, text.as_bytes())?)
}

/// A field more; nothing where the number is not known.
fn number(text: &mut String, number: f64) {
    text.push(',');
    if number.is_finite() {
        let _ = write!(text, "{number}");
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}
