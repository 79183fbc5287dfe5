//! Log set-up: one line an event on standard error, values as fields, level by `FORERUNNER_LOG`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::{self, format::FmtSpan};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable with the filter, in the syntax `info,store=debug`.
pub const FILTER_VARIABLE: &str = "FORERUNNER_LOG";

/// Starts logging for the process; a second call does nothing. `default` is the filter without the variable.
pub fn start(default: &str) {
    let filter =
        EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false)
        .with_span_events(FmtSpan::NONE)
        .log_internal_errors(false); // a closed standard error must not take the process down
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
}
