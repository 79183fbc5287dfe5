//! One target: its scrapes in order of time, what they say of its work, and the detectors that are fed.

use super::changes::Changes;
use super::gather::{Event, Member, News};
use super::gauge::Gauge;
use super::meter::Meter;
use super::rule::{Role, Rule, Tells, counts_errors};
use super::service::{Reading, Service};
use super::source::{Choice, Source};
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
    /// The labels of its target.
    pub(crate) target: Vec<(String, String)>,
    /// What changed about when it began.
    pub(crate) changes: Vec<(i64, String)>,
}

/// Everything that is known of one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Target {
    labels: Vec<(String, String)>,
    /// The newest scrape that was taken, of the target itself and of the readings of its process from outside.
    closed: [i64; 2],
    /// How many samples the last scrapes had, by their first series.
    sizes: BTreeMap<u64, usize>,
    requests: Meter,
    errors: Meter,
    latency_sum: Meter,
    latency_count: Meter,
    cpu: Meter,
    cpu_peak: Peak,
    /// Whether it answered when it was asked last.
    answers: bool,
    requests_source: Source,
    latency_source: Source,
    cpu_source: Source,
    /// Values of limits, with their series, and how often there were others.
    limits: BTreeMap<u64, Limit>,
    limits_changed: u64,
    gauges: BTreeMap<u64, Gauge>,
    service: Service,
    changes: Changes,
}

/// The value of a series that says where others end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Limit {
    metric: String,
    labels: Vec<(String, String)>,
    value: f64,
    seen: i64,
}

/// The most that a process used while it answered, in cores, as a mean of some readings: a page that came late makes one
/// step look steeper than it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Peak {
    cores: f64,
    sum: f64,
    readings: u32,
}

impl Peak {
    const READINGS: u32 = 5;

    fn take(&mut self, cores: f64) {
        if !cores.is_finite() {
            return;
        }
        self.sum += cores;
        self.readings += 1;
        if self.readings == Self::READINGS {
            self.cores = self.cores.max(self.sum / f64::from(Self::READINGS));
            (self.sum, self.readings) = (0.0, 0);
        }
    }
}

/// Limits of one target; more are left out.
const MOST_LIMITS: usize = 1024;

/// Sizes of scrapes remembered.
const MOST_SIZES: usize = 16;

/// A gauge or limit without samples for so long, in milliseconds, is forgotten.
const FORGET: i64 = 2 * 86_400_000;

/// What a look may do.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    pub(crate) config: &'a AnalyzerConfig,
    /// Samples before this time are read for the rates of counters alone.
    pub(crate) detect_from: i64,
    /// A scrape before this time has all its samples.
    pub(crate) settled: i64,
    /// How many more series may be watched.
    pub(crate) room: usize,
    /// Series left out for want of room.
    pub(crate) refused: u64,
    pub(crate) said: Vec<Said>,
}

impl Look<'_> {
    /// Takes a place for a series, if one is left.
    pub(crate) fn take(&mut self) -> bool {
        if self.room == 0 {
            self.refused += 1;
            return false;
        }
        self.room -= 1;
        true
    }
}

/// What came in one scrape.
#[derive(Clone, Debug, Default)]
struct Came {
    /// Signals that another metric measures from now on, with what measured them before.
    other: Vec<(Kind, String)>,
    restarted: bool,
    requests: bool,
    errors: bool,
    latency: bool,
    cpu: bool,
    up: Option<bool>,
}

impl Target {
    pub(crate) fn new(labels: &Labels) -> Self {
        let labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { labels: labels.collect(), ..Self::default() }
    }

    pub(crate) fn own_labels(&self) -> &[(String, String)] {
        &self.labels
    }

    pub(crate) fn labels(&self) -> Labels {
        Labels::from_pairs(self.labels.iter().map(|(name, value)| (name, value)))
    }

    /// Series watched; the target itself counts as one.
    pub(crate) fn watched(&self) -> usize {
        1 + self.gauges.len() + self.service.signals()
    }

    /// The newest scrape that was taken, in milliseconds.
    pub(crate) fn closed(&self) -> i64 {
        self.closed.into_iter().max().unwrap_or(0)
    }

    /// Whether there is anything to look at in it.
    pub(crate) fn is_idle(&self) -> bool {
        self.gauges.is_empty() && self.service.signals() == 0
    }

