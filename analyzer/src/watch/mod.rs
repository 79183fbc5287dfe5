//! Watching: new samples in, findings out. Live, and the same over stored history.
//!
//! - `rule`: what each metric is to the analyzer
//! - `gather`: from a snapshot to what is new, by target
//! - `target`: one target's scrapes in order; `source`: which metric measures it; `meter`: rates of its counters;
//!   `changes`: what happened to it
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
mod source;
pub(crate) mod state;
mod target;

use target::Target;

use crate::finding::{Change, Finding, Kind, Subject};
use crate::{AnalyzerConfig, AnalyzerError, Detect, Findings};
use gather::{News, gather, job_of_process};
pub(crate) use gauge::GONE;
use model::{Labels, SeriesKey, Timestamp};
use rule::Rules;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use store::{Reader, Snapshot};
use target::{Found, Look, Said};

/// Samples that come later than this after their time, in milliseconds, are not looked at: a failed scrape is told after
/// its last attempt, which may be near the end of a minute.
const LATE: i64 = 75_000;

/// After this time, in milliseconds, a scrape of which less came than usual is taken for whole.
const SETTLED: i64 = 15_000;

/// A target without samples for so long, in milliseconds, is forgotten; one without any signal sooner.
const FORGET: i64 = 15 * 86_400_000;
const FORGET_IDLE: i64 = 3_600_000;

/// The shortest and the longest span of time that is read at once, in milliseconds, and how many samples it should
/// have.
const SPANS: std::ops::RangeInclusive<i64> = 600_000..=10_800_000;
const SAMPLES: f64 = 2e6;

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
    /// Only what is settled is looked at while history is read; at its end all is.
    history: bool,
    /// How much time is read at once.
    span: i64,
    refused: u64,
}

impl Watch {
    /// Watches from `from` on, in milliseconds, knowing nothing.
    pub(crate) fn new(config: AnalyzerConfig, from: i64) -> Self {
        let rules = Rules::new(&config);
        Self {
            config,
            rules,
            targets: BTreeMap::new(),
            until: from,
            detect_from: from,
            history: false,
            span: *SPANS.start(),
            refused: 0,
        }
    }

    /// The end of the next span on the way to `to`.
    pub(crate) fn next(&self, to: i64) -> i64 {
        to.min(self.until.saturating_add(self.span))
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
        let (mut by_target, samples) = gather(snapshot, &mut self.rules, keep, from, to)?;
        self.pace(samples, to.saturating_sub(self.until));
        self.join(&mut by_target, from);
        let mut watched: usize = self.targets.values().map(Target::watched).sum();
        if watched >= self.config.max_series / 10 * 9 {
            // What is gone makes room for what comes.
            self.targets.values_mut().for_each(|target| target.forget(to));
            watched = self.targets.values().map(Target::watched).sum();
        }
        let mut look = Look {
            config: &self.config,
            detect_from: self.detect_from,
            settled: if self.history { to } else { to.saturating_sub(SETTLED) },
            room: self.config.max_series.saturating_sub(watched),
            refused: 0,
            said: Vec::new(),
        };
        for (labels, news) in by_target {
            let target = match self.targets.entry(labels) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(_) if !look.take() => continue,
                Entry::Vacant(new) => {
                    let target = Target::new(new.key());
                    new.insert(target)
                }
            };
            target.take(&news, &mut look);
        }
        self.refused += look.refused;
        self.until = self.until.max(to);
        let said = look.said;
        self.targets.retain(|_, target| {
            let forget = if target.is_idle() { FORGET_IDLE } else { FORGET };
            to.saturating_sub(target.closed()) < forget
        });
        Ok(said)
    }

    /// Reads more time at once while there is little in it, so that files are opened less often; up to twice as much as before.
    fn pace(&mut self, samples: usize, time: i64) {
        if time < self.span {
            return; // less than was meant, as each look that is not behind
        }
        let fits = (SAMPLES * time as f64 / samples.max(1) as f64).min(2.0 * self.span as f64);
        self.span = (fits as i64).clamp(*SPANS.start(), *SPANS.end());
    }

    /// Readings of a process from outside that has the name of a job are news of the job's target, if that has but one:
    /// so they have its load, and it has a processor also while it does not answer.
    fn join(&self, by_target: &mut BTreeMap<Labels, News>, from: i64) {
        let outside: Vec<Labels> =
            by_target.keys().filter(|labels| job_of_process(labels).is_some()).cloned().collect();
        for process in &outside {
            let Some(job) = job_of_process(process) else { continue };
            // Of two with one name nobody knows which is which.
            if outside.iter().filter(|it| job_of_process(it) == Some(job)).count() > 1 {
                continue;
            }
            let of_job = |labels: &&Labels| labels.get("job") == Some(job) && *labels != process;
            let alive = self.targets.iter().filter(|(_, it)| it.closed() >= from - LATE);
            let mut jobs: BTreeSet<Labels> =
                alive.map(|(labels, _)| labels).filter(of_job).cloned().collect();
            jobs.extend(by_target.keys().filter(of_job).cloned());
            if let (1, Some(target)) = (jobs.len(), jobs.pop_first())
                && let Some(news) = by_target.remove(process)
            {
                by_target.entry(target).or_default().join(news);
            }
        }
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

/// Whether `metric` is what is free of a resource, not what is used.
pub(crate) fn is_free(config: &AnalyzerConfig, metric: &str) -> bool {
    Rules::new(config).is_free(metric)
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
    let Found { draft, subject, target, changes } = found;
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
        raised: draft.severity,
        worst: draft.severity,
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
        target: target.into_iter().collect(),
        sql: sql(draft.kind, &subject, draft.evidence_from, at),
        subject,
    }
}

/// The query that gives the numbers of a finding again.
fn sql(kind: Kind, subject: &Subject, from: i64, at: Timestamp) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    // As an object, labels are all that a series has.
    let labels = serde_json::to_string(&subject.labels).unwrap_or_default();
    let metric = glob::Pattern::escape(&subject.metric);
    let function = match kind {
        Kind::Leak => "leaks",
        Kind::CpuDrift => "drifts",
        Kind::Capacity => "capacity",
        _ => "anomalies",
    };
    format!(
        "SELECT * FROM {function}(metric => {}, labels => {}, from => '{}', at => '{at}') WHERE kind = '{}'",
        quoted(&metric),
        quoted(&labels),
        Timestamp(from),
        kind.name(),
    )
}

#[cfg(test)]
mod tests;
