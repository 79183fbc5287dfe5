//! Looks at all rules when samples come, when findings change, and when time alone may change an answer.
//!
//! One look takes what it takes, and the next waits ten times as long, so that rules cost a tenth of a core at most: with few
//! series that is milliseconds, with very many it is slower and not more expensive.

use crate::AlertsError;
use crate::book::{Book, Kept};
use crate::expr::Expr;
use crate::expr::eval::{Element, evaluate};
use crate::expr::source::{Newest, Source};
use crate::incident;
use crate::latency::Latency;
use crate::observe::{Instant, Limits, Seen, observe};
use crate::pulse::{Part, Pulse};
use crate::rule::{Condition, Level, Rule};
use crate::signal::{Ask, Signal, Signals};
use model::Timestamp;
use parking_lot::Mutex;
use runtime::{Clock, Stop, Tick};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use store::Reader;
use tracing::warn;

/// For so long after our start, what is not seen may not have come yet.
const EARLY: Duration = Duration::from_secs(60);
/// What is missing so soon after our start may not have come yet.
const SETTLED: Duration = Duration::from_secs(20);
/// Between two looks at rules that read history, or ask for what is missing.
const SLOWER: Duration = Duration::from_secs(1);

/// How a rule fares, for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(crate) evaluated: Option<Timestamp>,
    pub(crate) took: Duration,
    pub(crate) error: Option<String>,
    /// Since when it could not be evaluated, time after time.
    pub(crate) fails_since: Option<Timestamp>,
}

/// The health of rules by their place among all.
pub(crate) type Healths = Arc<Mutex<BTreeMap<usize, Health>>>;

/// Since when we look, without a gap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// By the wall.
    started: Timestamp,
    pub(crate) began: tokio::time::Instant,
    /// The last look.
    looked: Timestamp,
}

impl Life {
    pub(crate) fn begin(clock: Clock) -> Self {
        Self { started: clock.now(), began: clock.monotonic(), looked: clock.now() }
    }
}

/// A clock that leaps further between two looks, or a machine that stood still for so long: samples must come first, as after a
/// start.
pub(crate) const GAP: Duration = Duration::from_secs(60);

/// Looks at rules.
#[derive(Clone, Debug)]
pub(crate) struct Evaluator {
    pub(crate) rules: Arc<Vec<Rule>>,
    pub(crate) healths: Healths,
    pub(crate) reader: Reader,
    pub(crate) signals: Signals,
    pub(crate) ask: Ask,
    pub(crate) book: Book,
    pub(crate) clock: Clock,
    pub(crate) latency: Latency,
    pub(crate) limits: Limits,
    pub(crate) life: Arc<Mutex<Life>>,
    pub(crate) pulse: Pulse,
}

impl Evaluator {
    /// Looks at thresholds and findings until stopped.
    pub(crate) async fn run(self, stop: Stop) -> Result<(), AlertsError> {
        let mut appended = self.reader.appended();
        let mut signals = self.signals.clone();
        while !stop.requested() {
            appended.mark_unchanged();
            signals.mark_unchanged();
            let began = self.clock.monotonic();
            let own = self.clone();
            match tokio::task::spawn_blocking(move || own.look()).await {
                Ok(()) => self.pulse.beat(Part::Rules),
                Err(_) => self.latency.evaluation_failures.inc(),
            }
            let took = began.elapsed();
            self.latency.rounds.with([]).observe(took.as_secs_f64());
            let pause = (took * 10).clamp(Duration::from_millis(10), Duration::from_secs(10));
            if stop.wait_for(pause).await == Tick::Stopped {
                break;
            }
            tokio::select! {
                () = stop.wait() => break,
                _ = appended.changed() => {}
                _ = signals.changed() => {}
                _ = stop.wait_for(SLOWER) => {}
            }
        }
        Ok(())
    }

