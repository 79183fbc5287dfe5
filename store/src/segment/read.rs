//! From a segment's folder to series and points: the index first, then exact row selections.

use super::scaled::Coding;
use super::write::note_metric;
use super::{Resolution, SAMPLES, SERIES, SUMS, Segment, SegmentMeta, schema, sums};
use crate::StoreError;
use crate::points::Points;
use arrow::array::{
    Array, AsArray, Float64Array, Int8Array, Int64Array, MapArray, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{Float64Type, Int8Type, Int64Type, TimestampMillisecondType, UInt64Type};
use model::{Labels, SeriesKey};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BATCH_ROWS: usize = 8_192;
const ENTRY_ROWS: usize = 1_024;

/// A segment's index in memory.
#[derive(Debug)]
pub(crate) struct Index {
    /// The series in the order of (metric, labels), so that a metric's are together.
    entries: Vec<IndexEntry>,
    /// The footer of the samples' file, so that it is read once.
    samples: ArrowReaderMetadata,
    bytes: usize,
}

/// Where one series lies in a segment.
#[derive(Clone, Debug)]
pub(crate) struct IndexEntry {
    pub(crate) id: u64,
    pub(crate) key: Arc<SeriesKey>,
    pub(crate) rows: Range<usize>,
    pub(crate) span: (i64, i64),
    /// How its integers are coded.
    pub(crate) coding: Coding,
    /// Whether any of its values is a double.
    pub(crate) doubles: bool,
    /// Between any two of its rows, where that is always the same.
    pub(crate) step: Option<i64>,
}

impl Index {
    pub(crate) fn read(segment: &Segment) -> Result<Self, StoreError> {
        let mut entries: Vec<IndexEntry> = Vec::new();
        let mut bytes = 0;
        let mut reader = EntryReader::open(segment)?;
        while let Some(entry) = reader.next_entry()? {
            bytes += entry.key.text_len() + 160;
            entries.push(entry);
        }
        let path = segment.path().join(SAMPLES);
        let file = open(&path)?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let samples = ArrowReaderMetadata::load(&file, options).map_err(parquet_failed(&path))?;
        bytes += samples.metadata().memory_size();
        Ok(Self { entries, samples, bytes })
    }

    /// The series of one metric.
    pub(crate) fn metric(&self, metric: &str) -> &[IndexEntry] {
        let start = self.entries.partition_point(|entry| entry.key.metric.as_ref() < metric);
        let rest = self.entries.get(start..).unwrap_or_default();
        let len = rest.partition_point(|entry| entry.key.metric.as_ref() == metric);
        rest.get(..len).unwrap_or_default()
    }

    /// Rough bytes taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Reads the index entry by entry, in bounded memory.
pub(crate) struct EntryReader {
    reader: ParquetRecordBatchReader,
    ready: VecDeque<IndexEntry>,
    next_row: usize,
    rows: u64,
    path: PathBuf,
    id: String,
}

impl EntryReader {
    pub(crate) fn open(segment: &Segment) -> Result<Self, StoreError> {
        let path = segment.path().join(SERIES);
        let builder = ParquetRecordBatchReaderBuilder::try_new(open(&path)?)
            .map_err(parquet_failed(&path))?;
        check_version(builder.metadata().file_metadata().key_value_metadata(), &path)?;
        let reader = builder.with_batch_size(ENTRY_ROWS).build().map_err(parquet_failed(&path))?;
        let (rows, id) = (segment.meta.rows, segment.meta.id.clone());
        Ok(Self { reader, ready: VecDeque::new(), next_row: 0, rows, path, id })
    }

    /// The next series; `None` after the last.
    pub(crate) fn next_entry(&mut self) -> Result<Option<IndexEntry>, StoreError> {
        while self.ready.is_empty() {
            let Some(batch) = self.reader.next() else {
                if self.next_row as u64 != self.rows {
                    return Err(self.corrupt("rows do not add up"));
                }
                return Ok(None);
            };
            let batch = batch.map_err(|error| parquet_failed(&self.path)(error.into()))?;
            self.take(&batch).ok_or_else(|| self.corrupt("unexpected columns"))?;
        }
        Ok(self.ready.pop_front())
    }

    fn corrupt(&self, cause: &str) -> StoreError {
        StoreError::Corrupt { id: self.id.clone(), cause: format!("{SERIES}: {cause}") }
    }

    fn take(&mut self, batch: &RecordBatch) -> Option<()> {
        let numbers = |name| -> Option<&UInt64Array> {
            batch.column_by_name(name)?.as_primitive_opt::<UInt64Type>()
        };
        let times = |name| -> Option<&TimestampMillisecondArray> {
            batch.column_by_name(name)?.as_primitive_opt::<TimestampMillisecondType>()
        };
        let (ids, starts, rows) = (numbers("series")?, numbers("row_start")?, numbers("rows")?);
        let (min, max) = (times("min_time")?, times("max_time")?);
        let scale: &Int8Array = batch.column_by_name("scale")?.as_primitive_opt::<Int8Type>()?;
        let integers = |name| -> Option<&Int64Array> {
            batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()
        };
        let (factor, base, doubles) = (integers("factor")?, integers("base")?, numbers("doubles")?);
        let steps = integers("step"); // segments of before it was kept have none
        let metrics = batch.column_by_name("metric")?.as_string_opt::<i32>()?;
        let labels = batch.column_by_name("labels")?.as_map_opt()?;
        for at in 0..batch.num_rows() {
            let key = SeriesKey::new(metrics.value(at), take_labels(labels, at)?);
            let start = usize::try_from(starts.value(at)).ok()?;
            let end = start.checked_add(usize::try_from(rows.value(at)).ok()?)?;
            if start != self.next_row {
                return None;
            }
            self.next_row = end;
            self.ready.push_back(IndexEntry {
                id: ids.value(at),
                key: Arc::new(key),
                rows: start..end,
                span: (min.value(at), max.value(at)),
                coding: Coding {
                    scale: scale.value(at),
                    factor: factor.value(at),
                    base: base.value(at),
                },
                doubles: doubles.value(at) > 0,
                step: steps.filter(|steps| steps.is_valid(at)).map(|steps| steps.value(at)),
            });
        }
        Some(())
    }
}

fn take_labels(labels: &MapArray, at: usize) -> Option<Labels> {
    let entry = labels.value(at);
    let names: &StringArray = entry.column(0).as_string_opt()?;
    let values: &StringArray = entry.column(1).as_string_opt()?;
    Some(Labels::from_pairs(names.iter().flatten().zip(values.iter().flatten())))
}

/// What the manifest should say of the segment in `folder`, from its own files.
///
/// # Errors
/// A file is missing or damaged, or of another version.
pub(crate) fn describe(folder: &Path, id: &str) -> Result<SegmentMeta, StoreError> {
    let corrupt = |cause: String| StoreError::Corrupt { id: id.to_owned(), cause };
    let mut files = [(0, 0); 2];
    for (name, file) in [SAMPLES, SERIES].into_iter().zip(&mut files) {
        let sum = super::checksum(&folder.join(name));
        *file = sum.map_err(|error| corrupt(format!("{name}: {error}")))?;
    }
    let own = std::fs::read_to_string(folder.join(SUMS));
    let own = own.map_err(|error| corrupt(format!("{SUMS}: {error}")))?;
    if own != sums(files) {
        return Err(corrupt(format!("its files are not those that {SUMS} tells of")));
    }
    let path = folder.join(SAMPLES);
    let metadata = ArrowReaderMetadata::load(&open(&path)?, ArrowReaderOptions::new())
        .map_err(parquet_failed(&path))?;
    let metadata = metadata.metadata().file_metadata();
    let pairs = metadata.key_value_metadata();
    check_version(pairs, &path)?;
    let value = |key: &str| {
        let mut pairs = pairs.into_iter().flatten();
        let found = pairs.find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
        found.ok_or_else(|| corrupt(format!("{SAMPLES} does not say its {key}")))
    };
    let resolution = value("forerunner.resolution")?;
    let resolution = Resolution::from_name(&resolution)
        .ok_or_else(|| corrupt(format!("unknown resolution {resolution:?}")))?;
    let number = |key| Ok::<u64, StoreError>(value(key)?.parse().unwrap_or(0));
    let mut meta = SegmentMeta {
        id: id.to_owned(),
        folder: folder.to_owned(),
        resolution,
        level: 0,
        span: (i64::MAX, i64::MIN),
        rows: u64::try_from(metadata.num_rows()).unwrap_or(0),
        series: 0,
        sequences: (number("forerunner.first_sequence")?, number("forerunner.last_sequence")?),
        files,
        metrics: [].into(),
    };
    let mut metrics = Vec::new();
    let mut entries = EntryReader::open(&Segment::at(folder, meta.clone()))?;
    while let Some(entry) = entries.next_entry()? {
        note_metric(&mut metrics, &entry.key);
        meta.series += 1;
        meta.span = (meta.span.0.min(entry.span.0), meta.span.1.max(entry.span.1));
    }
    meta.metrics = metrics.into();
    if meta.series == 0 {
        return Err(corrupt("holds nothing".to_owned()));
    }
    Ok(meta)
}

/// Reads the points of chosen series, one series after the other.
pub(crate) struct SeriesReader {
    rows: RowReader,
    wanted: std::vec::IntoIter<IndexEntry>,
}

impl SeriesReader {
    /// `wanted` ascend by rows, as the index gives them.
    pub(crate) fn open(
        segment: &Segment,
        index: &Index,
        wanted: Vec<IndexEntry>,
    ) -> Result<Self, StoreError> {
        let total = usize::try_from(segment.meta.rows).unwrap_or(usize::MAX);
        let ranges = wanted.iter().map(|entry| entry.rows.clone());
        let selection = RowSelection::from_consecutive_ranges(ranges, total);
        // Most metrics are integers at some scale and measured in even steps: then one column is opened.
        let doubles = wanted.iter().any(|entry| entry.doubles).then_some("vf");
        let times = wanted.iter().any(|entry| entry.step.is_none()).then_some("ts");
        let columns: Vec<&str> = ["vi"].into_iter().chain(doubles).chain(times).collect();
        let rows = RowReader::open(segment, index.samples.clone(), &columns, Some(selection))?;
        Ok(Self { rows, wanted: wanted.into_iter() })
    }

    /// The next series with all its points; `None` after the last.
    pub(crate) fn next_series(&mut self) -> Result<Option<(IndexEntry, Points)>, StoreError> {
        let Some(entry) = self.wanted.next() else { return Ok(None) };
        let points = self.rows.take(&entry)?;
        Ok(Some((entry, points)))
    }
}

/// Reads a whole segment, one series after the other, in bounded memory.
pub(crate) struct SegmentStream {
    entries: EntryReader,
    rows: RowReader,
}

impl SegmentStream {
    pub(crate) fn open(segment: &Segment) -> Result<Self, StoreError> {
        let path = segment.path().join(SAMPLES);
        let metadata = ArrowReaderMetadata::load(&open(&path)?, ArrowReaderOptions::new())
            .map_err(parquet_failed(&path))?;
        let rows = RowReader::open(segment, metadata, &["ts", "vi", "vf"], None)?;
        Ok(Self { entries: EntryReader::open(segment)?, rows })
    }

    /// The next series with all its points; `None` after the last.
    pub(crate) fn next_series(&mut self) -> Result<Option<(IndexEntry, Points)>, StoreError> {
        let Some(entry) = self.entries.next_entry()? else { return Ok(None) };
        let points = self.rows.take(&entry)?;
        Ok(Some((entry, points)))
    }
}

/// Reads points in the order of the file.
struct RowReader {
    reader: ParquetRecordBatchReader,
    batch: Option<(RecordBatch, usize)>,
    id: String,
}

impl RowReader {
    fn open(
        segment: &Segment,
        metadata: ArrowReaderMetadata,
        columns: &[&str],
        selection: Option<RowSelection>,
    ) -> Result<Self, StoreError> {
        let path = segment.path().join(SAMPLES);
        let columns = ProjectionMask::columns(metadata.parquet_schema(), columns.iter().copied());
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(open(&path)?, metadata)
                .with_projection(columns)
                .with_batch_size(BATCH_ROWS);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let reader = builder.build().map_err(parquet_failed(&path))?;
        Ok(Self { reader, batch: None, id: segment.meta.id.clone() })
    }

    /// The points of `entry`, which is the next.
    fn take(&mut self, entry: &IndexEntry) -> Result<Points, StoreError> {
        let mut points = Points::default();
        let mut left = entry.rows.len();
        while left > 0 {
            let (batch, from) = match self.batch.take() {
                Some(open) => open,
                None => (self.next_batch()?, 0),
            };
            let count = left.min(batch.num_rows() - from);
            take_points(&batch.slice(from, count), entry, &mut points)
                .ok_or_else(|| self.corrupt("unexpected columns".to_owned()))?;
            left -= count;
            if from + count < batch.num_rows() {
                self.batch = Some((batch, from + count));
            }
        }
        Ok(points)
    }

    fn next_batch(&mut self) -> Result<RecordBatch, StoreError> {
        match self.reader.next() {
            Some(Ok(batch)) => Ok(batch),
            Some(Err(error)) => Err(self.corrupt(error.to_string())),
            None => Err(self.corrupt("fewer rows than its index says".to_owned())),
        }
    }

    fn corrupt(&self, cause: String) -> StoreError {
        StoreError::Corrupt { id: self.id.clone(), cause: format!("{SAMPLES}: {cause}") }
    }
}

fn take_points(batch: &RecordBatch, entry: &IndexEntry, points: &mut Points) -> Option<()> {
    let coding = entry.coding;
    match (batch.column_by_name("ts"), entry.step) {
        (Some(ts), _) => {
            let ts = ts.as_primitive_opt::<TimestampMillisecondType>()?;
            points.times.extend_from_slice(ts.values());
        }
        (None, Some(step)) => {
            let taken = i64::try_from(points.times.len()).ok()?;
            let rows = i64::try_from(batch.num_rows()).ok()?;
            let time = |row: i64| entry.span.0.wrapping_add(row.wrapping_mul(step));
            points.times.extend((taken..taken + rows).map(time));
        }
        (None, None) => return None,
    }
    let vi: &Int64Array = batch.column_by_name("vi")?.as_primitive_opt::<Int64Type>()?;
    if vi.null_count() == 0 {
        points.values.extend(vi.values().iter().map(|step| coding.value(*step)));
        return Some(());
    }
    let vf: &Float64Array = batch.column_by_name("vf")?.as_primitive_opt::<Float64Type>()?;
    points.values.extend(
        (0..vi.len()).map(
            |at| {
                if vi.is_valid(at) { coding.value(vi.value(at)) } else { vf.value(at) }
            },
        ),
    );
    Some(())
}

fn open(path: &Path) -> Result<File, StoreError> {
    File::open(path).map_err(|source| {
        platform::PlatformError::File { attempt: "open", path: path.to_owned(), source }.into()
    })
}

fn parquet_failed(path: &Path) -> impl Fn(ParquetError) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Parquet { attempt: "read", path: path.clone(), source }
}

fn check_version(
    metadata: Option<&Vec<parquet::file::metadata::KeyValue>>,
    path: &Path,
) -> Result<(), StoreError> {
    let mut pairs = metadata.into_iter().flatten();
    let version = pairs.find(|pair| pair.key == "forerunner.version");
    let found = version.and_then(|pair| pair.value.as_ref()?.parse().ok()).unwrap_or(0);
    if found == schema::VERSION {
        return Ok(());
    }
    Err(StoreError::Version { path: path.to_owned(), found, expected: schema::VERSION })
}
