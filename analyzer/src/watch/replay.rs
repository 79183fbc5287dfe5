//! Detectors over stored history: what they would have found, or what they estimate at one time.

use super::rule::{BUILTIN, builtin};
use super::target::{Found, Said};
use super::{Watch, finding};
use crate::{AnalyzerConfig, AnalyzerError, Detect, Finding, Kind, WatchConfig};
use glob::Pattern;
use model::{SeriesKey, Timestamp};
use std::collections::BTreeMap;
use store::Reader;

/// Counters are read from so long before, in milliseconds, so that their rates are known at the first sample.
const BEFORE: i64 = 900_000;

/// Samples of one span, in milliseconds, are in memory at once.
const SPAN: i64 = 3_600_000;

/// Which series, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    pub(crate) kinds: Vec<Kind>,
    /// A metric's name; `*` stands for any text.
    pub(crate) metric: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) limit: Option<f64>,
}

/// Replays history and answers.
///
/// With `at`: the estimate of each series that has one then, as a finding that nobody raised. Else: what was found
/// from `from` to `to`. `wanted` is asked now and then; when it says no, the answer is what there is so far.
///
/// # Errors
/// A file could not be read.
pub(crate) fn replay(
    reader: &Reader,
    config: &AnalyzerConfig,
    question: &Question,
    now: Timestamp,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<Finding>, AnalyzerError> {
    let mut watch = Watch::new(narrowed(config, question), 0);
    let metrics = watch.metrics(reader);
    let names: Vec<&str> = metrics.iter().map(String::as_str).collect();
    let snapshot = reader.snapshot(Some(&names));
    let to = question.at.or(question.to).unwrap_or(now).millis().saturating_add(1);
    let history = to.saturating_sub(config.history.as_millis() as i64);
    let stored = names.iter().filter_map(|name| snapshot.first_stored(name)).min();
    let from = question.from.map_or(history, Timestamp::millis);
    let from = from.max(stored.unwrap_or(from).min(to));
    watch.until = from.saturating_sub(BEFORE);
    watch.detect_from = from;
    let pattern = question.metric.as_deref().and_then(|text| Pattern::new(text).ok());
    let keep = |key: &SeriesKey| keeps(question, pattern.as_ref(), key);
    let mut said = Vec::new();
    while watch.until < to && wanted() {
        let next = to.min(watch.until.saturating_add(SPAN));
        said.extend(watch.advance(&snapshot, &keep, next)?);
    }
    if let Some(at) = question.at {
        said = watch.estimates(at.millis());
    }
    Ok(select(said, question, pattern.as_ref()))
}

/// The configuration with rules for what is asked alone.
fn narrowed(config: &AnalyzerConfig, question: &Question) -> AnalyzerConfig {
    let builtin = BUILTIN.iter().filter(|_| config.builtin).map(builtin);
    let mut rules: Vec<WatchConfig> = config.watch.iter().cloned().chain(builtin).collect();
    let all = |rules| AnalyzerConfig {
        builtin: false,
        watch: rules,
        max_series: usize::MAX,
        ..config.clone()
    };
    let mut gauges = question.kinds.iter().filter_map(|kind| match kind {
        Kind::Leak => Some(Detect::Leak),
        Kind::Capacity => Some(Detect::Capacity),
        Kind::Novelty => Some(Detect::Novelty),
        _ => None,
    });
    let (gauge, more) = (gauges.next(), gauges.next().is_some());
    if more {
        return all(rules);
    }
    if gauge == Some(Detect::Capacity) {
        // What is watched for leaks and has a limit is a resource as well.
        let limited = |it: &&mut WatchConfig| {
            it.detect == Detect::Leak && (it.limit.is_some() || it.limit_metric.is_some())
        };
        rules.iter_mut().filter(limited).for_each(|it| it.detect = Detect::Capacity);
    }
    rules.retain(|rule| match rule.detect {
        Detect::Requests | Detect::Latency | Detect::Cpu => true,
        detect => gauge == Some(detect),
    });
    if let Some(limit) = question.limit {
        for rule in rules.iter_mut().filter(|rule| Some(rule.detect) == gauge) {
            rule.limit = Some(limit);
        }
    }
    // A metric that no rule names is asked for by name; whoever asks for all series gets those of the rules.
    if let (Some(detect), Some(metric)) = (gauge, &question.metric) {
        rules.push(WatchConfig {
            metrics: vec![metric.clone()],
            detect,
            labels: BTreeMap::new(),
            limit: question.limit,
            limit_metric: None,
            free: false,
        });
    }
    all(rules)
}

/// Whether a series has a part in the answer: it is asked for, or its target's load or limit.
fn keeps(question: &Question, metric: Option<&Pattern>, key: &SeriesKey) -> bool {
    let asked = metric.is_none_or(|pattern| pattern.matches(&key.metric));
    question.labels.iter().all(|(name, value)| match key.labels.get(name) {
        Some(own) => own == value,
        // Of another series of the target only the labels that both have must agree.
        None => !asked && !value.is_empty(),
    })
}

fn select(said: Vec<Said>, question: &Question, metric: Option<&Pattern>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for one in said {
        match one {
            Said::Found(one) => found.push(finding(*one)),
            Said::Ended { kind, subject, at } => {
                let open = |it: &&mut Finding| {
                    it.until.is_none() && it.kind == kind && it.subject == subject
                };
                found.iter_mut().filter(open).for_each(|it| it.until = Some(Timestamp(at)));
            }
        }
    }
    found.retain(|it| {
        question.kinds.contains(&it.kind)
            && metric.is_none_or(|pattern| pattern.matches(&it.subject.metric))
            && question
                .labels
                .iter()
                .all(|(name, value)| it.subject.labels.get(name) == Some(value))
    });
    found
}

impl Watch {
    /// What each detector estimates now, at `at`, whether it would raise it or not.
    pub(super) fn estimates(&self, at: i64) -> Vec<Said> {
        let mut said = Vec::new();
        for target in self.targets.values() {
            target.estimates(at, &mut |subject, draft| {
                said.push(Said::Found(Box::new(Found { draft, subject, changes: Vec::new() })));
            });
        }
        said
    }
}
