//! The table `findings`: one row each, the newest first.

use super::call::{labels, texts, times};
use crate::finding::Finding;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::DataFusionError;
use std::sync::Arc;

/// Its name.
pub(crate) const TABLE: &str = "findings";

/// All of `found` as a table.
pub(crate) fn table(found: &[Finding]) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let own: Vec<(String, String)> = found
        .iter()
        .map(|it| {
            let numbers = serde_json::to_string(&it.numbers).unwrap_or_default();
            (it.words.get(1..).unwrap_or_default().join("\n"), numbers)
        })
        .collect();
    let maybe = |text: fn(&Finding) -> Option<&str>| -> ArrayRef {
        Arc::new(found.iter().map(text).collect::<StringArray>())
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", texts(found.iter().map(|it| it.id.as_str()))),
        ("kind", texts(found.iter().map(|it| it.kind.name()))),
        ("severity", texts(found.iter().map(|it| it.severity.name()))),
        ("at", times(found.iter().map(|it| Some(it.at)))),
        ("since", times(found.iter().map(|it| Some(it.since)))),
        ("until", times(found.iter().map(|it| it.until))),
        ("metric", texts(found.iter().map(|it| it.subject.metric.as_str()))),
        ("labels", labels(found.iter().map(|it| &it.subject.labels))?),
        ("summary", texts(found.iter().map(Finding::summary))),
        ("evidence", texts(own.iter().map(|(evidence, _)| evidence.as_str()))),
        ("numbers", texts(own.iter().map(|(_, numbers)| numbers.as_str()))),
        ("rank", Arc::new(found.iter().map(|it| Some(it.rank)).collect::<Float64Array>())),
        ("verdict", maybe(|it| it.verdict.map(crate::Verdict::name))),
        ("belongs_to", maybe(|it| it.belongs_to.as_deref())),
        ("sql", texts(found.iter().map(|it| it.sql.as_str()))),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| {
            let nullable = matches!(*name, "until" | "verdict" | "belongs_to");
            Field::new(*name, array.data_type().clone(), nullable)
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}
