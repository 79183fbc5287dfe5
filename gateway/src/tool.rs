//! The answers of mock tools: JSON after a time that scatters as a real tool's does.

use crate::config::ToolConfig;
use runtime::Jitter;
use serde::Serialize;
use std::time::Duration;

/// The body of a successful answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<'a> {
    success: bool,
    data: Data<'a>,
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    tool: &'a str,
    action: &'a str,
    received_bytes: usize,
}

#[derive(Debug, Serialize)]
struct Metadata {
    mode: &'static str,
    response_time_ms: u128,
}

/// Waits as the tool would and answers.
pub(crate) async fn call<'a>(
    tool: &'a ToolConfig,
    action: &'a str,
    received_bytes: usize,
    mut jitter: Jitter,
) -> Answer<'a> {
    let took = latency(tool.latency, jitter.unit());
    tokio::time::sleep(took).await;
    Answer {
        success: true,
        data: Data { tool: &tool.name, action, received_bytes },
        metadata: Metadata { mode: "mock", response_time_ms: took.as_millis() },
    }
}

/// Half to three times the median, the median at 0.5: skewed to the right, as latencies are.
fn latency(median: Duration, unit: f64) -> Duration {
    let factor = if unit < 0.5 { 0.5 + unit } else { 1.0 + 8.0 * (unit - 0.5).powi(2) };
    median.mul_f64(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_scatter_around_their_median() {
        let at = |unit| latency(Duration::from_millis(100), unit).as_millis();
        assert_eq!((at(0.0), at(0.5), at(1.0)), (50, 100, 300));
    }
}
