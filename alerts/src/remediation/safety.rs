//! When nothing may be done: switched off, too often, too much at once, on old evidence, or on one signal alone.

use super::{Inner, runbook};
use crate::book::Alert;
use crate::expr::eval::evaluate;
use crate::silence::fits;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

/// Whether remediation is switched on: by the configuration, and by people.
pub(super) fn is_allowed(own: &Inner) -> bool {
    own.config.enabled && own.book.look(|kept| kept.allowed) != Some(false)
}

/// Whether the runbook at place `at` may be carried out for `alert` now; if not, why. Reads memory alone, mostly.
pub(super) fn may_run(own: &Inner, at: usize, alert: &Alert) -> Result<(), String> {
    let Some((runbook, matchers)) = own.runbooks.get(at) else {
        return Err("no such runbook".to_owned());
    };
    if !is_allowed(own) {
        return Err("remediation is switched off".to_owned());
    }
    if alert.acknowledged.is_some() {
        return Err("a person looks after it".to_owned());
    }
    let now = own.clock.now();
    let name = &runbook.name;
    own.book.look(|kept| {
        let runs = || kept.remediations.values().filter(|it| it.runbook == *name && it.outcome != "refused");
        if let Some(last) = runs().filter(|it| it.alert == alert.fingerprint).map(|it| it.ended.unwrap_or(it.began)).max()
            && now.since(last) < runbook.cooldown
        {
            return Err(format!("cooldown until {}", last.plus(runbook.cooldown)));
        }
        let recent = runs().filter(|it| now.since(it.began) < HOUR).count();
        if recent >= runbook.max_per_hour {
            return Err(format!("it ran {recent} times in the last hour, as often as is allowed"));
        }
        let firing = kept.alerts.values().filter(|it| it.fires() && fits(matchers, &it.labels)).count();
        if firing > runbook.max_alerts {
            return Err(format!("blast radius: {firing} alerts fire at once and {} are allowed; a common cause needs a person", runbook.max_alerts));
        }
        Ok(())
    })?;
    for text in &runbook.agree {
        let expr = runbook::expression(text, alert, f64::NAN)?;
        let elements =
            evaluate(&expr, &own.source, now).map_err(|error| format!("{text}: {error}"))?;
        let newest = elements.iter().map(|it| it.time).max();
        let Some(newest) = newest else {
            return Err(format!("no second signal: {text} does not hold"));
        };
        let age = Duration::from_millis(now.millis().saturating_sub(newest).max(0).unsigned_abs());
        if age > own.config.max_age {
            return Err(format!(
                "evidence too old: the newest sample of {text} is {} s old",
                age.as_secs()
            ));
        }
    }
    Ok(())
}
