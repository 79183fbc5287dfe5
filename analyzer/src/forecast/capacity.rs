//! What is forecast of each resource: when it is full, its bands, and how good earlier forecasts were.

use super::hourly::{self, HOUR};
use super::kept::{Coverage, Forecasts};
use crate::finding::{Estimate, Finding, Kind, Numbers, Subject};
use crate::watch::is_free;
use crate::watch::replay::{Question, replay};
use crate::{AnalyzerConfig, AnalyzerError};
use model::{SeriesKey, Timestamp};
use serde::{Deserialize, Serialize};
use stats::forecast::{Point, forecast};
use store::Reader;

/// Everything that a capacity report says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Capacity {
    /// The time that it is of.
    pub at: Timestamp,
    /// The resources, those that are full soonest first.
    pub resources: Vec<Resource>,
    /// How many more there are that are full later.
    pub more: usize,
    /// How often what came was within the bands of earlier forecasts.
    pub coverage: Coverage,
}

/// One resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resource {
    /// Its series.
    pub subject: Subject,
    /// In one line, when it is full.
    pub summary: String,
    /// Rate and times to shares of the limit, by name, as in `capacity()`.
    pub numbers: Numbers,
    /// Hourly means of what was used in the last two weeks: start of the hour in milliseconds, and the mean.
    pub history: Vec<(i64, f64)>,
    /// The next week by the hour; empty with less than three days of history.
    pub ahead: Vec<Point>,
}

impl Resource {
    /// A number by name.
    pub fn number(&self, name: &str) -> Option<Estimate> {
        self.numbers.get(name).copied()
    }
}

/// Of history and forecast in the report.
const BACK: i64 = 14 * 24 * HOUR;
const AHEAD: usize = 7 * 24;

/// Resources in a report; those that are full soonest.
const MOST: usize = 500;

/// What is forecast of all watched resources at `at`.
///
/// # Errors
/// A file could not be read.
pub(crate) fn capacity(
    reader: &Reader,
    config: &AnalyzerConfig,
    forecasts: &Forecasts,
    at: Timestamp,
    wanted: &dyn Fn() -> bool,
) -> Result<Capacity, AnalyzerError> {
    let question = Question { kinds: vec![Kind::Capacity], at: Some(at), ..Question::default() };
    let mut estimates = replay(reader, config, &question, at, wanted)?;
    let left = |it: &Finding| it.numbers.get("seconds_to_100").map_or(f64::INFINITY, |it| it.value);
    estimates.sort_by(|a, b| left(a).total_cmp(&left(b)).then_with(|| a.subject.cmp(&b.subject)));
    let more = estimates.len().saturating_sub(MOST);
    let mut resources = Vec::new();
    for estimate in estimates.into_iter().take(MOST) {
        let key = estimate.subject.key();
        let mut means = means(reader, &key, at.millis(), wanted)?;
        // Of what is free, show what is used.
        let limit = estimate.numbers.get("limit").map(|it| it.value);
        if let Some(limit) = limit.filter(|_| is_free(config, &key.metric)) {
            means.iter_mut().for_each(|(_, mean)| *mean = limit - *mean);
        }
        let ahead = forecast(&means, AHEAD).map(|it| it.points).unwrap_or_default();
        let from = at.millis() - BACK;
        resources.push(Resource {
            summary: estimate.summary().to_owned(),
            subject: estimate.subject,
            numbers: estimate.numbers,
            history: means.into_iter().filter(|(time, _)| *time >= from).collect(),
            ahead,
        });
    }
    Ok(Capacity { at, resources, more, coverage: forecasts.coverage() })
}

/// Hourly means of one series up to `at`.
fn means(
    reader: &Reader,
    key: &SeriesKey,
    at: i64,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<(i64, f64)>, AnalyzerError> {
    let span = (at - 42 * 24 * HOUR, at);
    let keep = |it: &SeriesKey| it == key;
    let mut read = hourly::read(reader, &key.metric, &keep, span, 1, wanted)?;
    Ok(read.pop().map(|it| it.means).unwrap_or_default())
}
