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
    /// Whether it is a reading from outside of the target's process.
    pub(crate) outside: bool,
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
pub(crate) const TARGET_LABELS: [&str; 3] = ["job", "instance", "process"];

/// The target that a series belongs to.
pub(crate) fn target_of(labels: &Labels) -> Labels {
    let own = TARGET_LABELS.iter().filter_map(|name| Some((*name, labels.get(name)?)));
    Labels::from_pairs(own)
}

/// The job whose process this is, if it is a reading of a process from outside that is named as a job.
pub(crate) fn job_of_process(target: &Labels) -> Option<&str> {
    target.get("process").filter(|_| target.get("job") == Some("process"))
}

/// Reads the samples of all watched series with `from <= time < to`, of those that `keep` wants. Returns them and how many.
///
/// # Errors
/// A file could not be opened.
pub(crate) fn gather(
    snapshot: &Snapshot,
    rules: &mut Rules,
    keep: &dyn Fn(&SeriesKey) -> bool,
    from: i64,
    to: i64,
) -> Result<(BTreeMap<Labels, News>, usize), StoreError> {
    let mut by_target: BTreeMap<Labels, News> = BTreeMap::new();
    let mut samples = 0;
    if to <= from {
        return Ok((by_target, samples));
    }
    for metric in snapshot.metrics() {
        let role = rules.role(&metric);
        if role.is_nothing() {
            continue;
        }
        for scan in snapshot.scan(&metric, &|_, key| keep(key), from, to - 1, 1)? {
            for chunk in scan {
                let chunk = chunk?;
                let news = by_target.entry(target_of(&chunk.key.labels)).or_default();
                let at = news.members.len() as u32;
                news.members.push(Member { key: chunk.key, role: Arc::clone(&role) });
                let mut points = chunk.points;
                points.drop_stale();
                samples += points.len();
                let rows = points.times.iter().zip(&points.values);
                news.events.extend(rows.map(|(time, value)| Event {
                    time: *time,
                    series: chunk.id,
                    value: *value,
                    at,
                    outside: false,
                }));
            }
        }
    }
    for news in by_target.values_mut() {
        news.sort();
    }
    Ok((by_target, samples))
}

impl News {
    fn sort(&mut self) {
        self.events.sort_by_key(|event| (event.time, event.outside, event.series));
    }

    /// Adds what is new of another target that is the same process.
    pub(crate) fn join(&mut self, other: Self) {
        let first = self.members.len() as u32;
        self.members.extend(other.members);
        let events = other.events.into_iter();
        self.events.extend(events.map(|it| Event { at: it.at + first, outside: true, ..it }));
        self.sort();
    }
}

/// The metrics among `all` that are anything to the rules.
pub(crate) fn watched<'a>(rules: &mut Rules, all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    all.filter(|metric| !rules.role(metric).is_nothing()).collect()
}
