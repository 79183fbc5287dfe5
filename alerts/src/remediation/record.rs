//! What is kept of remediation: runs, their steps, and how often each step helped.

use model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One run of a runbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remediation {
    /// Begins with its time, so that ids sort by it.
    pub id: String,
    /// The runbook.
    pub runbook: String,
    /// The alert that it is for.
    pub alert: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its incident.
    pub incident: String,
    /// When it began.
    pub began: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// `running`, `helped`, `did_not_help`, `refused`, `dry_run`, `interrupted`.
    pub outcome: String,
    /// Why it was refused, or what came of it.
    pub detail: String,
    /// What was done.
    pub steps: Vec<StepTaken>,
}

/// One step as it was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTaken {
    /// Its name.
    pub name: String,
    /// `callback`, `restart` or `page`.
    pub kind: String,
    /// When it was begun.
    pub began: Timestamp,
    /// When it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// `running`, `helped`, `did_not_help`, `failed`, `struck_off`, `dry_run`, `told`.
    pub outcome: String,
    /// What was answered, and what the series said.
    pub detail: String,
    /// What was measured before.
    #[serde(default)]
    pub before: Option<f64>,
    /// What was measured after.
    #[serde(default)]
    pub after: Option<f64>,
}

/// How often a step helped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// The runbook.
    pub runbook: String,
    /// The step.
    pub step: String,
    /// Times taken.
    pub taken: u32,
    /// Times it helped.
    pub helped: u32,
}
