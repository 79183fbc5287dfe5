//! What a serving role tells of itself: where it listens, and its own readings.

#[cfg(any(feature = "gateway", feature = "monitor"))]
use crate::exit::{self, Failure};
use model::MetricKind;
use platform::process::{self, Process};
#[cfg(any(feature = "gateway", feature = "monitor"))]
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use telemetry::Registry;

/// Writes the addresses listened on, as JSON, for whoever waits for us.
#[cfg(any(feature = "gateway", feature = "monitor"))]
pub(crate) fn tell_ready(
    file: Option<&Path>,
    addresses: &serde_json::Value,
) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    platform::durable::replace(file, addresses.to_string().as_bytes())
        .map_err(exit::with(exit::SYSTEM))
}

/// The process' own readings, as every Prometheus client has them, and the build.
pub(crate) fn expose_process(registry: &Registry, role: &'static str) {
    let pid = std::process::id();
    let last = Arc::new(Mutex::new(process::read(pid).ok()));
    let gauge = |name: &str, help: &str, kind, read: fn(&Process) -> f64| {
        let last = Arc::clone(&last);
        registry.computed(name, help, kind, move || {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            match process::read(pid) {
                Ok(process) => *last = Some(process),
                // With no handle left nothing can be read: what was known is nearer to the truth than nothing, which a rule on the
                // start would take for a restart.
                Err(_) => {
                    if let Some(known) = last.as_mut() {
                        known.open_fds = known.max_fds.or(known.open_fds);
                    }
                }
            }
            last.as_ref().map_or(f64::NAN, read)
        });
    };
    gauge("process_resident_memory_bytes", "Bytes in memory.", MetricKind::Gauge, |p| {
        p.resident as f64
    });
    gauge(
        "process_cpu_seconds_total",
        "Processor time, user and system.",
        MetricKind::Counter,
        |p| p.cpu_seconds,
    );
    gauge("process_open_fds", "Open handles.", MetricKind::Gauge, |p| {
        p.open_fds.map_or(f64::NAN, |n| n as f64)
    });
    gauge("process_max_fds", "Handles that may be open.", MetricKind::Gauge, |p| {
        p.max_fds.map_or(f64::NAN, |n| n as f64)
    });
    gauge("process_threads", "Threads.", MetricKind::Gauge, |p| p.threads as f64);
    gauge(
        "process_start_time_seconds",
        "Start, in seconds since the epoch.",
        MetricKind::Gauge,
        |p| p.start_time,
    );
    let labels = [("role", role), ("version", env!("CARGO_PKG_VERSION"))];
    registry.info("forerunner_build_info", "Version and role.", labels);
}
