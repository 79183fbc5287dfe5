//! The analyzer's life: at each interval look at what is new, keep what was found, and now and then what is known.

use crate::watch::{self, Watch, state};
use crate::{AnalyzerConfig, AnalyzerError, Findings, Forecasts};
use model::{MetricKind, Timestamp};
use parking_lot::Mutex;
use runtime::{Clock, Stop, Tick};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::Reader;
use telemetry::{Counter, CounterVec, Gauge, Registry};
use tracing::{info, warn};

/// A scrape is stored a little after its time, so that much is not yet looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// Between two times that what is known is written down.
const SAVE: Duration = Duration::from_secs(600);

/// Watches the store and keeps findings.
#[derive(Debug)]
pub struct Analyzer {
    config: AnalyzerConfig,
    reader: Reader,
    findings: Findings,
    forecasts: Forecasts,
    dir: PathBuf,
    clock: Clock,
    watch: Arc<Mutex<Watch>>,
    series: Gauge,
    refused: Counter,
    behind: Gauge,
    busy: Gauge,
    found: CounterVec<2>,
    failed: Counter,
}

impl Analyzer {
    /// Goes on where the last run ended, as `dir` tells; without that, from as much of stored history as is configured.
    pub fn new(
        config: AnalyzerConfig,
        reader: Reader,
        (findings, forecasts): (Findings, Forecasts),
        dir: PathBuf,
        clock: Clock,
        registry: &Registry,
    ) -> Self {
        let now = clock.now();
        let first = now.minus(config.history).millis();
        // A time to come was read from a clock that was ahead.
        let saved = state::load(&dir, &config)
            .filter(|watch| watch.until >= first && watch.until <= now.millis());
        let watch = saved.unwrap_or_else(|| Watch::new(config.clone(), first));
        let gauge = |name: &str, help: &str| registry.gauge(name, help);
        let busy = Gauge::default();
        let read = busy.clone();
        registry.computed(
            "forerunner_analyzer_busy_seconds_total",
            "Time that looking at samples took.",
            MetricKind::Counter,
            move || read.get(),
        );
        Self {
            reader,
            findings,
            forecasts,
            dir,
            clock,
            watch: Arc::new(Mutex::new(watch)),
            series: gauge("forerunner_analyzer_series", "Signals that detectors watch."),
            refused: registry.counter(
                "forerunner_analyzer_refused_total",
                "Times that a series was not watched because analyzer.max_series are.",
            ),
            behind: gauge(
                "forerunner_analyzer_behind_seconds",
                "Age of the newest sample that detectors have looked at.",
            ),
            busy,
            found: registry.counters(
                "forerunner_findings_total",
                "Findings, by what and by severity.",
                ["kind", "severity"],
                64,
            ),
            failed: registry.counter(
                "forerunner_analyzer_failed_total",
                "Looks that ended with an error and are done again.",
            ),
            config,
        }
    }

    /// Watches until stopped.
    ///
    /// # Errors
    /// None that ends it; the type says so for those who supervise it.
    pub async fn run(self, stop: Stop) -> Result<(), AnalyzerError> {
        let this = Arc::new(self);
        let mut saved = this.clock.monotonic();
        loop {
            let own = Arc::clone(&this);
            let stopping = stop.clone();
            let looked = tokio::task::spawn_blocking(move || own.look(&stopping)).await;
            match looked {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    this.failed.inc();
                    warn!(%error, "the analyzer could not read what is new; it tries again");
                }
                Err(error) => {
                    this.failed.inc();
                    warn!(%error, "a look of the analyzer broke off");
                }
            }
            let own = Arc::clone(&this);
            let stopping = stop.clone();
            let tended = tokio::task::spawn_blocking(move || own.forecast(&stopping)).await;
            if let Ok(Err(error)) = tended {
                warn!(%error, "forecasts were not made or scored; that is tried again");
            }
            let over = stop.wait_for(this.config.interval).await == Tick::Stopped;
            if over || this.clock.monotonic() >= saved + SAVE {
                saved = this.clock.monotonic();
                let own = Arc::clone(&this);
                let done = tokio::task::spawn_blocking(move || own.save()).await;
                if let Ok(Err(error)) = done {
                    warn!(%error, "what the detectors know was not saved; a start learns it from history");
                }
            }
            if over {
                return Ok(());
            }
        }
    }

    /// Makes and scores forecasts where that is due.
    fn forecast(&self, stop: &Stop) -> Result<(), AnalyzerError> {
        let wanted = || !stop.requested();
        self.forecasts.tend(&self.reader, &self.config, self.clock.now(), &wanted)
    }

    fn save(&self) -> Result<(), AnalyzerError> {
        state::save(&self.watch.lock(), &self.dir)
    }

    /// Looks at all that is new, span by span.
    fn look(&self, stop: &Stop) -> Result<(), AnalyzerError> {
        let started = self.clock.monotonic();
        let mut watch = self.watch.lock();
        if watch.until > self.clock.now().plus(self.config.interval).millis() {
            warn!("the clock was ahead; what is usual is learned anew from stored history");
            let first = self.clock.now().minus(self.config.history).millis();
            *watch = Watch::new(self.config.clone(), first);
        }
        // Set once: what comes meanwhile is for the next look.
        let to = self.clock.now().minus(SETTLE).millis();
        loop {
            let next = watch.next(to);
            if next <= watch.until || stop.requested() {
                break;
            }
            let metrics = watch.metrics(&self.reader);
            let names: Vec<&str> = metrics.iter().map(String::as_str).collect();
            let snapshot = self.reader.snapshot(Some(&names));
            let said = watch.advance(&snapshot, &|_| true, next)?;
            for finding in watch::keep(said, &self.findings) {
                self.found.with([finding.kind.name(), finding.severity.name()]).inc();
                info!(
                    id = %finding.id,
                    kind = finding.kind.name(),
                    severity = finding.severity.name(),
                    series = %finding.subject,
                    since = %finding.since,
                    "found: {}",
                    finding.summary()
                );
            }
        }
        self.findings.expire(Timestamp(watch.until));
        let (series, refused) = watch.counts();
        self.series.set(series as f64);
        self.refused.add(refused.saturating_sub(self.refused.get()));
        self.behind.set((self.clock.now().millis() - watch.until) as f64 / 1000.0);
        self.busy.add(self.clock.monotonic().duration_since(started).as_secs_f64());
        Ok(())
    }
}
