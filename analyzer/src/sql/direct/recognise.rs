//! From a parsed statement to a question that the short way answers.

use super::shape::{Column, Figure, Get, Groups, LabelTest, Order, Question, Select, ValueTest};
use crate::sql::about;
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use datafusion::common::ScalarValue;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, Ident, Interval, LimitClause, ObjectName, OrderByKind, Query, Select as SqlSelect,
    SelectItem, SetExpr, SetOperator, SetQuantifier, Statement as SqlStatement, TableFactor,
    TimezoneInfo, UnaryOperator, Value,
};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// What literals may stand for.
struct Givens<'a> {
    params: &'a [ScalarValue],
    /// Nanoseconds since the epoch.
    now: i64,
}

/// The question that `statement` asks, if it is one of ours. `now` is in nanoseconds since the epoch.
pub(crate) fn recognise(
    statement: &Statement,
    params: &[ScalarValue],
    now: i64,
) -> Option<Question> {
    let Statement::Statement(statement) = statement else { return None };
    let SqlStatement::Query(query) = statement.as_ref() else { return None };
    let givens = Givens { params, now };
    let mut selects = Vec::new();
    givens.set(&query.body, &mut selects)?;
    let first = selects.first()?;
    // The rows of a union have the names of its first part, and must be alike.
    let alike = |select: &Select| {
        select.columns.len() == first.columns.len()
            && select.columns.iter().zip(&first.columns).all(|(a, b)| kind(&a.get) == kind(&b.get))
            && select.last == first.last
    };
    if !selects.iter().all(alike) {
        return None;
    }
    let order = givens.order(query, first)?;
    let limit = limit(query)?;
    let plain = PLAIN.as_ref()?;
    let body = plain.query.body.clone();
    let rest = Query { body, order_by: None, limit_clause: None, ..(**query).clone() };
    (rest == plain.query).then_some(Question { selects, order, limit })
}

/// Statements without anything besides what is read here: whatever a statement has more than these is not
/// known, also what a later version of the parser adds.
static PLAIN: LazyLock<Option<Plain>> = LazyLock::new(Plain::parse);

struct Plain {
    query: Query,
    select: SqlSelect,
    factor: TableFactor,
    function: Function,
}

impl Plain {
    fn parse() -> Option<Self> {
        let mut statements = DFParser::parse_sql("SELECT f() FROM t").ok()?;
        let Statement::Statement(statement) = statements.pop_front()? else { return None };
        let SqlStatement::Query(query) = *statement else { return None };
        let SetExpr::Select(select) = query.body.as_ref() else { return None };
        let SelectItem::UnnamedExpr(Expr::Function(function)) = select.projection.first()? else {
            return None;
        };
        let factor = select.from.first()?.relation.clone();
        Some(Self { function: function.clone(), select: (**select).clone(), query: *query, factor })
    }
}

/// Which columns may stand under each other in a union.
fn kind(get: &Get) -> u8 {
    match get {
        Get::Time => 0,
        Get::Bucket(_) => 5,
        Get::Label(_) => 1,
        Get::Text(_) => 2,
        Get::Figure(Figure::Count) => 3,
        Get::Value | Get::Figure(_) => 4,
    }
}

