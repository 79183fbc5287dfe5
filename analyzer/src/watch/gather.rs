//! From a snapshot to what is new: the samples of watched series in a span of time, by target and time.

use super::rule::{Role, Rules};
use model::{Labels, SeriesKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Snapshot, StoreError};

/// One sample of a watched series.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) time: i64,
    pub(crate) series: u64,
    pub(crate) value: f64,
    /// Which of the gathered series it is.
    pub(crate) at: u32,
}

/// One watched series that has samples in the span.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) key: Arc<SeriesKey>,
    pub(crate) role: Arc<Role>,
}

/// What is new of one target, times ascending.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) members: Vec<Member>,
    pub(crate) events: Vec<Event>,
}

/// The labels that tell targets apart.
const TARGET_LABELS: [&str; 3] = ["job", "instance", "process"];

/// The target that a series belongs to.
pub(crate) fn target_of(key: &SeriesKey) -> Labels {
    let own = TARGET_LABELS.iter().filter_map(|name| Some((*name, key.labels.get(name)?)));
    Labels::from_pairs(own)
}

/// Reads the samples of all watched series with `from <= time < to`, of those that `keep` wants.
///
/// # Errors
/// A file could not be opened.
pub(crate) fn gather(
    snapshot: &Snapshot,
    rules: &mut Rules,
    keep: &dyn Fn(&SeriesKey) -> bool,
    from: i64,
    to: i64,
) -> Result<BTreeMap<Labels, News>, StoreError> {
    let mut by_target: BTreeMap<Labels, News> = BTreeMap::new();
    if to <= from {
        return Ok(by_target);
    }
    for metric in snapshot.metrics() {
        let role = rules.role(&metric);
        if matches!(*role, Role::Ignored) {
            continue;
        }
        for scan in snapshot.scan(&metric, &|_, key| keep(key), from, to - 1, 1)? {
            for chunk in scan {
                let chunk = chunk?;
                let news = by_target.entry(target_of(&chunk.key)).or_default();
                let at = news.members.len() as u32;
                news.members.push(Member { key: chunk.key, role: Arc::clone(&role) });
                let mut points = chunk.points;
                points.drop_stale();
                let samples = points.times.iter().zip(&points.values);
                news.events.extend(samples.map(|(time, value)| Event {
                    time: *time,
                    series: chunk.id,
                    value: *value,
                    at,
                }));
            }
        }
    }
    for news in by_target.values_mut() {
        news.events.sort_by_key(|event| (event.time, event.series));
    }
    Ok(by_target)
}

/// The metrics among `all` that are anything to the rules.
pub(crate) fn watched<'a>(rules: &mut Rules, all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    all.filter(|metric| !matches!(*rules.role(metric), Role::Ignored)).collect()
}
