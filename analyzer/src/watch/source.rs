//! Which of several metrics of one meaning a target is measured by: always the same, whatever came first.

use super::rule::Rule;
use serde::{Deserialize, Serialize};

/// A choice not seen for so long, in milliseconds, is dropped.
const FORGET: i64 = 3_600_000;

/// The metric that was chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Source {
    metric: String,
    /// Whether it is read from outside of the process, which goes on while the process hangs.
    outside: bool,
    rank: (bool, bool, usize),
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

    /// Chooses: what is read from outside, then the metric of the first rule, of one rule the first by name.
    pub(crate) fn choose(&mut self, time: i64, metric: &str, outside: bool, rule: &Rule) -> Choice {
        if self.metric == metric && self.outside == outside {
            self.seen = time;
            return Choice::Take;
        }
        let (own, place) = rule.rank(metric);
        let rank = (own, !outside, place);
        let stale = self.metric.is_empty() || time - self.seen > FORGET;
        if !stale && (self.rank, self.metric.as_str()) <= (rank, metric) {
            return Choice::Leave;
        }
        *self = Self { metric: metric.to_owned(), outside, rank, seen: time };
        Choice::TakeAnew
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::rule::Rules;
    use crate::{AnalyzerConfig, Detect};

    #[test]
    fn the_choice_does_not_depend_on_what_came_first() {
        let mut rules = Rules::new(&AnalyzerConfig::default());
        let mut rule = |metric: &str, detect: Detect| {
            let role = rules.role(metric);
            role.rules.iter().find(|it| it.detect == detect).cloned().unwrap()
        };
        let own = "promhttp_metric_handler_requests_total";
        for order in [
            [own, "b_requests_total", "a_requests_total"],
            ["a_requests_total", own, "b_requests_total"],
        ] {
            let mut source = Source::default();
            for metric in order {
                source.choose(1, metric, false, &rule(metric, Detect::Requests));
            }
            assert_eq!(source.metric(), "a_requests_total");
            let metric = "b_requests_total";
            let again = source.choose(FORGET, metric, false, &rule(metric, Detect::Requests));
            assert_eq!(again, Choice::Leave);
            let gone = source.choose(2 + FORGET, metric, false, &rule(metric, Detect::Requests));
            assert_eq!(gone, Choice::TakeAnew);
        }
        let metric = "process_cpu_seconds_total";
        let rule = rule(metric, Detect::Cpu);
        let mut source = Source::default();
        let choices =
            [false, true, false, true].map(|outside| source.choose(1, metric, outside, &rule));
        use Choice::{Leave, Take, TakeAnew};
        assert_eq!(choices, [TakeAnew, TakeAnew, Leave, Take]);
    }
}
