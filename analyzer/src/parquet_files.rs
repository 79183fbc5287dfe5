//! Answers as Parquet files, and rows out of them: what other tools write and read.

use crate::sql::session::Answer;
use crate::sql::table::labels_type;
use crate::{Format, QueryError};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Schema, TimeUnit, TimestampMillisecondType};
use arrow::ipc::reader::StreamReader;
use model::{Labels, SeriesKey, Timestamp};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// Writes batches of rows, one after the other, to one Parquet file; the first says which columns there are.
pub struct ParquetWriter<W: Write + Send> {
    writer: Option<ArrowWriter<W>>,
    sink: Option<W>,
    rows: u64,
}

impl<W: Write + Send> std::fmt::Debug for ParquetWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetWriter").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Writes to `sink`.
    pub fn new(sink: W) -> Self {
        Self { writer: None, sink: Some(sink), rows: 0 }
    }

    /// Appends the rows of an Arrow stream, as [`Format::Arrow`] gives it.
    ///
    /// # Errors
    /// The stream is damaged, has other columns than the first, or the sink failed.
    pub fn append(&mut self, stream: &[u8]) -> Result<(), QueryError> {
        let reader = StreamReader::try_new(stream, None).map_err(failed)?;
        let schema = reader.schema();
        for batch in reader {
            self.write(&schema, &batch.map_err(failed)?)?;
        }
        if self.writer.is_none() {
            self.write(&schema, &RecordBatch::new_empty(Arc::clone(&schema)))?;
        }
        Ok(())
    }

    fn write(&mut self, schema: &Arc<Schema>, batch: &RecordBatch) -> Result<(), QueryError> {
        if let Some(sink) = self.sink.take() {
            let level = ZstdLevel::try_new(3).map_err(failed)?;
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(level))
                .set_max_row_group_row_count(Some(1 << 20))
                .build();
            let writer = ArrowWriter::try_new(sink, Arc::clone(schema), Some(properties));
            self.writer = Some(writer.map_err(failed)?);
        }
        self.rows += batch.num_rows() as u64;
        match &mut self.writer {
            Some(writer) => writer.write(batch).map_err(failed),
            None => Ok(()),
        }
    }

    /// Completes the file and returns how many rows are in it.
    ///
    /// # Errors
    /// The sink failed.
    pub fn finish(self) -> Result<u64, QueryError> {
        if let Some(writer) = self.writer {
            writer.close().map_err(failed)?;
        }
        Ok(self.rows)
    }
}

impl Answer {
    /// The answer as a whole Parquet file.
    pub(crate) fn parquet(&self) -> Result<Vec<u8>, QueryError> {
        let mut bytes = Vec::new();
        let mut writer = ParquetWriter::new(&mut bytes);
        writer.append(&self.encode(Format::Arrow)?)?;
        writer.finish()?;
        Ok(bytes)
    }
}

/// Hands each row of a Parquet file to `take`: `time` (a timestamp, or milliseconds since 1970), `value`
/// (a number), `metric` (a text, unless `metric` names it), and as labels the map `labels`, if there is one, and
/// every other column of text.
///
/// # Errors
/// The file is none, a column is missing or of another type, or `take` failed.
pub fn read_parquet(
    file: File,
    metric: Option<&str>,
    take: &mut dyn FnMut((SeriesKey, Timestamp, f64)) -> Result<(), QueryError>,
) -> Result<u64, QueryError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
    let mut rows = 0;
    for batch in builder.with_batch_size(8_192).build().map_err(failed)? {
        let batch = batch.map_err(failed)?;
        let columns = Columns::of(&batch, metric)?;
        for row in 0..batch.num_rows() {
            take(columns.row(row)?)?;
            rows += 1;
        }
    }
    Ok(rows)
}

/// The columns of one batch, of the types that rows need.
struct Columns<'a> {
    time: ArrayRef,
    value: ArrayRef,
    metric: Result<StringArray, &'a str>,
    labels: Option<ArrayRef>,
    texts: Vec<(String, StringArray)>,
}

