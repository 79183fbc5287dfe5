//! An expression at an instant: a number, or a number for each of some label sets.

use super::functions::{histogram_quantile, over_time};
use super::source::{LOOKBACK, Source};
use super::{Aggregate, Call, Expr, Many, Matching, Operator, OverTime, Selector};
use model::sample::is_stale;
use model::{Labels, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use store::StoreError;

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvalError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Ambiguous(String),
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Element {
    /// Without the metric's name.
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    pub(crate) span: Span,
}

/// The times of the samples that a value rests on, in milliseconds; the smallest time where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Of all.
    pub(crate) newest: i64,
    /// The newest of the series that is furthest behind.
    pub(crate) behind: i64,
    /// Of all, those of ranges too.
    pub(crate) oldest: i64,
}

impl Span {
    const NONE: Self = Self { newest: i64::MIN, behind: i64::MIN, oldest: i64::MIN };

    fn of(oldest: i64, newest: i64) -> Self {
        Self { newest, behind: newest, oldest }
    }

    fn with(self, other: Self) -> Self {
        Self {
            newest: self.newest.max(other.newest),
            behind: self.behind.min(other.behind),
            oldest: self.oldest.min(other.oldest),
        }
    }
}

enum Value {
    Scalar(f64),
    Vector(Vec<Element>),
}

/// The elements of `expr` at `at`; a number is one element without labels. Blocks on files.
pub(crate) fn evaluate(
    expr: &Expr,
    source: &Source,
    at: Timestamp,
) -> Result<Vec<Element>, EvalError> {
    Ok(match value(expr, source, at)? {
        Value::Scalar(value) => {
            vec![Element { labels: Labels::default(), value, span: Span::NONE }]
        }
        Value::Vector(elements) => elements,
    })
}

fn value(expr: &Expr, source: &Source, at: Timestamp) -> Result<Value, EvalError> {
    Ok(match expr {
        Expr::Number(number) => Value::Scalar(*number),
        Expr::Select(selector) => {
            let newest = source.newest(selector, at)?.into_iter();
            Value::Vector(
                newest
                    .map(|it| Element {
                        labels: it.labels,
                        value: it.value,
                        span: Span::of(it.time, it.time),
                    })
                    .collect(),
            )
        }
        Expr::OverTime { function, range, selector, argument } => {
            Value::Vector(ranged(*function, *range, selector, *argument, source, at)?)
        }
        Expr::Call { function, arguments } => call(*function, arguments, source, at)?,
        Expr::Aggregate { how, grouping, of } => {
            let mut groups: BTreeMap<Labels, (f64, f64, Span)> = BTreeMap::new();
            for Element { labels, value, span } in evaluate(of, source, at)? {
                let group = groups.entry(grouping.of(&labels)).or_insert((f64::NAN, 0.0, span));
                group.0 = match how {
                    _ if group.1 == 0.0 => value,
                    Aggregate::Min => group.0.min(value),
                    Aggregate::Max => group.0.max(value),
                    Aggregate::Sum | Aggregate::Avg | Aggregate::Count => group.0 + value,
                };
                group.1 += 1.0;
                group.2 = group.2.with(span);
            }
            let elements = groups.into_iter().map(|(labels, (total, count, span))| {
                let value = match how {
                    Aggregate::Count => count,
                    Aggregate::Avg => total / count,
                    _ => total,
                };
                Element { labels, value, span }
            });
            Value::Vector(elements.collect())
        }
        Expr::Binary { operator, truth, matching, left, right } => {
            let (left, right) = (value(left, source, at)?, value(right, source, at)?);
            binary(*operator, *truth, matching, left, right)?
        }
    })
}

