//! From sorted series to a segment's folder, in bounded memory: one batch of rows and one row group.

use super::scaled::{Coding, Walk};
use super::{MetricMeta, Resolution, SAMPLES, SERIES, SUMS, SegmentMeta, day_folder, schema, sums};
use crate::StoreError;
use crate::points::Points;
use arrow::array::{
    ArrayRef, Float64Builder, Int8Builder, Int64Builder, MapBuilder, RecordBatch, StringBuilder,
    StringDictionaryBuilder, TimestampMillisecondBuilder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{Int32Type, Schema};
use model::SeriesKey;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use platform::PlatformError;
use platform::durable::{self, AppendFile};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows built in memory before they are encoded.
const BATCH_ROWS: usize = 65_536;
/// Series described in memory before they are encoded.
const ENTRY_ROWS: usize = 8_192;

/// What a segment is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec<'a> {
    /// The data directory.
    pub(crate) data: &'a Path,
    pub(crate) id: &'a str,
    pub(crate) resolution: Resolution,
    pub(crate) level: u8,
    /// First and last WAL sequence.
    pub(crate) sequences: (u64, u64),
}

/// A segment being written into the folder `tmp/<id>`.
pub(crate) struct SegmentWriter {
    id: String,
    folder: PathBuf,
    resolution: Resolution,
    level: u8,
    sequences: (u64, u64),
    samples: Output,
    index: Output,
    rows: Rows,
    walk: Walk,
    entries: Entries,
    metrics: Vec<MetricMeta>,
    sid: u32,
    row: u64,
    span: Option<(i64, i64)>,
}

impl SegmentWriter {
    /// # Errors
    /// A file could not be created.
    pub(crate) fn create(spec: &Spec<'_>) -> Result<Self, StoreError> {
        let folder = spec.data.join("tmp").join(spec.id);
        durable::create_dir(&folder)?;
        let (path, index_path) = (folder.join(SAMPLES), folder.join(SERIES));
        Ok(Self {
            id: spec.id.to_owned(),
            resolution: spec.resolution,
            level: spec.level,
            sequences: spec.sequences,
            samples: Output::create(&path, schema::samples(), schema::samples_properties(spec))?,
            index: Output::create(&index_path, schema::series(), schema::series_properties(spec))?,
            folder,
            rows: Rows::default(),
            walk: Walk::default(),
            entries: Entries::default(),
            metrics: Vec::new(),
            sid: 0,
            row: 0,
            span: None,
        })
    }

    /// Adds a series; they come in the order of (metric, labels). Nothing is added without a point.
    ///
    /// # Errors
    /// A file could not be written.
    pub(crate) fn add(
        &mut self,
        id: u64,
        key: &SeriesKey,
        points: &Points,
    ) -> Result<(), StoreError> {
        let Some((min, max)) = points.span() else { return Ok(()) };
        note_metric(&mut self.metrics, key);
        let coding = self.walk.code(&points.values);
        let mut from = 0;
        while from < points.len() {
            let room = BATCH_ROWS - self.rows.len;
            let to = points.len().min(from + room);
            self.rows.add(&key.metric, self.sid, coding, points, self.walk.steps(), from..to);
            from = to;
            if self.rows.len == BATCH_ROWS {
                let columns = self.rows.finish();
                self.samples.write(columns)?;
            }
        }
        let doubles = self.walk.steps().iter().filter(|step| step.is_none()).count() as u64;
        let entry = EntryRow {
            sid: self.sid,
            row_start: self.row,
            rows: points.len() as u64,
            span: (min, max),
            coding,
            doubles,
            step: even_step(&points.times),
        };
        self.entries.add(id, key, &entry, &self.index)?;
        if self.entries.len == ENTRY_ROWS {
            let columns = self.entries.finish();
            self.index.write(columns)?;
        }
        self.span = Some(self.span.map_or((min, max), |(a, b)| (a.min(min), b.max(max))));
        self.sid += 1;
        self.row += points.len() as u64;
        Ok(())
    }

    /// Bytes of samples written so far, without the row group that is open.
    pub(crate) fn bytes(&self) -> u64 {
        self.samples.writer.bytes_written() as u64
    }

