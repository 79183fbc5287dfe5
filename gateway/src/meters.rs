//! What the gateway counts. Routes, tools and codes come from closed sets, so the page's size is bounded; a route's own series are found
//! once, not at each request.

use std::sync::OnceLock;
use telemetry::{Counter, CounterVec, Histogram, HistogramVec, Registry};

/// The gateway's own metrics.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    requests: CounterVec<2>,
    seconds: HistogramVec<1>,
    upstream_seconds: HistogramVec<1>,
    upstream_calls: CounterVec<2>,
    cache: CounterVec<2>,
    /// Refused before any work, by reason.
    pub(crate) shed: CounterVec<1>,
    pub(crate) connections: Counter,
    pub(crate) refused_connections: CounterVec<1>,
    pub(crate) denied: CounterVec<1>,
}

impl Meters {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counters =
            |name: &str, help: &str, labels| registry.counters(name, help, labels, 1_000);
        Self {
            requests: counters(
                "gateway_requests_total",
                "Requests answered, by route and status code.",
                ["route", "code"],
            ),
            seconds: registry.latencies(
                "gateway_request_duration_seconds",
                "From the request's head to the answer's, by route.",
                ["route"],
                200,
            ),
            upstream_seconds: registry.latencies(
                "gateway_upstream_duration_seconds",
                "From a call's beginning to its end, by tool; retries are calls of their own.",
                ["tool"],
                200,
            ),
            upstream_calls: counters(
                "gateway_upstream_calls_total",
                "Calls of tools, by tool and outcome.",
                ["tool", "outcome"],
            ),
            cache: counters(
                "gateway_cache_total",
                "Cacheable requests, and answers fetched ahead, by tool and result.",
                ["tool", "result"],
            ),
            shed: registry.counters(
                "gateway_shed_total",
                "Requests refused because there was too much to do, by reason.",
                ["reason"],
                20,
            ),
            connections: registry.counter("gateway_connections_total", "Connections accepted."),
            refused_connections: registry.counters(
                "gateway_connections_ended_total",
                "Connections that ended before their time, by reason.",
                ["reason"],
                20,
            ),
            denied: registry.counters(
                "gateway_denied_total",
                "Requests that were not granted, by reason.",
                ["reason"],
                20,
            ),
        }
    }

    pub(crate) fn route(&self, name: &str) -> RouteMeter {
        RouteMeter {
            name: name.to_owned(),
            seconds: self.seconds.with([name]),
            requests: self.requests.clone(),
            usual: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    pub(crate) fn tool(&self, name: &str) -> ToolMeter {
        let cache = |result| self.cache.with([name, result]);
        ToolMeter {
            seconds: self.upstream_seconds.with([name]),
            calls: Outcome::ALL.map(|outcome| self.upstream_calls.with([name, outcome.name()])),
            hit: cache("hit"),
            second: cache("second"),
            stale: cache("stale"),
            miss: cache("miss"),
            joined: cache("joined"),
            warmed: cache("warmed"),
        }
    }
}

/// Codes whose counters a route keeps at hand.
const USUAL: [u16; 14] = [200, 201, 202, 204, 301, 304, 400, 403, 404, 429, 500, 502, 503, 504];

/// The series of one route.
#[derive(Debug)]
pub(crate) struct RouteMeter {
    name: String,
    seconds: Histogram,
    requests: CounterVec<2>,
    usual: [OnceLock<Counter>; USUAL.len()],
}

impl RouteMeter {
    /// A request was answered.
    pub(crate) fn answered(&self, code: http::StatusCode, seconds: f64) {
        self.seconds.observe(seconds);
        let count = || self.requests.with([&self.name, code.as_str()]);
        let at = USUAL.iter().position(|usual| *usual == code.as_u16());
        match at.and_then(|at| self.usual.get(at)) {
            Some(counter) => counter.get_or_init(count).inc(),
            None => count().inc(),
        }
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Good,
    Failed,
    Late,
    Unreachable,
    Retried,
    Shed,
    BreakerOpen,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Good,
        Self::Failed,
        Self::Late,
        Self::Unreachable,
        Self::Retried,
        Self::Shed,
        Self::BreakerOpen,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failed => "failed",
            Self::Late => "timeout",
            Self::Unreachable => "unreachable",
            Self::Retried => "retried",
            Self::Shed => "shed",
            Self::BreakerOpen => "breaker_open",
        }
    }
}

/// The series of one tool.
#[derive(Debug)]
pub(crate) struct ToolMeter {
    pub(crate) seconds: Histogram,
    calls: [Counter; Outcome::ALL.len()],
    pub(crate) hit: Counter,
    pub(crate) second: Counter,
    pub(crate) stale: Counter,
    pub(crate) miss: Counter,
    pub(crate) joined: Counter,
    pub(crate) warmed: Counter,
}

impl ToolMeter {
    pub(crate) fn ended(&self, outcome: Outcome) {
        if let Some(counter) = self.calls.get(outcome as usize) {
            counter.inc();
        }
    }
}
