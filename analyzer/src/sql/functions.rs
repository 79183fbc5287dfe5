//! Functions of the field, and `time_bucket`.
//!
//! - `rate`, `increase`, `delta`, `last` over (time, value)
//! - `theil_sen`, `theil_sen_low`, `theil_sen_high` over (time, value): the median slope a second, and its 95 % interval
//! - `mann_kendall`, `mann_kendall_p` over (time, value): the normal score of a trend, and its two-sided chance
//! - `time_to`, `time_to_low`, `time_to_high` over (limit, time, value): seconds after the last time until that line
//!   meets the limit, and the interval; NULL where it never does
//!
//! The aggregates take the points of one series in any order. Points of several series in one group are a
//! mistake that would give a wrong number, so a time that comes twice is an error that says what to do.

use super::wanted::Wanted;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, TimestampMillisecondArray};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, TimeUnit, TimestampMillisecondType,
};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use stats::slope::{self, Slope, Trend};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Adds all of them to a session.
pub(crate) fn register(context: &SessionContext) {
    context.register_udf(date_bin().as_ref().clone().with_aliases(["time_bucket"]));
}

/// The aggregates, as they are for one query.
pub(crate) fn aggregates(wanted: &Wanted) -> impl Iterator<Item = Arc<AggregateUDF>> {
    let each = |what| AggregateUDF::from(OverTime::new(what, wanted.clone()));
    What::ALL.into_iter().map(move |what| Arc::new(each(what)))
}

/// What is made of the points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    /// Increase of a counter a second, between its first and last point; no extrapolation.
    Rate,
    /// How much a counter rose; a fall is a reset to zero.
    Increase,
    /// Last value less first.
    Delta,
    /// The value at the greatest time.
    Last,
    /// Median slope a second, or an end of its interval.
    TheilSen(End),
    /// Score of a trend.
    MannKendall,
    /// Chance of such a score without a trend.
    MannKendallP,
    /// Seconds until the line meets a limit, or an end of their interval.
    TimeTo(End),
}

/// Which number of an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Middle,
    Low,
    High,
}

/// Of all intervals.
const CONFIDENCE: f64 = 0.95;

impl What {
    const ALL: [Self; 12] = [
        Self::Rate,
        Self::Increase,
        Self::Delta,
        Self::Last,
        Self::TheilSen(End::Middle),
        Self::TheilSen(End::Low),
        Self::TheilSen(End::High),
        Self::MannKendall,
        Self::MannKendallP,
        Self::TimeTo(End::Middle),
        Self::TimeTo(End::Low),
        Self::TimeTo(End::High),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Increase => "increase",
            Self::Delta => "delta",
            Self::Last => "last",
            Self::TheilSen(End::Middle) => "theil_sen",
            Self::TheilSen(End::Low) => "theil_sen_low",
            Self::TheilSen(End::High) => "theil_sen_high",
            Self::MannKendall => "mann_kendall",
            Self::MannKendallP => "mann_kendall_p",
            Self::TimeTo(End::Middle) => "time_to",
            Self::TimeTo(End::Low) => "time_to_low",
            Self::TimeTo(End::High) => "time_to_high",
        }
    }

    fn takes_limit(self) -> bool {
        matches!(self, Self::TimeTo(_))
    }

    /// `None` where there are too few points. `points` ascend by time.
    fn of(self, points: &[(i64, f64)], limit: Option<f64>) -> Option<f64> {
        let (first, last) = (points.first()?, points.last()?);
        let seconds = (last.0 - first.0) as f64 / 1000.0;
        match self {
            Self::Last => Some(last.1),
            _ if points.len() < 2 => None,
            Self::Delta => Some(last.1 - first.1),
            Self::Increase => Some(increase(points)),
            Self::Rate => Some(increase(points) / seconds),
            Self::TheilSen(end) => {
                let line = line(points)?;
                Some(match end {
                    End::Middle => line.slope,
                    End::Low => line.low,
                    End::High => line.high,
                })
            }
            Self::MannKendall => Some(trend(points)?.z),
            Self::MannKendallP => Some(trend(points)?.p),
            Self::TimeTo(end) => {
                let (middle, low, high) = slope::time_to(limit?, seconds, &line(points)?);
                match end {
                    End::Middle => middle,
                    End::Low => low,
                    End::High => high,
                }
            }
        }
    }
}

