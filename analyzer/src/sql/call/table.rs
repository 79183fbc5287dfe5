//! The table of one call: computed when it is scanned, in a thread that may block.
//!
//! - of the detectors: `kind`, `severity`, `at`, `since`, `until`, `metric`, `labels`, `summary`, `evidence`, then the
//!   numbers of that kind, each with `_low` and `_high`; NULL where there is none
//! - of `forecast`: `metric`, `labels`, `time`, `value`, and `low_50`, `high_50` to `high_95`

use super::{Call, Function};
use crate::finding::{Finding, Kind};
use crate::forecast::bands::{self, Band};
use crate::sql::table::{labels_type, time_type};
use crate::watch::replay::{Question, replay};
use crate::{AnalyzerConfig, AnalyzerError};
use arrow::array::{
    ArrayRef, Float64Array, MapBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use model::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::Reader;

/// A call that is ready to run.
#[derive(Debug)]
pub(crate) struct CallTable {
    call: Call,
    config: AnalyzerConfig,
    reader: Reader,
    now: Timestamp,
    schema: SchemaRef,
}

/// Numbers that findings of a function have, in the order of the columns.
fn numbers(function: Function) -> &'static [&'static str] {
    match function {
        Function::Leaks => crate::detect::leak::NUMBERS,
        Function::Drifts => crate::detect::cost::NUMBERS,
        Function::Anomalies => crate::detect::baseline::NUMBERS,
        Function::Capacity => crate::detect::growth::NUMBERS,
        Function::Forecast => &[],
    }
}

fn kinds(function: Function) -> Vec<Kind> {
    match function {
        Function::Leaks => vec![Kind::Leak],
        Function::Drifts => vec![Kind::CpuDrift],
        Function::Anomalies => {
            vec![Kind::Latency, Kind::Errors, Kind::Throughput, Kind::Saturation, Kind::Novelty]
        }
        Function::Capacity | Function::Forecast => vec![Kind::Capacity],
    }
}

impl CallTable {
    pub(crate) fn new(call: Call, config: AnalyzerConfig, reader: Reader, now: Timestamp) -> Self {
        let schema = Arc::new(match call.function {
            Function::Forecast => forecast_schema(),
            function => finding_schema(function),
        });
        Self { call, config, reader, now, schema }
    }

    fn rows(&self, wanted: &dyn Fn() -> bool) -> Result<RecordBatch, DataFusionError> {
        let failed = |error: AnalyzerError| match error {
            AnalyzerError::TooManySeries(_) => {
                DataFusionError::ResourcesExhausted(error.to_string())
            }
            other => DataFusionError::External(Box::new(other)),
        };
        let call = &self.call;
        if call.function == Function::Forecast {
            let bands = bands::of(&self.reader, &self.config, call, self.now, wanted);
            return forecast_rows(&self.schema, &bands.map_err(failed)?);
        }
        let question = Question {
            kinds: kinds(call.function),
            metric: call.metric.clone(),
            labels: call.labels.clone(),
            exactly: call.exactly,
            from: call.from,
            to: call.to,
            at: call.at,
            limit: call.limit,
        };
        let found = replay(&self.reader, &self.config, &question, self.now, wanted);
        finding_rows(&self.schema, call.function, &found.map_err(failed)?)
    }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

fn number(name: impl Into<String>) -> Field {
    Field::new(name, DataType::Float64, true)
}

fn finding_schema(function: Function) -> Schema {
    let mut fields = vec![
        text("kind"),
        text("severity"),
        Field::new("at", time_type(), false),
        Field::new("since", time_type(), false),
        Field::new("until", time_type(), true),
        text("metric"),
        Field::new("labels", labels_type(), false),
        text("summary"),
        text("evidence"),
    ];
    for name in numbers(function) {
        fields.extend(["", "_low", "_high"].map(|end| number(format!("{name}{end}"))));
    }
    Schema::new(fields)
}

fn forecast_schema() -> Schema {
    let mut fields = vec![
        text("metric"),
        Field::new("labels", labels_type(), false),
        Field::new("time", time_type(), false),
        number("value"),
    ];
    let bands = ["low_50", "high_50", "low_80", "high_80", "low_95", "high_95"];
    fields.extend(bands.map(number));
    Schema::new(fields)
}

pub(crate) fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(texts.map(Some).collect::<StringArray>())
}

