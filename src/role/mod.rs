//! The three roles: each builds and runs one process.

#[cfg(feature = "gateway")]
pub(crate) mod gateway;
#[cfg(feature = "monitor")]
pub(crate) mod monitor;
mod serving;
#[cfg(feature = "watchdog")]
pub(crate) mod watchdog;

use crate::exit::{self, Failure};
use runtime::Stop;
use std::future::Future;
use tracing::info;

/// Runs `role` on a multi-thread runtime until it ends.
#[cfg(any(feature = "gateway", feature = "monitor"))]
pub(crate) fn block_on(role: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    on(tokio::runtime::Builder::new_multi_thread(), role)
}

/// The same on one thread, for what must be small.
#[cfg(feature = "watchdog")]
pub(crate) fn block_on_one_thread(
    role: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    on(tokio::runtime::Builder::new_current_thread(), role)
}

fn on(
    mut runtime: tokio::runtime::Builder,
    role: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = runtime.enable_all().build().map_err(exit::with(exit::SYSTEM))?;
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
