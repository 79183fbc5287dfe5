//! From what a detector says in numbers to what a person reads: numbers by name, and the evidence in words.
//!
//! One file for each kind. The detectors themselves are in the crate `stats`, which knows no labels and no words.

pub(crate) mod baseline;
pub(crate) mod cost;
pub(crate) mod growth;
pub(crate) mod leak;
pub(crate) mod novelty;
pub(crate) mod saturation;
pub(crate) mod text;

use crate::finding::{Estimate, Kind, Numbers, Severity};

/// A finding without its place: what a detector said, in names and words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) severity: Severity,
    /// When the evidence was enough, in milliseconds since the epoch.
    pub(crate) at: i64,
    /// When it began.
    pub(crate) since: i64,
    /// From this time on, samples give the same numbers again.
    pub(crate) evidence_from: i64,
    pub(crate) numbers: Numbers,
    pub(crate) words: Vec<String>,
}

/// Adds a number by its name; one that is not known is left out.
fn put(numbers: &mut Numbers, name: &str, estimate: Estimate) {
    if estimate.value.is_finite() {
        numbers.insert(name.to_owned(), estimate);
    }
}
