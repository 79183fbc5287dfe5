//! Table functions: the detectors and forecasts, called from SQL with named arguments.
//!
//! `FROM leaks(metric => 'x', at => '…')` is taken out of the statement before it is planned, and a table of the
//! schema [`SCHEMA`] put in its place, for the planner knows no named arguments.
//!
//! - `leaks`, `drifts`, `anomalies`, `capacity`: what the detectors of that kind find from `from` to `to`, or with `at`
//!   the estimate of each series at that time
//! - `forecast`: bands of values to come

mod table;
#[cfg(test)]
mod tests;

use crate::QueryError;
use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableAlias, TableFactor, UnaryOperator,
    Value, VisitMut, VisitorMut,
};
use model::Timestamp;
use model::time::parse_duration;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;
pub(crate) use table::{CallTable, labels, texts, times};

/// Where the planner finds the tables of calls.
pub(crate) const SCHEMA: &str = "call";

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Leaks,
    Drifts,
    Anomalies,
    Capacity,
    Forecast,
}

impl Function {
    pub(crate) const ALL: [Self; 5] =
        [Self::Leaks, Self::Drifts, Self::Anomalies, Self::Capacity, Self::Forecast];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leaks => "leaks",
            Self::Drifts => "drifts",
            Self::Anomalies => "anomalies",
            Self::Capacity => "capacity",
            Self::Forecast => "forecast",
        }
    }
}

/// One call with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) function: Function,
    /// A metric's name; `*` stands for any text.
    pub(crate) metric: Option<String>,
    /// Labels that series must have.
    pub(crate) labels: BTreeMap<String, String>,
    /// They have no others.
    pub(crate) exactly: bool,
    /// The first time that is looked at.
    pub(crate) from: Option<Timestamp>,
    /// The last.
    pub(crate) to: Option<Timestamp>,
    /// Estimates at this time instead of findings.
    pub(crate) at: Option<Timestamp>,
    /// The value at which the resource is exhausted.
    pub(crate) limit: Option<f64>,
    /// How far a forecast goes.
    pub(crate) horizon: Option<Duration>,
}

/// Takes the calls out of a statement; `now` is what ages count from.
///
/// # Errors
/// An argument is unknown, twice, or not of its type.
pub(crate) fn take(
    statement: &mut Statement,
    params: &[ScalarValue],
    now: Timestamp,
) -> Result<Vec<Call>, QueryError> {
    let mut taker = Taker { calls: Vec::new(), params, now };
    let inner = match statement {
        Statement::Statement(inner) => inner,
        Statement::Explain(explain) => return take(&mut explain.statement, params, now),
        _ => return Ok(Vec::new()),
    };
    match inner.visit(&mut taker) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(taker.calls),
    }
}

struct Taker<'a> {
    calls: Vec<Call>,
    params: &'a [ScalarValue],
    now: Timestamp,
}

