//! What we say of ourselves: receivers that take nothing, rules without data, steps that never help; and the sign of life.

use crate::AlertsError;
use crate::config::{AlertsConfig, HeartbeatConfig};
use crate::evaluate::Evaluator;
use crate::incident;
use crate::notify::key_of;
use crate::notify::webhook::Webhook;
use crate::observe::{Seen, observe};
use crate::pulse::Pulse;
use crate::route::RECEIVER_FAILING;
use crate::rule::template::Template;
use crate::rule::{BUILT_IN_FILE, Condition, Rule};
use model::Timestamp;
use parking_lot::Mutex;
use runtime::{Clock, Stop, Tick};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracing::{error, warn};

/// A receiver whose oldest message waits for longer is failing.
const WAITED: Duration = Duration::from_secs(25);
/// A batch that was not kept is told of for so long.
const REFUSED: Duration = Duration::from_secs(60);
/// A rule that cannot be evaluated for so long is blind.
const FAILS: Duration = Duration::from_secs(60);
/// Metrics may take so long to come for the first time.
const FIRST_DATA: Duration = Duration::from_secs(300);

/// How the ids of our own rules begin.
pub(crate) const PREFIX: &str = "own/";

/// Looks at ourselves.
#[derive(Debug)]
pub(crate) struct Own {
    evaluator: Evaluator,
    rules: [Rule; 5],
    /// Batches that the store refused, and when there were more of them last. What it refuses is not in it to be asked for.
    refused: Mutex<(u64, Option<Timestamp>)>,
    strike_after: u32,
}

impl Own {
    pub(crate) fn new(evaluator: &Evaluator, config: &AlertsConfig) -> Self {
        let rule = |name: &str, severity: &str, what: &'static str, summary: &str| Rule {
            name: name.to_owned(),
            id: format!("{PREFIX}{name}"),
            group: "monitor".to_owned(),
            condition: Condition::Own(what),
            hold: Duration::ZERO,
            keep: Duration::from_secs(30),
            labels: BTreeMap::from([(
                "severity".to_owned(),
                Template::parse(severity).unwrap_or_default(),
            )]),
            annotations: BTreeMap::from([(
                "summary".to_owned(),
                Template::parse(summary).unwrap_or_default(),
            )]),
            interval: Duration::from_secs(1),
            place: BUILT_IN_FILE.to_owned(),
        };
        let rules = [
            rule(
                RECEIVER_FAILING,
                "critical",
                "the oldest message to a receiver waits for over 25 s, or one was given up",
                "receiver {{ $labels.receiver }} takes no messages: {{ $summary }}",
            ),
            rule(
                "RuleWithoutData",
                "warning",
                "a rule reads a metric that was never seen",
                "rule {{ $labels.rule }} can never fire: {{ $summary }}",
            ),
            rule(
                "RemediationStepUseless",
                "warning",
                "a step of a runbook never helped",
                "step {{ $labels.step }} of runbook {{ $labels.runbook }} never helped and is struck off",
            ),
            rule(
                "StoreRefusesSamples",
                "critical",
                "what was collected could not be written in the last minute",
                "the monitor cannot keep what it collects",
            ),
            rule(
                "RuleFails",
                "warning",
                "a rule could not be evaluated for over a minute",
                "rule {{ $labels.rule }} sees nothing: {{ $summary }}",
            ),
        ];
        let refused = Mutex::new((evaluator.reader.append_failures(), None));
        let strike_after = config.remediation.strike_after;
        Self { evaluator: evaluator.clone(), rules, refused, strike_after }
    }

    /// Looks each second until stopped.
    pub(crate) async fn run(self, stop: Stop) -> Result<(), AlertsError> {
        let own = std::sync::Arc::new(self);
        while stop.wait_for(Duration::from_secs(1)).await == Tick::Elapsed {
            let this = std::sync::Arc::clone(&own);
            if tokio::task::spawn_blocking(move || this.look()).await.is_err() {
                own.evaluator.latency.evaluation_failures.inc();
            }
        }
        Ok(())
    }

    fn look(&self) {
        let now = self.evaluator.clock.now();
        let at = (self.evaluator.limits, crate::observe::Instant { evaluated: now, now });
        let none = BTreeSet::new();
        let [receivers, data, steps, store, fails] = &self.rules;
        // Before that nothing can be said, neither that data is missing nor that it is not.
        let late = self.evaluator.life.lock().began.elapsed() > FIRST_DATA;
        let without = late.then(|| self.without_data());
        let refuses = self.refuses(now);
        let failing_rules = self.failing_rules(now);
        self.evaluator.book.change(true, |kept| {
            let failing = failing(kept, now);
            let useless =
                kept.strikes.values().filter(|it| it.helped == 0 && it.taken >= self.strike_after);
            let useless = useless
                .map(|it| seen([("runbook", &it.runbook), ("step", &it.step)], String::new()));
            let useless = useless.collect();
            let dropped = observe(kept, receivers, failing, &none, at)
                + without.map_or(0, |without| observe(kept, data, without, &none, at))
                + observe(kept, steps, useless, &none, at)
                + observe(kept, store, refuses, &none, at)
                + observe(kept, fails, failing_rules, &none, at);
            incident::settle(kept, now);
            self.evaluator.latency.dropped.add(dropped);
        });
    }

    fn refuses(&self, now: Timestamp) -> Vec<Seen> {
        let mut refused = self.refused.lock();
        let count = self.evaluator.reader.append_failures();
        if count > refused.0 {
            *refused = (count, Some(now));
        }
        let recent = refused.1.is_some_and(|at| now.since(at) < REFUSED);
        recent.then(|| seen([], String::new())).into_iter().collect()
    }

    fn failing_rules(&self, now: Timestamp) -> Vec<Seen> {
        let own = &self.evaluator;
        let healths = own.healths.lock();
        // Several may have the same name.
        let mut failing: BTreeMap<&str, String> = BTreeMap::new();
        for (at, health) in healths.iter() {
            let stands = health.fails_since.is_some_and(|since| now.since(since) >= FAILS);
            let (Some(rule), Some(error), true) = (own.rules.get(*at), &health.error, stands)
            else {
                continue;
            };
            failing.entry(&rule.name).or_insert_with(|| format!("{error} ({})", rule.place));
        }
        let told = |(rule, why): (&str, String)| seen([("rule", &rule.to_owned())], why);
        failing.into_iter().map(told).collect()
    }

    fn without_data(&self) -> Vec<Seen> {
        let own = &self.evaluator;
        let of_files = own.rules.iter().filter(|it| !it.place.starts_with(BUILT_IN_FILE));
        let without = of_files.filter_map(|rule| {
            let missing: BTreeSet<String> = rule
                .metrics()
                .into_iter()
                .map(|(metric, _)| metric)
                .filter(|metric| !own.reader.has_metric(metric))
                .collect();
            let names = missing.into_iter().collect::<Vec<_>>().join(", ");
            let why = format!("no target has ever exposed {names} ({})", rule.place);
            (!names.is_empty()).then(|| seen([("rule", &rule.name)], why))
        });
        without.collect()
    }
}

