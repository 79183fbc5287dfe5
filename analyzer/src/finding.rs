//! What detectors say: a finding, with its numbers, its evidence in words, and the SQL that gives the numbers again.

use model::{Labels, SeriesKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::series_id;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A resource that grows and does not come back.
    Leak,
    /// A process that is at its end of speed: processor full, goodput falling.
    Saturation,
    /// A resource that will be full.
    Capacity,
    /// Processor time for a unit of work over its baseline.
    CpuDrift,
    /// More errors than usual for these requests.
    Errors,
    /// Slower than usual at this load.
    Latency,
    /// Fewer requests than usual at this time.
    Throughput,
    /// A value that this series never had in this place.
    Novelty,
}

impl Kind {
    /// The likely cause first: findings that start together are ranked by this, then by time.
    pub(crate) const BY_CAUSE: [Self; 8] = [
        Self::Leak,
        Self::Saturation,
        Self::Capacity,
        Self::CpuDrift,
        Self::Errors,
        Self::Latency,
        Self::Throughput,
        Self::Novelty,
    ];

    /// As in SQL and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Saturation => "saturation",
            Self::Capacity => "capacity",
            Self::CpuDrift => "cpu_drift",
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Novelty => "novelty",
        }
    }

    pub(crate) fn cause_rank(self) -> usize {
        Self::BY_CAUSE.iter().position(|kind| *kind == self).unwrap_or(Self::BY_CAUSE.len())
    }
}

/// How much of a person's attention it is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// One series does something new; never wakes anybody alone.
    Note,
    /// To be looked at in working hours.
    Ticket,
    /// Imminent or certain.
    Page,
}

impl Severity {
    /// As in SQL and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Ticket => "ticket",
            Self::Page => "page",
        }
    }
}

/// The series that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// Metric name.
    pub metric: String,
    /// Its labels; of a whole target where several series make the signal.
    pub labels: BTreeMap<String, String>,
}

impl Subject {
    pub(crate) fn new(metric: &str, labels: &Labels) -> Self {
        let labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { metric: metric.to_owned(), labels: labels.collect() }
    }

    pub(crate) fn key(&self) -> SeriesKey {
        let pairs = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        SeriesKey::new(self.metric.as_str(), Labels::from_pairs(pairs))
    }

    /// The service that it belongs to, for grouping: its job; of a process read from outside its name.
    pub(crate) fn service(&self) -> &str {
        let job = self.labels.get("job").map_or("", String::as_str);
        let process = self.labels.get("process").filter(|_| job == "process");
        process.map_or(job, String::as_str)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.key().fmt(f)
    }
}

/// One number, with the interval that holds it where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Upper end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
}

impl Estimate {
    pub(crate) fn exact(value: f64) -> Self {
        Self { value, low: None, high: None }
    }

    pub(crate) fn within(value: f64, low: f64, high: f64) -> Self {
        let finite = |end: f64| end.is_finite().then_some(end);
        Self { value, low: finite(low), high: finite(high) }
    }
}

/// Numbers by name; names end in their unit.
pub type Numbers = BTreeMap<String, Estimate>;

/// Something that happened to a target about when a finding began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// What, in words.
    pub what: String,
}

/// A finding of another series that began about then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Related {
    /// Its id; it is kept as a finding of its own.
    pub id: String,
    /// What was found.
    pub kind: Kind,
    /// In which series.
    pub subject: Subject,
    /// When that began.
    pub since: Timestamp,
    /// Its first line of evidence.
    pub summary: String,
}

/// What a person said of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// This was nothing; its like is ranked lower.
    Nothing,
    /// This was right; its like is ranked as before.
    Right,
}

impl Verdict {
    /// As in SQL and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Right => "right",
        }
    }
}

/// What one detector said of one signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The same for the same evidence, so that a replay finds nothing twice.
    pub id: String,
    /// What was found.
    pub kind: Kind,
    /// How much attention it is worth, after budget and feedback.
    pub severity: Severity,
    /// What it would be worth without them.
    pub raised: Severity,
    /// The worst of what belongs to it.
    pub worst: Severity,
    /// When the evidence was enough.
    pub at: Timestamp,
    /// When it began, as far as can be told.
    pub since: Timestamp,
    /// When evidence came last; the numbers and words are of this time.
    pub updated: Timestamp,
    /// When it ended; none while it goes on or cannot end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// In which series.
    pub subject: Subject,
    /// The labels of the target that it is of: those of the series, unless that was read from outside of a process that has a page.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub target: BTreeMap<String, String>,
    /// Slope, ratio, limit, time to it …
    pub numbers: Numbers,
    /// One line in words, and the evidence after it.
    pub words: Vec<String>,
    /// What changed about then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Findings that began together with this, the likely cause first; empty where this belongs to another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
    /// The finding that this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub belongs_to: Option<String>,
    /// From 1 down, as people say of its like that it was nothing.
    pub rank: f64,
    /// What was said of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Gives the numbers again.
    pub sql: String,
}

impl Finding {
    /// The id of what was found at a time in a series.
    pub(crate) fn id_of(kind: Kind, subject: &Subject, at: Timestamp) -> String {
        let series = series_id(&subject.key());
        format!("{:x}-{:016x}-{:x}", kind.cause_rank(), series, at.millis())
    }

    /// One line in words.
    pub fn summary(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The number that says how bad it is.
    pub fn headline(&self) -> Option<Estimate> {
        let name = match self.kind {
            Kind::Leak => "slope_per_hour",
            Kind::Capacity => "seconds_to_100",
            Kind::CpuDrift => "cost_ratio",
            Kind::Saturation => "cpu_share",
            Kind::Novelty => "score",
            _ => "ratio",
        };
        self.numbers.get(name).or_else(|| self.numbers.values().next()).copied()
    }

    /// What its like have in common.
    pub(crate) fn like(&self) -> (Kind, String, String) {
        (self.kind, self.subject.metric.clone(), self.subject.service().to_owned())
    }
}
