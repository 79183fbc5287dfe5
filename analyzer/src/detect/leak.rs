//! Leaks in names and words.

use super::text::{percent, plain, seconds, time, value};
use super::{Draft, put};
use crate::finding::{Estimate, Kind, Numbers, Severity};
use stats::leak::{LeakEstimate, LimitSource};

/// In the order of the columns of `leaks()`.
pub(crate) const NUMBERS: &[&str] = &[
    "slope_per_hour",
    "floor",
    "growth",
    "load_share",
    "limit",
    "seconds_to_limit",
    "block_seconds",
    "collection_seconds",
    "restarts",
    "odds",
    "second_half_ratio",
    "weakest_quarter_ratio",
    "step_share",
    "score",
];

/// The numbers by name.
fn numbers(of: &LeakEstimate) -> Numbers {
    let (low, high) = of.slope_interval;
    let mut numbers = Numbers::new();
    let mut put = |name: &str, value: Estimate| put(&mut numbers, name, value);
    put("slope_per_hour", Estimate::within(of.slope_per_hour, low, high));
    put("floor", Estimate::exact(of.floor));
    put("growth", Estimate::exact(of.growth));
    put("load_share", Estimate::exact(of.load_share));
    put("block_seconds", Estimate::exact(of.block_s));
    put("collection_seconds", Estimate::exact(of.collection_s.unwrap_or(f64::NAN)));
    put("odds", Estimate::exact(of.odds));
    put("restarts", Estimate::exact(f64::from(of.restarts)));
    put("second_half_ratio", Estimate::exact(of.ratio));
    put("weakest_quarter_ratio", Estimate::exact(of.weakest));
    put("step_share", Estimate::exact(of.step_share));
    put("score", Estimate::exact(of.t));
    if let Some((limit, _)) = of.limit {
        put("limit", Estimate::exact(limit));
    }
    if let Some(left) = of.time_to_limit_s {
        let (low, high) = of.time_interval_s.unwrap_or((f64::NAN, f64::NAN));
        put("seconds_to_limit", Estimate::within(left, low, high));
    }
    numbers
}

/// A finding without its place, or what is estimated of a series where nothing was raised.
pub(crate) fn draft(metric: &str, of: &LeakEstimate) -> Draft {
    let (low, high) = of.slope_interval;
    let size = |it: f64| value(metric, it);
    let mut words = vec![
        format!(
            "grows by {} an hour since {} and does not come back",
            size(of.slope_per_hour),
            time(of.since)
        ),
        format!(
            "floor now {}, after {} of growth; slope between {} and {} an hour (95 %)",
            size(of.floor),
            size(of.growth),
            size(low),
            size(high)
        ),
    ];
    words.extend(limit_words(metric, of));
    let odds = if of.odds.is_finite() && of.odds < 1e6 {
        plain(of.odds)
    } else {
        "over a million".to_owned()
    };
    words.push(format!(
        "no warm-up: growth that goes on is {odds} times as likely as growth that dies out; the later half grew {} times as much as the earlier",
        plain(of.ratio)
    ));
    words.push(format!(
        "no step: the largest one is {} of the growth; no wave: the floor never fell by more than {}",
        percent(of.step_share),
        size(of.drawdown)
    ));
    words.push(format!(
        "the load explains {} of it; floors taken over {}",
        percent(of.load_share),
        seconds(of.block_s)
    ));
    if of.restarts > 0 {
        words.push(format!("{} restarts did not end it", of.restarts));
    }
    Draft {
        kind: Kind::Leak,
        severity: match of.severity {
            stats::leak::Severity::Ticket => Severity::Ticket,
            stats::leak::Severity::Page => Severity::Page,
        },
        at: of.at,
        since: of.since,
        evidence_from: of.evidence_from,
        numbers: numbers(of),
        words,
    }
}

fn limit_words(metric: &str, of: &LeakEstimate) -> Option<String> {
    let (limit, source) = of.limit?;
    let source = match source {
        LimitSource::Configured => "as configured",
        LimitSource::Learned => "where it ended before",
    };
    let limit = value(metric, limit);
    Some(match (of.time_to_limit_s, of.time_interval_s) {
        (Some(left), Some((low, high))) => format!(
            "reaches its limit of {limit} ({source}) in {}, between {} and {} (90 %)",
            seconds(left),
            seconds(low),
            if high.is_finite() { seconds(high) } else { "never".to_owned() }
        ),
        (Some(left), None) => {
            format!("reaches its limit of {limit} ({source}) in {}", seconds(left))
        }
        (None, _) => format!("its limit is {limit} ({source})"),
    })
}
