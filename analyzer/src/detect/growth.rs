//! When a resource is full, in names and words.

use super::text::{percent, seconds, time, value};
use super::{Draft, put};
use crate::finding::{Estimate, Kind, Numbers, Severity};
use stats::growth::{self, GrowthAlarm, GrowthForecast, Reach};

/// In the order of the columns of `capacity()`.
pub(crate) const NUMBERS: &[&str] = &[
    "used",
    "limit",
    "rate_per_day",
    "seconds_to_70",
    "seconds_to_80",
    "seconds_to_90",
    "seconds_to_100",
    "probability_of_full",
];

fn numbers(of: &GrowthForecast) -> Numbers {
    let mut numbers = Numbers::new();
    let rate = of.rate_per_day;
    put(&mut numbers, "rate_per_day", Estimate::within(rate.mid, rate.low, rate.high));
    for reach in of.reach.iter().flatten() {
        let name = format!("seconds_to_{:.0}", reach.fraction * 100.0);
        if let Some(it) = reach.seconds {
            put(&mut numbers, &name, Estimate::within(it.mid, it.low, it.high));
        }
    }
    if let Some(full) = full(of) {
        let name = "probability_of_full".to_owned();
        put(&mut numbers, &name, Estimate::exact(full.probability));
    }
    numbers
}

fn full(of: &GrowthForecast) -> Option<&Reach> {
    of.reach.as_ref().and_then(|all| all.last())
}

/// What is forecast of a series.
pub(crate) fn estimate(metric: &str, of: &GrowthForecast, severity: Severity) -> Draft {
    let size = |it: f64| value(metric, it);
    let rate = of.rate_per_day;
    let when = match full(of) {
        Some(Reach { seconds: Some(it), .. }) => {
            format!(
                "full in {}, between {} and {} (90 %)",
                seconds(it.mid),
                seconds(it.low),
                seconds(it.high)
            )
        }
        Some(reach) => format!(
            "not full within 400 days with a chance of {}",
            percent(1.0 - reach.probability)
        ),
        None => "its size is not known".to_owned(),
    };
    let mut words = vec![
        when,
        format!(
            "grows by {} a day, between {} and {} (90 %), since {}",
            size(rate.mid),
            size(rate.low),
            size(rate.high),
            time(of.since_ms)
        ),
    ];
    if let Some(before) = of.previous_per_day {
        words.push(format!("before that it grew by {} a day", size(before)));
    }
    if of.load_driven {
        words.push("it follows the requests served".to_owned());
    }
    Draft {
        kind: Kind::Capacity,
        severity,
        at: of.time_ms,
        since: of.since_ms,
        evidence_from: of.evidence_from_ms,
        numbers: numbers(of),
        words,
    }
}

/// Adds how much is used, and where the resource ends.
pub(crate) fn place(draft: &mut Draft, used: f64, limit: Option<f64>) {
    put(&mut draft.numbers, "used", Estimate::exact(used));
    put(&mut draft.numbers, "limit", Estimate::exact(limit.unwrap_or(f64::NAN)));
}

/// A finding without its place.
pub(crate) fn draft(metric: &str, alarm: &GrowthAlarm) -> Draft {
    let severity = match alarm.severity {
        growth::Severity::Ticket => Severity::Ticket,
        growth::Severity::Page => Severity::Page,
    };
    estimate(metric, &alarm.forecast, severity)
}
