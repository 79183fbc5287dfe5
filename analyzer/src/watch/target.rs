//! One target: its scrapes in order of time, what they say of its work, and the detectors that are fed.

use super::changes::Changes;
use super::gather::{Event, Member, News};
use super::gauge::Gauge;
use super::meter::Meter;
use super::rule::{Role, Rule, counts_errors};
use super::service::{Reading, Service};
use crate::detect::Draft;
use crate::{AnalyzerConfig, Detect, Kind, Subject};
use model::{Labels, SeriesKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What one target has of a signal that detectors look at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// Something was found in a series, or in the target's own signal of that metric.
    Found(Box<Found>),
    /// What was found is over.
    Ended { kind: Kind, subject: Subject, at: i64 },
}

/// A draft with its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) draft: Draft,
    pub(crate) subject: Subject,
    /// What changed about when it began.
    pub(crate) changes: Vec<(i64, String)>,
}

/// Everything that is known of one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Target {
    labels: Vec<(String, String)>,
    /// The newest scrape that was taken.
    closed: i64,
    requests: Meter,
    errors: Meter,
    latency_sum: Meter,
    latency_count: Meter,
    cpu: Meter,
    up: Option<bool>,
    /// Metric names of the target's own signals, by what they say.
    requests_metric: String,
    latency_metric: String,
    cpu_metric: String,
    /// Values of limits, with their series.
    limits: BTreeMap<u64, Limit>,
    pub(crate) gauges: BTreeMap<u64, Gauge>,
    pub(crate) service: Service,
    changes: Changes,
}

/// The value of a series that says where others end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Limit {
    metric: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Limits of one target; more are left out.
const MOST_LIMITS: usize = 1024;

impl Target {
    pub(crate) fn new(labels: &Labels) -> Self {
        let labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { labels: labels.collect(), ..Self::default() }
    }

    pub(crate) fn labels(&self) -> Labels {
        Labels::from_pairs(self.labels.iter().map(|(name, value)| (name, value)))
    }

    /// Series watched.
    pub(crate) fn watched(&self) -> usize {
        self.gauges.len() + self.service.signals()
    }

    /// The newest scrape that was taken, in milliseconds.
    pub(crate) fn closed(&self) -> i64 {
        self.closed
    }

    /// Takes what is new, scrape by scrape. `room` is how many more series may be watched; what is over is left out and
    /// counted in `left_out`.
    pub(crate) fn take(
        &mut self,
        news: &News,
        detect_from: i64,
        config: &AnalyzerConfig,
        room: &mut Room,
        said: &mut Vec<Said>,
    ) {
        let closed = self.closed;
        let fresh = news.events.iter().position(|event| event.time > closed);
        let events = fresh.and_then(|at| news.events.get(at..)).unwrap_or_default();
        for scrape in events.chunk_by(|a, b| a.time == b.time) {
            let Some(time) = scrape.first().map(|event| event.time) else { continue };
            let restarted = self.read(time, scrape, &news.members);
            if time >= detect_from {
                self.judge(time, restarted, scrape, &news.members, config, room, said);
            }
            self.closed = time;
        }
    }

    /// Feeds the detectors with a scrape that was read.
    #[allow(clippy::too_many_arguments, reason = "one scrape with all that it is judged by")]
    fn judge(
        &mut self,
        time: i64,
        restarted: bool,
        scrape: &[Event],
        members: &[Member],
        config: &AnalyzerConfig,
        room: &mut Room,
        said: &mut Vec<Said>,
    ) {
        if restarted {
            self.gauges.values_mut().for_each(|gauge| gauge.restarted(time));
        }
        let load = self.requests.rate(time);
        self.changes.traffic(time, load);
        for event in scrape {
            let Some(member) = members.get(event.at as usize) else { continue };
            let Role::Watched(rules) = &*member.role else { continue };
            let gauges = rules.iter().filter(|rule| {
                matches!(rule.detect, Detect::Leak | Detect::Capacity | Detect::Novelty)
            });
            let gauges: Vec<&Rule> =
                gauges.filter(|it| it.wants(&member.key.labels)).map(AsRef::as_ref).collect();
            if !gauges.is_empty() {
                self.gauge(time, event, &member.key, &gauges, load, config, room, said);
            }
        }
        self.serve(time, config, room, said);
    }

