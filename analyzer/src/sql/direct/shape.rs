//! The questions that the short way answers.

use std::cmp::Ordering;

/// One or several selects whose rows are put together, sorted and cut.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(super) selects: Vec<Select>,
    pub(super) order: Vec<Order>,
    pub(super) limit: Option<usize>,
}

/// A column to sort by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) column: usize,
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

/// Rows or groups of one metric.
#[derive(Clone, Debug)]
pub(super) struct Select {
    pub(super) metric: String,
    /// Whether the newest samples alone are asked for.
    pub(super) last: bool,
    /// First and last time, in milliseconds.
    pub(super) range: (i64, i64),
    pub(super) labels: Vec<LabelTest>,
    pub(super) values: Vec<ValueTest>,
    pub(super) columns: Vec<Column>,
    /// Label columns to group by, and the step of time; `None` where rows are asked for.
    pub(super) groups: Option<Groups>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Groups {
    pub(super) labels: Vec<String>,
    /// Milliseconds.
    pub(super) step: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) get: Get,
}

/// What a column shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Get {
    Time,
    Value,
    /// Of a row, or a label that is grouped by.
    Label(String),
    Text(String),
    /// Start of the group's bucket, with its step.
    Bucket(i64),
    Figure(Figure),
}

/// What is made of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Count,
    Sum,
    Average,
    Least,
    Greatest,
    Last,
}

/// A test of one label. An absent label passes only the second with `negated` unset.
#[derive(Clone, Debug)]
pub(super) enum LabelTest {
    In { column: String, values: Vec<String>, negated: bool },
    Absent { column: String, negated: bool },
}

/// A test of the value, in the engine's total order of doubles.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueTest {
    pub(super) least: Ordering,
    pub(super) greatest: Ordering,
    pub(super) negated: bool,
    pub(super) number: f64,
}

impl ValueTest {
    pub(super) fn passes(self, value: f64) -> bool {
        let order = value.total_cmp(&self.number);
        (self.least <= order && order <= self.greatest) != self.negated
    }
}
