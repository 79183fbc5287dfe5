//! From snapshot to record batches: the leaf of every plan.

use super::pushdown::{TimeRange, matching};
use super::table::{Kind, label_column};
use arrow::array::{
    ArrayRef, Float64Array, MapBuilder, RecordBatch, RecordBatchOptions, StringBuilder,
    StringViewBuilder, TimestampMillisecondArray, UInt64Array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use model::SeriesKey;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use store::{Chunk, Scan, SeriesSummary, Snapshot};

/// Rows of a batch, more or less.
const BATCH_ROWS: usize = 8_192;

/// What a scan of a table shall give.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) kind: Kind,
    pub(crate) metrics: Vec<Arc<str>>,
    pub(crate) range: TimeRange,
    pub(crate) labels: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) schema: SchemaRef,
    pub(crate) projection: Option<Vec<usize>>,
    pub(crate) limit: Option<usize>,
}

/// Reads from one snapshot. `EXPLAIN` shows what was pruned.
#[derive(Debug)]
pub(crate) struct ScanExec {
    /// One for each partition, taken when it is run.
    parts: Vec<Mutex<Part>>,
    shape: Arc<Shape>,
    properties: Arc<PlanProperties>,
    words: String,
}

#[derive(Debug)]
enum Part {
    Scan(Vec<Scan>),
    Series(Vec<SeriesSummary>),
    /// Given to whoever read it: a snapshot is read once.
    Read,
}

/// How rows become columns.
#[derive(Debug)]
struct Shape {
    kind: Kind,
    full: SchemaRef,
    projected: SchemaRef,
    columns: Vec<usize>,
    limit: Option<usize>,
}

impl ScanExec {
    /// Finds the series and opens the scans. Touches the segments' indexes, not their samples.
    pub(crate) async fn plan(job: Job, parts: usize) -> Result<Self, DataFusionError> {
        let planned = tokio::task::spawn_blocking(move || Self::plan_blocking(job, parts)).await;
        planned.map_err(|error| DataFusionError::External(error.into()))?
    }

    fn plan_blocking(job: Job, parts: usize) -> Result<Self, DataFusionError> {
        let external = |error: store::StoreError| DataFusionError::External(error.into());
        let TimeRange { from, to } = job.range;
        let mut buckets: Vec<Part> = Vec::new();
        let mut words = String::new();
        match &job.kind {
            Kind::Series => {
                let mut all = Vec::new();
                for metric in &job.metrics {
                    all.extend(job.snapshot.series(metric, from, to).map_err(external)?);
                }
                words.push_str(&format!("series={}", all.len()));
                buckets.push(Part::Series(all));
            }
            Kind::Metric { .. } | Kind::Samples => {
                let (mut segments, mut memory) = (0, 0);
                for metric in &job.metrics {
                    let ids = if job.labels.is_empty() {
                        None
                    } else {
                        let series = job.snapshot.series(metric, from, to).map_err(external)?;
                        Some(matching(&series, &job.labels, &job.schema)?)
                    };
                    let keep =
                        |id: u64, _: &SeriesKey| ids.as_ref().is_none_or(|ids| ids.contains(&id));
                    let scans =
                        job.snapshot.scan(metric, &keep, from, to, parts).map_err(external)?;
                    for (at, scan) in scans.into_iter().enumerate() {
                        let (stored, merged) = scan.steps();
                        segments += stored;
                        memory += merged;
                        match buckets.get_mut(at) {
                            Some(Part::Scan(scans)) => scans.push(scan),
                            _ => buckets.push(Part::Scan(vec![scan])),
                        }
                    }
                }
                words.push_str(&format!("segments={segments}, series_in_memory={memory}"));
            }
        }
        if buckets.is_empty() {
            buckets.push(Part::Scan(Vec::new()));
        }
        Self::new(job, buckets, words)
    }

    fn new(job: Job, parts: Vec<Part>, pruned: String) -> Result<Self, DataFusionError> {
        let columns = job.projection.unwrap_or_else(|| (0..job.schema.fields().len()).collect());
        let projected = Arc::new(job.schema.project(&columns)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&projected)),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let table = match &job.kind {
            Kind::Metric { name, .. } => name.as_ref(),
            Kind::Samples => "samples",
            Kind::Series => "series",
        };
        let mut words = format!("table={table}, {pruned}");
        if job.range != TimeRange::ALL {
            words.push_str(&format!(", time={}..={}", job.range.from, job.range.to));
        }
        if !job.labels.is_empty() {
            let filters: Vec<String> = job.labels.iter().map(ToString::to_string).collect();
            words.push_str(&format!(", labels=[{}]", filters.join(" AND ")));
        }
        let shape =
            Shape { kind: job.kind, full: job.schema, projected, columns, limit: job.limit };
        Ok(Self {
            parts: parts.into_iter().map(Mutex::new).collect(),
            shape: Arc::new(shape),
            properties: Arc::new(properties),
            words,
        })
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec: {}", self.words)
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        _: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let part =
            self.parts.get(partition).map(|part| std::mem::replace(&mut *part.lock(), Part::Read));
        if matches!(part, Some(Part::Read)) {
            return Err(DataFusionError::Plan(
                "a metric can be read in the first part of a recursive query alone: read it in a query of its own before, and repeat over that".to_owned(),
            ));
        }
        let shape = Arc::clone(&self.shape);
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&shape.projected), 2);
        let send = builder.tx();
        builder.spawn_blocking(move || {
            let mut give = |batch| send.blocking_send(Ok(batch)).is_ok();
            match part {
                Some(Part::Scan(scans)) => shape.read(scans, &mut give)?,
                Some(Part::Series(series)) => drop(give(shape.series(&series)?)),
                Some(Part::Read) | None => {}
            }
            Ok(())
        });
        Ok(builder.build())
    }
}

