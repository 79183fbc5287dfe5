//! One scrape, from its tick to its batch.

pub(crate) mod client;
pub(crate) mod cycle;
pub(crate) mod fetch;
pub mod retry;

use telemetry::{Counter, CounterVec, HistogramVec, Registry};

/// What the collector counts about itself.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    pub(crate) scrapes: CounterVec<1>,
    pub(crate) malformed: CounterVec<1>,
    pub(crate) append_failures: Counter,
    pub(crate) seconds: HistogramVec<0>,
}

impl Meters {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            scrapes: registry.counters(
                "forerunner_scrapes_total",
                "Scrapes by outcome.",
                ["outcome"],
                16,
            ),
            malformed: registry.counters(
                "forerunner_malformed_lines_total",
                "Lines of exposition pages that were not understood, by reason.",
                ["reason"],
                32,
            ),
            append_failures: registry.counter(
                "forerunner_scrape_append_failures_total",
                "Batches that the store did not take.",
            ),
            seconds: registry.latencies(
                "forerunner_scrape_seconds",
                "From tick to appended batch.",
                [],
                1,
            ),
        }
    }
}
