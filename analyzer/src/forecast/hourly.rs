//! Hourly means of series, from raw samples, and from rollups before those begin.

use crate::AnalyzerError;
use crate::sql::raw_key;
use model::SeriesKey;
use std::collections::{BTreeMap, BTreeSet};
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
    if to <= from {
        return Ok(Vec::new());
    }
    let raw = reader.snapshot(Some(&[metric]));
    // In memory alone is what is newer than any segment.
    let begins = raw.first_stored(metric).unwrap_or(from).max(from);
    let whole = begins - begins.rem_euclid(HOUR) + HOUR;
    let rolled = (from < whole).then(|| reader.at(Resolution::Hour).snapshot(Some(&[metric])));
    let mut keys: BTreeSet<Arc<SeriesKey>> =
        raw.series(metric, from, to - 1)?.into_iter().map(|it| it.key).collect();
    if let Some(rolled) = &rolled {
        let all = rolled.series(metric, from, whole - 1)?.into_iter();
        keys.extend(all.map(|it| Arc::new(raw_key(&it.key))));
    }
    // The first by name, so that it is always the same ones.
    keys.retain(|key| keep(key));
    let keys: BTreeSet<Arc<SeriesKey>> = keys.into_iter().take(most).collect();
    if let Some(rolled) = rolled {
        roll(&rolled, metric, &keys, (from, whole - 1), &mut series)?;
    }
    for scan in raw.scan(metric, &|_, key| keys.contains(key), from, to - 1, 1)? {
        for chunk in scan {
            if !wanted() {
                return Ok(Vec::new());
            }
            let chunk = chunk?;
            let mut points = chunk.points;
            points.drop_stale();
            let hours = series.entry(chunk.key).or_default();
            let samples = points.times.iter().zip(&points.values);
            for (time, value) in samples.filter(|(_, value)| value.is_finite()) {
                let hour = time.div_euclid(HOUR);
                // Where an hour is in a rollup it is whole there.
                let sum = hours.entry(hour).or_default();
                if !is_rolled(sum) {
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
fn is_rolled((_, count): &(f64, f64)) -> bool {
    *count < 0.0
}

/// Adds rollups.
fn roll(
    snapshot: &Snapshot,
    metric: &str,
    keys: &BTreeSet<Arc<SeriesKey>>,
    (from, to): (i64, i64),
    series: &mut BTreeMap<Arc<SeriesKey>, Hours>,
) -> Result<(), AnalyzerError> {
    let want = |_: u64, key: &SeriesKey| {
        matches!(key.labels.get("stat"), Some("sum" | "count")) && keys.contains(&raw_key(key))
    };
    for scan in snapshot.scan(metric, &want, from, to, 1)? {
        for chunk in scan {
            let chunk = chunk?;
            let count = chunk.key.labels.get("stat") == Some("count");
            let hours = series.entry(Arc::new(raw_key(&chunk.key))).or_default();
            for (time, value) in chunk.points.times.iter().zip(&chunk.points.values) {
                let (sum, number) = hours.entry(time.div_euclid(HOUR)).or_default();
                if count { *number = -value } else { *sum = *value }
            }
        }
    }
    Ok(())
}

/// The means of one series in the hours that begin at `times`, of those with samples.
///
/// # Errors
/// A file could not be read.
pub(crate) fn means_at(
    reader: &Reader,
    key: &SeriesKey,
    times: &[i64],
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<(i64, f64)>, AnalyzerError> {
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
        return Ok(Vec::new());
    };
    let span = (*first, last + HOUR);
    let read = read(reader, &key.metric, &|it| it == key, span, 1, wanted)?;
    let means = read.into_iter().flat_map(|it| it.means);
    Ok(means.filter(|(start, _)| times.contains(start)).collect())
}
