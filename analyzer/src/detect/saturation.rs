//! Saturation in names and words.

use super::text::{percent, plain, seconds, time};
use super::{Draft, put};
use crate::finding::{Estimate, Kind, Numbers, Severity};
use stats::saturation::{SaturationAlarm, SaturationReason};

/// A finding without its place.
pub(crate) fn draft(of: &SaturationAlarm) -> Draft {
    let mut numbers = Numbers::new();
    let mut put = |name: &str, value: Estimate| put(&mut numbers, name, value);
    put("cpu_share", Estimate::within(of.cpu_share, of.cpu_low, of.cpu_high));
    put("goodput_share", Estimate::exact(of.goodput_share));
    put("latency_seconds", Estimate::exact(of.latency_s));
    put("unanswered", Estimate::exact(f64::from(of.unanswered)));
    let what = match of.reason {
        SaturationReason::GoodputCollapse => "answers fall behind requests",
        SaturationReason::Unanswered => "scrapes get no answer",
        SaturationReason::SlowAnswers => "answers take too long",
    };
    let mut words =
        vec![format!("saturated since {}: {what} while its processor is busy", time(of.since))];
    if of.cpu_share.is_finite() {
        words.push(format!(
            "processor at {} of its capacity, between {} and {}",
            percent(of.cpu_share),
            percent(of.cpu_low),
            percent(of.cpu_high)
        ));
    }
    if of.goodput_share.is_finite() {
        let offered = plain(of.offered_rps);
        words
            .push(format!("{} of {offered} requests a second answered", percent(of.goodput_share)));
    }
    if of.latency_s.is_finite() {
        let normal = if of.normal_latency_s.is_finite() {
            format!("; {} is normal", seconds(of.normal_latency_s))
        } else {
            String::new()
        };
        words.push(format!("latency up to {}{normal}", seconds(of.latency_s)));
    }
    words.push(format!("{} of {} readings without an answer", of.unanswered, of.readings));
    words.push(
        "this is no leak: more memory would not help, less load or more processors would"
            .to_owned(),
    );
    Draft {
        kind: Kind::Saturation,
        severity: Severity::Page,
        at: of.at,
        since: of.since,
        evidence_from: of.evidence_from,
        numbers,
        words,
    }
}
