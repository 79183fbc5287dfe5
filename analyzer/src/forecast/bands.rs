//! Bands of the values to come, for each series that is asked for.

use super::hourly::{self, HOUR, Hourly};
use crate::finding::Subject;
use crate::sql::call::Call;
use crate::watch::{GONE, capacity_metrics};
use crate::{AnalyzerConfig, AnalyzerError};
use glob::Pattern;
use model::{SeriesKey, Timestamp};
use stats::forecast::{Point, forecast};
use std::collections::BTreeMap;
use std::time::Duration;
use store::Reader;

/// The forecast of one series.
#[derive(Debug)]
pub(crate) struct Band {
    pub(crate) subject: Subject,
    pub(crate) points: Vec<Point>,
}

/// Hourly means that the forecast looks at: six weeks.
const BACK: i64 = 42 * 24 * HOUR;

/// Of `forecast()`, where none is given.
const HORIZON: Duration = Duration::from_secs(7 * 86_400);

/// Series in one answer, and those whose forecasts are kept.
const MOST_SERIES: usize = 1_000;
pub(crate) const MOST_KEPT: usize = 200;

/// Forecasts each series of `call`; those with less than three days of samples are left out.
///
/// # Errors
/// A file could not be read.
pub(crate) fn of(
    reader: &Reader,
    config: &AnalyzerConfig,
    call: &Call,
    now: Timestamp,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<Band>, AnalyzerError> {
    let at = call.at.or(call.to).unwrap_or(now).min(now).millis().max(0);
    let from = call.from.map_or(at.saturating_sub(BACK), Timestamp::millis);
    let metrics = reader.metrics();
    let pattern = call.metric.as_deref().and_then(|text| Pattern::new(text).ok());
    let names: Vec<&str> = match &pattern {
        Some(pattern) => {
            metrics.keys().map(AsRef::as_ref).filter(|name| pattern.matches(name)).collect()
        }
        None => capacity_metrics(config, metrics.keys().map(AsRef::as_ref)),
    };
    let horizon = call.horizon.unwrap_or(HORIZON).as_secs().div_ceil(3600) as usize;
    let most = MOST_SERIES;
    ahead(reader, &names, (&call.labels, call.exactly), (from.max(0), at), (horizon, most), wanted)
}

/// The same for all resources that are watched, a week ahead.
///
/// # Errors
/// A file could not be read.
pub(crate) fn of_watched(
    reader: &Reader,
    config: &AnalyzerConfig,
    now: Timestamp,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<Band>, AnalyzerError> {
    let metrics = reader.metrics();
    let names = capacity_metrics(config, metrics.keys().map(AsRef::as_ref));
    let span = (now.millis().saturating_sub(BACK), now.millis());
    ahead(reader, &names, (&BTreeMap::new(), false), span, (7 * 24, MOST_KEPT), wanted)
}

fn ahead(
    reader: &Reader,
    metrics: &[&str],
    (labels, exactly): (&BTreeMap<String, String>, bool),
    span: (i64, i64),
    (horizon, most): (usize, usize),
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<Band>, AnalyzerError> {
    let keep = |key: &SeriesKey| {
        labels.iter().all(|(name, value)| key.labels.get(name) == Some(value))
            && (!exactly || key.labels.len() == labels.len())
    };
    let mut bands = Vec::new();
    for metric in metrics {
        let living = |it: &Hourly| it.means.last().is_some_and(|(at, _)| span.1 - at < GONE);
        for one in hourly::read(reader, metric, &keep, span, MOST_SERIES, wanted)? {
            if !wanted() || bands.len() >= most {
                return Ok(bands);
            }
            if !living(&one) {
                continue;
            }
            if let Ok(ahead) = forecast(&one.means, horizon) {
                let subject = Subject::new(&one.key.metric, &one.key.labels);
                bands.push(Band { subject, points: ahead.points });
            }
        }
    }
    Ok(bands)
}