/// Points that a line or a trend is made of. With more, each so many-th is taken: while one is made, its thread serves nobody.
const MOST_POINTS: usize = 10_000;

fn thinned(points: &[(i64, f64)]) -> impl Iterator<Item = &(i64, f64)> {
    points.iter().step_by(points.len().div_ceil(MOST_POINTS).max(1))
}

/// The median line over seconds after the first point; NaN and infinite values are left out.
fn line(points: &[(i64, f64)]) -> Option<Slope> {
    let start = points.first()?.0;
    let finite = thinned(points).filter(|(_, value)| value.is_finite());
    let (times, values): (Vec<f64>, Vec<f64>) =
        finite.map(|(time, value)| ((time - start) as f64 / 1000.0, *value)).unzip();
    slope::theil_sen(&times, &values, CONFIDENCE)
}

fn trend(points: &[(i64, f64)]) -> Option<Trend> {
    let values: Vec<f64> =
        thinned(points).map(|(_, value)| *value).filter(|v| v.is_finite()).collect();
    slope::mann_kendall(&values)
}

fn increase(points: &[(i64, f64)]) -> f64 {
    let steps = points.iter().zip(points.iter().skip(1));
    steps.map(|((_, a), (_, b))| if b >= a { b - a } else { *b }).sum()
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

#[derive(Debug)]
struct OverTime {
    what: What,
    signature: Signature,
    wanted: Wanted,
}

impl OverTime {
    fn new(what: What, wanted: Wanted) -> Self {
        Self { what, signature: Signature::user_defined(Volatility::Immutable), wanted }
    }
}

impl PartialEq for OverTime {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

impl Eq for OverTime {}

impl Hash for OverTime {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.what.hash(state);
    }
}

impl AggregateUDFImpl for OverTime {
    fn name(&self) -> &str {
        self.what.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>, DataFusionError> {
        let number = |kind: &DataType| kind.is_numeric() || kind.is_null();
        let name = self.what.name();
        match types {
            [DataType::Timestamp(..), value] if number(value) && !self.what.takes_limit() => {
                Ok(vec![time_type(), DataType::Float64])
            }
            [limit, DataType::Timestamp(..), value]
                if number(limit) && number(value) && self.what.takes_limit() =>
            {
                Ok(vec![DataType::Float64, time_type(), DataType::Float64])
            }
            _ if self.what.takes_limit() => Err(DataFusionError::Plan(format!(
                "{name} takes a limit, a time and a number: {name}(1024, time, value)"
            ))),
            _ => Err(DataFusionError::Plan(format!(
                "{name} takes a time and a number: {name}(time, value)"
            ))),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>, DataFusionError> {
        let wanted = self.wanted.clone();
        Ok(Box::new(Points { what: self.what, points: Vec::new(), limit: None, wanted }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>, DataFusionError> {
        let list = |what: &str, kind: DataType| {
            let name = format!("{}_{what}", args.name);
            Arc::new(Field::new_list(name, Field::new_list_field(kind, true), true))
        };
        let limit = Field::new(format!("{}_limit", args.name), DataType::Float64, true);
        Ok(vec![list("times", time_type()), list("values", DataType::Float64), Arc::new(limit)])
    }
}

#[derive(Debug)]
struct Points {
    what: What,
    points: Vec<(i64, f64)>,
    limit: Option<f64>,
    wanted: Wanted,
}

impl Points {
    fn add(&mut self, times: &dyn Array, values: &dyn Array) -> Result<(), DataFusionError> {
        let unexpected = || DataFusionError::Internal("unexpected argument types".to_owned());
        let times = times.as_primitive_opt::<TimestampMillisecondType>().ok_or_else(unexpected)?;
        let values = values.as_primitive_opt::<Float64Type>().ok_or_else(unexpected)?;
        let rows = times.iter().zip(values.iter());
        self.points.extend(rows.filter_map(|(time, value)| Some((time?, value?))));
        Ok(())
    }
}

impl Points {
    /// Takes the limit, which must be one: of several the answer would depend on the order of rows.
    fn limit_from(&mut self, limits: &dyn Array) -> Result<(), DataFusionError> {
        let limits = limits.as_primitive_opt::<Float64Type>();
        for limit in limits.iter().flat_map(|limits| limits.iter()).flatten() {
            if self.limit.is_some_and(|known| known != limit) {
                let name = self.what.name();
                return Err(DataFusionError::Execution(format!(
                    "{name}() was given several limits in one group: GROUP BY the limit, or take its max() in a subquery"
                )));
            }
            self.limit = Some(limit);
        }
        Ok(())
    }
}

impl Accumulator for Points {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        match values {
            [times, values] => self.add(times, values),
            [limits, times, values] => {
                self.limit_from(limits)?;
                self.add(times, values)
            }
            _ => Err(DataFusionError::Internal("two or three arguments expected".to_owned())),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue, DataFusionError> {
        self.wanted.ask()?;
        self.points.sort_by_key(|(time, _)| *time);
        let mixed = self.points.iter().zip(self.points.iter().skip(1)).any(|(a, b)| a.0 == b.0);
        if mixed && self.what != What::Last {
            let name = self.what.name();
            return Err(DataFusionError::Execution(format!(
                "{name}() was given samples of more than one series: GROUP BY all labels that tell them apart, then sum"
            )));
        }
        Ok(ScalarValue::Float64(self.what.of(&self.points, self.limit)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.points.capacity() * size_of::<(i64, f64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>, DataFusionError> {
        let times: Vec<i64> = self.points.iter().map(|(time, _)| *time).collect();
        let values: Vec<f64> = self.points.iter().map(|(_, value)| *value).collect();
        let times = TimestampMillisecondArray::from(times).with_timezone("UTC");
        let list = |array: ArrayRef| {
            let list = datafusion::common::utils::SingleRowListArrayBuilder::new(array);
            ScalarValue::List(Arc::new(list.build_list_array()))
        };
        Ok(vec![
            list(Arc::new(times)),
            list(Arc::new(Float64Array::from(values))),
            ScalarValue::Float64(self.limit),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<(), DataFusionError> {
        let [times, values, limits] = states else {
            return Err(DataFusionError::Internal("three states expected".to_owned()));
        };
        self.limit_from(limits)?;
        let (times, values) = (times.as_list::<i32>(), values.as_list::<i32>());
        for (times, values) in times.iter().zip(values.iter()) {
            if let (Some(times), Some(values)) = (times, values) {
                self.add(&times, &values)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_very_many_points_is_made_of_some_and_is_the_same() {
        let points: Vec<(i64, f64)> = (0..100_001).map(|n| (n * 1_000, n as f64 * 3.0)).collect();
        assert!(thinned(&points).count() <= MOST_POINTS);
        assert_eq!(What::TheilSen(End::Middle).of(&points, None), Some(3.0));
        assert_eq!(thinned(&points[..MOST_POINTS]).count(), MOST_POINTS);
    }

    #[test]
    fn an_aggregate_is_not_worked_out_when_nobody_waits() {
        let wanted = Wanted::default();
        let mut last = Points {
            what: What::Last,
            points: vec![(0, 1.0)],
            limit: None,
            wanted: wanted.clone(),
        };
        assert_eq!(last.evaluate().unwrap(), ScalarValue::Float64(Some(1.0)));
        drop(wanted.waiting());
        assert!(last.evaluate().is_err());
    }

    #[test]
    fn increase_counts_through_resets() {
        let points = [(0, 10.0), (1_000, 14.0), (2_000, 3.0), (4_000, 5.0)];
        let of = |what: What| what.of(&points, None);
        assert_eq!(of(What::Increase), Some(4.0 + 3.0 + 2.0));
        assert_eq!(of(What::Rate), Some(9.0 / 4.0));
        assert_eq!((of(What::Delta), of(What::Last)), (Some(-5.0), Some(5.0)));
        assert_eq!(What::Rate.of(&points[..1], None), None);
        assert_eq!(What::Last.of(&[], None), None);
    }
}
