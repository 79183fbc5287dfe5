//! What an earlier configuration has left: alerts of rules, messages to receivers and strikes of steps that are no more. Nothing would
//! ever look at them again, so they end at the start.

use crate::book::{Alert, Kept};
use crate::config::AlertsConfig;
use crate::journal::Record;
use crate::notify::Entry;
use crate::observe::{end_pending, shown};
use crate::remediation::record::Strike;
use crate::state::{Phase, Standing};
use model::Timestamp;
use std::collections::BTreeSet;
use tracing::info;

/// Ends all of them.
pub(crate) fn end(
    kept: &mut Kept,
    is_rule: impl Fn(&str) -> bool,
    config: &AlertsConfig,
    now: Timestamp,
) {
    of_rules(kept, is_rule, now);
    let receivers = config.receiver.iter().map(|it| it.name.as_str()).collect();
    of_receivers(kept, &receivers, now);
    let steps = config.runbook.iter().flat_map(|runbook| {
        runbook.step.iter().map(|step| (runbook.name.as_str(), step.name.as_str()))
    });
    of_steps(kept, &steps.collect());
}

pub(crate) fn of_rules(kept: &mut Kept, is_rule: impl Fn(&str) -> bool, now: Timestamp) {
    let orphans: Vec<Alert> =
        kept.alerts.values().filter(|it| !is_rule(&it.source)).cloned().collect();
    for mut alert in orphans {
        match alert.standing.phase {
            Phase::Pending => end_pending(kept, alert, now),
            Phase::Firing => {
                info!(alert = %alert.rule, labels = %shown(&alert.labels), "resolved: its rule is no more");
                alert.standing =
                    Standing { phase: Phase::Resolved, resolved: Some(now), ..alert.standing };
                kept.note(Record::Alert(Box::new(alert)));
            }
            _ => {}
        }
    }
}

/// Messages that nobody sends any more are given up, and nobody waits for their receivers to hear the end.
fn of_receivers(kept: &mut Kept, known: &BTreeSet<&str>, now: Timestamp) {
    let lost: Vec<Entry> =
        kept.waiting.values().filter(|it| !known.contains(it.receiver.as_str())).cloned().collect();
    for mut entry in lost {
        info!(receiver = %entry.receiver, key = %entry.key, "a message is given up: its receiver is no more");
        entry.given_up = Some(now);
        entry.error = None;
        entry.alerts.clear();
        kept.note(Record::Entry(Box::new(entry)));
    }
    let told: Vec<Alert> = kept
        .alerts
        .values()
        .filter(|it| it.told.keys().any(|name| !known.contains(name.as_str())))
        .cloned()
        .collect();
    for mut alert in told {
        alert.told.retain(|name, _| known.contains(name.as_str()));
        kept.note(Record::Alert(Box::new(alert)));
    }
}

fn of_steps(kept: &mut Kept, known: &BTreeSet<(&str, &str)>) {
    let lost: Vec<Strike> = kept
        .strikes
        .values()
        .filter(|it| it.taken > 0 && !known.contains(&(it.runbook.as_str(), it.step.as_str())))
        .cloned()
        .collect();
    for strike in lost {
        kept.note(Record::Strike(Strike { taken: 0, helped: 0, ..strike }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_is_no_more_is_not_held_against_the_runbook_and_one_that_is_stays() {
        let strike = |step: &str| Strike {
            runbook: "r".to_owned(),
            step: step.to_owned(),
            taken: 3,
            helped: 0,
        };
        let mut kept = Kept::default();
        for step in ["old", "new"] {
            kept.note(Record::Strike(strike(step)));
        }
        of_steps(&mut kept, &BTreeSet::from([("r", "new")]));
        let taken = |step: &str| kept.strikes[&format!("r/{step}")].taken;
        assert_eq!((taken("old"), taken("new")), (0, 3));
    }
}
