//! What the watchdog shows of itself, so that whoever scrapes it watches the watchdog.

use telemetry::{CounterVec, Gauge, Registry};

/// Series of restarts; causes are few, children as many as are configured.
const MOST: usize = 256;

/// Metrics of all children.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    registry: Registry,
    restarts: CounterVec<2>,
}

/// Metrics of one child.
#[derive(Clone, Debug)]
pub(crate) struct ChildMeters {
    name: String,
    restarts: CounterVec<2>,
    pub(crate) up: Gauge,
    pub(crate) held: Gauge,
    pub(crate) not_cured: Gauge,
    pub(crate) recovery: Gauge,
}

impl Meters {
    pub(crate) fn new(registry: &Registry) -> Self {
        let restarts = registry.counters(
            "watchdog_restarts_total",
            "Ends of a child that were followed by a start, by cause.",
            ["process", "cause"],
            MOST,
        );
        Self { registry: registry.clone(), restarts }
    }

    pub(crate) fn child(&self, name: &str) -> ChildMeters {
        let gauge = |metric, help| self.registry.gauge_for((metric, help), ("process", name));
        ChildMeters {
            name: name.to_owned(),
            restarts: self.restarts.clone(),
            up: gauge("watchdog_child_up", "Whether the child is well: 1 or 0."),
            held: gauge("watchdog_child_held", "Whether nothing is tried for the child any more."),
            not_cured: gauge(
                "watchdog_child_restarts_without_cure",
                "Restarts in a row that did not help.",
            ),
            recovery: gauge(
                "watchdog_child_recovery_seconds",
                "Of the last fault: from its first sign to the first good probe.",
            ),
        }
    }
}

impl ChildMeters {
    pub(crate) fn restarted(&self, cause: &str) {
        self.restarts.with([self.name.as_str(), cause]).inc();
    }
}
