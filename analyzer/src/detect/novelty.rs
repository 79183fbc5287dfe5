//! Values that never were, in names and words.

use super::text::{plain, value};
use super::{Draft, put};
use crate::finding::{Estimate, Kind, Numbers, Severity};
use stats::novelty::{self, NoveltyAlarm, Reason};

fn numbers(of: &novelty::Estimate) -> Numbers {
    let mut numbers = Numbers::new();
    put(&mut numbers, "observed", Estimate::exact(of.observed));
    put(&mut numbers, "expected", Estimate::within(of.mid, of.low, of.high));
    numbers
}

/// A finding without its place.
pub(crate) fn draft(metric: &str, alarm: &NoveltyAlarm) -> Draft {
    let of = &alarm.estimate;
    let size = |it: f64| value(metric, it);
    let what = match alarm.reason {
        Reason::NewValue => "a value that this series never had",
        Reason::TimeOfDay => "a value that this series never had at this hour of the day",
        Reason::TimeOfWeek => "a value that this series never had at this hour of the week",
        Reason::Jump => "a jump to a value not seen lately",
        Reason::Level => "a level not seen lately",
        Reason::FlatLine => "does not change any more, as it always did",
    };
    let mut words = vec![
        format!("{what}: {}", size(of.observed)),
        format!(
            "just before it was {}, between {} and {}",
            size(of.mid),
            size(of.low),
            size(of.high)
        ),
    ];
    if let Some(usual) = alarm.seasonal_mid {
        words.push(format!("usual at this hour is {}", size(usual)));
    }
    words.push(format!(
        "score {} over the threshold of {}",
        plain(alarm.score),
        plain(alarm.threshold)
    ));
    let mut numbers = numbers(of);
    put(&mut numbers, "score", Estimate::exact(alarm.score));
    Draft {
        kind: Kind::Novelty,
        severity: Severity::Note,
        at: alarm.at_ms,
        since: alarm.at_ms,
        evidence_from: of.evidence_from_ms,
        numbers,
        words,
    }
}

/// What is known of a series where nothing was raised.
pub(crate) fn estimate(metric: &str, of: &novelty::Estimate, at: i64) -> Draft {
    let size = |it: f64| value(metric, it);
    let words = vec![
        format!("now {}", size(of.observed)),
        format!(
            "just before it was {}, between {} and {}",
            size(of.mid),
            size(of.low),
            size(of.high)
        ),
    ];
    Draft {
        kind: Kind::Novelty,
        severity: Severity::Note,
        at,
        since: at,
        evidence_from: of.evidence_from_ms,
        numbers: numbers(of),
        words,
    }
}
