//! From a snapshot to the answer of a question.

use super::figures::{Figures, Table, Texts};
use super::rolled::{self, STAT, raw_key};
use super::shape::{Column, Figure, Get, Groups, LabelTest, Question, Select};
use crate::sql::scan::{label_value, strings};
use crate::sql::session::Answer;
use crate::sql::table::{label_column, time_type};
use crate::sql::wanted::Wanted;
use crate::{QueryConfig, QueryError};
use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use model::SeriesKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use store::{Chunk, Points, Reader, Resolution, Scan, Snapshot};

/// Samples from which on it pays to share the work.
const SHARED: usize = 100_000;

/// Answers `question`; `None` where only the query engine can, or finds the words for what is wrong.
pub(crate) async fn answer(
    question: Question,
    reader: &Reader,
    config: &QueryConfig,
    pool: &Arc<dyn MemoryPool>,
) -> Result<Option<Answer>, QueryError> {
    let (reader, max_rows) = (reader.clone(), config.max_rows);
    let question = Arc::new(question);
    let budget = Arc::new(Budget::new(config, pool));
    let _waiting = budget.wanted.waiting();
    let own_budget = Arc::clone(&budget);
    let (opening, own) = (Arc::clone(&question), Arc::clone(&question));
    // What is small is done in one go: each change of threads takes its time.
    let opened = blocking(move || {
        let Some(scans) = open(&opening, &reader)? else { return Ok(Opened::Unknown) };
        let samples: usize = scans.iter().map(|(_, scan)| scan.most_samples()).sum();
        // Of very many rows the engine keeps those alone that are asked for.
        if opening.is_best_of() && samples.saturating_mul(opening.row_bytes()) > own_budget.most / 2
        {
            return Ok(Opened::Unknown);
        }
        if samples >= SHARED {
            return Ok(Opened::Large(scans));
        }
        Ok(match work(&opening, scans, &own_budget)? {
            Some(parts) => Opened::Done(finish(&opening, parts, max_rows, &own_budget)?),
            None => Opened::Unknown,
        })
    });
    let parts = match opened.await? {
        Opened::Unknown => return Ok(None),
        Opened::Done(answer) => return Ok(Some(answer)),
        Opened::Large(scans) => match share(&question, scans, &budget).await? {
            Some(parts) => parts,
            None => return Ok(None),
        },
    };
    let own_budget = Arc::clone(&budget);
    blocking(move || finish(&own, parts, max_rows, &own_budget).map(Some)).await
}

/// Bytes of one group, with what becomes of it.
const GROUP_BYTES: usize = 256;

/// What all workers on one question may use together, and whether they are still wanted.
#[derive(Debug)]
struct Budget {
    rows: AtomicUsize,
    max_rows: usize,
    /// Of the memory that all queries have together; kept until the answer is sent.
    held: Arc<MemoryReservation>,
    most: usize,
    wanted: Wanted,
}

impl Budget {
    fn new(config: &QueryConfig, pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            rows: AtomicUsize::new(0),
            max_rows: config.max_rows,
            held: Arc::new(MemoryConsumer::new("rows and groups").register(pool)),
            most: config.memory.as_usize(),
            wanted: Wanted::default(),
        }
    }

    fn take(&self, rows: usize, bytes: usize, question: &Question) -> Result<(), QueryError> {
        if self.held.try_grow(bytes).is_err() {
            let all = self.held.size() + bytes;
            return Err(QueryError::Memory(format!("{all} bytes of rows and groups")));
        }
        let all = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        // With a limit of its own the question has fewer rows in the end.
        if all > self.max_rows && question.limit.is_none() {
            return Err(QueryError::Rows(self.max_rows));
        }
        Ok(())
    }
}

enum Opened {
    Unknown,
    /// By the number of their select.
    Large(Vec<(usize, Scan)>),
    Done(Answer),
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(QueryError::Failed(error.to_string())))
}

