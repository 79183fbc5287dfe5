//! Rules: what is a reason for an alert, and what the alert says.
//!
//! - here: the rule; `parse`: from YAML; `yaml`: nodes with places; `template`: texts with places to fill
//! - `built_in.yml`: the rules that are there without a file

pub(crate) mod parse;
pub(crate) mod template;
pub(crate) mod yaml;

use crate::expr::Expr;
use std::collections::BTreeMap;
use std::time::Duration;
use template::Template;

/// The rules that are there without a file.
pub(crate) const BUILT_IN: &str = include_str!("built_in.yml");

/// How the built-in rules are named where a file is named.
pub const BUILT_IN_FILE: &str = "built-in";

/// A rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    /// Group, name and number among those of the same name there: several rules may give alerts of one name.
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) condition: Condition,
    /// For how long the condition must hold before the alert fires.
    pub(crate) hold: Duration,
    /// For how long it goes on firing after the condition has ceased.
    pub(crate) keep: Duration,
    pub(crate) labels: BTreeMap<String, Template>,
    pub(crate) annotations: BTreeMap<String, Template>,
    /// Longest time between two evaluations; of SQL the time itself.
    pub(crate) interval: Duration,
    /// File, line and column.
    pub(crate) place: String,
}

/// What must hold.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// An expression has elements; each is an instance.
    Threshold { text: String, expr: Expr },
    /// A query has rows; each is an instance.
    Sql(String),
    /// The analyzer has an open finding of such a kind.
    Finding { kinds: Vec<String>, least: Level },
    /// What this room says of itself, such as a receiver that takes nothing.
    Own(&'static str),
}

/// How much attention a finding is worth; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Never wakes anybody alone.
    Note,
    /// In working hours.
    Ticket,
    /// At once.
    Page,
}

impl Level {
    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "note" => Self::Note,
            "ticket" => Self::Ticket,
            "page" => Self::Page,
            _ => return None,
        })
    }
}

/// The kinds of findings, as the analyzer names them.
pub(crate) const KINDS: [&str; 8] =
    ["leak", "saturation", "capacity", "cpu_drift", "errors", "latency", "throughput", "novelty"];

impl Rule {
    /// The condition as text.
    pub(crate) fn query(&self) -> String {
        match &self.condition {
            Condition::Threshold { text, .. } => text.clone(),
            Condition::Sql(sql) => sql.clone(),
            Condition::Finding { kinds, .. } => format!("finding: {}", kinds.join(", ")),
            Condition::Own(what) => (*what).to_owned(),
        }
    }

    /// The metrics that it reads, each with its place in the text.
    pub(crate) fn metrics(&self) -> Vec<(String, usize)> {
        match &self.condition {
            Condition::Threshold { expr, .. } => {
                expr.selectors().into_iter().map(|it| (it.metric.clone(), it.at)).collect()
            }
            _ => Vec::new(),
        }
    }
}