impl VisitorMut for Taker<'_> {
    type Break = QueryError;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<QueryError> {
        let TableFactor::Table { name, alias, args, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let Some(given) = args else { return ControlFlow::Continue(()) };
        let called = name.to_string();
        // Those of the engine are its own affair.
        let Some(function) = Function::ALL.into_iter().find(|it| it.name() == called) else {
            return ControlFlow::Continue(());
        };
        match self.call(function, &given.args) {
            Ok(call) => self.calls.push(call),
            Err(text) => {
                let text = format!("{called}: {text}");
                return ControlFlow::Break(QueryError::Invalid(text));
            }
        }
        let table = format!("{called}_{}", self.calls.len() - 1);
        *name = ObjectName::from(vec![Ident::new(SCHEMA), Ident::new(table)]);
        *args = None;
        if alias.is_none() {
            let name = Ident::new(called);
            *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
        ControlFlow::Continue(())
    }
}

impl Taker<'_> {
    fn call(&self, function: Function, args: &[FunctionArg]) -> Result<Call, String> {
        let mut call = Call {
            function,
            metric: None,
            labels: BTreeMap::new(),
            exactly: false,
            from: None,
            to: None,
            at: None,
            limit: None,
            horizon: None,
        };
        let mut seen: Vec<String> = Vec::new();
        for arg in args {
            let (name, value) = match arg {
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                    (name.value.clone(), value)
                }
                FunctionArg::ExprNamed { name, arg: FunctionArgExpr::Expr(value), .. } => {
                    (name.to_string(), value)
                }
                // The first one may go without its name.
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) if seen.is_empty() => {
                    ("metric".to_owned(), value)
                }
                _ => return Err(format!("{arg}: name each argument, as in metric => 'up'")),
            };
            let value = self.literal(value).map_err(|text| format!("{name}: {text}"))?;
            if seen.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            self.set(&mut call, &name, value).map_err(|text| format!("{name}: {text}"))?;
            seen.push(name);
        }
        Ok(call)
    }

    fn set(&self, call: &mut Call, name: &str, value: Literal) -> Result<(), String> {
        match (name, value) {
            (_, Literal::Null) => {}
            ("metric", Literal::Text(text)) => {
                glob::Pattern::new(&text).map_err(|error| error.to_string())?;
                call.metric = Some(text);
            }
            ("labels", Literal::Text(text)) => {
                call.labels = parse_labels(&text)?;
                call.exactly = text.trim_start().starts_with('{');
            }
            ("from", value) => call.from = Some(self.time(value)?),
            ("to", value) => call.to = Some(self.time(value)?),
            ("at", value) => call.at = Some(self.time(value)?),
            ("limit", Literal::Number(limit)) if limit.is_finite() => call.limit = Some(limit),
            ("horizon", Literal::Text(text)) if call.function == Function::Forecast => {
                call.horizon = Some(parse_duration(&text)?);
            }
            ("metric" | "labels" | "limit" | "horizon", value) => {
                return Err(format!("{value:?} is not of its type"));
            }
            _ => {
                let more = if call.function == Function::Forecast { ", horizon" } else { "" };
                return Err(format!(
                    "no such argument; there are metric, labels, from, to, at, limit{more}"
                ));
            }
        }
        Ok(())
    }

    fn literal(&self, expr: &Expr) -> Result<Literal, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        match expr {
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => {
                    Ok(Literal::Text(text.clone()))
                }
                Value::Number(text, _) => Ok(Literal::Number(number(text)?)),
                Value::Null => Ok(Literal::Null),
                Value::Placeholder(place) => self.parameter(place),
                other => Err(format!("{other} is neither a text nor a number")),
            },
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match self.literal(expr)? {
                Literal::Number(number) => Ok(Literal::Number(-number)),
                _ => Err(format!("{expr} is no number")),
            },
            Expr::TypedString(typed) => match &typed.value.value {
                Value::SingleQuotedString(text) => Ok(Literal::Text(text.clone())),
                other => Err(format!("{other} is no text")),
            },
            other => Err(format!("{other} is no plain value; give a text, a number or $1")),
        }
    }

    fn parameter(&self, place: &str) -> Result<Literal, String> {
        let at = place.strip_prefix('$').and_then(|at| at.parse::<usize>().ok());
        let value = at.and_then(|at| self.params.get(at.checked_sub(1)?));
        match value {
            Some(ScalarValue::Utf8(Some(text))) => Ok(Literal::Text(text.clone())),
            Some(ScalarValue::Int64(Some(number))) => Ok(Literal::Number(*number as f64)),
            Some(ScalarValue::Float64(Some(number))) => Ok(Literal::Number(*number)),
            Some(value) if value.is_null() => Ok(Literal::Null),
            _ => Err(format!("there is no parameter {place} that is a text or a number")),
        }
    }

    /// A time, in RFC 3339 or milliseconds since 1970, or an age such as '2 hours'.
    fn time(&self, value: Literal) -> Result<Timestamp, String> {
        match value {
            Literal::Number(millis) => Ok(Timestamp(millis as i64)),
            Literal::Text(text) => Timestamp::parse_or_age(&text, self.now).ok_or_else(|| {
                format!("{text:?} is neither a time in RFC 3339 nor an age such as '2 hours'")
            }),
            Literal::Null => Ok(self.now),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Text(String),
    Number(f64),
    Null,
}

/// Labels as a JSON object, which are all that a series has, or some of them as `name=value` with commas between.
fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text)
            .map_err(|error| format!("{text:?} is no JSON object of texts: {error}"));
    }
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    pairs.map(|text| pair(text).ok_or_else(|| format!("{text:?} is not name=value"))).collect()
}