/// Finds the series and opens their scans in one snapshot. `None` when a metric or label is not there.
fn open(question: &Question, reader: &Reader) -> Result<Option<Vec<(usize, Scan)>>, QueryError> {
    let metrics: Vec<&str> = question.selects.iter().map(|select| select.metric.as_str()).collect();
    let keep = |key: &SeriesKey| {
        let mut selects = question.selects.iter();
        selects.any(|select| select.metric == *key.metric && select.keeps(key))
    };
    let last = question.selects.first().is_some_and(|select| select.last);
    let snapshot = match last {
        true => reader.last(Some(&metrics), &keep),
        false => reader.snapshot_of(Some(&metrics), &keep),
    };
    if !question.selects.iter().all(|select| select.is_known(&snapshot)) {
        return Ok(None);
    }
    let parts = parallelism();
    let mut scans = Vec::new();
    for (number, select) in question.selects.iter().enumerate() {
        let (from, to) = select.range;
        if from > to {
            continue;
        }
        let keep = |_: u64, key: &SeriesKey| select.keeps(key);
        let opened = snapshot.scan(&select.metric, &keep, from, to, parts);
        let opened = opened.map_err(|error| QueryError::Failed(error.to_string()))?;
        scans.extend(opened.into_iter().map(|scan| (number, scan)));
        if !last {
            scans
                .extend(rolled::open(select, &snapshot, parts)?.into_iter().map(|it| (number, it)));
        }
    }
    Ok(Some(scans))
}

fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Reads `scans` by as many workers as there are processors.
async fn share(
    question: &Arc<Question>,
    mut scans: Vec<(usize, Scan)>,
    budget: &Arc<Budget>,
) -> Result<Option<Vec<Part>>, QueryError> {
    // The largest first, each to the worker that has least.
    scans.sort_by_key(|(_, scan)| std::cmp::Reverse(scan.most_samples()));
    let mut shares: Vec<(usize, Vec<(usize, Scan)>)> =
        (0..parallelism()).map(|_| (0, Vec::new())).collect();
    for (number, scan) in scans {
        let samples = scan.most_samples();
        if let Some(least) = shares.iter_mut().min_by_key(|share| share.0) {
            least.0 += samples;
            least.1.push((number, scan));
        }
    }
    let mut workers = tokio::task::JoinSet::new();
    for (_, own) in shares.into_iter().filter(|share| !share.1.is_empty()) {
        let (question, budget) = (Arc::clone(question), Arc::clone(budget));
        workers.spawn_blocking(move || work(&question, own, &budget));
    }
    let mut all: Option<Vec<Part>> = None;
    while let Some(done) = workers.join_next().await {
        let done = done.unwrap_or_else(|error| Err(QueryError::Failed(error.to_string())))?;
        let Some(parts) = done else { return Ok(None) };
        match &mut all {
            None => all = Some(parts),
            Some(all) => {
                for (one, other) in all.iter_mut().zip(parts) {
                    one.join(other);
                }
            }
        }
    }
    Ok(Some(all.unwrap_or_else(|| question.selects.iter().map(Part::new).collect())))
}

/// What a worker found of one select.
enum Part {
    Rows(Rows),
    Groups(Table),
}

#[derive(Default)]
struct Rows {
    times: Vec<i64>,
    values: Vec<f64>,
    runs: Vec<(Arc<SeriesKey>, usize)>,
}

impl Part {
    fn new(select: &Select) -> Self {
        match select.groups {
            Some(_) => Self::Groups(Table::default()),
            None => Self::Rows(Rows::default()),
        }
    }

    fn join(&mut self, other: Self) {
        match (self, other) {
            (Self::Rows(own), Self::Rows(other)) => {
                own.times.extend(other.times);
                own.values.extend(other.values);
                own.runs.extend(other.runs);
            }
            (Self::Groups(own), Self::Groups(other)) => own.join(other),
            _ => {}
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.times.len(),
            Self::Groups(table) => table.len(),
        }
    }
}

/// Reads `scans`; `None` where a value is NaN and figures are asked for, whose order the engine knows.
fn work(
    question: &Question,
    scans: Vec<(usize, Scan)>,
    budget: &Budget,
) -> Result<Option<Vec<Part>>, QueryError> {
    let mut parts: Vec<Part> = question.selects.iter().map(Part::new).collect();
    for (number, scan) in scans {
        let (Some(select), Some(part)) = (question.selects.get(number), parts.get_mut(number))
        else {
            continue;
        };
        let rolled = scan.resolution() != Resolution::Raw;
        for chunk in scan {
            if budget.wanted.is_given_up() {
                return Ok(None);
            }
            let chunk = chunk.map_err(|error| QueryError::Failed(error.to_string()))?;
            let Chunk { key, mut points, .. } = chunk;
            points.drop_stale(); // a mark says that a series ended; it is no measured value
            select.drop_failing(&mut points);
            if points.is_empty() {
                continue;
            }
            match (&mut *part, &select.groups) {
                (Part::Groups(table), Some(groups)) => {
                    if points.values.iter().any(|value| value.is_nan()) {
                        budget.wanted.give_up();
                        return Ok(None);
                    }
                    let before = table.len();
                    match key.labels.get(STAT).filter(|_| rolled) {
                        Some(stat) => {
                            let texts = select.texts(&raw_key(&key), groups);
                            table.add_rolled(texts, groups, stat, &points);
                        }
                        None => table.add(select.texts(&key, groups), groups, &points),
                    }
                    let more = table.len() - before;
                    budget.take(more, more * (GROUP_BYTES + key.text_len()), question)?;
                }
                (Part::Rows(rows), _) => {
                    budget.take(points.len(), points.len() * question.row_bytes(), question)?;
                    rows.runs.push((key, points.len()));
                    rows.times.extend_from_slice(&points.times);
                    rows.values.extend_from_slice(&points.values);
                }
                (Part::Groups(_), None) => {}
            }
            if question.is_enough(part) {
                break;
            }
        }
    }
    Ok(Some(parts))
}

