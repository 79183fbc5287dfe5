//! The columns of a segment's two files, their sort order and how each is encoded.

use super::write::Spec;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// The version of both files; in their key-value metadata.
pub(crate) const VERSION: u32 = 2;

/// Rows in a row group.
const ROW_GROUP: usize = 1_048_576;
/// Rows in a data page, the unit that an exact row selection reads.
const PAGE_ROWS: usize = 32_768;

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Columns of `samples.parquet`, sorted by (sid, ts). The value is
/// `coalesce(vf, (vi * factor + base) / 10^scale)`.
pub(crate) fn samples() -> Arc<Schema> {
    let metric = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("metric", metric, false),
        Field::new("sid", DataType::UInt32, false),
        Field::new("ts", time_type(), false),
        Field::new("scale", DataType::Int8, false),
        Field::new("factor", DataType::Int64, false),
        Field::new("base", DataType::Int64, false),
        Field::new("vi", DataType::Int64, true),
        Field::new("vf", DataType::Float64, true),
    ]))
}

/// Columns of `series.parquet`, sorted by sid, which is the order of (metric, labels).
pub(crate) fn series() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("sid", DataType::UInt32, false),
        Field::new("series", DataType::UInt64, false),
        Field::new("metric", DataType::Utf8, false),
        labels_field(),
        Field::new("row_start", DataType::UInt64, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("min_time", time_type(), false),
        Field::new("max_time", time_type(), false),
        Field::new("scale", DataType::Int8, false),
        Field::new("factor", DataType::Int64, false),
        Field::new("base", DataType::Int64, false),
        Field::new("doubles", DataType::UInt64, false),
        Field::new("step", DataType::Int64, true),
    ]))
}

/// The column of labels, with the field names that arrow's map builder uses.
pub(crate) fn labels_field() -> Field {
    let entry = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8, true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entry), false);
    Field::new("labels", DataType::Map(Arc::new(entries), false), false)
}

/// How `samples.parquet` is written.
pub(crate) fn samples_properties(spec: &Spec<'_>) -> WriterProperties {
    let column = |name: &str| ColumnPath::from(name);
    let mut builder = properties(spec)
        .set_dictionary_enabled(false)
        .set_sorting_columns(Some(vec![ascending(1), ascending(2)]))
        .set_column_encoding(column("ts"), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(column("vi"), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(column("vf"), Encoding::BYTE_STREAM_SPLIT)
        // Which series and times a row group has; pages are found by the rows that the index names.
        .set_statistics_enabled(EnabledStatistics::None);
    for name in ["metric", "sid", "ts"] {
        builder = builder.set_column_statistics_enabled(column(name), EnabledStatistics::Chunk);
    }
    for name in ["sid", "factor", "base"] {
        // Where a row group has too many of them for a dictionary.
        builder = builder.set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    for name in ["metric", "sid", "scale", "factor", "base"] {
        builder = builder.set_column_dictionary_enabled(column(name), true);
    }
    builder.build()
}

/// How `series.parquet` is written.
pub(crate) fn series_properties(spec: &Spec<'_>) -> WriterProperties {
    let mut builder = properties(spec).set_sorting_columns(Some(vec![ascending(0)]));
    for name in ["sid", "row_start", "rows", "min_time", "max_time", "base", "doubles"] {
        // Ascending, or much alike from row to row.
        let column = ColumnPath::from(name);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    builder.set_column_dictionary_enabled(ColumnPath::from("series"), false).build()
}

fn properties(spec: &Spec<'_>) -> parquet::file::properties::WriterPropertiesBuilder {
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    // Fresh segments are merged soon; what merging writes stays.
    let level = ZstdLevel::try_new(if spec.level == 0 { 1 } else { 3 }).unwrap_or_default();
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("forerunner ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_key_value_metadata(Some(vec![
            pair("forerunner.version", VERSION.to_string()),
            pair("forerunner.resolution", spec.resolution.name().to_owned()),
            pair("forerunner.first_sequence", spec.sequences.0.to_string()),
            pair("forerunner.last_sequence", spec.sequences.1.to_string()),
        ]))
}

fn ascending(column: i32) -> SortingColumn {
    SortingColumn { column_idx: column, descending: false, nulls_first: false }
}