    /// Takes what is new, scrape by scrape.
    pub(crate) fn take(&mut self, news: &News, look: &mut Look<'_>) {
        // Whether a scrape waits for the rest of it; those after it wait as well.
        let mut waits = [false; 2];
        for scrape in news.events.chunk_by(|a, b| (a.time, a.outside) == (b.time, b.outside)) {
            let Some(first) = scrape.first() else { continue };
            let (time, from) = (first.time, usize::from(first.outside));
            let closed = self.closed.get(from).copied().unwrap_or(i64::MAX);
            let Some(waits) = waits.get_mut(from).filter(|waits| !**waits && time > closed) else {
                continue;
            };
            if !self.is_whole(time, scrape, &news.members, look.settled) {
                *waits = true;
                continue;
            }
            let came = self.read(time, scrape, &news.members);
            if time >= look.detect_from {
                self.judge(time, came, scrape, &news.members, look);
            }
            if let Some(closed) = self.closed.get_mut(from) {
                *closed = time;
            }
        }
        self.forget(self.closed());
    }

    /// Whether all samples of a scrape are there: those that are pushed may come in several parts.
    fn is_whole(&mut self, time: i64, scrape: &[Event], members: &[Member], settled: i64) -> bool {
        let first = scrape.first().map_or(0, |event| event.series);
        let failed = || {
            scrape.iter().any(|event| {
                let tells = members.get(event.at as usize).and_then(|it| it.role.tells);
                tells == Some(Tells::Up) && event.value == 0.0
            })
        };
        let usual = self.sizes.get(&first).copied().unwrap_or(usize::MAX);
        if time >= settled && scrape.len() < usual && !failed() {
            return false;
        }
        if self.sizes.len() >= MOST_SIZES && !self.sizes.contains_key(&first) {
            self.sizes.clear();
        }
        self.sizes.insert(first, scrape.len());
        true
    }

    /// Drops what had no sample for a while before `now`.
    pub(crate) fn forget(&mut self, now: i64) {
        self.gauges.retain(|_, gauge| now - gauge.seen < FORGET);
        let limits = self.limits.len();
        self.limits.retain(|_, limit| now - limit.seen < FORGET);
        self.limits_changed += u64::from(self.limits.len() < limits);
        for meter in [&mut self.requests, &mut self.errors, &mut self.latency_sum] {
            meter.forget(now);
        }
        self.latency_count.forget(now);
        self.cpu.forget(now);
    }

    /// Feeds the detectors with a scrape that was read.
    fn judge(
        &mut self,
        time: i64,
        came: Came,
        scrape: &[Event],
        members: &[Member],
        look: &mut Look<'_>,
    ) {
        let mut ended: Vec<(Kind, Subject)> = Vec::new();
        for (kind, metric) in &came.other {
            if self.service.drop_signal(*kind) {
                ended.push((*kind, Subject::new(metric, &self.labels())));
            }
        }
        if came.restarted {
            let gauges = self.gauges.values_mut();
            let leaked = gauges.filter_map(|gauge| {
                let over = gauge.restarted(time);
                let labels = || gauge.labels.iter().map(|(name, value)| (name, value));
                let subject = || Subject::new(&gauge.metric, &Labels::from_pairs(labels()));
                over.then(|| (Kind::Leak, subject()))
            });
            ended.extend(leaked);
            self.cpu_peak = Peak::default();
            // What the old process did not answer says nothing of the new one.
            if self.service.drop_signal(Kind::Saturation) {
                ended.push((Kind::Saturation, self.own(Kind::Saturation)));
            }
        }
        let ended = ended.into_iter();
        look.said.extend(ended.map(|(kind, subject)| Said::Ended { kind, subject, at: time }));
        let load = self.requests.rate(time);
        if came.requests {
            self.changes.traffic(time, load);
        }
        for event in scrape {
            let Some(Member { key, role }) = members.get(event.at as usize) else { continue };
            let gauges = role.rules.iter().filter(|rule| {
                matches!(rule.detect, Detect::Leak | Detect::Capacity | Detect::Novelty)
            });
            let rules: Vec<&Rule> =
                gauges.filter(|it| it.wants(&key.labels)).map(AsRef::as_ref).collect();
            if !rules.is_empty() {
                self.gauge(event, key, &rules, load, look);
            }
        }
        self.serve(time, came, look);
    }

    /// Reads counters, limits and what says that something changed.
    fn read(&mut self, time: i64, scrape: &[Event], members: &[Member]) -> Came {
        let mut came = Came::default();
        // Of what was not seen before, no more was born than there is of all.
        let most = self.requests.rate(time).max(10.0);
        let step = self.requests.step();
        self.errors.expect(step);
        for event in scrape {
            let Some(Member { key, role }) = members.get(event.at as usize) else { continue };
            self.count(event, key, role, most, &mut came);
            if role.limit {
                self.limit(event, key);
            }
            let (series, value) = (event.series, event.value);
            match role.tells {
                Some(Tells::Start) => {
                    came.restarted |= self.changes.started(time, series, value);
                }
                Some(Tells::Build) => self.changes.build(time, key),
                Some(Tells::ConfigReload) => self.changes.configured(time, series, value),
                // Of a process read from outside it says that it is there, not that it answers.
                Some(Tells::Up) if !event.outside && key.labels.get("process").is_none() => {
                    came.up = Some(value != 0.0);
                }
                Some(Tells::Up) | None => {}
            }
        }
        came
    }

