//! Hourly means of series, from raw samples, and from rollups before those begin.

use crate::AnalyzerError;
use model::{Labels, SeriesKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Reader, Resolution, Snapshot};

/// Milliseconds of an hour.
pub(crate) const HOUR: i64 = 3_600_000;

/// Sum and count by hour since the epoch.
type Hours = BTreeMap<i64, (f64, f64)>;

/// Hourly means of one series: start of the hour in milliseconds, and the mean; the hour that goes on is left out.
#[derive(Debug)]
pub(crate) struct Hourly {
    pub(crate) key: Arc<SeriesKey>,
    pub(crate) means: Vec<(i64, f64)>,
}

/// The series of `metric` that `keep` wants, up to `most` of them, in `from <= time < to`.
///
/// # Errors
/// A file could not be read.
pub(crate) fn read(
    reader: &Reader,
    metric: &str,
    keep: &dyn Fn(&SeriesKey) -> bool,
    (from, to): (i64, i64),
    most: usize,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<Hourly>, AnalyzerError> {
    let to = to - to.rem_euclid(HOUR);
    let mut series: BTreeMap<Arc<SeriesKey>, Hours> = BTreeMap::new();
    let raw = reader.snapshot(Some(&[metric]));
    // In memory alone is what is newer than any segment.
    let begins = raw.first_stored(metric).unwrap_or(from).max(from);
    let whole = begins - begins.rem_euclid(HOUR) + HOUR;
    if from < whole {
        let rolled = reader.at(Resolution::Hour).snapshot(Some(&[metric]));
        roll(&rolled, metric, keep, (from, whole - 1), most, &mut series)?;
    }
    for scan in raw.scan(metric, &|_, key| keep(key), from, to - 1, 1)? {
        for chunk in scan {
            if !wanted() {
                return Ok(Vec::new());
            }
            let chunk = chunk?;
            let mut points = chunk.points;
            points.drop_stale();
            if series.len() >= most && !series.contains_key(&chunk.key) {
                continue;
            }
            let hours = series.entry(chunk.key).or_default();
            let samples = points.times.iter().zip(&points.values);
            for (time, value) in samples.filter(|(_, value)| value.is_finite()) {
                let hour = time.div_euclid(HOUR);
                // Where an hour is in a rollup it is whole there.
                let sum = hours.entry(hour).or_default();
                if !rolled(sum) {
                    *sum = (sum.0 + value, sum.1 + 1.0);
                }
            }
        }
    }
    let mean = |(hour, (sum, count)): (i64, (f64, f64))| (hour * HOUR, sum / count.abs());
    let hourly = series.into_iter().map(|(key, hours)| Hourly {
        key,
        means: hours.into_iter().filter(|(_, (_, count))| *count != 0.0).map(mean).collect(),
    });
    Ok(hourly.collect())
}

/// Counts of rollups are negative here, so that raw samples are not added to them.
fn rolled((_, count): &(f64, f64)) -> bool {
    *count < 0.0
}

/// Adds rollups.
fn roll(
    snapshot: &Snapshot,
    metric: &str,
    keep: &dyn Fn(&SeriesKey) -> bool,
    (from, to): (i64, i64),
    most: usize,
    series: &mut BTreeMap<Arc<SeriesKey>, Hours>,
) -> Result<(), AnalyzerError> {
    let of = |key: &SeriesKey| {
        let own = key.labels.iter().filter(|(name, _)| *name != "stat");
        SeriesKey::new(key.metric.clone(), Labels::from_pairs(own))
    };
    let want = |_: u64, key: &SeriesKey| {
        matches!(key.labels.get("stat"), Some("sum" | "count")) && keep(&of(key))
    };
    for scan in snapshot.scan(metric, &want, from, to, 1)? {
        for chunk in scan {
            let chunk = chunk?;
            let count = chunk.key.labels.get("stat") == Some("count");
            let key = Arc::new(of(&chunk.key));
            if series.len() >= most && !series.contains_key(&key) {
                continue;
            }
            let hours = series.entry(key).or_default();
            for (time, value) in chunk.points.times.iter().zip(&chunk.points.values) {
                let (sum, number) = hours.entry(time.div_euclid(HOUR)).or_default();
                if count { *number = -value } else { *sum = *value }
            }
        }
    }
    Ok(())
}

/// The mean of one series in the hour that begins at `time`; `None` without samples.
///
/// # Errors
/// A file could not be read.
pub(crate) fn mean_at(
    reader: &Reader,
    key: &SeriesKey,
    time: i64,
    wanted: &dyn Fn() -> bool,
) -> Result<Option<f64>, AnalyzerError> {
    let span = (time, time + HOUR);
    let read = read(reader, &key.metric, &|it| it == key, span, 1, wanted)?;
    let means = read.into_iter().flat_map(|it| it.means);
    Ok(means.filter(|(start, _)| *start == time).map(|(_, mean)| mean).next())
}
