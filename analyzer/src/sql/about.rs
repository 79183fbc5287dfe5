//! Tables about the store itself, made anew for each query.
//!
//! - `segments`: one row each: `segment`, `resolution`, `level`, `first_time`, `last_time`, `samples`,
//!   `series`, `bytes`, `path`
//! - `metrics`: what targets say of them: `metric`, `type`, `unit`, `help`
//! - `cardinality`: one row for each label of each active metric: `metric`, `series`, `label`, `label_values`

use super::table::time_type;
use arrow::array::{
    ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::DataFusionError;
use std::sync::Arc;
use store::Reader;

/// Their names.
pub(crate) const TABLES: [&str; 3] = ["segments", "cardinality", "metrics"];

/// The table of that name.
pub(crate) fn table(
    name: &str,
    reader: &Reader,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let columns = match name {
        "segments" => segments(reader),
        "cardinality" => cardinality(reader),
        _ => metrics(reader),
    };
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), false))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

type Column = (&'static str, ArrayRef);

fn segments(reader: &Reader) -> Vec<Column> {
    let all = reader.segment_list();
    let numbers = |number: fn(&store::SegmentSummary) -> u64| -> ArrayRef {
        Arc::new(all.iter().map(number).map(Some).collect::<UInt64Array>())
    };
    let times = |time: fn(&store::SegmentSummary) -> i64| -> ArrayRef {
        let times: TimestampMillisecondArray = all.iter().map(time).map(Some).collect();
        Arc::new(times.with_data_type(time_type()))
    };
    let texts = |text: fn(&store::SegmentSummary) -> String| -> ArrayRef {
        Arc::new(all.iter().map(text).map(Some).collect::<StringArray>())
    };
    vec![
        ("segment", texts(|it| it.id.clone())),
        ("resolution", texts(|it| it.resolution.name().to_owned())),
        ("level", Arc::new(all.iter().map(|it| Some(it.level)).collect::<UInt8Array>())),
        ("first_time", times(|it| it.span.0)),
        ("last_time", times(|it| it.span.1)),
        ("samples", numbers(|it| it.samples)),
        ("series", numbers(|it| it.series)),
        ("bytes", numbers(|it| it.bytes)),
        ("path", texts(|it| it.path.display().to_string())),
    ]
}

fn cardinality(reader: &Reader) -> Vec<Column> {
    let all = reader.cardinality();
    let metrics: StringArray = all.iter().map(|it| Some(it.metric.as_ref())).collect();
    let labels: StringArray = all.iter().map(|it| Some(it.label.as_ref())).collect();
    let series: UInt64Array = all.iter().map(|it| Some(it.series as u64)).collect();
    let values: UInt64Array = all.iter().map(|it| Some(it.values as u64)).collect();
    vec![
        ("metric", Arc::new(metrics)),
        ("series", Arc::new(series)),
        ("label", Arc::new(labels)),
        ("label_values", Arc::new(values)),
    ]
}

fn metrics(reader: &Reader) -> Vec<Column> {
    let all = reader.infos();
    let texts = |text: fn((&Box<str>, &model::MetricInfo)) -> String| -> ArrayRef {
        Arc::new(all.iter().map(text).map(Some).collect::<StringArray>())
    };
    vec![
        ("metric", texts(|(metric, _)| metric.to_string())),
        ("type", texts(|(_, info)| info.kind.as_str().to_owned())),
        ("unit", texts(|(_, info)| info.unit.to_string())),
        ("help", texts(|(_, info)| info.help.to_string())),
    ]
}
