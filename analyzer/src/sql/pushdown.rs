//! Which filters the store can answer itself: ranges of `time` by pruning, and any expression over labels
//! alone exactly, for it is the same for all samples of a series.

use super::table::label_column;
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_plan::PhysicalExpr;
use std::collections::HashSet;
use std::sync::Arc;
use store::SeriesSummary;

/// A closed range of milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl TimeRange {
    pub(crate) const ALL: Self = Self { from: i64::MIN, to: i64::MAX };

    /// The range that also fulfils `filter`, as far as it says anything of `time`; never too narrow.
    pub(crate) fn narrow(self, filter: &Expr) -> Self {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.narrow(left).narrow(right)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (op, literal) = if is_time(left) {
                    (Some(*op), right)
                } else if is_time(right) {
                    (op.swap(), left)
                } else {
                    return self;
                };
                match (op, millis(literal)) {
                    (Some(op), Some((floor, ceil))) => self.bound(op, floor, ceil),
                    _ => self,
                }
            }
            Expr::Between(between) if !between.negated && is_time(&between.expr) => {
                let low = millis(&between.low).map_or(i64::MIN, |(floor, _)| floor);
                let high = millis(&between.high).map_or(i64::MAX, |(_, ceil)| ceil);
                self.intersect(Self { from: low, to: high })
            }
            _ => self,
        }
    }

    fn bound(self, op: Operator, floor: i64, ceil: i64) -> Self {
        match op {
            Operator::Gt | Operator::GtEq => self.intersect(Self { from: floor, to: i64::MAX }),
            Operator::Lt | Operator::LtEq => self.intersect(Self { from: i64::MIN, to: ceil }),
            Operator::Eq => self.intersect(Self { from: floor, to: ceil }),
            _ => self,
        }
    }

    fn intersect(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.min(other.to) }
    }
}

/// Whether `filter` narrows the range of time.
pub(crate) fn bounds_time(filter: &Expr) -> bool {
    TimeRange::ALL.narrow(filter) != TimeRange::ALL
}

/// Whether `filter` speaks of labels only.
pub(crate) fn only_labels(filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty()
        && columns.iter().all(|column| !matches!(column.name(), "time" | "value"))
        && !filter.is_volatile()
}

/// The metric that `filter` asks for, if it is of the form `metric = 'name'`.
pub(crate) fn names_metric(filter: &Expr) -> Option<String> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else {
        return None;
    };
    let (column, literal) = if is_column(left, "metric") { (left, right) } else { (right, left) };
    match (is_column(column, "metric"), strip(literal)) {
        (true, Expr::Literal(value, _)) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}

/// The filters that speak of labels only, ready to be evaluated.
pub(crate) fn label_filters(
    state: &dyn Session,
    filters: &[Expr],
    schema: &SchemaRef,
) -> Result<Vec<Arc<dyn PhysicalExpr>>, DataFusionError> {
    let schema = DFSchema::try_from(label_schema(schema))?;
    let unqualified =
        |filter: &Expr| datafusion::logical_expr::expr_rewriter::unnormalize_col(filter.clone());
    filters
        .iter()
        .filter(|filter| only_labels(filter))
        .map(|filter| state.create_physical_expr(unqualified(filter), &schema))
        .collect()
}

/// The ids of the series for which every filter holds.
pub(crate) fn matching(
    series: &[SeriesSummary],
    filters: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
) -> Result<HashSet<u64>, DataFusionError> {
    let schema = Arc::new(label_schema(schema));
    let column = |field: &Arc<Field>| -> ArrayRef {
        let value = |summary: &SeriesSummary| -> Option<String> {
            let labels = summary.key.labels.iter();
            let found = labels.into_iter().find(|(name, _)| label_column(name) == *field.name());
            found.map(|(_, value)| value.to_owned())
        };
        Arc::new(series.iter().map(value).collect::<StringViewArray>())
    };
    let columns: Vec<ArrayRef> = schema.fields().iter().map(column).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(series.len()));
    let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
    let mut kept = vec![true; series.len()];
    for filter in filters {
        let holds = filter.evaluate(&batch)?.into_array(series.len())?;
        let holds = holds.as_boolean();
        for (kept, holds) in kept.iter_mut().zip(holds.iter()) {
            *kept &= holds == Some(true);
        }
    }
    let ids = series.iter().zip(kept).filter(|(_, kept)| *kept).map(|(summary, _)| summary.id);
    Ok(ids.collect())
}