impl Question {
    /// Whether it asks for the first of all rows in an order.
    fn is_best_of(&self) -> bool {
        let rows = self.selects.iter().any(|select| select.groups.is_none());
        rows && !self.order.is_empty() && self.limit.is_some()
    }

    /// Bytes of one row as it is read, in its columns, and in them again where it is sorted.
    fn row_bytes(&self) -> usize {
        let columns = self.selects.first().map_or(0, |select| select.columns.len());
        let copies = if self.order.is_empty() { 1 } else { 2 };
        16 + 16 * columns * copies
    }

    /// Whether the rows that are asked for are there, whichever they are.
    fn is_enough(&self, part: &Part) -> bool {
        let rows = matches!(part, Part::Rows(_)) && self.order.is_empty();
        rows && self.limit.is_some_and(|limit| part.rows() >= limit)
    }
}

impl Select {
    pub(super) fn keeps(&self, key: &SeriesKey) -> bool {
        self.labels.iter().all(|test| match test {
            LabelTest::In { column, values, negated } => label_value(key, column)
                .is_some_and(|value| values.iter().any(|it| it == value) != *negated),
            LabelTest::Absent { column, negated } => label_value(key, column).is_none() != *negated,
        })
    }

    /// Whether the metric and all columns that are asked for are there, and no name has two meanings.
    fn is_known(&self, snapshot: &Snapshot) -> bool {
        if !snapshot.has_metric(&self.metric) {
            return false;
        }
        let labels: Vec<String> =
            snapshot.label_names(&self.metric).iter().map(|label| label_column(label)).collect();
        let known = |column: &String| labels.contains(column);
        let columns = self.columns.iter().all(|column| match &column.get {
            // An alias that is also the name of a column: what a group by it means is the engine's to say.
            Get::Label(label) if *label == column.name => known(label),
            Get::Label(label) if !known(label) => false,
            _ => self.groups.is_none() || !known(&column.name),
        });
        let groups = self.groups.iter().flat_map(|groups| &groups.labels).all(known);
        let tests = self.labels.iter().all(|test| match test {
            LabelTest::In { column, .. } | LabelTest::Absent { column, .. } => known(column),
        });
        columns && groups && tests
    }

    fn drop_failing(&self, points: &mut Points) {
        if self.values.is_empty() {
            return;
        }
        let passes = |value: f64| self.values.iter().all(|test| test.passes(value));
        let rows = points.times.iter().zip(&points.values).filter(|(_, value)| passes(**value));
        let (times, values) = rows.map(|(time, value)| (*time, *value)).unzip();
        *points = Points { times, values };
    }

    fn texts(&self, key: &SeriesKey, groups: &Groups) -> Texts {
        groups.labels.iter().map(|label| label_value(key, label).map(Box::from)).collect()
    }
}

