//! From what a rule sees to alerts: each instance takes its step, new ones are within limits, changes are written down.

use crate::book::{Alert, Kept};
use crate::evaluate::GAP;
use crate::journal::Record;
use crate::rule::Rule;
use crate::rule::template::Filling;
use crate::state::{Phase, Standing, step};
use model::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use tracing::{info, warn};

/// One instance of a rule, as it was just seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Of the series; the rule's own come to them.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
    pub(crate) sampled: Option<Timestamp>,
    pub(crate) summary: String,
    pub(crate) evidence: String,
    pub(crate) sql: String,
    pub(crate) finding: Option<String>,
}

/// How many alerts are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) per_rule: usize,
    pub(crate) all: usize,
}

/// When it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant {
    /// Of the evaluation.
    pub(crate) evaluated: Timestamp,
    pub(crate) now: Timestamp,
}

/// Lets every instance of `rule` take its step. Those that are in `doubt`, by fingerprint, are not over only because they are
/// not seen. Returns how many were over a limit.
pub(crate) fn observe(
    kept: &mut Kept,
    rule: &Rule,
    seen: Vec<Seen>,
    doubt: &BTreeSet<String>,
    (limits, at): (Limits, Instant),
) -> u64 {
    let mut dropped = 0;
    let mut held = BTreeSet::new();
    let mut have = kept.of_rule(&rule.id).count();
    for seen in seen {
        let labels = labels(rule, &seen);
        let fingerprint = fingerprint(rule, &labels);
        if !held.insert(fingerprint.clone()) {
            continue;
        }
        if !kept.alerts.contains_key(&fingerprint) {
            if have >= limits.per_rule || kept.alerts.len() >= limits.all {
                dropped += 1;
                continue;
            }
            have += 1;
        }
        hold(kept, rule, fingerprint, labels, &seen, at);
    }
    let gone: Vec<String> = kept
        .of_rule(&rule.id)
        .filter(|it| !held.contains(&it.fingerprint))
        .filter(|it| it.standing.phase != Phase::Resolved && !doubt.contains(&it.fingerprint))
        .map(|it| it.fingerprint.clone())
        .collect();
    for fingerprint in gone {
        let Some(alert) = kept.alerts.get_mut(&fingerprint) else { continue };
        if alert.restored && alert.standing.phase == Phase::Firing && !rule.keep.is_zero() {
            // Until when it held is not written down each time: it goes on firing for its time from here.
            alert.standing.held = at.now;
            (alert.restored, alert.unseen) = (false, true);
            continue;
        }
        match step(Some(alert.standing), false, at.now, rule.hold, rule.keep) {
            None => {
                let alert = alert.clone();
                end_pending(kept, alert, at.now);
            }
            Some(standing) if standing.phase != alert.standing.phase => {
                alert.standing = standing;
                alert.restored = false;
                info!(alert = %alert.rule, labels = %shown(&alert.labels), "resolved");
                let alert = alert.clone();
                kept.note(Record::Alert(Box::new(alert)));
            }
            Some(_) => {}
        }
    }
    dropped
}

