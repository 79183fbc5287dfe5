//! Answers as text and bytes: a table for people, CSV, JSON and an Arrow stream for programs.

use super::session::Answer;
use crate::QueryError;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use serde_json::{Map, Value, json};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Drawn with lines, for people.
    Table,
    /// RFC 4180 with a header; null is empty.
    Csv,
    /// `{"columns":[{"name","type"}],"rows":[[…]]}`; times are RFC 3339, NaN and infinities are strings.
    Json,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// The media type, as in `Accept` and `Content-Type`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The format that an `Accept` header asks for first; JSON without one that we know.
    pub fn from_accept(accept: &str) -> Self {
        let known = accept.split(',').find_map(|part| match part.split(';').next()?.trim() {
            "text/plain" => Some(Self::Table),
            "text/csv" => Some(Self::Csv),
            "application/json" => Some(Self::Json),
            "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
            "application/vnd.apache.parquet" => Some(Self::Parquet),
            _ => None,
        });
        known.unwrap_or(Self::Json)
    }
}

impl Answer {
    /// The answer in `format`.
    ///
    /// # Errors
    /// A value could not be written; none is known that cannot.
    pub fn encode(&self, format: Format) -> Result<Vec<u8>, QueryError> {
        let failed = |error: ArrowError| QueryError::Failed(error.to_string());
        match format {
            Format::Table => self.table().map_err(failed),
            Format::Csv => self.csv().map_err(failed),
            Format::Json => self.json().map_err(failed),
            Format::Arrow => self.arrow().map_err(failed),
            Format::Parquet => self.parquet(),
        }
    }

    fn table(&self) -> Result<Vec<u8>, ArrowError> {
        let empty = [RecordBatch::new_empty(self.schema.clone())];
        let batches = if self.batches.is_empty() { &empty } else { self.batches.as_slice() };
        let drawn = pretty_format_batches_with_options(batches, &options())?;
        let rows = self.rows();
        let noun = if rows == 1 { "row" } else { "rows" };
        Ok(format!("{drawn}\n{rows} {noun}\n").into_bytes())
    }

    fn csv(&self) -> Result<Vec<u8>, ArrowError> {
        let mut out = String::new();
        let names = self.schema.fields().iter().map(|field| field.name().clone());
        csv_line(&mut out, names);
        for batch in &self.batches {
            let options = options();
            let columns = formatters(batch, &options)?;
            for row in 0..batch.num_rows() {
                csv_line(&mut out, columns.iter().map(|column| column.value(row).to_string()));
            }
        }
        Ok(out.into_bytes())
    }

    fn json(&self) -> Result<Vec<u8>, ArrowError> {
        let columns: Vec<Value> = self
            .schema
            .fields()
            .iter()
            .map(|field| json!({ "name": field.name(), "type": type_name(field.data_type()) }))
            .collect();
        // Row by row: a tree of all of it would take more memory than the rows themselves.
        let mut out = format!("{{\"columns\":{},\"rows\":[", Value::Array(columns)).into_bytes();
        let mut first = true;
        for batch in &self.batches {
            let options = options();
            let formatters = formatters(batch, &options)?;
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter().zip(&formatters);
                let cells = cells.map(|(column, text)| json_value(column, row, text));
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                serde_json::to_writer(&mut out, &Value::Array(cells.collect()))
                    .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
            }
        }
        out.extend_from_slice(b"]}\n");
        Ok(out)
    }

    fn arrow(&self) -> Result<Vec<u8>, ArrowError> {
        let mut writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
        for batch in &self.batches {
            writer.write(batch)?;
        }
        writer.into_inner()
    }
}

fn options() -> FormatOptions<'static> {
    FormatOptions::new()
        .with_null("")
        .with_display_error(true)
        .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.3fZ"))
}

fn formatters<'a>(
    batch: &'a RecordBatch,
    options: &FormatOptions<'a>,
) -> Result<Vec<ArrayFormatter<'a>>, ArrowError> {
    batch.columns().iter().map(|column| ArrayFormatter::try_new(column, options)).collect()
}

fn csv_line(out: &mut String, cells: impl Iterator<Item = String>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(&cell);
        }
    }
    out.push('\n');
}

fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => "string".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Map(..) => "map".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

fn json_value(column: &dyn Array, row: usize, text: &ArrayFormatter<'_>) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            match serde_json::Number::from_f64(value) {
                Some(number) => Value::Number(number),
                None if value.is_nan() => json!("NaN"),
                None => json!(if value > 0.0 { "+Inf" } else { "-Inf" }),
            }
        }
        // 64-bit integers that a double cannot hold would be changed by many readers.
        kind if kind.is_integer() => {
            let number = text.value(row).to_string();
            match number.parse::<i64>() {
                Ok(small) if small.unsigned_abs() < 1 << 53 => json!(small),
                _ => Value::String(number),
            }
        }
        DataType::Map(..) => {
            let entry = column.as_map().value(row);
            let strings = |at: usize| entry.column(at).as_string_opt::<i32>();
            match (strings(0), strings(1)) {
                (Some(names), Some(values)) => {
                    let pairs = names.iter().flatten().zip(values.iter().flatten());
                    let object = pairs.map(|(name, value)| (name.to_owned(), json!(value)));
                    Value::Object(object.collect::<Map<_, _>>())
                }
                _ => Value::String(text.value(row).to_string()),
            }
        }
        _ => Value::String(text.value(row).to_string()),
    }
}
