//! Which of several metrics of one meaning a target is measured by: always the same, whatever came first.

use super::rule::Rule;
use serde::{Deserialize, Serialize};

/// A choice not seen for so long, in milliseconds, is dropped.
const FORGET: i64 = 3_600_000;

/// The metric that was chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Source {
    metric: String,
    rank: (bool, usize),
    seen: i64,
}

/// What to do with a sample of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It is of the chosen metric.
    Take,
    /// Its metric is chosen from now on; what was counted of another is void.
    TakeAnew,
    /// Another metric is better.
    Leave,
}

impl Source {
    /// The metric, empty before the first.
    pub(crate) fn metric(&self) -> &str {
        &self.metric
    }

    /// Chooses: the metric of the first rule, of one rule the first by name.
    pub(crate) fn choose(&mut self, time: i64, metric: &str, rule: &Rule) -> Choice {
        if self.metric == metric {
            self.seen = time;
            return Choice::Take;
        }
        let rank = rule.rank(metric);
        let stale = self.metric.is_empty() || time - self.seen > FORGET;
        if !stale && (self.rank, self.metric.as_str()) <= (rank, metric) {
            return Choice::Leave;
        }
        *self = Self { metric: metric.to_owned(), rank, seen: time };
        Choice::TakeAnew
    }
}
