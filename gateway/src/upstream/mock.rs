//! The answers of mock tools: JSON after a time that scatters as a real tool's does.

use crate::config::ToolConfig;
use bytes::Bytes;
use runtime::Jitter;
use std::time::Duration;

/// What `FF_CHAOS` does to a call of a mock: it fails, or the answer comes late.
fn chaos(jitter: &mut Jitter) -> Option<(Duration, bool)> {
    let hit = jitter.unit() < 0.2;
    let late = Duration::from_secs_f64(0.3 + 1.2 * jitter.unit());
    let fails = jitter.unit() < 0.5;
    hit.then_some((late, fails))
}

/// Waits as the tool would and answers; an error is its failure.
pub(super) async fn answer(
    tool: &ToolConfig,
    action: &str,
    received: usize,
    with_chaos: bool,
    jitter: &mut Jitter,
) -> Result<Bytes, String> {
    let mut took = latency(tool.latency, jitter.unit());
    if let Some((late, fails)) = with_chaos.then(|| chaos(jitter)).flatten() {
        took += late;
        if fails {
            tokio::time::sleep(took).await;
            return Err("the mock fails on purpose: FF_CHAOS".to_owned());
        }
    }
    tokio::time::sleep(took).await;
    let name = &tool.name;
    Ok(Bytes::from(format!(
        "{{\"source\":\"{name}\",\"action\":\"{action}\",\"received_bytes\":{received}}}"
    )))
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

    #[test]
    fn chaos_meets_a_fifth_of_the_calls_with_three_tenths_to_one_and_a_half_seconds() {
        let mut jitter = Jitter::seeded(3);
        let hits: Vec<_> = (0..10_000).filter_map(|_| chaos(&mut jitter)).collect();
        assert!((1_900..2_100).contains(&hits.len()), "{}", hits.len());
        let late = |it: &&(Duration, bool)| (0.3..1.5).contains(&it.0.as_secs_f64());
        assert_eq!(hits.iter().filter(late).count(), hits.len());
    }
}
