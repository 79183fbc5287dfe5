//! What happens in a burn-in and when, in hours of 48, whatever they last really: as a pure function of the hour.

use crate::client::{Mix, SPIKE, STEADY};
use std::time::Duration;

/// The hours of a burn-in.
pub const HOURS: f64 = 48.0;
/// Requests of 48 hours at 300 a second.
pub const REQUESTS: u64 = 51_840_000;
/// Clients of the failed run.
pub const CLIENTS: usize = 300;

/// The monitor is killed: no experiment, for the monitor does those.
pub const MONITOR_KILL: &str = "monitor_kill";

/// One thing that is done. Those of one hour are done at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When, in hours.
    pub hour: f64,
    /// For how many hours.
    pub hours: f64,
    /// The experiment, as the monitor's API takes it, or [`MONITOR_KILL`].
    pub fault: &'static str,
    /// The tool, for faults of tools.
    pub tool: Option<&'static str>,
    /// The component, for faults of components.
    pub component: Option<&'static str>,
    /// Of a tool's calls, in hundredths.
    pub percent: f64,
    /// How much, where the fault has a measure.
    pub amount: Option<f64>,
    /// Whether the environment file is edited all the while.
    pub edits: bool,
}

impl Step {
    /// Whether it is one of those that are asked for, as a fault or as `fault@hour`.
    pub fn is_in(&self, asked: &[String]) -> bool {
        let name =
            |it: &String| *it == self.fault || *it == format!("{}@{}", self.fault, self.hour);
        asked.iter().any(name)
    }
}

/// The faults of a burn-in: the failed run's chaos windows, database restart and kills, what R1.2 names besides, four faults at once of
/// which two are of one tool, and the monitor's own end.
pub fn steps() -> Vec<Step> {
    let step = |hour, hours, fault| Step {
        hour,
        hours,
        fault,
        tool: None,
        component: None,
        percent: 100.0,
        amount: None,
        edits: false,
    };
    let window = |hour, fault, tool, percent, amount| Step {
        tool,
        percent,
        amount,
        edits: true,
        ..step(hour, 0.5, fault)
    };
    let crowd =
        |fault, tool, amount| Step { tool, amount, percent: 20.0, ..step(16.5, 0.25, fault) };
    vec![
        window(6.0, "latency", Some("serpapi"), 20.0, Some(0.5)),
        step(9.0, 0.25, "cache_away"),
        step(10.5, 0.0, MONITOR_KILL),
        step(12.0, 0.0, "process_kill"),
        Step { tool: Some("openai"), ..step(15.0, 0.25, "upstream_away") },
        crowd("latency", Some("serpapi"), Some(0.5)),
        crowd("jitter", Some("http_fetch"), Some(1.0)),
        crowd("cache_away", None, None),
        crowd("abort", Some("serpapi"), None),
        window(18.0, "abort", Some("serpapi"), 20.0, None),
        step(21.0, 0.25, "process_stop"),
        step(24.0, 0.25, "database_away"),
        // With what it has itself, over four fifths of what the gateway may take.
        Step { amount: Some(285.0), ..step(27.0, 0.25, "memory_balloon") },
        window(30.0, "jitter", Some("http_fetch"), 20.0, Some(1.0)),
        Step { amount: Some(20_000.0), ..step(33.0, 0.25, "handle_hog") },
        step(34.5, 0.0, MONITOR_KILL),
        step(36.0, 0.0, "process_kill"),
        Step { component: Some("stats"), ..step(39.0, 0.0, "task_hang") },
        window(42.0, "database_slow", None, 100.0, Some(0.2)),
        step(45.0, 0.25, "corrupt_config"),
    ]
}

/// Whether an hour lies in a spike: ten minutes in each six hours.
pub fn in_spike(hour: f64) -> bool {
    hour >= 3.0 && (hour - 3.0) % 6.0 < 1.0 / 6.0
}

/// Requests a second at an hour, open loop.
pub fn rate(hour: f64) -> f64 {
    if !in_spike(hour) {
        return 65.0;
    }
    // The last spike goes on to what the failed run's profile allows at most.
    if hour > 40.0 { 300.0 } else { 65.0 + 175.0 }
}

/// What is sent at an hour.
pub fn mix(hour: f64) -> Mix {
    if in_spike(hour) { SPIKE } else { STEADY }
}

/// How long `hours` of 48 last in a run of `whole`; a fault at least `least`.
pub fn lasting(hours: f64, whole: Duration, least: Duration) -> Duration {
    whole.mul_f64(hours / HOURS).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_eight_spikes_and_the_failed_runs_windows_are_all_there() {
        let starts = (0..48 * 60)
            .filter(|minute| {
                let hour = |minute: i32| f64::from(minute) / 60.0;
                in_spike(hour(*minute)) && !in_spike(hour(minute - 1))
            })
            .count();
        assert_eq!(starts, 8);
        let windows: Vec<f64> = steps().iter().filter(|it| it.edits).map(|it| it.hour).collect();
        assert_eq!(windows, [6.0, 18.0, 30.0, 42.0]);
        let at = |fault| -> Vec<f64> {
            steps().iter().filter(|it| it.fault == fault).map(|it| it.hour).collect()
        };
        assert_eq!((at("process_kill"), at("database_away")), (vec![12.0, 36.0], vec![24.0]));
        assert!(steps().is_sorted_by_key(|it| it.hour));
        let crowd = steps().into_iter().filter(|it| it.hour == 16.5);
        assert_eq!(crowd.filter(|it| it.tool == Some("serpapi")).count(), 2);
    }
}
