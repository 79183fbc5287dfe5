//! Incidents: what fires together for one service is one, from its beginning to its end, with what was done and why it was. An outage during
//! a warning that lasts is one of its own.

use crate::book::{Acknowledged, Alert, Kept, id};
use crate::journal::Record;
use model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Alerts of one incident that are named.
const NAMED: usize = 50;
/// What fires so soon after the first belongs to it, however bad it is.
const TOGETHER: Duration = Duration::from_secs(30);
const CRITICAL: &str = "critical";

/// An incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Begins with its time, so that ids sort by it.
    pub id: String,
    /// The job or process that it is of.
    pub service: String,
    /// What fired first, in words.
    pub title: String,
    /// When the first condition began to hold.
    pub began: Timestamp,
    /// When the first alert fired.
    pub detected: Timestamp,
    /// When nothing fired any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The rules of its alerts with their fingerprints.
    pub alerts: BTreeMap<String, String>,
    /// The likely cause.
    pub cause: Cause,
    /// What was done, line by line.
    pub actions: Vec<String>,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
}

/// Why, with what speaks for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// A short name, such as `killed`, `hung`, `leak`; empty while unknown.
    pub kind: String,
    /// In words.
    pub summary: String,
    /// Readings, exit status, last lines of the log.
    pub evidence: Vec<String>,
}

impl Incident {
    /// Seconds from its beginning to its end.
    pub fn recovery_seconds(&self) -> Option<f64> {
        Some(self.ended?.since(self.began).as_secs_f64())
    }
}

/// Opens, joins and ends incidents as alerts stand. Looks only at alerts that belong to none that is open, and at open incidents.
pub(crate) fn settle(kept: &mut Kept, now: Timestamp) {
    let homeless = |it: &&Alert| match kept.incidents.get(&it.incident) {
        None => it.fires(),
        // What only tells of something that happened belongs to an incident that may be over.
        Some(incident) => it.fires() && incident.ended.is_some() && it.severity() != "info",
    };
    let new: Vec<String> =
        kept.alerts.values().filter(homeless).map(|it| it.fingerprint.clone()).collect();
    for fingerprint in new {
        let Some(alert) = kept.alerts.get(&fingerprint) else { continue };
        let mut incident = joined(kept, alert, now).unwrap_or_else(|| {
            let title =
                alert.annotations.get("summary").cloned().unwrap_or_else(|| alert.rule.clone());
            let service = alert.service();
            Incident {
                id: id(now, &format!("{service}{fingerprint}")),
                service,
                title,
                began: alert.standing.since,
                detected: alert.standing.fired.unwrap_or(now),
                ended: None,
                alerts: BTreeMap::new(),
                cause: Cause::default(),
                actions: Vec::new(),
                acknowledged: None,
            }
        });
        let (incident_id, rule) = (incident.id.clone(), alert.rule.clone());
        if incident.alerts.len() < NAMED && !incident.alerts.contains_key(&fingerprint) {
            incident.alerts.insert(fingerprint.clone(), rule);
            kept.note(Record::Incident(Box::new(incident)));
        }
        // Not written down: after a restart it is found again by what the incident names.
        if let Some(own) = kept.alerts.get_mut(&fingerprint) {
            own.incident = incident_id;
        }
    }
    end(kept, now);
}

/// The open incident that an alert belongs to. A warning that lasts must not take an outage in, nor an end of a process that was over before
/// anybody saw it: those would have neither an end nor a cause.
fn joined(kept: &Kept, alert: &Alert, now: Timestamp) -> Option<Incident> {
    let service = alert.service();
    let is_open = |it: &&Incident| it.ended.is_none() && it.service == service;
    let open = || kept.incidents.values().rev().filter(is_open);
    let named = open().find(|it| it.alerts.contains_key(&alert.fingerprint));
    let is_outage = |it: &&Incident| {
        let members = kept.alerts.values().filter(|alert| alert.incident == it.id);
        members.filter(|it| it.fires()).any(|it| it.severity() == CRITICAL)
    };
    let lasts = !matches!(alert.severity(), CRITICAL | "info");
    let fits = |it: &&Incident| lasts || now.since(it.detected) < TOGETHER || is_outage(it);
    named.or_else(|| open().find(fits)).cloned()
}

fn end(kept: &mut Kept, now: Timestamp) {
    if kept.incidents.values().all(|it| it.ended.is_some()) {
        return;
    }
    // What only tells of something that happened belongs to an incident and does not keep it open.
    let firing = kept.alerts.values().filter(|it| it.fires() && it.severity() != "info");
    let going: BTreeSet<&str> = firing.map(|it| it.incident.as_str()).collect();
    let over = |it: &&Incident| {
        it.ended.is_none() && it.detected != now && !going.contains(it.id.as_str())
    };
    let over: Vec<Incident> = kept.incidents.values().filter(over).cloned().collect();
    for mut incident in over {
        incident.ended = Some(now);
        kept.note(Record::Incident(Box::new(incident)));
    }
}
