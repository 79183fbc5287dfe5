//! How long it takes from a fault to a person, stage by stage, as our own metrics.
//!
//! collect: from the scrape's start to the evaluation that saw it; evaluate: to the firing; group: to the message;
//! queue: to the first byte sent; deliver: to the receiver's answer. `for` is not in it.

use crate::notify::{Entry, Reason};
use model::Timestamp;
use telemetry::{Counter, CounterVec, HistogramVec, Registry};

/// What is counted.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    stages: HistogramVec<1>,
    delivered: CounterVec<1>,
    failures: CounterVec<1>,
    /// Alerts over a limit, which nobody is told of one by one.
    pub(crate) dropped: Counter,
    /// Evaluations that failed.
    pub(crate) evaluation_failures: Counter,
    pub(crate) rounds: HistogramVec<0>,
}

impl Latency {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str| registry.counters(name, help, ["receiver"], 100);
        Self {
            stages: registry.long_latencies(
                "forerunner_alert_latency_seconds",
                "From fault to receiver, by stage and in all.",
                ["stage"],
                8,
            ),
            delivered: counters("forerunner_notifications_total", "Messages that a receiver took."),
            failures: counters("forerunner_notification_failures_total", "Attempts that failed."),
            dropped: registry.counter("forerunner_alerts_dropped_total", "Alerts over a limit."),
            evaluation_failures: registry.counter(
                "forerunner_rule_evaluation_failures_total",
                "Evaluations of rules that failed.",
            ),
            rounds: registry.latencies(
                "forerunner_rule_evaluation_seconds",
                "One look at all rules.",
                [],
                1,
            ),
        }
    }

    pub(crate) fn failed(&self, receiver: &str) {
        self.failures.with([receiver]).inc();
    }

    /// Counts what a receiver has just taken.
    pub(crate) fn delivered(&self, entry: &Entry, began: Timestamp, now: Timestamp) {
        self.delivered.with([&entry.receiver]).inc();
        if entry.reason != Reason::News {
            return;
        }
        let fresh = entry.alerts.iter().filter(|it| {
            let told = it.told.get(&entry.receiver);
            it.fires() && told.is_none_or(|told| Some(told.fired) != it.standing.fired)
        });
        for alert in fresh {
            let fired = alert.standing.fired.unwrap_or(alert.standing.since);
            let sampled = alert.sampled.unwrap_or(alert.evaluated);
            let stages = [
                ("collect", alert.evaluated.since(sampled)),
                ("evaluate", fired.since(alert.evaluated)),
                ("group", entry.made.since(fired)),
                ("queue", began.since(entry.made)),
                ("deliver", now.since(began)),
                ("total", now.since(sampled)),
            ];
            for (stage, took) in stages {
                self.stages.with([stage]).observe(took.as_secs_f64());
            }
        }
    }
}