    /// Adds the sample to the meters that it is of.
    fn count(&mut self, event: &Event, key: &SeriesKey, role: &Role, most: f64, came: &mut Came) {
        let Event { time, series, value, outside, .. } = *event;
        let of = |rules: &[std::sync::Arc<Rule>], detect: Detect| {
            let mut own = rules.iter().filter(|it| it.detect == detect && it.wants(&key.labels));
            own.next().cloned()
        };
        if let Some(rule) = of(&role.rules, Detect::Cpu) {
            let before = self.cpu_source.metric().to_owned();
            let choice = self.cpu_source.choose(time, &key.metric, outside, &rule);
            if choice == Choice::TakeAnew && !before.is_empty() && before != *key.metric {
                let kinds = [Kind::CpuDrift, Kind::Saturation];
                came.other.extend(kinds.map(|kind| (kind, before.clone())));
            }
            match choice {
                Choice::Leave => {}
                choice => {
                    anew(&mut self.cpu, choice);
                    self.cpu.take(time, series, value, 0.0);
                    came.cpu = true;
                }
            }
        }
        if let Some(rule) = of(&role.rules, Detect::Requests) {
            let before = self.requests_source.metric().to_owned();
            let choice = self.requests_source.choose(time, &key.metric, outside, &rule);
            if choice == Choice::TakeAnew && !before.is_empty() && before != *key.metric {
                let kinds = [Kind::Errors, Kind::Throughput];
                came.other.extend(kinds.map(|kind| (kind, before.clone())));
            }
            match choice {
                Choice::Leave => {}
                choice => {
                    anew(&mut self.requests, choice);
                    anew(&mut self.errors, choice);
                    self.requests.take(time, series, value, most);
                    came.requests = true;
                    if counts_errors(key) {
                        self.errors.take(time, series, value, most);
                        came.errors = true;
                    }
                }
            }
        }
        let ends = [("_sum", &role.latency_sum, false), ("_count", &role.latency_count, true)];
        for (end, rules, counts) in ends {
            let Some(rule) = of(rules, Detect::Latency) else { continue };
            let base = key.metric.strip_suffix(end).unwrap_or(&key.metric);
            let before = self.latency_source.metric().to_owned();
            let choice = self.latency_source.choose(time, base, outside, &rule);
            if choice == Choice::TakeAnew && !before.is_empty() && before != *base {
                let kinds = [Kind::Latency];
                came.other.extend(kinds.map(|kind| (kind, before.clone())));
            }
            match choice {
                Choice::Leave => {}
                choice => {
                    anew(&mut self.latency_sum, choice);
                    anew(&mut self.latency_count, choice);
                    let meter =
                        if counts { &mut self.latency_count } else { &mut self.latency_sum };
                    meter.take(time, series, value, 0.0);
                    came.latency = true;
                }
            }
        }
    }

    fn limit(&mut self, event: &Event, key: &SeriesKey) {
        let (value, seen) = (event.value, event.time);
        if let Some(limit) = self.limits.get_mut(&event.series) {
            (limit.value, limit.seen) = (value, seen);
        } else if self.limits.len() < MOST_LIMITS {
            let labels = key.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let (metric, labels) = (key.metric.to_string(), labels.collect());
            self.limits.insert(event.series, Limit { metric, labels, value, seen });
            self.limits_changed += 1;
        }
    }

    /// The series that says where another ends: that of the rule's metric whose labels fit best.
    fn limit_series(&self, rule: &Rule, key: &SeriesKey) -> Option<u64> {
        let metric = rule.limit_metric.as_deref().filter(|_| rule.limit.is_none())?;
        let fits = |(_, limit): &(&u64, &Limit)| {
            limit.metric == metric
                && limit.labels.iter().all(|(name, value)| key.labels.get(name) == Some(value))
        };
        let best = self.limits.iter().filter(fits).max_by_key(|(_, limit)| limit.labels.len());
        best.map(|(series, _)| *series)
    }