/// One series' share of a batch.
struct Run {
    key: Arc<SeriesKey>,
    id: u64,
    rows: usize,
}

#[derive(Default)]
struct Pending {
    times: Vec<i64>,
    values: Vec<f64>,
    runs: Vec<Run>,
}

impl Shape {
    /// Reads `scans` to the end, or until `give` says that nobody listens any more.
    fn read(
        &self,
        scans: Vec<Scan>,
        give: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<(), DataFusionError> {
        let mut left = self.limit.unwrap_or(usize::MAX);
        let mut pending = Pending::default();
        for chunk in scans.into_iter().flatten() {
            let Chunk { id, key, mut points } =
                chunk.map_err(|e| DataFusionError::External(e.into()))?;
            points.drop_stale(); // a mark says that a series ended; it is no measured value
            let rows = points.len().min(left);
            left -= rows;
            pending.times.extend(points.times.iter().take(rows));
            pending.values.extend(points.values.iter().take(rows));
            pending.runs.push(Run { key, id, rows });
            if pending.times.len() >= BATCH_ROWS || left == 0 {
                let batch = self.batch(std::mem::take(&mut pending))?;
                if !give(batch) || left == 0 {
                    return Ok(());
                }
            }
        }
        if !pending.times.is_empty() {
            give(self.batch(pending)?);
        }
        Ok(())
    }

    fn batch(&self, mut pending: Pending) -> Result<RecordBatch, DataFusionError> {
        let rows = pending.times.len();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for at in &self.columns {
            let name = self.full.field(*at).name().as_str();
            let runs = &pending.runs;
            columns.push(match (&self.kind, name) {
                (_, "time") => {
                    let times = TimestampMillisecondArray::from(std::mem::take(&mut pending.times));
                    Arc::new(times.with_timezone("UTC"))
                }
                (_, "value") => Arc::new(Float64Array::from(std::mem::take(&mut pending.values))),
                (Kind::Samples, "metric") => {
                    strings(runs.iter().map(|run| (Some(&*run.key.metric), run.rows)))?
                }
                (Kind::Samples, "labels") => {
                    labels(runs.iter().map(|run| (run.key.as_ref(), run.rows)))?
                }
                (Kind::Samples, _) => {
                    let ids = runs.iter().flat_map(|run| std::iter::repeat_n(run.id, run.rows));
                    Arc::new(ids.collect::<UInt64Array>())
                }
                (_, label) => {
                    strings(runs.iter().map(|run| (label_value(&run.key, label), run.rows)))?
                }
            });
        }
        self.record(columns, rows)
    }

    fn series(&self, series: &[SeriesSummary]) -> Result<RecordBatch, DataFusionError> {
        let runs: Vec<Run> = series
            .iter()
            .map(|summary| Run { key: Arc::clone(&summary.key), id: summary.id, rows: 1 })
            .collect();
        let time = |read: fn(&SeriesSummary) -> i64| -> ArrayRef {
            let times: Vec<i64> = series.iter().map(read).collect();
            Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC"))
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for at in &self.columns {
            columns.push(match self.full.field(*at).name().as_str() {
                "series" => Arc::new(runs.iter().map(|run| run.id).collect::<UInt64Array>()),
                "metric" => strings(runs.iter().map(|run| (Some(&*run.key.metric), 1)))?,
                "labels" => labels(runs.iter().map(|run| (run.key.as_ref(), 1)))?,
                "first_time" => time(|summary| summary.span.0),
                _ => time(|summary| summary.span.1),
            });
        }
        self.record(columns, series.len())
    }

    fn record(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, DataFusionError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.projected), columns, &options)?)
    }
}

pub(crate) fn label_value<'a>(key: &'a SeriesKey, column: &str) -> Option<&'a str> {
    match key.labels.get(column) {
        Some(value) if label_column(column) == column => Some(value),
        _ => {
            let original = column.strip_prefix("label_")?;
            (label_column(original) == column).then(|| key.labels.get(original)).flatten()
        }
    }
}

/// One text for each run of rows; its bytes are kept once.
pub(crate) fn strings<'a>(
    runs: impl Iterator<Item = (Option<&'a str>, usize)>,
) -> Result<ArrayRef, ArrowError> {
    let mut builder = StringViewBuilder::new();
    for (text, rows) in runs {
        match text {
            None => (0..rows).for_each(|_| builder.append_null()),
            Some(text) if rows == 1 => builder.append_value(text),
            Some(text) => {
                let block = builder.append_block(Buffer::from(text.as_bytes()));
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                for _ in 0..rows {
                    builder.try_append_view(block, 0, len)?;
                }
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn labels<'a>(
    runs: impl Iterator<Item = (&'a SeriesKey, usize)>,
) -> Result<ArrayRef, DataFusionError> {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for (key, rows) in runs {
        for _ in 0..rows {
            for (name, value) in key.labels.iter() {
                builder.keys().append_value(name);
                builder.values().append_value(value);
            }
            builder.append(true)?;
        }
    }
    Ok(Arc::new(builder.finish()))
}