fn hold(
    kept: &mut Kept,
    rule: &Rule,
    fingerprint: String,
    labels: BTreeMap<String, String>,
    seen: &Seen,
    at: Instant,
) {
    let before = kept.alerts.get(&fingerprint);
    let known = before.map(|it| {
        let mut standing = it.standing;
        let gap = at.now.since(standing.held);
        if it.restored && standing.phase == Phase::Pending && gap > GAP {
            // Time in which nobody looked for long is not time in which it held.
            standing.since = standing.since.plus(gap).min(at.now);
        }
        standing
    });
    let standing = step(known, true, at.now, rule.hold, rule.keep);
    let Some(standing) = standing else { return };
    let same = before.is_some_and(|it| {
        it.standing.phase == standing.phase
            && it.labels == labels
            && (it.sql == seen.sql || it.finding.is_none())
    });
    if same {
        if let Some(alert) = kept.alerts.get_mut(&fingerprint) {
            alert.standing = standing;
            (alert.restored, alert.unseen) = (false, false);
            alert.value = Some(seen.value).filter(|it| it.is_finite());
        }
        return;
    }
    let anew = before.is_none_or(|it| it.standing.since != standing.since);
    let fires = standing.phase == Phase::Firing;
    let begins = fires && before.is_none_or(|it| it.standing.phase != Phase::Firing);
    let old = before.cloned();
    let mut alert = alert(rule, fingerprint, labels, seen, standing, at);
    if let Some(old) = old {
        alert.told = old.told;
        if !anew {
            (alert.acknowledged, alert.action, alert.incident) =
                (old.acknowledged, old.action, old.incident);
            (alert.muted, alert.quiet) = (old.muted, old.quiet);
            if !begins {
                (alert.sampled, alert.evaluated) = (old.sampled, old.evaluated);
            }
        }
    }
    if begins {
        warn!(alert = %alert.rule, labels = %shown(&alert.labels),
            summary = alert.annotations.get("summary").map_or("", String::as_str), "firing");
    }
    kept.note(Record::Alert(Box::new(alert)));
}

fn alert(
    rule: &Rule,
    fingerprint: String,
    labels: BTreeMap<String, String>,
    seen: &Seen,
    standing: Standing,
    at: Instant,
) -> Alert {
    let filling = Filling {
        labels: &labels,
        value: seen.value,
        summary: &seen.summary,
        evidence: &seen.evidence,
    };
    let annotations =
        rule.annotations.iter().map(|(name, it)| (name.clone(), it.fill(filling))).collect();
    Alert {
        fingerprint,
        rule: rule.name.clone(),
        source: rule.id.clone(),
        annotations,
        standing,
        value: Some(seen.value).filter(|it| it.is_finite()),
        sampled: seen.sampled,
        evaluated: at.evaluated,
        query: rule.query(),
        sql: seen.sql.clone(),
        finding: seen.finding.clone(),
        told: BTreeMap::new(),
        muted: false,
        acknowledged: None,
        action: String::new(),
        incident: String::new(),
        quiet: None,
        restored: false,
        unseen: false,
        closed: false,
        labels,
    }
}

/// Forgets an alert that is pending no longer; one that fired before it was pending again is over, and somebody has yet to hear so.
pub(crate) fn end_pending(kept: &mut Kept, mut alert: Alert, now: Timestamp) {
    match alert.told.values().filter(|it| !it.resolved).map(|it| it.fired).max() {
        None => kept.note(Record::Forget(alert.fingerprint)),
        Some(fired) => {
            let (phase, resolved) = (Phase::Resolved, Some(now));
            alert.standing = Standing { phase, fired: Some(fired), resolved, ..alert.standing };
            kept.note(Record::Alert(Box::new(alert)));
        }
    }
}

/// `alertname`, the series' labels, and over them the rule's.
pub(crate) fn labels(rule: &Rule, seen: &Seen) -> BTreeMap<String, String> {
    let mut labels = seen.labels.clone();
    let filling = Filling {
        labels: &seen.labels,
        value: seen.value,
        summary: &seen.summary,
        evidence: &seen.evidence,
    };
    for (name, template) in &rule.labels {
        let value = template.fill(filling);
        if value.is_empty() {
            labels.remove(name)
        } else {
            labels.insert(name.clone(), value)
        };
    }
    labels.insert("alertname".to_owned(), rule.name.clone());
    labels
}

/// Of rule and labels. A finding keeps its own while its severity changes.
fn fingerprint(rule: &Rule, labels: &BTreeMap<String, String>) -> String {
    let finding = matches!(rule.condition, crate::rule::Condition::Finding { .. });
    let mut text = rule.id.clone();
    for (name, value) in labels.iter().filter(|(name, _)| !(finding && *name == "severity")) {
        text.extend(["\n", name, "\t", value]);
    }
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(text.as_bytes()))
}

pub(crate) fn shown(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    pairs.join(",")
}
