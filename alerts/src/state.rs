//! Inactive, pending, firing, resolved: what an alert is after it was looked at, as a pure function.
//!
//! | before | condition | after |
//! | --- | --- | --- |
//! | inactive, resolved | holds | pending, or firing where the rule has no `for` |
//! | inactive, resolved | does not | as before |
//! | pending | holds for `for` | firing |
//! | pending | does not | inactive, and forgotten |
//! | firing | holds | firing |
//! | firing | does not for `keep_firing_for` | resolved |

use model::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What an alert is. Inactive ones are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The condition holds, but not yet for long enough.
    Pending,
    /// People are told.
    Firing,
    /// It is over.
    Resolved,
}

impl Phase {
    /// As in SQL and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// Where an alert stands, with its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Now.
    pub phase: Phase,
    /// When the condition began to hold.
    pub since: Timestamp,
    /// When it fired, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<Timestamp>,
    /// When the condition held last.
    pub held: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Timestamp>,
}

/// What becomes of an alert whose condition `holds` or not at `now`; `None` is inactive.
///
/// After a clock went back, times that are yet to come count as now.
pub(crate) fn step(
    before: Option<Standing>,
    holds: bool,
    now: Timestamp,
    hold: Duration,
    keep: Duration,
) -> Option<Standing> {
    let begin = || {
        let fires = hold.is_zero();
        let phase = if fires { Phase::Firing } else { Phase::Pending };
        Standing { phase, since: now, fired: fires.then_some(now), held: now, resolved: None }
    };
    let before = before.map(|old| {
        let since = if old.phase == Phase::Pending { old.since.min(now) } else { old.since };
        Standing { since, held: old.held.min(now), ..old }
    });
    match (before, holds) {
        (None, false) => None,
        (None, true) => Some(begin()),
        (Some(old), true) => Some(match old.phase {
            Phase::Resolved => begin(),
            Phase::Pending if now.since(old.since) >= hold => {
                Standing { phase: Phase::Firing, fired: Some(now), held: now, ..old }
            }
            Phase::Pending | Phase::Firing => Standing { held: now, ..old },
        }),
        (Some(old), false) => match old.phase {
            Phase::Pending => None,
            Phase::Firing if now.since(old.held) >= keep => {
                Some(Standing { phase: Phase::Resolved, resolved: Some(now), ..old })
            }
            Phase::Firing | Phase::Resolved => Some(old),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One look a second; `1` holds.
    fn timeline(looks: &str, hold: u64, keep: u64) -> String {
        let mut standing = None;
        let mut shown = Vec::new();
        for (second, look) in looks.chars().enumerate() {
            let now = Timestamp(1_000 * second as i64);
            let (hold, keep) = (Duration::from_secs(hold), Duration::from_secs(keep));
            standing = step(standing, look == '1', now, hold, keep);
            shown.push(standing.map_or("-", |it| it.phase.name()).get(..1).unwrap_or("-"));
        }
        shown.join("")
    }

    #[test]
    fn an_alert_fires_after_its_hold_and_not_before() {
        assert_eq!(timeline("01111", 2, 0), "-ppff");
        assert_eq!(timeline("0110111", 2, 0), "-pp-ppf");
        assert_eq!(timeline("0100", 0, 0), "-frr");
    }

    #[test]
    fn an_alert_that_comes_and_goes_keeps_firing_for_its_time() {
        assert_eq!(timeline("101010000", 0, 3), "fffffffrr");
        assert_eq!(timeline("1000100", 0, 3), "fffrfff");
    }

    proptest! {
        #[test]
        fn only_allowed_transitions_happen(looks in prop::collection::vec((any::<bool>(), -5_i64..50), 1..60),
                                           hold in 0_u64..20, keep in 0_u64..20) {
            let mut now = Timestamp(1_000_000);
            let mut old: Option<Standing> = None;
            for (holds, seconds) in looks {
                now = Timestamp(now.millis() + 1_000 * seconds);
                let new = step(old, holds, now, Duration::from_secs(hold), Duration::from_secs(keep));
                let phases = (old.map(|it| it.phase), new.map(|it| it.phase));
                prop_assert!(!matches!(phases,
                    (None, Some(Phase::Resolved)) | (Some(Phase::Firing), None | Some(Phase::Pending))
                    | (Some(Phase::Pending), Some(Phase::Resolved)) | (Some(Phase::Resolved), None)), "{phases:?}");
                if let (Some(standing), true) = (new, holds) {
                    prop_assert!(standing.phase != Phase::Resolved && standing.resolved.is_none());
                }
                if let Some(Standing { phase: Phase::Firing, fired, .. }) = new {
                    prop_assert!(fired.is_some());
                }
                old = new;
            }
        }
    }
}
