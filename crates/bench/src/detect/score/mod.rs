//! How good the alarms were, where a folder says what is true.
//!
//! - `scenarios`: `truth.json` with onset, exhaustion, drift, events: precision, recall, delay, errors of dates
//! - `nab`: `combined_windows.json` of the Numenta Anomaly Benchmark: its score
//! - `rows`: a label in each row: events found at a rate of false rows

mod nab;
mod rows;
mod scenarios;

use super::DetectError;
use super::read::Series;
use super::run::Outcome;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A table for each kind of truth that `folder` has; empty where it has none.
pub(super) fn score(
    folder: &Path,
    wanted: &[&str],
    all: &[Series],
    results: &[Outcome],
) -> Result<String, DetectError> {
    let mut text = String::new();
    if let Some(truth) = json(&folder.join("truth.json"))? {
        text.push_str(&scenarios::score(&truth, wanted, all, results));
    }
    let windows = "labels/combined_windows.json";
    let places = [folder.join(windows), folder.join("..").join(windows)];
    for place in places {
        if let Some(windows) = json(&place)? {
            text.push_str(&nab::score(&windows, all, results));
            break;
        }
    }
    text.push_str(&rows::score(all, results));
    Ok(text)
}

/// The same for scenarios that were made.
pub(super) fn scenarios(
    truth: &Value,
    wanted: &[&str],
    all: &[Series],
    results: &[Outcome],
) -> String {
    scenarios::score(truth, wanted, all, results)
}

fn json(path: &PathBuf) -> Result<Option<Value>, DetectError> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
    let read = serde_json::from_str(&text);
    read.map(Some)
        .map_err(|error| DetectError::File { path: path.clone(), cause: error.to_string() })
}

/// The middle value; NaN of none.
fn median(values: &mut [f64]) -> f64 {
    stats::order::median(values).unwrap_or(f64::NAN)
}

/// A share, NaN of nothing.
fn share(part: usize, of: usize) -> f64 {
    if of == 0 { f64::NAN } else { part as f64 / of as f64 }
}