    fn gauge(
        &mut self,
        event: &Event,
        key: &SeriesKey,
        rules: &[&Rule],
        load: f64,
        look: &mut Look<'_>,
    ) {
        let known = self.gauges.get(&event.series).map(|gauge| gauge.limits_known);
        if known.is_none() && !look.take() {
            return;
        }
        // Looked for again only when there are others.
        let series = (known != Some(self.limits_changed))
            .then(|| rules.iter().map(|rule| self.limit_series(rule, key)).collect::<Vec<_>>());
        let gauge = match self.gauges.entry(event.series) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Gauge::new(key, rules, look.config)),
        };
        if let Some(series) = series {
            (gauge.limits, gauge.limits_known) = (series, self.limits_changed);
        }
        let value_of = |series: &Option<u64>| {
            let value = series.and_then(|series| self.limits.get(&series)).map(|it| it.value)?;
            (value.is_finite() && value > 0.0).then_some(value)
        };
        let limits: Vec<Option<f64>> = rules
            .iter()
            .zip(gauge.limits.iter().chain(std::iter::repeat(&None)))
            .map(|(rule, series)| rule.limit.or_else(|| value_of(series)))
            .collect();
        let (labels, changes, said) = (&self.labels, &self.changes, &mut look.said);
        let rules = rules.iter().copied().zip(limits);
        gauge.push(event.time, event.value, load, rules, &mut |outcome| {
            let subject = Subject::new(&key.metric, &key.labels);
            said.push(match outcome {
                Ok(draft) => {
                    // The sample that brought it is in what gives the numbers again.
                    let draft = Draft { at: event.time, ..draft };
                    let (target, changes) = (labels.clone(), changes.about(draft.since));
                    Said::Found(Box::new(Found { draft, subject, target, changes }))
                }
                Err(kind) => Said::Ended { kind, subject, at: event.time },
            });
        });
    }

    /// Feeds the detectors of the target's own signals with those that came in this scrape.
    fn serve(&mut self, time: i64, came: Came, look: &mut Look<'_>) {
        let requests = self.requests.rate(time);
        // A scrape with requests and without a counter of errors says that there was none.
        let errors = if came.errors { self.errors.rate(time) } else { 0.0 };
        let cpu = self.cpu.rate(time);
        self.answers = came.up.unwrap_or(self.answers);
        if came.cpu && self.answers {
            self.cpu_peak.take(cpu);
        }
        let known = |came: bool, value: f64| if came { value } else { f64::NAN };
        let latency = self.latency_sum.rate(time) / self.latency_count.rate(time);
        let reading = Reading {
            load: requests,
            requests: known(came.requests, requests),
            error_ratio: known(
                came.requests && requests > 0.0 && errors.is_finite(),
                (errors / requests).min(1.0),
            ),
            latency: known(came.latency, latency),
            cpu: known(came.cpu, cpu),
            cpu_now: cpu,
            cpu_peak: self.cpu_peak.cores,
            answered: came.up,
        };
        let mut outcomes = Vec::new();
        self.service.push(time, &reading, look, &mut |outcome| outcomes.push(outcome));
        look.said.extend(outcomes.into_iter().map(|outcome| match outcome {
            Ok(draft) => {
                let draft = Draft { at: time, ..draft };
                let (subject, changes) = (self.own(draft.kind), self.changes.about(draft.since));
                let target = self.labels.clone();
                Said::Found(Box::new(Found { draft, subject, target, changes }))
            }
            Err(kind) => Said::Ended { kind, subject: self.own(kind), at: time },
        }));
    }

    /// What stands for the target's own signal of a kind.
    fn own(&self, kind: Kind) -> Subject {
        let metric = match kind {
            Kind::Latency => self.latency_source.metric(),
            Kind::CpuDrift | Kind::Saturation => self.cpu_source.metric(),
            _ => self.requests_source.metric(),
        };
        Subject::new(if metric.is_empty() { "up" } else { metric }, &self.labels())
    }

    /// The share of errors now, and what its detector expects.
    #[cfg(test)]
    pub(super) fn error_ratios(&self) -> (f64, f64) {
        let now = self.errors.rate(self.closed()) / self.requests.rate(self.closed());
        let expected = self.service.errors.as_ref().and_then(|it| it.expected());
        (now, expected.map_or(0.0, |(middle, _, _)| middle))
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

/// Empties a meter whose metric is another one now.
fn anew(meter: &mut Meter, choice: Choice) {
    if choice == Choice::TakeAnew && !meter.is_empty() {
        *meter = Meter::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_came_late_gives_no_process_another_core() {
        let mut peak = Peak::default();
        for n in 0..60 {
            // One page 0.4 s late: a step that looks steeper, and the next less steep.
            let seems = match n % 20 {
                7 => 1.4,
                8 => 0.6,
                _ => 1.0,
            };
            peak.take(0.99 * seems);
        }
        assert!((0.98..1.2).contains(&peak.cores), "{}", peak.cores);
        (0..5).for_each(|_| peak.take(2.9));
        assert!((2.89..2.91).contains(&peak.cores));
    }
}
