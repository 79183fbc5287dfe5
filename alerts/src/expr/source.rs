//! Where series come from: the store, or the series that a rule test states.

use super::Selector;
use model::sample::is_stale;
use model::{Labels, Timestamp};
use std::collections::HashMap;
use std::time::Duration;
use store::{Points, Reader, StoreError};

/// A series without a sample for so long is gone, as in Prometheus.
pub(crate) const LOOKBACK: Duration = Duration::from_secs(300);

/// Where series come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Store(Reader),
    /// Metric, labels, points; staleness marks included.
    Stated(Vec<(String, Labels, Points)>),
}

/// The newest sample of a series.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    pub(crate) labels: Labels,
    pub(crate) time: i64,
    pub(crate) value: f64,
}

impl Source {
    /// The series that a selector wants, each with its points in `from..=to`, staleness marks included. Blocks on files.
    pub(crate) fn range(
        &self,
        selector: &Selector,
        from: i64,
        to: i64,
    ) -> Result<Vec<(Labels, Points)>, StoreError> {
        match self {
            Self::Store(reader) => {
                let metric = selector.metric.as_str();
                let snapshot =
                    reader.snapshot_of(Some(&[metric]), &|key| selector.wants(&key.labels));
                let keep = |_: u64, key: &model::SeriesKey| selector.wants(&key.labels);
                let mut found: Vec<(Labels, Points)> = Vec::new();
                let mut places: HashMap<u64, usize> = HashMap::new(); // by the series' id
                for scan in snapshot.scan(metric, &keep, from, to, 1)? {
                    for chunk in scan {
                        let chunk = chunk?;
                        let place = *places.entry(chunk.id).or_insert(found.len());
                        match found.get_mut(place) {
                            Some((_, points)) => {
                                points.times.extend(&chunk.points.times);
                                points.values.extend(&chunk.points.values);
                            }
                            None => found.push((chunk.key.labels.clone(), chunk.points)),
                        }
                    }
                }
                found.iter_mut().for_each(|(_, points)| sort(points));
                Ok(found)
            }
            Self::Stated(all) => {
                let wanted = all.iter().filter(|(metric, labels, _)| {
                    *metric == selector.metric && selector.wants(labels)
                });
                let cut = wanted.map(|(_, labels, points)| {
                    let rows = points.times.iter().zip(&points.values);
                    let (times, values) =
                        rows.filter(|(time, _)| (from..=to).contains(*time)).unzip();
                    (labels.clone(), Points { times, values })
                });
                Ok(cut.filter(|(_, points)| !points.is_empty()).collect())
            }
        }
    }

    /// The newest sample of each series that a selector wants, unless the series is gone at `at`.
    pub(crate) fn newest(
        &self,
        selector: &Selector,
        at: Timestamp,
    ) -> Result<Vec<Newest>, StoreError> {
        let at = at.minus(selector.offset);
        let from = at.minus(LOOKBACK).millis();
        let Self::Store(reader) = self else { return self.newest_in(selector, from, at.millis()) };
        if !selector.offset.is_zero() {
            return self.newest_in(selector, from, at.millis());
        }
        let metric = selector.metric.as_str();
        let keep = |key: &model::SeriesKey| selector.wants(&key.labels);
        let snapshot = reader.last(Some(&[metric]), &keep);
        let mut found = Vec::new();
        for scan in snapshot.scan(metric, &|_, _| true, from, i64::MAX, 1)? {
            for chunk in scan {
                let chunk = chunk?;
                let last = chunk.points.times.last().zip(chunk.points.values.last());
                found.extend(last.map(|(time, value)| Newest {
                    labels: chunk.key.labels.clone(),
                    time: *time,
                    value: *value,
                }));
            }
        }
        Ok(found)
    }

    fn newest_in(
        &self,
        selector: &Selector,
        from: i64,
        to: i64,
    ) -> Result<Vec<Newest>, StoreError> {
        let newest = self.range(selector, from, to)?.into_iter().filter_map(|(labels, points)| {
            let (time, value) = (*points.times.last()?, *points.values.last()?);
            (!is_stale(value)).then_some(Newest { labels, time, value })
        });
        Ok(newest.collect())
    }
}

/// Chunks of one series may come in any order.
fn sort(points: &mut Points) {
    if points.times.is_sorted() {
        return;
    }
    let mut rows: Vec<(i64, f64)> =
        points.times.iter().copied().zip(points.values.iter().copied()).collect();
    rows.sort_by_key(|row| row.0);
    (points.times, points.values) = rows.into_iter().unzip();
}