pub(crate) fn times(times: impl Iterator<Item = Option<Timestamp>>) -> ArrayRef {
    let millis = times.map(|time| time.map(Timestamp::millis));
    Arc::new(millis.collect::<TimestampMillisecondArray>().with_data_type(time_type()))
}

pub(crate) fn labels<'a>(
    all: impl Iterator<Item = &'a BTreeMap<String, String>>,
) -> Result<ArrayRef, DataFusionError> {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for labels in all {
        for (name, value) in labels {
            builder.keys().append_value(name);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

fn finding_rows(
    schema: &SchemaRef,
    function: Function,
    found: &[Finding],
) -> Result<RecordBatch, DataFusionError> {
    let evidence: Vec<String> =
        found.iter().map(|it| it.words.get(1..).unwrap_or_default().join("\n")).collect();
    let mut columns = vec![
        texts(found.iter().map(|it| it.kind.name())),
        texts(found.iter().map(|it| it.severity.name())),
        times(found.iter().map(|it| Some(it.at))),
        times(found.iter().map(|it| Some(it.since))),
        times(found.iter().map(|it| it.until)),
        texts(found.iter().map(|it| it.subject.metric.as_str())),
        labels(found.iter().map(|it| &it.subject.labels))?,
        texts(found.iter().map(Finding::summary)),
        texts(evidence.iter().map(String::as_str)),
    ];
    for name in numbers(function) {
        let estimates = || found.iter().map(|it| it.numbers.get(*name));
        let finite = |value: f64| value.is_finite().then_some(value);
        let ends: [Float64Array; 3] = [
            estimates().map(|it| it.and_then(|it| finite(it.value))).collect(),
            estimates().map(|it| it.and_then(|it| it.low)).collect(),
            estimates().map(|it| it.and_then(|it| it.high)).collect(),
        ];
        columns.extend(ends.map(|array| Arc::new(array) as ArrayRef));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn forecast_rows(schema: &SchemaRef, bands: &[Band]) -> Result<RecordBatch, DataFusionError> {
    let points = || bands.iter().flat_map(|band| band.points.iter().map(move |it| (band, it)));
    let mut columns = vec![
        texts(points().map(|(band, _)| band.subject.metric.as_str())),
        labels(points().map(|(band, _)| &band.subject.labels))?,
        times(points().map(|(_, point)| Some(Timestamp(point.time_ms)))),
        Arc::new(points().map(|(_, point)| Some(point.mid)).collect::<Float64Array>()) as ArrayRef,
    ];
    for at in 0..3 {
        let end = |high: bool| {
            let ends = points().map(move |(_, point)| {
                let [low, up] = point.bands.get(at).copied()?;
                Some(if high { up } else { low })
            });
            Arc::new(ends.collect::<Float64Array>()) as ArrayRef
        };
        columns.extend([end(false), end(true)]);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Whoever asked; the work ends soon after it is dropped.
struct Asking(Arc<AtomicBool>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[async_trait]
impl TableProvider for CallTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let wanted = Arc::new(AtomicBool::new(true));
        let _asking = Asking(Arc::clone(&wanted));
        let work = Self {
            call: self.call.clone(),
            config: self.config.clone(),
            reader: self.reader.clone(),
            now: self.now,
            schema: Arc::clone(&self.schema),
        };
        let rows =
            tokio::task::spawn_blocking(move || work.rows(&|| wanted.load(Ordering::Relaxed)));
        let rows = rows.await.map_err(|error| DataFusionError::External(Box::new(error)))??;
        let schema = Arc::clone(&self.schema);
        let source = MemorySourceConfig::try_new_exec(&[vec![rows]], schema, projection.cloned())?;
        Ok(source)
    }
}