fn ranged(
    function: OverTime,
    range: Duration,
    selector: &Selector,
    argument: f64,
    source: &Source,
    at: Timestamp,
) -> Result<Vec<Element>, EvalError> {
    let end = at.minus(selector.offset).millis();
    let from = Timestamp(end).minus(range).millis();
    let found = source.range(selector, from + 1, end)?;
    if function == OverTime::Absent {
        let any = found.iter().any(|(_, points)| points.values.iter().any(|it| !is_stale(*it)));
        let absent = Element { labels: selector.certain(), value: 1.0, span: Span::NONE };
        return Ok(if any { Vec::new() } else { vec![absent] });
    }
    let elements = found.into_iter().filter_map(|(labels, mut points)| {
        let ended = points.values.last().is_some_and(|last| is_stale(*last));
        points.drop_stale();
        let time = *points.times.last()?;
        if function == OverTime::Gone {
            let silent = end - time;
            let gone = ended || silent > LOOKBACK.as_millis() as i64;
            return gone.then_some(Element {
                labels,
                value: silent as f64 / 1_000.0,
                span: Span::of(time, time),
            });
        }
        let value = over_time(function, &points, (from, end), argument)?;
        let span = Span::of(points.times.first().copied().unwrap_or(time), time);
        Some(Element { labels, value, span })
    });
    Ok(elements.collect())
}

fn call(
    function: Call,
    arguments: &[Expr],
    source: &Source,
    at: Timestamp,
) -> Result<Value, EvalError> {
    let (first, second) = (arguments.first(), arguments.get(1));
    let number = |expr: Option<&Expr>| match expr {
        Some(Expr::Number(number)) => *number,
        _ => f64::NAN,
    };
    let of = |expr: Option<&Expr>| match expr {
        Some(expr) => evaluate(expr, source, at),
        None => Ok(Vec::new()),
    };
    let limit = number(second);
    let each: fn(f64, f64) -> f64 = match function {
        Call::Time => return Ok(Value::Scalar(at.millis() as f64 / 1_000.0)),
        Call::Vector => return Ok(Value::Vector(of(first)?)),
        Call::Absent => {
            let absent = of(first)?.is_empty();
            let labels = match first {
                Some(Expr::Select(selector)) => selector.certain(),
                _ => Labels::default(),
            };
            let element = Element { labels, value: 1.0, span: Span::NONE };
            return Ok(Value::Vector(if absent { vec![element] } else { Vec::new() }));
        }
        Call::HistogramQuantile => return Ok(Value::Vector(quantiles(number(first), of(second)?))),
        Call::Abs => |value, _| value.abs(),
        Call::Ceil => |value, _| value.ceil(),
        Call::Floor => |value, _| value.floor(),
        Call::Round => |value, _| (value + 0.5).floor(),
        Call::ClampMin => f64::max,
        Call::ClampMax => f64::min,
    };
    let mut elements = of(first)?;
    elements.iter_mut().for_each(|it| it.value = each(it.value, limit));
    Ok(Value::Vector(elements))
}

/// Upper bounds with their cumulative counts.
type Buckets = Vec<(f64, f64)>;

fn quantiles(share: f64, buckets: Vec<Element>) -> Vec<Element> {
    let mut groups: BTreeMap<Labels, (Buckets, Span)> = BTreeMap::new();
    let le = super::Grouping::Without(BTreeSet::from(["le".to_owned()]));
    for bucket in buckets {
        let bound = match bucket.labels.get("le") {
            Some("+Inf") => f64::INFINITY,
            Some(text) => text.parse().unwrap_or(f64::NAN),
            None => continue,
        };
        let group = groups.entry(le.of(&bucket.labels)).or_insert((Buckets::new(), bucket.span));
        group.0.push((bound, bucket.value));
        group.1 = group.1.with(bucket.span);
    }
    let elements = groups.into_iter().map(|(labels, (buckets, span))| Element {
        labels,
        value: histogram_quantile(share, buckets),
        span,
    });
    elements.collect()
}

pub(super) fn apply(operator: Operator, a: f64, b: f64) -> f64 {
    let truth = |holds: bool| f64::from(u8::from(holds));
    match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::Modulo => a % b,
        Operator::Power => a.powf(b),
        Operator::Equal => truth(a == b),
        Operator::NotEqual => truth(a != b),
        Operator::Less => truth(a < b),
        Operator::LessEqual => truth(a <= b),
        Operator::More => truth(a > b),
        Operator::MoreEqual => truth(a >= b),
        Operator::Or | Operator::And | Operator::Unless => f64::NAN,
    }
}

