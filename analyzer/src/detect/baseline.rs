//! Latency, errors and throughput against what is usual, in names and words.

use super::text::{percent, plain, seconds, time};
use super::{Draft, put};
use crate::finding::{Estimate, Kind, Numbers, Severity};
use stats::baseline::{self, BaselineAlarm, Reason};

/// In the order of the columns of `anomalies()`, which saturation and novelty share.
pub(crate) const NUMBERS: &[&str] = &[
    "observed",
    "expected",
    "ratio",
    "score",
    "cpu_share",
    "goodput_share",
    "latency_seconds",
    "unanswered",
];

/// The kind of finding of a signal.
pub(crate) fn kind(of: baseline::Kind) -> Kind {
    match of {
        baseline::Kind::Latency => Kind::Latency,
        baseline::Kind::Errors => Kind::Errors,
        baseline::Kind::Throughput => Kind::Throughput,
    }
}

fn numbers(of: &baseline::Estimate) -> Numbers {
    let mut numbers = Numbers::new();
    let mut put = |name: &str, value: Estimate| put(&mut numbers, name, value);
    put("observed", Estimate::exact(of.observed));
    put("expected", Estimate::within(of.expected, of.expected_low, of.expected_high));
    put("ratio", Estimate::within(of.ratio, of.ratio_low, of.ratio_high));
    numbers
}

/// A value of the signal as people read it.
fn size(kind: Kind, value: f64) -> String {
    match kind {
        Kind::Latency => seconds(value),
        Kind::Errors => percent(value),
        _ => format!("{} a second", plain(value)),
    }
}

/// A finding without its place.
pub(crate) fn draft(alarm: &BaselineAlarm) -> Draft {
    let (kind, of) = (kind(alarm.kind), &alarm.estimate);
    let signal = match kind {
        Kind::Latency => "latency",
        Kind::Errors => "share of errors",
        _ => "requests",
    };
    let what = match alarm.reason {
        Reason::LevelUp => format!("{signal} up {} times", plain(of.ratio)),
        Reason::LevelDown => format!("{signal} down to {}", percent(of.ratio)),
        Reason::Variance => format!("{signal} wavers at least twice as much as usual"),
        Reason::FlatLine => format!("{signal} does not change any more"),
    };
    let words = vec![
        format!("{what} since {}: {}", time(of.since_ms), size(kind, of.observed)),
        format!(
            "usual now is {}, between {} and {} (95 %); ratio {} to {}",
            size(kind, of.expected),
            size(kind, of.expected_low),
            size(kind, of.expected_high),
            plain(of.ratio_low),
            plain(of.ratio_high)
        ),
    ];
    let mut numbers = numbers(of);
    put(&mut numbers, "score", Estimate::exact(alarm.score));
    Draft {
        kind,
        severity: match alarm.severity {
            baseline::Severity::Note => Severity::Note,
            baseline::Severity::Ticket => Severity::Ticket,
        },
        at: alarm.at_ms,
        since: of.since_ms,
        evidence_from: of.evidence_from,
        numbers,
        words,
    }
}

/// What is estimated of a signal where nothing was raised.
pub(crate) fn estimate(of: baseline::Kind, estimate: &baseline::Estimate, at: i64) -> Draft {
    let reason = if estimate.ratio < 1.0 { Reason::LevelDown } else { Reason::LevelUp };
    let alarm = BaselineAlarm {
        at_ms: at,
        kind: of,
        reason,
        severity: baseline::Severity::Note,
        score: f64::NAN,
        estimate: estimate.clone(),
    };
    draft(&alarm)
}
