//! What the gateway counts. Routes and codes come from closed sets, so the page's size is bounded.

use telemetry::{Counter, CounterVec, HistogramVec, Registry};

/// The gateway's own metrics.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    pub(crate) requests: CounterVec<2>,
    pub(crate) seconds: HistogramVec<1>,
    pub(crate) shed: Counter,
    pub(crate) connections: Counter,
}

impl Meters {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counters(
                "gateway_requests_total",
                "Requests answered, by route and status code.",
                ["route", "code"],
                1_000,
            ),
            seconds: registry.latencies(
                "gateway_request_duration_seconds",
                "From the request's head to the answer's, by route.",
                ["route"],
                200,
            ),
            shed: registry.counter(
                "gateway_shed_total",
                "Requests answered 503 because too many were in flight.",
            ),
            connections: registry.counter("gateway_connections_total", "Connections accepted."),
        }
    }
}