fn label_schema(schema: &SchemaRef) -> Schema {
    let labels = schema.fields().iter().filter(|field| field.data_type() == &DataType::Utf8View);
    Schema::new(labels.cloned().collect::<Vec<_>>())
}

/// Looks through casts that keep every millisecond apart; others change what is compared.
fn strip(expr: &Expr) -> &Expr {
    let fine = |kind: &DataType| {
        matches!(kind, DataType::Timestamp(unit, _) if *unit != TimeUnit::Second)
            || matches!(kind, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
    };
    match expr {
        Expr::Cast(cast) if fine(cast.field.data_type()) => strip(&cast.expr),
        Expr::Alias(alias) => strip(&alias.expr),
        other => other,
    }
}

fn is_column(expr: &Expr, name: &str) -> bool {
    matches!(strip(expr), Expr::Column(column) if column.name() == name)
}

fn is_time(expr: &Expr) -> bool {
    is_column(expr, "time")
}

/// A literal time in milliseconds, rounded down and up.
fn millis(expr: &Expr) -> Option<(i64, i64)> {
    let Expr::Literal(value, _) = strip(expr) else { return None };
    let scaled = |value: i64, per_milli: i64| {
        let floor = value.div_euclid(per_milli);
        Some((floor, floor + i64::from(value.rem_euclid(per_milli) != 0)))
    };
    match value {
        ScalarValue::TimestampNanosecond(Some(value), _) => scaled(*value, 1_000_000),
        ScalarValue::TimestampMicrosecond(Some(value), _) => scaled(*value, 1_000),
        ScalarValue::TimestampMillisecond(Some(value), _) => scaled(*value, 1),
        ScalarValue::TimestampSecond(Some(value), _) => {
            value.checked_mul(1_000).map(|value| (value, value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{cast, col, lit};

    fn at(nanos: i64) -> Expr {
        Expr::Literal(ScalarValue::TimestampNanosecond(Some(nanos), None), None)
    }

    #[test]
    fn ranges_of_time_are_never_too_narrow() {
        let range = |filter: Expr| {
            let TimeRange { from, to } = TimeRange::ALL.narrow(&filter);
            ((from != i64::MIN).then_some(from), (to != i64::MAX).then_some(to))
        };
        assert_eq!(range(col("time").gt(at(1_500_000))), (Some(1), None));
        assert_eq!(range(at(1_500_000).gt(col("time"))), (None, Some(2)));
        assert_eq!(range(col("time").eq(at(-500_000))), (Some(-1), Some(0)));
        assert_eq!(
            range(col("time").gt(at(2_000_000)).and(col("time").lt(at(9_000_000)))),
            (Some(2), Some(9))
        );
        assert_eq!(range(col("time").between(at(2_000_000), at(3_000_000))), (Some(2), Some(3)));
        assert_eq!(range(col("time").not_eq(at(2_000_000))), (None, None));
        let seconds = cast(col("time"), DataType::Timestamp(TimeUnit::Second, None));
        assert_eq!(range(seconds.eq(at(2_000_000))), (None, None));
        assert_eq!(range(col("value").gt(lit(2))), (None, None));
        assert_eq!(range(col("time").gt(at(1)).or(col("x").eq(lit("a")))), (None, None));
    }

    #[test]
    fn only_filters_over_labels_alone_are_answered_exactly() {
        assert!(only_labels(&col("x").eq(lit("a")).or(col("y").is_null())));
        assert!(!only_labels(&col("x").eq(lit("a")).and(col("value").gt(lit(1)))));
        assert!(!only_labels(&lit(true)));
        assert_eq!(names_metric(&lit("m").eq(col("metric"))).as_deref(), Some("m"));
        assert_eq!(names_metric(&col("metric").not_eq(lit("m"))), None);
    }
}