impl<'a> Columns<'a> {
    fn of(batch: &RecordBatch, metric: Option<&'a str>) -> Result<Self, QueryError> {
        // A text that is no number is an error with its column's name, not a null.
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let column = |name: &str, kind: &DataType| {
            let found = batch.column_by_name(name).ok_or_else(|| {
                let hint = if name == "metric" { "; name it with --metric" } else { "" };
                QueryError::Invalid(format!("no column named {name}{hint}"))
            })?;
            cast_with_options(found, kind, &strict)
                .map_err(|error| QueryError::Invalid(format!("column {name}: {error}")))
        };
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let text = |array: ArrayRef| array.as_string::<i32>().clone();
        let is_map = |kind: &DataType| matches!(kind, DataType::Map(..));
        let schema = batch.schema();
        let texts = schema.fields().iter().filter(|field| {
            let ours = ["time", "value", "labels"].contains(&field.name().as_str());
            let is_metric = field.name() == "metric" && metric.is_none();
            let kind = match field.data_type() {
                DataType::Dictionary(_, kind) => kind.as_ref(),
                kind => kind,
            };
            !ours && !is_metric && kind.is_string()
        });
        let texts = texts
            .map(|field| Ok((field.name().clone(), text(column(field.name(), &DataType::Utf8)?))));
        let labels = match batch.column_by_name("labels") {
            Some(labels) if is_map(labels.data_type()) => Some(column("labels", &labels_type())?),
            _ => None,
        };
        Ok(Self {
            time: column("time", &time)?,
            value: column("value", &DataType::Float64)?,
            metric: match metric {
                Some(metric) => Err(metric),
                None => Ok(text(column("metric", &DataType::Utf8)?)),
            },
            labels,
            texts: texts.collect::<Result<_, QueryError>>()?,
        })
    }

    fn row(&self, row: usize) -> Result<(SeriesKey, Timestamp, f64), QueryError> {
        let metric = match &self.metric {
            Ok(column) if column.is_valid(row) => column.value(row),
            Ok(_) => return Err(QueryError::Invalid(format!("row {row} has no metric"))),
            Err(metric) => metric,
        };
        if self.time.is_null(row) || self.value.is_null(row) {
            return Err(QueryError::Invalid(format!("row {row} has no time or no value")));
        }
        let entry = self.labels.as_ref().filter(|labels| labels.is_valid(row));
        let entry = entry.map(|labels| labels.as_map().value(row));
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        if let Some(entry) = &entry {
            let (names, values) = (entry.column(0).as_string::<i32>(), entry.column(1).as_string());
            pairs.extend(names.iter().flatten().zip(StringArray::iter(values).flatten()));
        }
        let texts = self.texts.iter().filter(|(_, column)| column.is_valid(row));
        pairs.extend(texts.map(|(name, column)| (name.as_str(), column.value(row))));
        let time = self.time.as_primitive::<TimestampMillisecondType>().value(row);
        let value = self.value.as_primitive::<Float64Type>().value(row);
        Ok((SeriesKey::new(metric, Labels::from_pairs(pairs)), Timestamp(time), value))
    }
}

fn failed(error: impl ToString) -> QueryError {
    QueryError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use arrow::datatypes::Field;
    use std::io::{Seek, SeekFrom};

    fn file(columns: Vec<(&str, ArrayRef)>) -> File {
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
            .collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    fn rows(file: File, metric: Option<&str>) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        let mut take = |(key, time, value): (SeriesKey, Timestamp, f64)| {
            all.push(format!("{key} {value} {}", time.millis()));
            Ok(())
        };
        read_parquet(file, metric, &mut take).map_err(|error| error.to_string())?;
        Ok(all)
    }

    #[test]
    fn rows_of_other_tools_are_read_and_what_is_missing_is_told() {
        let time = || -> ArrayRef { Arc::new(Int64Array::from(vec![1000, 2000])) };
        let value = || -> ArrayRef { Arc::new(Float64Array::from(vec![1.5, -2.0])) };
        let text =
            |texts: [Option<&str>; 2]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
        let columns = vec![("time", time()), ("host", text([Some("a"), None])), ("value", value())];
        assert_eq!(
            rows(file(columns), Some("m")).unwrap(),
            ["m{host=\"a\"} 1.5 1000", "m -2 2000"]
        );
        let columns = vec![("time", time()), ("value", value())];
        let cause = rows(file(columns), None).unwrap_err();
        assert_eq!(cause, "no column named metric; name it with --metric");
        let columns = vec![("time", text([Some("x"), None])), ("value", value())];
        assert!(rows(file(columns), Some("m")).unwrap_err().contains("column time"));
    }
}