    /// Reads counters, limits and what says that something changed. Returns whether the process is a new one.
    fn read(&mut self, time: i64, scrape: &[Event], members: &[Member]) -> bool {
        let mut restarted = false;
        self.up = None;
        for event in scrape {
            let Some(Member { key, role }) = members.get(event.at as usize) else { continue };
            let (series, value) = (event.series, event.value);
            match &**role {
                Role::Watched(rules) => self.count(time, event, key, rules),
                Role::LatencySum(rules) if wanted(rules, key) => {
                    self.latency_sum.take(time, series, value);
                    let base = key.metric.strip_suffix("_sum").unwrap_or(&key.metric);
                    name(&mut self.latency_metric, base);
                }
                Role::LatencyCount(rules) if wanted(rules, key) => {
                    self.latency_count.take(time, series, value);
                }
                Role::Limit => self.limit(series, key, value),
                Role::Start => restarted |= self.changes.started(time, value),
                Role::Build => self.changes.build(time, key),
                Role::ConfigReload => self.changes.configured(time, value),
                Role::Up => self.up = Some(value != 0.0),
                Role::LatencySum(_) | Role::LatencyCount(_) | Role::Ignored => {}
            }
        }
        let meters = [
            &mut self.requests,
            &mut self.errors,
            &mut self.latency_sum,
            &mut self.latency_count,
            &mut self.cpu,
        ];
        meters.into_iter().for_each(|meter| meter.close(time));
        restarted
    }

    /// Adds the sample to the meter of its rule, if that counts.
    fn count(&mut self, time: i64, event: &Event, key: &SeriesKey, rules: &[std::sync::Arc<Rule>]) {
        let Some(rule) = rules.iter().find(|rule| {
            matches!(rule.detect, Detect::Requests | Detect::Cpu) && rule.wants(&key.labels)
        }) else {
            return;
        };
        if rule.detect == Detect::Cpu {
            self.cpu.take(time, event.series, event.value);
            name(&mut self.cpu_metric, &key.metric);
            return;
        }
        // One counter of requests is enough; several would count a request twice.
        name(&mut self.requests_metric, &key.metric);
        if *self.requests_metric == *key.metric {
            self.requests.take(time, event.series, event.value);
            if counts_errors(key) {
                self.errors.take(time, event.series, event.value);
            }
        }
    }

    fn limit(&mut self, series: u64, key: &SeriesKey, value: f64) {
        if let Some(limit) = self.limits.get_mut(&series) {
            limit.value = value;
        } else if self.limits.len() < MOST_LIMITS {
            let labels = key.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let labels = labels.collect();
            self.limits.insert(series, Limit { metric: key.metric.to_string(), labels, value });
        }
    }

    /// The limit of a series: that of the rule, else of the series of the rule's metric whose labels fit best.
    fn limit_of(&self, rule: &Rule, key: &SeriesKey) -> Option<f64> {
        if rule.limit.is_some() {
            return rule.limit;
        }
        let metric = rule.limit_metric.as_deref()?;
        let fits = |limit: &&Limit| {
            limit.metric == metric
                && limit.labels.iter().all(|(name, value)| key.labels.get(name) == Some(value))
        };
        let best = self.limits.values().filter(fits).max_by_key(|limit| limit.labels.len())?;
        (best.value.is_finite() && best.value > 0.0).then_some(best.value)
    }

