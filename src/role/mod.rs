//! The three roles: each builds and runs one process.

#[cfg(feature = "gateway")]
pub(crate) mod gateway;
#[cfg(feature = "monitor")]
pub(crate) mod monitor;
#[cfg(feature = "watchdog")]
pub(crate) mod watchdog;

use crate::exit::{self, Failure};
use model::MetricKind;
use platform::process::{self, Process};
use runtime::{Clock, Stop};
use std::future::Future;
use std::path::Path;
use telemetry::Registry;
use tracing::info;

/// Runs `role` on a multi-thread runtime until it ends.
pub(crate) fn block_on(role: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(exit::with(exit::SYSTEM))?;
    let outcome = runtime.block_on(role);
    // A task that blocks must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    outcome
}

/// A stop that is requested by a signal, and with `with_parent` by the end of standard input.
pub(crate) fn stop_on_request(with_parent: bool) -> Stop {
    let stop = Stop::new();
    let request = stop.clone();
    tokio::spawn(async move {
        let reason = tokio::select! {
            signal = platform::signal::stop_requested() => signal.unwrap_or("no signal handler"),
            () = platform::signal::stdin_closed(), if with_parent => "end of the parent",
        };
        info!(reason, "stopping");
        request.request();
    });
    stop
}

/// Writes the addresses listened on, as JSON, for whoever waits for us.
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
    let gauge = |name: &str, help: &str, kind, read: fn(&Process) -> f64| {
        let pid = std::process::id();
        registry.computed(name, help, kind, move || {
            process::read(pid).map_or(f64::NAN, |process| read(&process))
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
    let build =
        registry.counters("forerunner_build_info", "Version and role.", ["version", "role"], 1);
    build.with([env!("CARGO_PKG_VERSION"), role]).inc();
}

/// The clock of real processes.
pub(crate) fn clock() -> Clock {
    Clock::system()
}