fn seen<const N: usize>(labels: [(&str, &String); N], summary: String) -> Seen {
    let labels = labels.map(|(name, value)| (name.to_owned(), value.clone()));
    Seen { labels: BTreeMap::from(labels), value: 1.0, summary, ..Seen::default() }
}

fn failing(kept: &crate::book::Kept, now: Timestamp) -> Vec<Seen> {
    let mut by_receiver: BTreeMap<&str, String> = BTreeMap::new();
    for entry in
        kept.waiting.values().filter(|it| now.since(it.made) > WAITED && it.error.is_some())
    {
        let error = entry.error.clone().unwrap_or_default();
        by_receiver.entry(&entry.receiver).or_insert(error);
    }
    let recent = kept.delivered.iter().rev().take(200);
    for entry in
        recent.filter(|it| it.given_up.is_some_and(|at| now.since(at) < Duration::from_secs(600)))
    {
        let error = entry.error.clone().unwrap_or_default();
        by_receiver.entry(&entry.receiver).or_insert(error);
    }
    by_receiver
        .into_iter()
        .map(|(receiver, error)| seen([("receiver", &receiver.to_owned())], error))
        .collect()
}

/// Sends a sign of life again and again, while rules are looked at and messages are made. It waits in no queue: one that is late is worth
/// nothing.
pub(crate) async fn beat(
    webhook: Webhook,
    config: HeartbeatConfig,
    (clock, pulse): (Clock, Pulse),
    stop: Stop,
) -> Result<(), AlertsError> {
    loop {
        if let Some(why) = pulse.stands_still() {
            error!(why, "no sign of life is sent");
            if stop.wait_for(config.interval).await == Tick::Stopped {
                return Ok(());
            }
            continue;
        }
        let now = clock.now();
        let body = json!({
            "version": "4", "status": "firing", "receiver": config.receiver, "groupKey": "heartbeat",
            "groupLabels": { "alertname": "DeadMansSwitch" }, "commonLabels": { "alertname": "DeadMansSwitch" },
            "commonAnnotations": {}, "externalURL": "", "truncatedAlerts": 0,
            "alerts": [{ "status": "firing", "labels": { "alertname": "DeadMansSwitch", "severity": "none" },
                "annotations": { "summary": "the monitor lives; when this stays away, it does not" },
                "startsAt": now, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "heartbeat" }],
        });
        // Not counted from one: after a restart a receiver would take it for a sign that it has had.
        let key = key_of("heartbeat", &config.receiver, now.millis().unsigned_abs());
        if let Err(refused) = webhook.post(body.to_string(), &key).await {
            warn!(receiver = %config.receiver, error = refused.why, "the sign of life was not taken");
        }
        if stop.wait_for(config.interval).await == Tick::Stopped {
            return Ok(());
        }
    }
}
