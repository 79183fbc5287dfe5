//! When nothing may be done: switched off, too often, too much at once, on old evidence, or on one signal alone.

use super::record::Remediation;
use super::{Inner, runbook};
use crate::book::Alert;
use crate::config::RunbookConfig;
use crate::expr::eval::evaluate;
use crate::silence::fits;
use model::Timestamp;
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

/// Whether remediation is switched on: by the configuration, and by people.
pub(super) fn is_allowed(own: &Inner) -> bool {
    own.config.enabled && own.book.look(|kept| kept.allowed) != Some(false)
}

/// Why a runbook is not carried out: the kind stays while its numbers change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) kind: &'static str,
    pub(super) why: String,
}

impl Refused {
    /// A person has it in hand, or has said that nothing is to be done: then nobody is called either.
    pub(super) fn is_for_a_person(&self) -> bool {
        matches!(self.kind, "off" | "acknowledged" | "quiet")
    }
}

pub(super) fn refused(kind: &'static str, why: impl Into<String>) -> Refused {
    Refused { kind, why: why.into() }
}

/// What holds is looked at this often at least, rules on queries too, as long as the rule says nothing else.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// Why nothing may be done about an alert as it is now: asked before the first step and before each one after it. Whether it is quiet is
/// judged here: the dispatcher may not have looked yet.
pub(super) fn still_wanted(own: &Inner, fingerprint: &str) -> Result<(), Refused> {
    let now = own.clock.now();
    own.book.look(|kept| {
        let Some(alert) = kept.alerts.get(fingerprint).filter(|it| it.fires()) else {
            return Err(refused("ceased", "it is over"));
        };
        if alert.acknowledged.is_some() {
            return Err(refused("acknowledged", "a person looks after it"));
        }
        let firing = kept.alerts.values().filter(|it| it.fires());
        let judge = own.quiet.judge(firing, kept.silences.values(), now);
        if let Some(why) = judge.why_quiet(alert) {
            return Err(refused("quiet", format!("somebody works on it: {why}")));
        }
        // Rules that are looked at seldom are believed for two of their intervals.
        let within = SEEN_WITHIN
            .max(own.config.max_age)
            .max(own.intervals.get(&alert.rule).copied().unwrap_or_default() * 2);
        let long_ago = now.since(alert.standing.held) > within;
        if alert.restored || alert.unseen || long_ago {
            return Err(refused("ceased", "its condition was not seen to hold just now"));
        }
        Ok(())
    })
}

/// Why a step of `runbook` may not be done now, though its alert fires: too many others do, or no second signal agrees on fresh evidence.
/// Asked before each step that does something: the one before it may have changed what the signals say.
pub(super) fn is_agreed(own: &Inner, runbook: &str, fingerprint: &str) -> Result<(), Refused> {
    let Some((runbook, matchers)) = own.runbooks.iter().find(|it| it.0.name == runbook) else {
        return Err(refused("missing", "no such runbook"));
    };
    let now = own.clock.now();
    let alert = own.book.look(|kept| {
        let firing = kept.alerts.values().filter(|it| it.fires() && fits(matchers, &it.labels));
        let (firing, most) = (firing.count(), runbook.max_alerts);
        if firing > most {
            let why = format!("blast radius: {firing} alerts fire at once and {most} are allowed; a common cause needs a person");
            return Err(refused("radius", why));
        }
        kept.alerts.get(fingerprint).cloned().ok_or_else(|| refused("ceased", "it is over"))
    })?;
    for text in &runbook.agree {
        let unusable = |why: String| refused("unusable", format!("{text}: {why}"));
        let expr = runbook::expression(text, &alert, f64::NAN).map_err(unusable)?;
        let elements =
            evaluate(&expr, &own.source, now).map_err(|error| unusable(error.to_string()))?;
        let Some(oldest) = elements.iter().map(|it| it.span.behind).min() else {
            return Err(refused("alone", format!("no second signal: {text} does not hold")));
        };
        let age = now.since(Timestamp(oldest));
        if age > own.config.max_age {
            let seconds = age.as_secs();
            let why = format!("evidence too old: a sample of {text} is {seconds} s old");
            return Err(refused("old", why));
        }
    }
    Ok(())
}

/// Whether the next step of a run is wanted, and where it `acts`, agreed on.
pub(super) async fn may_go_on(
    own: &Arc<Inner>,
    runbook: &RunbookConfig,
    run: &Remediation,
    acts: bool,
) -> Result<(), Refused> {
    let (own, name, fingerprint) = (Arc::clone(own), runbook.name.clone(), run.alert.clone());
    let asked = tokio::task::spawn_blocking(move || {
        if !is_allowed(&own) {
            return Err(refused("off", "remediation was switched off while this ran"));
        }
        match still_wanted(&own, &fingerprint) {
            // Not seen just now: nothing is done on it, and a person is told all the same.
            Err(no) if !acts && !no.is_for_a_person() => Ok(()),
            Err(no) => Err(no),
            Ok(()) if acts => is_agreed(&own, &name, &fingerprint),
            Ok(()) => Ok(()),
        }
    });
    // Nothing is done on an answer that did not come.
    let lost = |_| Err(refused("unknown", "whether it is wanted could not be told"));
    asked.await.unwrap_or_else(lost)
}

/// Whether the runbook at place `at` may be carried out for `alert` now; if not, why. May read files.
pub(super) fn may_run(own: &Inner, at: usize, alert: &Alert) -> Result<(), Refused> {
    let Some((runbook, _)) = own.runbooks.get(at) else {
        return Err(refused("missing", "no such runbook"));
    };
    let now = own.clock.now();
    if !is_allowed(own) {
        return Err(refused("off", "remediation is switched off"));
    }
    still_wanted(own, &alert.fingerprint)?;
    let name = &runbook.name;
    own.book.look(|kept| {
        let runs = || {
            let own = kept.remediations.values().filter(|it| it.runbook == *name);
            own.filter(|it| it.outcome != "refused")
        };
        let of_alert = runs().filter(|it| it.alert == alert.fingerprint);
        if let Some(last) = of_alert.map(|it| it.ended.unwrap_or(it.began)).max()
            && now.since(last) < runbook.cooldown
        {
            return Err(refused(
                "cooldown",
                format!("cooldown until {}", last.plus(runbook.cooldown)),
            ));
        }
        let recent = runs().filter(|it| now.since(it.began) < HOUR).count();
        if recent >= runbook.max_per_hour {
            let why = format!("it ran {recent} times in the last hour, as often as is allowed");
            return Err(refused("often", why));
        }
        Ok(())
    })?;
    is_agreed(own, name, &alert.fingerprint)
}