    /// One look at all rules that are due.
    fn look(&self) {
        let source = Source::Store(self.reader.clone());
        let now = self.clock.now();
        let life = self.go_on(now);
        let settled = life.began.elapsed() >= SETTLED;
        // Before the rules: a sample that comes between the two must not make certain what they could not see.
        let doubt = self.doubt(&source, now);
        let mut seen: Vec<(&Rule, Vec<Seen>)> = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            match &rule.condition {
                Condition::Threshold { expr, .. } => {
                    if expr.asks_for_absence() && !settled
                        || !self.is_due(at, expr, rule.interval, now)
                    {
                        continue;
                    }
                    let began = self.clock.monotonic();
                    let elements = evaluate(expr, &source, now);
                    let error = elements.as_ref().err().map(ToString::to_string);
                    self.note(at, now, began.elapsed(), error);
                    if let Ok(elements) = elements {
                        let instance = |it: Element| instance(expr, it, now);
                        seen.push((rule, elements.into_iter().map(instance).collect()));
                    }
                }
                Condition::Finding { kinds, least } => {
                    let signals = self.signals.borrow().clone();
                    let wanted =
                        signals.iter().filter(|it| it.level >= *least && kinds.contains(&it.kind));
                    seen.push((rule, wanted.map(found).collect()));
                }
                Condition::Sql(_) | Condition::Own(_) => {}
            }
        }
        let at = Instant { evaluated: now, now: self.clock.now() };
        let dropped = self.book.change(true, |kept| {
            let each = seen
                .into_iter()
                .map(|(rule, seen)| observe(kept, rule, seen, &doubt, (self.limits, at)));
            let dropped = each.sum();
            incident::settle(kept, at.now);
            dropped
        });
        self.latency.dropped.add(dropped);
    }

    /// Notes a look; after a gap life begins anew, and what fires is in doubt.
    fn go_on(&self, now: Timestamp) -> Life {
        let mut life = self.life.lock();
        if now.since(life.looked) > GAP {
            warn!(
                gap_seconds = now.since(life.looked).as_secs(),
                "nothing was looked at for a while; alerts are believed to go on until samples come"
            );
            *life = Life::begin(self.clock);
            let doubt =
                |kept: &mut Kept| kept.alerts.values_mut().for_each(|it| it.restored = true);
            self.book.change(false, doubt);
        }
        life.looked = now;
        *life
    }

    /// Alerts of an earlier process of which nothing can be said yet: no sample of their series has come since our start. Those of
    /// queries and findings get a fixed time.
    fn doubt(&self, source: &Source, now: Timestamp) -> BTreeSet<String> {
        let life = *self.life.lock();
        if life.began.elapsed() >= EARLY {
            return BTreeSet::new();
        }
        let restored: Vec<(String, String, BTreeMap<String, String>)> = self.book.look(|kept| {
            let of = kept.alerts.values().filter(|it| it.restored);
            of.map(|it| (it.fingerprint.clone(), it.source.clone(), it.labels.clone())).collect()
        });
        if restored.len() > 200 {
            // To look for the series of each would take longer than to wait.
            return restored.into_iter().map(|it| it.0).collect();
        }
        let mut fresh: BTreeMap<&str, Vec<Newest>> = BTreeMap::new(); // by rule
        let mut doubt = BTreeSet::new();
        for (fingerprint, rule, labels) in restored {
            let Some(rule) = self.rules.iter().find(|it| it.id == rule) else { continue };
            let selector = match &rule.condition {
                // A rate needs two samples, a sum those of all: they get a fixed time.
                Condition::Threshold { expr, .. } if expr.is_plain() => {
                    expr.selectors().into_iter().next()
                }
                _ => None,
            };
            let come = selector.is_some_and(|selector| {
                let newest = fresh.entry(&rule.id).or_insert_with(|| {
                    let mut all = source.newest(selector, now).unwrap_or_default();
                    all.retain(|it| it.time >= life.started.millis());
                    all
                });
                newest.iter().any(|it| {
                    it.labels.iter().all(|(n, v)| labels.get(n).is_none_or(|own| own == v))
                })
            });
            if !come {
                doubt.insert(fingerprint);
            }
        }
        doubt
    }

    /// Cheap rules are looked at each time, others as often as makes a difference.
    fn is_due(&self, at: usize, expr: &Expr, longest: Duration, now: Timestamp) -> bool {
        let slow = expr.reads_history() || expr.asks_for_absence();
        let last = self.healths.lock().get(&at).and_then(|it| it.evaluated);
        let least = SLOWER.min(longest) - Duration::from_millis(20);
        !slow || last.is_none_or(|last| last > now || now.since(last) >= least)
    }

    fn note(&self, at: usize, now: Timestamp, took: Duration, error: Option<String>) {
        let mut healths = self.healths.lock();
        let health = healths.entry(at).or_default();
        if let (Some(error), true) = (&error, health.error != error) {
            let rule = self.rules.get(at).map_or("", |it| it.name.as_str());
            warn!(rule, error, "a rule could not be evaluated; its alerts stay as they are");
        }
        if error.is_some() {
            self.latency.evaluation_failures.inc();
        }
        let fails_since = error.as_ref().map(|_| health.fails_since.unwrap_or(now));
        *health = Health { evaluated: Some(now), took, error, fails_since };
    }

    /// Asks the query of one SQL rule again and again.
    pub(crate) async fn run_sql(self, at: usize, stop: Stop) -> Result<(), AlertsError> {
        let Some(rule) = self.rules.get(at) else { return Ok(()) };
        let Condition::Sql(sql) = &rule.condition else { return Ok(()) };
        loop {
            let (began, now) = (self.clock.monotonic(), self.clock.now());
            let rows = tokio::select! {
                () = stop.wait() => return Ok(()),
                rows = (self.ask.0)(sql.clone()) => rows,
            };
            self.note(at, now, began.elapsed(), rows.as_ref().err().cloned());
            if let Ok(rows) = rows {
                let seen = rows.into_iter().map(|row| Seen {
                    labels: row.labels,
                    value: row.value,
                    sql: sql.clone(),
                    sampled: Some(now),
                    ..Seen::default()
                });
                self.take(at, seen.collect(), now).await;
            }
            let rest = rule.interval.saturating_sub(began.elapsed()).max(Duration::from_millis(50));
            if stop.wait_for(rest).await == Tick::Stopped {
                return Ok(());
            }
        }
    }

    /// Lets the instances of one rule take their step.
    pub(crate) async fn take(&self, rule: usize, seen: Vec<Seen>, evaluated: Timestamp) {
        let own = self.clone();
        let taken = tokio::task::spawn_blocking(move || {
            let Some(rule) = own.rules.get(rule) else { return };
            let at = Instant { evaluated, now: own.clock.now() };
            own.go_on(at.now);
            let doubt = own.doubt(&Source::Store(own.reader.clone()), at.now);
            let dropped = own.book.change(true, |kept| {
                let dropped = observe(kept, rule, seen, &doubt, (own.limits, at));
                incident::settle(kept, at.now);
                dropped
            });
            own.latency.dropped.add(dropped);
        });
        if taken.await.is_err() {
            self.latency.evaluation_failures.inc();
        }
    }
}

