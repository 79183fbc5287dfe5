//! Tables that others give: their rows are made when a query names them.

use super::call::{labels, texts, times};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::DataFusionError;
use model::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One column of a table.
#[derive(Clone, Debug)]
pub enum Column {
    /// Texts, none of them missing.
    Texts(Vec<String>),
    /// Texts, some of which may be missing.
    MaybeTexts(Vec<Option<String>>),
    /// Times.
    Times(Vec<Option<Timestamp>>),
    /// Numbers.
    Numbers(Vec<Option<f64>>),
    /// Names and values.
    Labels(Vec<BTreeMap<String, String>>),
}

/// Columns by name, all of the same length.
pub type Columns = Vec<(String, Column)>;

/// Makes the table of a name.
type Make = Arc<dyn Fn(&str) -> Option<Columns> + Send + Sync>;

/// Tables by name.
#[derive(Clone)]
pub struct Given {
    names: Vec<&'static str>,
    make: Make,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.names).finish()
    }
}

impl Given {
    /// Tables of these names; `make` is asked for no others.
    pub fn new(
        names: &[&'static str],
        make: impl Fn(&str) -> Option<Columns> + Send + Sync + 'static,
    ) -> Self {
        Self { names: names.to_vec(), make: Arc::new(make) }
    }

    /// No table.
    pub fn none() -> Self {
        Self::new(&[], |_| None)
    }

    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    pub(crate) fn table(
        &self,
        name: &str,
    ) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(columns) = (self.make)(name) else { return Ok(None) };
        let mut fields = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for (name, column) in columns {
            let array: ArrayRef = match &column {
                Column::Texts(all) => texts(all.iter().map(String::as_str)),
                Column::MaybeTexts(all) => {
                    Arc::new(all.iter().map(Option::as_deref).collect::<StringArray>())
                }
                Column::Times(all) => times(all.iter().copied()),
                Column::Numbers(all) => Arc::new(all.iter().copied().collect::<Float64Array>()),
                Column::Labels(all) => labels(all.iter())?,
            };
            let whole = matches!(column, Column::Texts(_) | Column::Labels(_));
            fields.push(Field::new(name, array.data_type().clone(), !whole));
            arrays.push(array);
        }
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
        Ok(Some(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?)))
    }
}
