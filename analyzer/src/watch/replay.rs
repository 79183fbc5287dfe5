//! Detectors over stored history: what they would have found, or what they estimate at one time.

use super::gather::{job_of_process, target_of};
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

/// Which series, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    pub(crate) kinds: Vec<Kind>,
    /// A metric's name; `*` stands for any text.
    pub(crate) metric: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Series that are asked for have no other labels.
    pub(crate) exactly: bool,
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
    watch.history = true;
    let metrics = watch.metrics(reader);
    let names: Vec<&str> = metrics.iter().map(String::as_str).collect();
    let snapshot = reader.snapshot(Some(&names));
    let to = question.at.or(question.to).map_or(now.millis(), Timestamp::millis);
    let to = to.min(now.millis()).saturating_add(1);
    let history = config.history.as_millis() as i64;
    let asked = question.from.map_or(to.saturating_sub(history), Timestamp::millis);
    // An estimate needs what it names; to find something, detectors must know before what is usual.
    let from = if question.at.is_some() { asked } else { asked.saturating_sub(history) };
    let stored = names.iter().filter_map(|name| snapshot.first_stored(name)).min();
    let earliest = stored.unwrap_or(to).min(now.millis().saturating_sub(MEMORY));
    watch.detect_from = from.max(earliest).min(to);
    watch.until = watch.detect_from.saturating_sub(BEFORE);
    let pattern = question.metric.as_deref().and_then(|text| Pattern::new(text).ok());
    let service = service(&question.labels);
    let keep = |key: &SeriesKey| keeps(question, pattern.as_ref(), &service, key);
    let mut said = Vec::new();
    while watch.until < to && wanted() {
        let next = watch.next(to);
        said.extend(watch.advance(&snapshot, &keep, next)?);
        if watch.refused > 0 {
            return Err(AnalyzerError::TooManySeries(config.max_series));
        }
    }
    if let Some(at) = question.at {
        said = watch.estimates(at.millis());
    }
    let mut found = select(said, question, pattern.as_ref());
    // What began before and goes on is an answer too.
    let after = |it: &Finding| it.until.is_none_or(|until| until.millis() >= asked);
    found.retain(|it| question.at.is_some() || after(it));
    Ok(found)
}

/// What is in memory alone is not older than this, in milliseconds.
const MEMORY: i64 = 2 * 86_400_000;

/// The configuration with rules for what is asked alone.
fn narrowed(config: &AnalyzerConfig, question: &Question) -> AnalyzerConfig {
    let builtin = BUILTIN.iter().filter(|_| config.builtin).map(builtin);
    let mut rules: Vec<WatchConfig> = config.watch.iter().cloned().chain(builtin).collect();
    let all = |rules| AnalyzerConfig { builtin: false, watch: rules, ..config.clone() };
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

/// The job that labels are of, for a process read from outside that of its name.
fn service(labels: &BTreeMap<String, String>) -> Option<String> {
    let job = labels.get("job")?;
    let process = labels.get("process").filter(|_| job == "process");
    Some(process.unwrap_or(job).clone())
}

/// Whether a series is asked for, or has a part in the answer: of the same target, and no gauge of its own.
fn keeps(
    question: &Question,
    metric: Option<&Pattern>,
    service: &Option<String>,
    key: &SeriesKey,
) -> bool {
    if is_asked(question, metric, &key.metric, |name| key.labels.get(name), key.labels.len()) {
        return true;
    }
    let target = target_of(&key.labels);
    let outside = job_of_process(&target);
    let same_service = service
        .as_deref()
        .is_none_or(|service| outside.or_else(|| target.get("job")) == Some(service));
    // The instance of a process read from outside is the host, that of the job its address.
    let asked_outside = question.labels.contains_key("process");
    let instance = question.labels.get("instance").filter(|_| outside.is_none() && !asked_outside);
    same_service && instance.is_none_or(|it| target.get("instance") == Some(it))
}

fn is_asked<'a>(
    question: &Question,
    metric: Option<&Pattern>,
    name: &str,
    label: impl Fn(&str) -> Option<&'a str>,
    labels: usize,
) -> bool {
    metric.is_none_or(|pattern| pattern.matches(name))
        && question.labels.iter().all(|(name, value)| label(name) == Some(value.as_str()))
        && (!question.exactly || labels == question.labels.len())
}

fn select(said: Vec<Said>, question: &Question, metric: Option<&Pattern>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for one in said {
        match one {
            Said::Found(one) => {
                let new = finding(*one);
                // Detectors repeat what goes on; once is enough, unless it is worse.
                let goes_on = found.iter().rev().any(|it| {
                    (it.kind, &it.subject) == (new.kind, &new.subject)
                        && it.until.is_none()
                        && it.severity >= new.severity
                });
                if !goes_on {
                    found.push(new);
                }
            }
            Said::Ended { kind, subject, at } => {
                let open = |it: &&mut Finding| {
                    it.until.is_none() && it.kind == kind && it.subject == subject
                };
                found.iter_mut().filter(open).for_each(|it| it.until = Some(Timestamp(at)));
            }
        }
    }
    found.retain(|it| {
        let label = |name: &str| it.subject.labels.get(name).map(String::as_str);
        question.kinds.contains(&it.kind)
            && is_asked(question, metric, &it.subject.metric, label, it.subject.labels.len())
    });
    found
}

impl Watch {
    /// What each detector estimates now, at `at`, whether it would raise it or not.
    pub(super) fn estimates(&self, at: i64) -> Vec<Said> {
        let mut said = Vec::new();
        for target in self.targets.values() {
            target.estimates(at, &mut |subject, draft| {
                let (target, changes) = (target.own_labels().to_vec(), Vec::new());
                said.push(Said::Found(Box::new(Found { draft, subject, target, changes })));
            });
        }
        said
    }
}