fn finish(
    question: &Question,
    parts: Vec<Part>,
    max_rows: usize,
    budget: &Budget,
) -> Result<Answer, QueryError> {
    let Some(first) = question.selects.first() else {
        return Err(QueryError::Failed("nothing is selected".to_owned()));
    };
    let nullable = |at: usize| {
        let mut selects = question.selects.iter();
        selects.any(|select| select.columns.get(at).is_some_and(|it| field(it).is_nullable()))
    };
    let fields = first.columns.iter().enumerate();
    let fields = fields.map(|(at, column)| field(column).with_nullable(nullable(at)));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let failed = |error: ArrowError| QueryError::Failed(error.to_string());
    let mut batches = Vec::new();
    for (select, part) in question.selects.iter().zip(&parts) {
        batches.push(match part {
            Part::Rows(rows) => rows_batch(select, rows, &schema).map_err(failed)?,
            Part::Groups(table) => groups_batch(select, table, &schema).map_err(failed)?,
        });
    }
    let mut batch = match batches.len() {
        1 => batches.remove(0),
        _ => concat_batches(&schema, &batches).map_err(failed)?,
    };
    if !question.order.is_empty() {
        let column = |order: &super::shape::Order| SortColumn {
            values: Arc::clone(batch.column(order.column)),
            options: Some(SortOptions {
                descending: order.descending,
                nulls_first: order.nulls_first,
            }),
        };
        let columns: Vec<SortColumn> = question.order.iter().map(column).collect();
        let indices = lexsort_to_indices(&columns, question.limit).map_err(failed)?;
        batch = take_rows(&batch, &indices).map_err(failed)?;
    }
    let rows = question.limit.unwrap_or(usize::MAX).min(batch.num_rows());
    if rows > max_rows {
        return Err(QueryError::Rows(max_rows));
    }
    Ok(Answer {
        schema,
        batches: vec![batch.slice(0, rows)],
        _held: Some(Arc::clone(&budget.held)),
    })
}

fn take_rows(batch: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| take(column, indices, None));
    RecordBatch::try_new(batch.schema(), columns.collect::<Result<_, _>>()?)
}

fn field(column: &Column) -> Field {
    let (kind, nullable) = match column.get {
        Get::Time => (time_type(), false),
        // The engine's function for buckets gives nanoseconds.
        Get::Bucket(_) => (DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
        Get::Value => (DataType::Float64, false),
        Get::Label(_) => (DataType::Utf8View, true),
        Get::Text(_) => (DataType::Utf8, false),
        Get::Figure(Figure::Count) => (DataType::Int64, false),
        Get::Figure(_) => (DataType::Float64, true),
    };
    Field::new(&column.name, kind, nullable)
}

fn times(times: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC"))
}

fn rows_batch(select: &Select, rows: &Rows, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let count = rows.times.len();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(select.columns.len());
    for column in &select.columns {
        columns.push(match &column.get {
            Get::Time => times(rows.times.clone()),
            Get::Label(label) => {
                let runs = rows.runs.iter().map(|(key, rows)| (label_value(key, label), *rows));
                strings(runs)?
            }
            Get::Text(text) => {
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count)))
            }
            // Buckets and figures are of groups.
            Get::Value | Get::Bucket(_) | Get::Figure(_) => {
                Arc::new(Float64Array::from(rows.values.clone()))
            }
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

fn groups_batch(
    select: &Select,
    table: &Table,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let groups = select.groups.clone().unwrap_or_default();
    let mut rows = table.rows();
    // Without a key there is one group, also of nothing.
    let (nothing, empty): (Texts, _) = (Box::default(), Figures::default());
    if rows.is_empty() && groups == Groups::default() {
        rows.push((&nothing, 0, &empty));
    }
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(select.columns.len());
    for column in &select.columns {
        columns.push(match &column.get {
            Get::Label(label) => {
                let at = groups.labels.iter().position(|have| have == label).unwrap_or_default();
                let text = |texts: &'_ Texts| texts.get(at).cloned().flatten();
                let texts: Vec<Option<Box<str>>> = rows.iter().map(|row| text(row.0)).collect();
                strings(texts.iter().map(|text| (text.as_deref(), 1)))?
            }
            Get::Text(text) => {
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows.len())))
            }
            Get::Figure(Figure::Count) => {
                let counts =
                    rows.iter().map(|row| i64::try_from(row.2.count()).unwrap_or(i64::MAX));
                Arc::new(Int64Array::from_iter_values(counts))
            }
            Get::Figure(figure) => {
                Arc::new(rows.iter().map(|row| row.2.get(*figure)).collect::<Float64Array>())
            }
            // Rows have no place here.
            Get::Time | Get::Value => times(rows.iter().map(|row| row.1).collect()),
            Get::Bucket(_) => {
                let nanos = |row: &(&Texts, i64, &Figures)| {
                    let cause = || ArrowError::ComputeError("a time is out of range".to_owned());
                    row.1.checked_mul(1_000_000).ok_or_else(cause)
                };
                let starts = rows.iter().map(nanos).collect::<Result<Vec<i64>, _>>()?;
                Arc::new(TimestampNanosecondArray::from(starts).with_timezone("UTC"))
            }
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}