    /// Completes and syncs the files. `None`, and no folder, when nothing was added.
    ///
    /// # Errors
    /// A file could not be written or synced.
    pub(crate) fn finish(mut self) -> Result<Option<SegmentMeta>, StoreError> {
        let Some(span) = self.span else {
            durable::remove_dir(&self.folder)?;
            return Ok(None);
        };
        let columns = self.rows.finish();
        self.samples.write(columns)?;
        let columns = self.entries.finish();
        self.index.write(columns)?;
        let files = [self.samples.close()?, self.index.close()?];
        let mut own = AppendFile::create(&self.folder.join(SUMS))?;
        own.append(sums(files).as_bytes())?;
        own.sync()?;
        durable::sync_dir(&self.folder)?;
        Ok(Some(SegmentMeta {
            folder: day_folder(self.resolution, span.0).join(&self.id),
            id: self.id,
            resolution: self.resolution,
            level: self.level,
            span,
            rows: self.row,
            series: u64::from(self.sid),
            sequences: self.sequences,
            files,
            metrics: self.metrics.into(),
        }))
    }
}

/// Adds a series' metric and labels; series come with their metrics together.
pub(crate) fn note_metric(metrics: &mut Vec<MetricMeta>, key: &SeriesKey) {
    let name = key.metric.as_ref();
    if metrics.last().is_none_or(|last| last.name.as_ref() != name) {
        metrics.push(MetricMeta { name: Arc::from(name), labels: Vec::new() });
    }
    let Some(metric) = metrics.last_mut() else { return };
    for (label, _) in key.labels.iter() {
        if let Err(at) = metric.labels.binary_search_by(|have| have.as_ref().cmp(label)) {
            metric.labels.insert(at, Arc::from(label));
        }
    }
}

/// Rows of `samples.parquet` not yet encoded.
#[derive(Default)]
struct Rows {
    len: usize,
    metric: StringDictionaryBuilder<Int32Type>,
    sid: UInt32Builder,
    ts: TimestampMillisecondBuilder,
    scale: Int8Builder,
    factor: Int64Builder,
    base: Int64Builder,
    vi: Int64Builder,
    vf: Float64Builder,
}

impl Rows {
    fn add(
        &mut self,
        metric: &str,
        sid: u32,
        coding: Coding,
        points: &Points,
        steps: &[Option<i64>],
        range: std::ops::Range<usize>,
    ) {
        let count = range.len();
        self.metric.append_n(metric, count).unwrap_or_default();
        self.sid.append_value_n(sid, count);
        self.scale.append_value_n(coding.scale, count);
        self.factor.append_value_n(coding.factor, count);
        self.base.append_value_n(coding.base, count);
        self.ts.append_slice(points.times.get(range.clone()).unwrap_or_default());
        let values = points.values.get(range.clone()).unwrap_or_default();
        for (value, step) in values.iter().zip(steps.get(range).unwrap_or_default()) {
            self.vi.append_option(*step);
            self.vf.append_option(step.is_none().then_some(*value));
        }
        self.len += count;
    }

    fn finish(&mut self) -> Vec<ArrayRef> {
        self.len = 0;
        vec![
            Arc::new(self.metric.finish()),
            Arc::new(self.sid.finish()),
            Arc::new(self.ts.finish().with_timezone("UTC")),
            Arc::new(self.scale.finish()),
            Arc::new(self.factor.finish()),
            Arc::new(self.base.finish()),
            Arc::new(self.vi.finish()),
            Arc::new(self.vf.finish()),
        ]
    }
}

/// What `series.parquet` says of one series besides its key.
struct EntryRow {
    sid: u32,
    row_start: u64,
    rows: u64,
    span: (i64, i64),
    coding: Coding,
    /// Rows whose value is a double.
    doubles: u64,
    /// Between any two rows, where that is always the same; 0 for a single row.
    step: Option<i64>,
}