/// What is left of a pair: a comparison leaves the left value, or nothing.
fn result(operator: Operator, truth: bool, a: f64, b: f64, kept: f64) -> Option<f64> {
    let value = apply(operator, a, b);
    if !operator.is_comparison() || truth {
        return Some(value);
    }
    (value == 1.0).then_some(kept)
}

fn binary(
    operator: Operator,
    truth: bool,
    matching: &Matching,
    left: Value,
    right: Value,
) -> Result<Value, EvalError> {
    let vector = |elements: Vec<Element>, each: &dyn Fn(f64) -> Option<f64>| {
        let kept =
            elements.into_iter().filter_map(|it| Some(Element { value: each(it.value)?, ..it }));
        Value::Vector(kept.collect())
    };
    Ok(match (left, right) {
        (Value::Scalar(a), Value::Scalar(b)) => Value::Scalar(apply(operator, a, b)),
        (Value::Vector(elements), Value::Scalar(b)) => {
            vector(elements, &|a| result(operator, truth, a, b, a))
        }
        (Value::Scalar(a), Value::Vector(elements)) => {
            vector(elements, &|b| result(operator, truth, a, b, b))
        }
        (Value::Vector(left), Value::Vector(right)) if operator.is_set() => {
            Value::Vector(set(operator, matching, left, right))
        }
        (Value::Vector(left), Value::Vector(right)) => {
            Value::Vector(pairs(operator, truth, matching, left, right)?)
        }
    })
}

fn set(
    operator: Operator,
    matching: &Matching,
    left: Vec<Element>,
    right: Vec<Element>,
) -> Vec<Element> {
    if operator == Operator::Or {
        let have: BTreeSet<Labels> = left.iter().map(|it| matching.by.of(&it.labels)).collect();
        let more = right.into_iter().filter(|it| !have.contains(&matching.by.of(&it.labels)));
        return left.into_iter().chain(more).collect();
    }
    let mut partners: HashMap<Labels, Span> = HashMap::new();
    for element in right {
        let known = partners.entry(matching.by.of(&element.labels)).or_insert(element.span);
        *known = known.with(element.span);
    }
    let kept = left.into_iter().filter_map(|it| {
        match (operator, partners.get(&matching.by.of(&it.labels))) {
            (Operator::And, Some(span)) => Some(Element { span: it.span.with(*span), ..it }),
            (Operator::Unless, None) => Some(it),
            _ => None,
        }
    });
    kept.collect()
}

fn pairs(
    operator: Operator,
    truth: bool,
    matching: &Matching,
    left: Vec<Element>,
    right: Vec<Element>,
) -> Result<Vec<Element>, EvalError> {
    let swapped = matching.many == Many::Right;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    let ambiguous = |labels: &Labels, side: &str| {
        let shown: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        EvalError::Ambiguous(format!(
            "several series of the {side} side have {{{}}}; say on(…) or group_left",
            shown.join(",")
        ))
    };
    let mut partners: HashMap<Labels, Element> = HashMap::new();
    for element in one {
        let key = matching.by.of(&element.labels);
        if partners.contains_key(&key) {
            return Err(ambiguous(&key, if swapped { "left" } else { "right" }));
        }
        partners.insert(key, element);
    }
    let mut met: BTreeSet<Labels> = BTreeSet::new();
    let mut found = Vec::new();
    for element in many {
        let key = matching.by.of(&element.labels);
        let Some(partner) = partners.get(&key) else { continue };
        let (a, b) =
            if swapped { (partner.value, element.value) } else { (element.value, partner.value) };
        let Some(value) = result(operator, truth, a, b, a) else { continue };
        if matching.many == Many::No && !met.insert(key.clone()) {
            return Err(ambiguous(&key, "left"));
        }
        let labels = if matching.many != Many::No {
            let own = element.labels.iter().filter(|(name, _)| !matching.include.contains(*name));
            let taken = partner.labels.iter().filter(|(name, _)| matching.include.contains(*name));
            Labels::from_pairs(own.chain(taken))
        } else {
            key
        };
        found.push(Element { labels, value, span: element.span.with(partner.span) });
    }
    Ok(found)
}