impl Givens<'_> {
    fn set(&self, set: &SetExpr, selects: &mut Vec<Select>) -> Option<()> {
        match set {
            SetExpr::Select(select) => selects.push(self.select(select)?),
            SetExpr::SetOperation {
                left,
                op: SetOperator::Union,
                set_quantifier: SetQuantifier::All,
                right,
            } => {
                self.set(left, selects)?;
                self.set(right, selects)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn select(&self, sql: &SqlSelect) -> Option<Select> {
        let plain = PLAIN.as_ref()?;
        let rest = SqlSelect {
            projection: plain.select.projection.clone(),
            from: plain.select.from.clone(),
            selection: None,
            group_by: plain.select.group_by.clone(),
            ..sql.clone()
        };
        if rest != plain.select {
            return None;
        }
        let (metric, last) = table(sql)?;
        let columns = sql.projection.iter().map(|item| self.column(item));
        let columns: Vec<Column> = columns.collect::<Option<_>>()?;
        let names: BTreeSet<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        if names.len() < columns.len() {
            return None;
        }
        let (range, labels, values) = ((i64::MIN, i64::MAX), Vec::new(), Vec::new());
        let mut select = Select { metric, last, range, labels, values, columns, groups: None };
        if let Some(filter) = &sql.selection {
            self.filter(filter, &mut select)?;
        }
        select.groups = self.groups(&sql.group_by, &select.columns)?;
        Some(select)
    }

    fn column(&self, item: &SelectItem) -> Option<Column> {
        match item {
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => {
                Some(Column { name: name.value.clone(), get: by_name(name) })
            }
            SelectItem::UnnamedExpr(Expr::Function(function)) if is_count_of_rows(function) => {
                Some(Column { name: "count(*)".to_owned(), get: Get::Figure(Figure::Count) })
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                Some(Column { name: alias.value.clone(), get: self.get(expr)? })
            }
            _ => None,
        }
    }

    fn get(&self, expr: &Expr) -> Option<Get> {
        match expr {
            Expr::Nested(inner) => self.get(inner),
            Expr::Identifier(name) => Some(by_name(name)),
            Expr::Value(_) => self.text(expr).map(Get::Text),
            Expr::Function(function) if is_count_of_rows(function) => {
                Some(Get::Figure(Figure::Count))
            }
            Expr::Function(function) => {
                let (name, args) = call(function)?;
                let is = |at: usize, column: &str| {
                    is_column(args.get(at).copied()?, column).then_some(())
                };
                match (name.as_str(), args.len()) {
                    ("date_bin" | "time_bucket", 2) => {
                        is(1, "time")?;
                        let Some(Expr::Interval(step)) = args.first() else { return None };
                        interval(step).filter(|step| *step > 0).map(Get::Bucket)
                    }
                    ("last", 2) => {
                        is(0, "time")?;
                        is(1, "value")?;
                        Some(Get::Figure(Figure::Last))
                    }
                    (name, 1) => {
                        is(0, "value")?;
                        Some(Get::Figure(match name {
                            "count" => Figure::Count,
                            "sum" => Figure::Sum,
                            "avg" | "mean" => Figure::Average,
                            "min" => Figure::Least,
                            "max" => Figure::Greatest,
                            _ => return None,
                        }))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn groups(&self, sql: &GroupByExpr, columns: &[Column]) -> Option<Option<Groups>> {
        let GroupByExpr::Expressions(keys, modifiers) = sql else { return None };
        let figures = columns.iter().any(|column| matches!(column.get, Get::Figure(_)));
        if !modifiers.is_empty() {
            return None;
        }
        if keys.is_empty() && !figures {
            let bucket = |column: &Column| matches!(column.get, Get::Bucket(_));
            return (!columns.iter().any(bucket)).then_some(None);
        }
        let mut groups = Groups::default();
        for key in keys {
            let get = match key {
                // The engine takes a name that is also a column of the table for that column.
                Expr::Identifier(name) if matches!(name.value.as_str(), "time" | "value") => {
                    return None;
                }
                Expr::Identifier(name) => {
                    let named = |column: &&Column| column.name == name.value;
                    columns.iter().find(named).map_or_else(|| by_name(name), |it| it.get.clone())
                }
                Expr::Value(_) => {
                    let at = usize::try_from(self.integer(key)?).ok()?.checked_sub(1)?;
                    columns.get(at)?.get.clone()
                }
                other => self.get(other)?,
            };
            match get {
                Get::Label(label) => groups.labels.push(label),
                Get::Bucket(step) if groups.step.is_none_or(|have| have == step) => {
                    groups.step = Some(step);
                }
                _ => return None,
            }
        }
        let fits = columns.iter().all(|column| match &column.get {
            Get::Label(label) => groups.labels.contains(label),
            Get::Bucket(step) => groups.step == Some(*step),
            Get::Text(_) | Get::Figure(_) => true,
            Get::Time | Get::Value => false,
        });
        fits.then_some(Some(groups))
    }

    fn filter(&self, expr: &Expr, select: &mut Select) -> Option<()> {
        match expr {
            Expr::Nested(inner) => self.filter(inner, select),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.filter(left, select)?;
                self.filter(right, select)
            }
            Expr::BinaryOp { left, op, right } => match (column(left), column(right)) {
                (Some(name), None) => self.compare(name, op, right, select),
                (None, Some(name)) => self.compare(name, &mirrored(op)?, left, select),
                _ => None,
            },
            Expr::Between { expr, negated: false, low, high } => {
                let name = column(expr)?;
                self.compare(name, &BinaryOperator::GtEq, low, select)?;
                self.compare(name, &BinaryOperator::LtEq, high, select)
            }
            Expr::InList { expr, list, negated } => {
                let values: Option<Vec<String>> = list.iter().map(|item| self.text(item)).collect();
                let column = label(column(expr)?)?;
                select.labels.push(LabelTest::In { column, values: values?, negated: *negated });
                Some(())
            }
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
                let negated = matches!(expr, Expr::IsNotNull(_));
                let column = label(column(inner)?)?;
                select.labels.push(LabelTest::Absent { column, negated });
                Some(())
            }
            _ => None,
        }
    }

    fn compare(
        &self,
        name: &str,
        op: &BinaryOperator,
        literal: &Expr,
        select: &mut Select,
    ) -> Option<()> {
        match name {
            "time" => {
                let nanos = self.time(literal)?;
                let floor = i64::try_from(nanos.div_euclid(1_000_000)).ok()?;
                let ceil = floor.saturating_add(i64::from(nanos.rem_euclid(1_000_000) != 0));
                let (from, to) = match op {
                    BinaryOperator::Gt => (floor.saturating_add(1), i64::MAX),
                    BinaryOperator::GtEq => (ceil, i64::MAX),
                    BinaryOperator::Lt => (i64::MIN, ceil.saturating_sub(1)),
                    BinaryOperator::LtEq => (i64::MIN, floor),
                    BinaryOperator::Eq => (ceil, floor), // none where it lies between milliseconds
                    _ => return None,
                };
                select.range = (select.range.0.max(from), select.range.1.min(to));
            }
            "value" => {
                use Ordering::{Equal, Greater, Less};
                let (least, greatest, negated) = match op {
                    BinaryOperator::Gt => (Greater, Greater, false),
                    BinaryOperator::GtEq => (Equal, Greater, false),
                    BinaryOperator::Lt => (Less, Less, false),
                    BinaryOperator::LtEq => (Less, Equal, false),
                    BinaryOperator::Eq => (Equal, Equal, false),
                    BinaryOperator::NotEq => (Equal, Equal, true),
                    _ => return None,
                };
                let number = self.number(literal)?;
                select.values.push(ValueTest { least, greatest, negated, number });
            }
            name => {
                let negated = match op {
                    BinaryOperator::Eq => false,
                    BinaryOperator::NotEq => true,
                    _ => return None,
                };
                let (column, values) = (name.to_owned(), vec![self.text(literal)?]);
                select.labels.push(LabelTest::In { column, values, negated });
            }
        }
        Some(())
    }

    fn order(&self, query: &Query, select: &Select) -> Option<Vec<Order>> {
        let Some(order) = &query.order_by else { return Some(Vec::new()) };
        let OrderByKind::Expressions(all) = &order.kind else { return None };
        if order.interpolate.is_some() || all.iter().any(|it| it.with_fill.is_some()) {
            return None;
        }
        let one = |it: &datafusion::sql::sqlparser::ast::OrderByExpr| {
            let column = match &it.expr {
                Expr::Identifier(name) => {
                    select.columns.iter().position(|column| column.name == name.value)?
                }
                other => usize::try_from(self.integer(other)?).ok()?.checked_sub(1)?,
            };
            let descending = it.options.asc == Some(false);
            let nulls_first = it.options.nulls_first.unwrap_or(descending);
            (column < select.columns.len()).then_some(Order { column, descending, nulls_first })
        };
        all.iter().map(one).collect()
    }

    fn scalar(&self, expr: &Expr) -> Option<ScalarValue> {
        let Expr::Value(value) = expr else { return None };
        match &value.value {
            Value::SingleQuotedString(text) => Some(ScalarValue::Utf8(Some(text.clone()))),
            Value::Number(digits, _) => match digits.parse() {
                Ok(integer) => Some(ScalarValue::Int64(Some(integer))),
                Err(_) => Some(ScalarValue::Float64(Some(digits.parse().ok()?))),
            },
            Value::Placeholder(name) => {
                let at: usize = name.strip_prefix('$')?.parse().ok()?;
                self.params.get(at.checked_sub(1)?).cloned()
            }
            _ => None,
        }
    }

    fn text(&self, expr: &Expr) -> Option<String> {
        match self.scalar(expr)? {
            ScalarValue::Utf8(text) => text,
            _ => None,
        }
    }

    fn integer(&self, expr: &Expr) -> Option<i64> {
        match self.scalar(expr)? {
            ScalarValue::Int64(number) => number,
            _ => None,
        }
    }

    fn number(&self, expr: &Expr) -> Option<f64> {
        match expr {
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => self.number(expr).map(|it| -it),
            Expr::Nested(inner) => self.number(inner),
            other => match self.scalar(other)? {
                ScalarValue::Int64(number) => number.map(|it| it as f64),
                ScalarValue::Float64(number) => number,
                _ => None,
            },
        }
    }

    /// Nanoseconds since the epoch.
    fn time(&self, expr: &Expr) -> Option<i128> {
        match expr {
            Expr::Nested(inner) => self.time(inner),
            Expr::BinaryOp { left, op, right } => {
                let Expr::Interval(span) = right.as_ref() else { return None };
                let (time, span) = (self.time(left)?, i128::from(interval(span)?) * 1_000_000);
                match op {
                    BinaryOperator::Plus => Some(time + span),
                    BinaryOperator::Minus => Some(time - span),
                    _ => None,
                }
            }
            Expr::TypedString(typed) => match (&typed.data_type, &typed.value.value) {
                (
                    DataType::Timestamp(None, TimezoneInfo::None),
                    Value::SingleQuotedString(text),
                ) => string_to_timestamp_nanos(text).ok().map(i128::from),
                _ => None,
            },
            Expr::Function(function) => {
                let (name, args) = call(function)?;
                let scale = match (name.as_str(), args.len()) {
                    ("now", 0) => return Some(i128::from(self.now)),
                    ("to_timestamp_seconds", 1) => 1_000_000_000,
                    ("to_timestamp_millis", 1) => 1_000_000,
                    _ => return None,
                };
                Some(i128::from(self.integer(args.first()?)?) * scale)
            }
            // As a text is compared with a time: in whole milliseconds.
            other => {
                let nanos = i128::from(string_to_timestamp_nanos(&self.text(other)?).ok()?);
                Some(nanos.div_euclid(1_000_000) * 1_000_000)
            }
        }
    }
}

fn table(sql: &SqlSelect) -> Option<(String, bool)> {
    let plain = PLAIN.as_ref()?;
    let [from] = sql.from.as_slice() else { return None };
    let (TableFactor::Table { name, .. }, TableFactor::Table { name: plain_name, .. }) =
        (&from.relation, &plain.factor)
    else {
        return None;
    };
    let mut rest = from.relation.clone();
    if let TableFactor::Table { name, .. } = &mut rest {
        name.clone_from(plain_name);
    }
    if rest != plain.factor || !from.joins.is_empty() {
        return None;
    }
    let taken =
        |metric: &&str| !matches!(*metric, "samples" | "series") && !about::TABLES.contains(metric);
    if parts(name)?.last().is_none_or(|metric| !taken(metric)) {
        return None; // a table of ours, whatever metric has its name
    }
    match parts(name)?.as_slice() {
        [metric] => Some(((*metric).to_owned(), false)),
        ["public", metric] => Some(((*metric).to_owned(), false)),
        ["last", metric] => Some(((*metric).to_owned(), true)),
        _ => None,
    }
}

fn parts(name: &ObjectName) -> Option<Vec<&str>> {
    name.0.iter().map(|part| part.as_ident().map(|ident| ident.value.as_str())).collect()
}

/// The name of a function in lower case, and its arguments.
fn call(function: &Function) -> Option<(String, Vec<&Expr>)> {
    let plain = PLAIN.as_ref()?;
    let FunctionArguments::List(list) = &function.args else { return None };
    let (name, args) = (plain.function.name.clone(), plain.function.args.clone());
    let rest = Function { name, args, ..function.clone() };
    if rest != plain.function || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return None;
    }
    let [name] = parts(&function.name)?[..] else { return None };
    let args = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    Some((name.to_ascii_lowercase(), args.collect::<Option<_>>()?))
}

/// Whether it is `count(*)`; values are never null, so it counts the same as `count(value)`.
fn is_count_of_rows(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    let [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] = list.args.as_slice() else {
        return false;
    };
    let Some(plain) = PLAIN.as_ref() else { return false };
    let named = parts(&function.name).is_some_and(
        |parts| matches!(parts.as_slice(), [name] if name.eq_ignore_ascii_case("count")),
    );
    let (name, args) = (plain.function.name.clone(), plain.function.args.clone());
    let rest = Function { name, args, ..function.clone() };
    named && rest == plain.function && list.duplicate_treatment.is_none() && list.clauses.is_empty()
}

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => column(inner),
        Expr::Identifier(name) => Some(&name.value),
        _ => None,
    }
}

fn is_column(expr: &Expr, name: &str) -> bool {
    column(expr) == Some(name)
}

fn label(column: &str) -> Option<String> {
    (!matches!(column, "time" | "value")).then(|| column.to_owned())
}

fn by_name(name: &Ident) -> Get {
    match name.value.as_str() {
        "time" => Get::Time,
        "value" => Get::Value,
        label => Get::Label(label.to_owned()),
    }
}

fn mirrored(op: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match op {
        BinaryOperator::Gt => BinaryOperator::Lt,
        BinaryOperator::GtEq => BinaryOperator::LtEq,
        BinaryOperator::Lt => BinaryOperator::Gt,
        BinaryOperator::LtEq => BinaryOperator::GtEq,
        BinaryOperator::Eq => BinaryOperator::Eq,
        BinaryOperator::NotEq => BinaryOperator::NotEq,
        _ => return None,
    })
}

fn limit(query: &Query) -> Option<Option<usize>> {
    match &query.limit_clause {
        None => Some(None),
        Some(LimitClause::LimitOffset {
            limit: Some(Expr::Value(value)),
            offset: None,
            limit_by,
        }) if limit_by.is_empty() => {
            let Value::Number(digits, _) = &value.value else { return None };
            digits.parse().ok().map(Some)
        }
        Some(_) => None,
    }
}

/// Milliseconds of `INTERVAL '5 minutes'`.
fn interval(sql: &Interval) -> Option<i64> {
    let bare = sql.leading_field.is_none()
        && sql.last_field.is_none()
        && sql.leading_precision.is_none()
        && sql.fractional_seconds_precision.is_none();
    let Expr::Value(value) = sql.value.as_ref() else { return None };
    let (true, Value::SingleQuotedString(text)) = (bare, &value.value) else { return None };
    let mut words = text.split_whitespace();
    let count: i64 = words.next()?.parse().ok()?;
    let unit = match words.next()?.to_ascii_lowercase().as_str() {
        "millisecond" | "milliseconds" => 1,
        "second" | "seconds" => 1_000,
        "minute" | "minutes" => 60_000,
        "hour" | "hours" => 3_600_000,
        "day" | "days" => 86_400_000,
        _ => return None,
    };
    words.next().is_none().then_some(count.checked_mul(unit)?)
}
