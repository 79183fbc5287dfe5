//! CPU drift in names and words.

use super::text::{percent, plain, seconds, time};
use super::{Draft, put};
use crate::finding::{Estimate, Kind, Numbers, Severity};
use stats::cost::{CostAlarm, CostEstimate};

/// In the order of the columns of `drifts()`.
pub(crate) const NUMBERS: &[&str] = &[
    "cost_ratio",
    "score",
    "window_seconds",
    "baseline_idle_cores",
    "baseline_cpu_seconds_per_request",
    "load_per_second",
    "baseline_load_low",
    "baseline_load_high",
];

/// The numbers by name.
fn numbers(of: &CostEstimate) -> Numbers {
    let mut numbers = Numbers::new();
    let mut put = |name: &str, value: Estimate| put(&mut numbers, name, value);
    put("cost_ratio", Estimate::within(of.ratio, of.ratio_low, of.ratio_high));
    put("score", Estimate::exact(of.z));
    put("window_seconds", Estimate::exact(of.window_ms as f64 / 1000.0));
    if of.normalised {
        put("baseline_idle_cores", Estimate::exact(of.base_a));
        put("baseline_cpu_seconds_per_request", Estimate::exact(of.base_b));
        put("load_per_second", Estimate::exact(of.load));
        put("baseline_load_low", Estimate::exact(of.load_low));
        put("baseline_load_high", Estimate::exact(of.load_high));
    }
    numbers
}

/// A finding without its place.
pub(crate) fn draft(alarm: &CostAlarm) -> Draft {
    estimate(&alarm.estimate)
}

/// What is estimated of a target, whether it was raised or not.
pub(crate) fn estimate(of: &CostEstimate) -> Draft {
    let more = of.ratio - 1.0;
    let (unit, basis) = if of.normalised {
        ("processor time for a request", "after the load was taken out")
    } else {
        ("processor time", "at the same hours; the load is not known")
    };
    let mut words = vec![
        format!("{unit} is up {} since {}", percent(more), time(of.since)),
        format!(
            "ratio to its baseline {} (95 % interval {} to {}), {basis}",
            plain(of.ratio),
            plain(of.ratio_low),
            plain(of.ratio_high)
        ),
        format!(
            "baseline of {} to {}, judged over the last {}",
            time(of.base_from),
            time(of.base_to),
            seconds(of.window_ms as f64 / 1000.0)
        ),
    ];
    if of.normalised && (of.load > of.load_high || of.load < of.load_low) {
        words.push(format!(
            "the load of {} a second is outside of what the baseline saw, {} to {}",
            plain(of.load),
            plain(of.load_low),
            plain(of.load_high)
        ));
    }
    Draft {
        kind: Kind::CpuDrift,
        severity: Severity::Ticket,
        at: of.at,
        since: of.since,
        evidence_from: of.evidence_from,
        numbers: numbers(of),
        words,
    }
}
