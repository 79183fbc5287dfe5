//! Expressions on series, a defined part of PromQL: what a threshold rule says, parsed and evaluated.
//!
//! - here: the tree; `token`, `parse`: from text; `eval`: to values at an instant; `functions`: over a range of one series;
//!   `source`: where series come from

pub(crate) mod eval;
mod functions;
pub(crate) mod parse;
pub(crate) mod source;
mod token;

#[cfg(test)]
mod tests;

use model::Labels;
use regex::Regex;
use std::collections::BTreeSet;
use std::time::Duration;

/// An expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Number(f64),
    Select(Selector),
    /// A function over a range of each series.
    OverTime {
        function: OverTime,
        range: Duration,
        selector: Selector,
        /// The number that some functions take.
        argument: f64,
    },
    Call {
        function: Call,
        arguments: Vec<Expr>,
    },
    Aggregate {
        how: Aggregate,
        grouping: Grouping,
        of: Box<Expr>,
    },
    Binary {
        operator: Operator,
        /// Whether a comparison gives 0 and 1 instead of leaving out.
        truth: bool,
        matching: Matching,
        left: Box<Expr>,
        right: Box<Expr>,
    },
}

/// Which series.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) offset: Duration,
    /// Where it stands in the text, in characters.
    pub(crate) at: usize,
}

/// What a label must be.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    pub(crate) label: String,
    pub(crate) test: Test,
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    Is(String),
    IsNot(String),
    Matches(Regex),
    MatchesNot(Regex),
}

impl Matcher {
    /// Whether a label of this value, empty where it is absent, is wanted.
    pub(crate) fn fits(&self, value: &str) -> bool {
        match &self.test {
            Test::Is(text) => value == text,
            Test::IsNot(text) => value != text,
            Test::Matches(regex) => regex.is_match(value),
            Test::MatchesNot(regex) => !regex.is_match(value),
        }
    }
}

impl Selector {
    /// Whether a series with these labels is wanted.
    pub(crate) fn wants(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|it| it.fits(labels.get(&it.label).unwrap_or_default()))
    }

    /// The labels that every wanted series has, for what is absent.
    fn certain(&self) -> Labels {
        let certain = self.matchers.iter().filter_map(|it| match &it.test {
            Test::Is(text) => Some((it.label.as_str(), text.as_str())),
            _ => None,
        });
        Labels::from_pairs(certain)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverTime {
    Rate,
    Increase,
    Delta,
    Deriv,
    PredictLinear,
    Min,
    Max,
    Avg,
    Sum,
    Count,
    Last,
    Changes,
    Resets,
    Quantile,
    Absent,
    /// Ours: series that had samples in the range and have none now; the value is for how many seconds.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Absent,
    Abs,
    Ceil,
    Floor,
    Round,
    ClampMin,
    ClampMax,
    HistogramQuantile,
    Time,
    Vector,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Sum,
    Min,
    Max,
    Avg,
    Count,
}

/// The labels that a group keeps.
#[derive(Clone, Debug)]
pub(crate) enum Grouping {
    By(BTreeSet<String>),
    Without(BTreeSet<String>),
}

impl Grouping {
    fn of(&self, labels: &Labels) -> Labels {
        let kept = labels.iter().filter(|(name, _)| match self {
            Self::By(names) => names.contains(*name),
            Self::Without(names) => !names.contains(*name),
        });
        Labels::from_pairs(kept)
    }
}

/// How the two sides of an operator find each other.
#[derive(Clone, Debug)]
pub(crate) struct Matching {
    pub(crate) by: Grouping,
    pub(crate) many: Many,
    /// Labels taken over from the side that has one.
    pub(crate) include: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Many {
    No,
    Left,
    Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Unless,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    More,
    MoreEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

impl Operator {
    pub(crate) fn is_comparison(self) -> bool {
        use Operator::{Equal, Less, LessEqual, More, MoreEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | More | MoreEqual)
    }

    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }
}

impl Expr {
    /// It, and all that it is made of.
    fn parts(&self) -> Vec<&Self> {
        let mut all = vec![self];
        match self {
            Self::Number(_) | Self::Select(_) | Self::OverTime { .. } => {}
            Self::Call { arguments, .. } => all.extend(arguments.iter().flat_map(Self::parts)),
            Self::Aggregate { of, .. } => all.extend(of.parts()),
            Self::Binary { left, right, .. } => {
                all.extend(left.parts().into_iter().chain(right.parts()))
            }
        }
        all
    }

    /// Every selector in it.
    pub(crate) fn selectors(&self) -> Vec<&Selector> {
        let selectors = self.parts().into_iter().filter_map(|part| match part {
            Self::Select(selector) | Self::OverTime { selector, .. } => Some(selector),
            _ => None,
        });
        selectors.collect()
    }

    /// Whether it gives a number instead of series.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Number(_) | Self::Call { function: Call::Time, .. } => true,
            Self::Binary { left, right, .. } => left.is_scalar() && right.is_scalar(),
            _ => false,
        }
    }

    /// Its number, where that depends on nothing.
    pub(crate) fn constant(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Binary { operator, left, right, .. } => {
                Some(eval::apply(*operator, left.constant()?, right.constant()?))
            }
            _ => None,
        }
    }

    fn is_absence(&self) -> bool {
        match self {
            Self::OverTime { function, .. } => {
                matches!(function, OverTime::Absent | OverTime::Gone)
            }
            Self::Call { function, .. } => *function == Call::Absent,
            _ => false,
        }
    }

    /// Whether it asks for what is missing, or for the time: its value changes without a new sample.
    pub(crate) fn asks_for_absence(&self) -> bool {
        self.parts().iter().any(|part| {
            part.is_absence()
                || matches!(
                    part,
                    Self::Call { function: Call::Time, .. }
                        | Self::Binary { operator: Operator::Unless, .. }
                )
        })
    }

    /// Whether what it gives rests on samples, so that it can be told how old it is.
    pub(crate) fn rests_on_samples(&self) -> bool {
        !self.selectors().is_empty() && !self.parts().iter().any(|part| part.is_absence())
    }

    /// Whether one fresh sample of a series is all that it takes to say of that series whether it holds.
    pub(crate) fn is_plain(&self) -> bool {
        let aggregates = self.parts().iter().any(|part| matches!(part, Self::Aggregate { .. }));
        !aggregates && !self.reads_history() && self.selectors().len() == 1
    }

    /// Whether it reads more than the newest sample of each series.
    pub(crate) fn reads_history(&self) -> bool {
        self.parts().iter().any(|part| match part {
            Self::Select(selector) => !selector.offset.is_zero(),
            Self::OverTime { .. } => true,
            _ => false,
        })
    }
}