fn instance(expr: &Expr, element: Element, now: Timestamp) -> Seen {
    let labels: BTreeMap<String, String> =
        element.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let sampled = (element.span.newest > i64::MIN).then_some(Timestamp(element.span.newest));
    let sql = sql(expr, &labels, sampled.unwrap_or(now));
    Seen { labels, value: element.value, sampled, sql, ..Seen::default() }
}

/// The samples of the expression's first series about the time, as SQL.
fn sql(expr: &Expr, labels: &BTreeMap<String, String>, at: Timestamp) -> String {
    let selectors = expr.selectors();
    let Some(selector) = selectors.first() else { return String::new() };
    let quoted = |name: &str| {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
    };
    let same = labels
        .iter()
        .map(|(name, value)| format!("{} = '{}' AND ", quoted(name), value.replace('\'', "''")));
    let same: String = same.collect();
    let from = at.minus(Duration::from_secs(600));
    format!(
        "SELECT time, value FROM {} WHERE {same}time >= '{from}' AND time <= '{at}' ORDER BY time",
        quoted(&selector.metric)
    )
}

fn found(signal: &Signal) -> Seen {
    let mut labels = signal.labels.clone();
    labels.insert("kind".to_owned(), signal.kind.clone());
    let severity = match signal.level {
        Level::Page => "critical",
        Level::Ticket => "warning",
        Level::Note => "info",
    };
    labels.insert("severity".to_owned(), severity.to_owned());
    Seen {
        labels,
        value: signal.value.unwrap_or(f64::NAN),
        sampled: Some(signal.updated),
        summary: signal.summary.clone(),
        evidence: signal.evidence.join("\n"),
        sql: signal.sql.clone(),
        finding: Some(signal.id.clone()),
    }
}
