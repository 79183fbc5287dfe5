//! Watching: new samples in, findings out. Live, and the same over stored history.
//!
//! - `rule`: what each metric is to the analyzer
//! - `gather`: from a snapshot to what is new, by target
//! - `target`: one target's scrapes in order; `meter`: rates of its counters; `changes`: what happened to it
//! - `gauge`, `service`: the detectors of one series, and of a target's own signals
//! - `replay`: over stored history, for SQL and back-tests
//! - `state`: all of it on disk, so that a start goes on where the last run ended
//!
//! What is known of a target depends on its samples alone, in order of time: replayed, they give the same findings.

mod changes;
mod gather;
mod gauge;
mod meter;
pub(crate) mod replay;
mod rule;
mod service;
pub(crate) mod state;
mod target;

use target::Target;

use crate::finding::{Change, Finding, Kind, Subject};
use crate::{AnalyzerConfig, AnalyzerError, Detect, Findings};
use gather::gather;
use model::{Labels, SeriesKey, Timestamp};
use rule::Rules;
use std::collections::BTreeMap;
use store::{Reader, Snapshot};
use target::{Found, Room, Said};

/// Samples later than this after their time, in milliseconds, are not looked at.
pub(crate) const LATE: i64 = 15_000;

/// A target without samples for so long, in milliseconds, is forgotten.
const FORGET: i64 = 15 * 86_400_000;

/// Everything that is known of all targets.
#[derive(Debug)]
pub(crate) struct Watch {
    config: AnalyzerConfig,
    rules: Rules,
    pub(crate) targets: BTreeMap<Labels, Target>,
    /// Samples before this time were looked at, in milliseconds.
    pub(crate) until: i64,
    /// Samples before this time are read for the rates of counters alone.
    detect_from: i64,
    refused: u64,
}

impl Watch {
    /// Watches from `from` on, in milliseconds, knowing nothing.
    pub(crate) fn new(config: AnalyzerConfig, from: i64) -> Self {
        let rules = Rules::new(&config);
        Self { config, rules, targets: BTreeMap::new(), until: from, detect_from: from, refused: 0 }
    }

    /// Series watched, and how often one was left out for want of room.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (self.targets.values().map(Target::watched).sum(), self.refused)
    }

    /// Those of the store's metrics that are watched.
    pub(crate) fn metrics(&mut self, reader: &Reader) -> Vec<String> {
        let all = reader.metrics();
        let watched = gather::watched(&mut self.rules, all.keys().map(AsRef::as_ref));
        watched.into_iter().map(str::to_owned).collect()
    }

    /// Looks at all that came before `to`, of series that `keep` wants.
    ///
    /// # Errors
    /// A file could not be read.
    pub(crate) fn advance(
        &mut self,
        snapshot: &Snapshot,
        keep: &dyn Fn(&SeriesKey) -> bool,
        to: i64,
    ) -> Result<Vec<Said>, AnalyzerError> {
        let from = self.until.saturating_sub(LATE);
        let by_target = gather(snapshot, &mut self.rules, keep, from, to)?;
        let watched: usize = self.targets.values().map(Target::watched).sum();
        let left = self.config.max_series.saturating_sub(watched);
        let mut room = Room { left, refused: 0 };
        let mut said = Vec::new();
        for (labels, news) in by_target {
            let target = self.targets.entry(labels).or_insert_with_key(Target::new);
            target.take(&news, self.detect_from, &self.config, &mut room, &mut said);
        }
        self.refused += room.refused;
        self.until = self.until.max(to);
        self.targets.retain(|_, target| to - target.closed() < FORGET);
        Ok(said)
    }
}

/// Those of `metrics` that are watched for when they are full.
pub(crate) fn capacity_metrics<'a>(
    config: &AnalyzerConfig,
    metrics: impl Iterator<Item = &'a str>,
) -> Vec<&'a str> {
    let mut rules = Rules::new(config);
    metrics.filter(|metric| rules.detects(metric, Detect::Capacity)).collect()
}

/// Keeps what was said. Returns the findings that are new.
pub(crate) fn keep(said: Vec<Said>, findings: &Findings) -> Vec<Finding> {
    let mut new = Vec::new();
    for one in said {
        match one {
            Said::Found(found) => new.extend(findings.add(finding(*found))),
            Said::Ended { kind, subject, at } => {
                findings.end(kind, &subject, Timestamp(at));
            }
        }
    }
    new
}

/// From a draft in its place to a finding.
pub(crate) fn finding(found: Found) -> Finding {
    let Found { draft, subject, changes } = found;
    let at = Timestamp(draft.at);
    let mut words = draft.words;
    if !changes.is_empty() {
        let list: Vec<&str> = changes.iter().map(|(_, what)| what.as_str()).collect();
        words.push(format!("about when it began: {}", list.join("; ")));
    }
    let change = |(at, what)| Change { at: Timestamp(at), what };
    Finding {
        id: Finding::id_of(draft.kind, &subject, at),
        kind: draft.kind,
        severity: draft.severity,
        at,
        since: Timestamp(draft.since),
        updated: at,
        // A value that was never there is over with its sample.
        until: (draft.kind == Kind::Novelty).then_some(at),
        numbers: draft.numbers,
        words,
        changes: changes.into_iter().map(change).collect(),
        related: Vec::new(),
        belongs_to: None,
        rank: 1.0,
        verdict: None,
        sql: sql(draft.kind, &subject, draft.evidence_from, at),
        subject,
    }
}

/// The query that gives the numbers of a finding again.
fn sql(kind: Kind, subject: &Subject, from: i64, at: Timestamp) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let labels = serde_json::to_string(&subject.labels).unwrap_or_default();
    let function = match kind {
        Kind::Leak => "leaks",
        Kind::CpuDrift => "drifts",
        Kind::Capacity => "capacity",
        _ => "anomalies",
    };
    format!(
        "SELECT * FROM {function}(metric => {}, labels => {}, from => '{}', at => '{at}') WHERE kind = '{}'",
        quoted(&subject.metric),
        quoted(&labels),
        Timestamp(from),
        kind.name(),
    )
}

#[cfg(test)]
mod tests;