/// The one distance between all neighbours, if there is one.
fn even_step(times: &[i64]) -> Option<i64> {
    let mut steps = times.iter().zip(times.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    let first = steps.next().unwrap_or(0);
    steps.all(|step| step == first).then_some(first)
}

/// Rows of `series.parquet` not yet encoded.
struct Entries {
    len: usize,
    sid: UInt32Builder,
    series: UInt64Builder,
    metric: StringBuilder,
    labels: MapBuilder<StringBuilder, StringBuilder>,
    row_start: UInt64Builder,
    rows: UInt64Builder,
    min: TimestampMillisecondBuilder,
    max: TimestampMillisecondBuilder,
    scale: Int8Builder,
    factor: Int64Builder,
    base: Int64Builder,
    doubles: UInt64Builder,
    step: Int64Builder,
}

impl Default for Entries {
    fn default() -> Self {
        Self {
            len: 0,
            sid: UInt32Builder::new(),
            series: UInt64Builder::new(),
            metric: StringBuilder::new(),
            labels: MapBuilder::new(None, StringBuilder::new(), StringBuilder::new()),
            row_start: UInt64Builder::new(),
            rows: UInt64Builder::new(),
            min: TimestampMillisecondBuilder::new(),
            max: TimestampMillisecondBuilder::new(),
            scale: Int8Builder::new(),
            factor: Int64Builder::new(),
            base: Int64Builder::new(),
            doubles: UInt64Builder::new(),
            step: Int64Builder::new(),
        }
    }
}

impl Entries {
    fn add(
        &mut self,
        id: u64,
        key: &SeriesKey,
        row: &EntryRow,
        output: &Output,
    ) -> Result<(), StoreError> {
        self.sid.append_value(row.sid);
        self.series.append_value(id);
        self.metric.append_value(&key.metric);
        for (name, value) in key.labels.iter() {
            self.labels.keys().append_value(name);
            self.labels.values().append_value(value);
        }
        self.labels.append(true).map_err(|error| output.failed(error.into()))?;
        self.row_start.append_value(row.row_start);
        self.rows.append_value(row.rows);
        self.min.append_value(row.span.0);
        self.max.append_value(row.span.1);
        self.scale.append_value(row.coding.scale);
        self.factor.append_value(row.coding.factor);
        self.base.append_value(row.coding.base);
        self.doubles.append_value(row.doubles);
        self.step.append_option(row.step);
        self.len += 1;
        Ok(())
    }

    fn finish(&mut self) -> Vec<ArrayRef> {
        self.len = 0;
        vec![
            Arc::new(self.sid.finish()),
            Arc::new(self.series.finish()),
            Arc::new(self.metric.finish()),
            Arc::new(self.labels.finish()),
            Arc::new(self.row_start.finish()),
            Arc::new(self.rows.finish()),
            Arc::new(self.min.finish().with_timezone("UTC")),
            Arc::new(self.max.finish().with_timezone("UTC")),
            Arc::new(self.scale.finish()),
            Arc::new(self.factor.finish()),
            Arc::new(self.base.finish()),
            Arc::new(self.doubles.finish()),
            Arc::new(self.step.finish()),
        ]
    }
}

/// A Parquet file being written, its size and checksum kept along.
struct Output {
    writer: ArrowWriter<Summed>,
    schema: Arc<Schema>,
    path: PathBuf,
}

impl Output {
    fn create(
        path: &Path,
        schema: Arc<Schema>,
        properties: WriterProperties,
    ) -> Result<Self, StoreError> {
        let file = AppendFile::create(path)?;
        let sink = Summed { file: BufWriter::with_capacity(256 << 10, file), size: 0, crc: 0 };
        let writer = ArrowWriter::try_new(sink, Arc::clone(&schema), Some(properties)).map_err(
            |source| StoreError::Parquet { attempt: "create", path: path.to_owned(), source },
        )?;
        Ok(Self { writer, schema, path: path.to_owned() })
    }

    fn failed(&self, source: ParquetError) -> StoreError {
        StoreError::Parquet { attempt: "write", path: self.path.clone(), source }
    }

    fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), StoreError> {
        if columns.first().is_none_or(|column| column.is_empty()) {
            return Ok(());
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(ParquetError::from)
            .and_then(|batch| self.writer.write(&batch))
            .map_err(|source| self.failed(source))
    }

    /// Completes and syncs the file. Returns its size and checksum.
    fn close(self) -> Result<(u64, u32), StoreError> {
        let Self { writer, path, .. } = self;
        let failed =
            |source| StoreError::Parquet { attempt: "complete", path: path.clone(), source };
        let mut sink = writer.into_inner().map_err(failed)?;
        let written = sink.flush();
        written.map_err(|source| PlatformError::File { attempt: "write", path, source })?;
        sink.file.get_ref().sync()?;
        Ok((sink.size, sink.crc))
    }
}

struct Summed {
    file: BufWriter<AppendFile>,
    size: u64,
    crc: u32,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
