//! The table `forecasts`: forecasts that were made, with what came.

use super::call::{labels, texts, times};
use crate::forecast::kept::Kept;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::DataFusionError;
use std::sync::Arc;

/// Its name.
pub(crate) const TABLE: &str = "forecasts";

/// All of `kept` as a table: `made`, `metric`, `labels`, `horizon_hours`, `time`, `value`, the bands, `actual`.
pub(crate) fn table(kept: &[Kept]) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let hours: UInt64Array = kept.iter().map(|it| Some(it.horizon_hours as u64)).collect();
    let numbers = |number: &dyn Fn(&Kept) -> Option<f64>| -> ArrayRef {
        Arc::new(kept.iter().map(number).collect::<Float64Array>())
    };
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("made".to_owned(), times(kept.iter().map(|it| Some(it.made)))),
        ("metric".to_owned(), texts(kept.iter().map(|it| it.subject.metric.as_str()))),
        ("labels".to_owned(), labels(kept.iter().map(|it| &it.subject.labels))?),
        ("horizon_hours".to_owned(), Arc::new(hours)),
        ("time".to_owned(), times(kept.iter().map(|it| Some(it.time)))),
        ("value".to_owned(), numbers(&|it| Some(it.value))),
    ];
    for (at, share) in [50, 80, 95].into_iter().enumerate() {
        for (end, name) in ["low", "high"].into_iter().enumerate() {
            let column = numbers(&|it| it.bands.get(at)?.get(end).copied());
            columns.push((format!("{name}_{share}"), column));
        }
    }
    columns.push(("actual".to_owned(), numbers(&|it| it.actual)));
    let field = |(name, array): &(String, ArrayRef)| {
        Field::new(name, array.data_type().clone(), array.null_count() > 0 || name == "actual")
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}