    #[allow(clippy::too_many_arguments, reason = "one sample with all that it is judged by")]
    fn gauge(
        &mut self,
        time: i64,
        event: &Event,
        key: &SeriesKey,
        rules: &[&Rule],
        load: f64,
        config: &AnalyzerConfig,
        room: &mut Room,
        said: &mut Vec<Said>,
    ) {
        let limits: Vec<Option<f64>> = rules.iter().map(|rule| self.limit_of(rule, key)).collect();
        let gauge = match self.gauges.entry(event.series) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if !room.take() => return,
            Entry::Vacant(new) => new.insert(Gauge::new(key, rules, config)),
        };
        let rules = rules.iter().copied().zip(limits);
        let changes = &self.changes;
        gauge.push(time, event.value, load, rules, &mut |draft| {
            // The sample that brought it is in what gives the numbers again.
            let draft = Draft { at: time, ..draft };
            let subject = Subject::new(&key.metric, &key.labels);
            let changes = changes.about(draft.since);
            said.push(Said::Found(Box::new(Found { draft, subject, changes })));
        });
    }

    /// Feeds the detectors of the target's own signals.
    fn serve(&mut self, time: i64, config: &AnalyzerConfig, room: &mut Room, said: &mut Vec<Said>) {
        let requests = self.requests.increase(time);
        // No counter of errors yet means that there was none.
        let errors = if self.errors.is_used() { self.errors.increase(time) } else { 0.0 };
        let reading = Reading {
            requests_per_second: self.requests.rate(time),
            error_ratio: if requests > 0.0 { (errors / requests).min(1.0) } else { f64::NAN },
            latency_seconds: self.latency_sum.increase(time) / self.latency_count.increase(time),
            cpu_cores: self.cpu.rate(time),
            answered: self.up,
        };
        let mut outcomes = Vec::new();
        self.service.push(time, &reading, config, room, &mut |outcome| outcomes.push(outcome));
        said.extend(outcomes.into_iter().map(|outcome| match outcome {
            Ok(draft) => {
                let draft = Draft { at: time, ..draft };
                let (subject, changes) = (self.own(draft.kind), self.changes.about(draft.since));
                Said::Found(Box::new(Found { draft, subject, changes }))
            }
            Err(kind) => Said::Ended { kind, subject: self.own(kind), at: time },
        }));
    }

    /// What stands for the target's own signal of a kind.
    fn own(&self, kind: Kind) -> Subject {
        let metric = match kind {
            Kind::Latency => &self.latency_metric,
            Kind::CpuDrift | Kind::Saturation => &self.cpu_metric,
            _ => &self.requests_metric,
        };
        Subject::new(if metric.is_empty() { "up" } else { metric }, &self.labels())
    }

    /// What each detector estimates at `at`, whether it would raise it or not.
    pub(crate) fn estimates(&self, at: i64, out: &mut dyn FnMut(Subject, Draft)) {
        for gauge in self.gauges.values() {
            let pairs = gauge.labels.iter().map(|(name, value)| (name, value));
            let subject = Subject::new(&gauge.metric, &Labels::from_pairs(pairs));
            gauge.estimates(at, &mut |draft| out(subject.clone(), draft));
        }
        self.service.estimates(at, &mut |draft| out(self.own(draft.kind), draft));
    }
}

fn wanted(rules: &[std::sync::Arc<Rule>], key: &SeriesKey) -> bool {
    rules.iter().any(|rule| rule.wants(&key.labels))
}

/// Keeps the first name.
fn name(kept: &mut String, name: &str) {
    if kept.is_empty() {
        name.clone_into(kept);
    }
}

/// How many more series may be watched, and how many were left out for want of room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) left: usize,
    pub(crate) refused: u64,
}

impl Room {
    /// Takes a place, if one is left.
    pub(crate) fn take(&mut self) -> bool {
        if self.left == 0 {
            self.refused += 1;
            return false;
        }
        self.left -= 1;
        true
    }
}
