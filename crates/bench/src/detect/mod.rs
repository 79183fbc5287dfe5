//! Back-testing: series from CSV files through the detectors, and what they said as CSV, so that any scorer can judge it.
//!
//! - `scenario`: series with exact truth, from a seed; `read`: the forms of files; `run`: one series through every detector that fits
//! - `score/`: how good that was, where the folder says what is true
//! - `write`: `alarms.csv`, `intervals.csv`, and `scores/` with a row for each sample

mod read;
mod run;
mod scenario;
mod score;
mod write;

use platform::PlatformError;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Why a back-test has no result.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// A folder or file could not be read or written.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A file is not of a known form.
    #[error("{path:?}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// Where in it, and what.
        cause: String,
    },
    /// There is no series.
    #[error("{0:?} has no CSV file with a column named t, time or timestamp")]
    NoSeries(PathBuf),
    /// A detector has another name.
    #[error(
        "no detector is named {0:?}; there are leak, cpu_drift, latency, errors, throughput, throughput_given_load, capacity, novelty, saturation"
    )]
    NoDetector(String),
}

/// What to do.
#[derive(Debug)]
pub struct DetectPlan<'a> {
    /// What to go through.
    pub data: DetectData<'a>,
    /// Where to write; nothing is written without it.
    pub out: Option<&'a Path>,
    /// The detectors; empty for all that fit.
    pub detectors: Vec<String>,
    /// False alarms that a series may give in a day.
    pub false_alarms_per_day: f64,
}

/// Where series come from.
#[derive(Clone, Copy, Debug)]
pub enum DetectData<'a> {
    /// A folder with CSV files.
    Folder(&'a Path),
    /// Made from a seed, so many of each kind.
    Scenarios {
        /// Where the random numbers start.
        seed: u64,
        /// Series of each kind.
        each: usize,
    },
}

/// What one detector said in all.
#[derive(Debug, Default)]
struct Sum {
    series: usize,
    alarmed: usize,
    alarms: usize,
    days: f64,
}

/// Runs detectors over every series of a folder. Returns a table of what was found.
///
/// `clock` gives the time for the cost of a sample.
///
/// # Errors
/// A file is of no known form, or could not be read or written.
pub fn detect(plan: &DetectPlan<'_>, clock: &dyn Fn() -> Instant) -> Result<String, DetectError> {
    let mut wanted: Vec<&str> = plan.detectors.iter().map(String::as_str).collect();
    if let Some(unknown) = wanted.iter().find(|it| !run::DETECTORS.contains(it)) {
        return Err(DetectError::NoDetector((*unknown).to_owned()));
    }
    if wanted.is_empty() {
        wanted = run::DETECTORS.to_vec();
    }
    let (all, truth) = match plan.data {
        DetectData::Folder(folder) => (read::folder(folder)?, None),
        DetectData::Scenarios { seed, each } => {
            let (all, truth) = scenario::make(seed, each);
            (all, Some(truth))
        }
    };
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut results = Vec::new();
    let (mut samples, start) = (0, clock());
    for series in &all {
        let outcome = run::run(series, &wanted, plan.false_alarms_per_day);
        samples += series.times.len();
        let days = match (series.times.first(), series.times.last()) {
            (Some(first), Some(last)) => (last - first) as f64 / 86_400_000.0,
            _ => 0.0,
        };
        for detector in wanted.iter().filter(|it| run::fits(it, series)) {
            let sum = sums.entry(detector).or_default();
            let alarms = outcome.alarms.iter().filter(|it| it.detector == *detector).count();
            sum.series += 1;
            sum.alarmed += usize::from(alarms > 0);
            sum.alarms += alarms;
            sum.days += days;
        }
        results.push(outcome);
    }
    let took = clock().duration_since(start).as_secs_f64();
    if let Some(out) = plan.out {
        write::write(out, &all, &results)?;
    }
    let mut text = table(&sums, samples, took);
    text.push_str(&match (plan.data, truth) {
        (DetectData::Folder(folder), _) => score::score(folder, &wanted, &all, &results)?,
        (_, truth) => score::scenarios(&truth.unwrap_or_default(), &wanted, &all, &results),
    });
    Ok(text)
}

fn table(sums: &BTreeMap<&str, Sum>, samples: usize, took: f64) -> String {
    let mut text = String::from(
        "| detector | series | with an alarm | alarms | series-days | alarms a series-day |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (detector, sum) in sums {
        let Sum { series, alarmed, alarms, days } = sum;
        let rate = *alarms as f64 / days.max(1e-9);
        let _ = writeln!(
            text,
            "| {detector} | {series} | {alarmed} | {alarms} | {days:.1} | {rate:.4} |"
        );
    }
    let each = took / samples.max(1) as f64 * 1e6;
    let _ = write!(
        text,
        "\n{samples} samples in {took:.2} s, {each:.2} µs for each with all detectors that fit"
    );
    text
}

#[cfg(test)]
mod tests;
