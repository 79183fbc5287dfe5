//! Metric names as tables. A table is made when a query names it, from the snapshot of that query.

use super::session::{CATALOG, SCHEMA};
use super::table::{Kind, SnapshotTable};
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use std::sync::Arc;
use store::Snapshot;

/// The one catalog of a query.
#[derive(Debug)]
pub(crate) struct SnapshotCatalog {
    schema: Arc<SnapshotSchema>,
}

#[derive(Debug)]
struct SnapshotSchema {
    snapshot: Arc<Snapshot>,
}

impl SnapshotCatalog {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { schema: Arc::new(SnapshotSchema { snapshot }) }
    }
}

impl CatalogProviderList for SnapshotCatalog {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(OneSchema(Arc::clone(&self.schema))) as _)
    }
}

#[derive(Debug)]
struct OneSchema(Arc<SnapshotSchema>);

impl CatalogProvider for OneSchema {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::clone(&self.0) as _)
    }
}

impl SnapshotSchema {
    fn kind(&self, name: &str) -> Option<Kind> {
        match name {
            "samples" => Some(Kind::Samples),
            "series" => Some(Kind::Series),
            metric => {
                let known = self.snapshot.has_metric(metric);
                known.then(|| Kind::Metric {
                    name: metric.into(),
                    labels: self.snapshot.label_names(metric),
                })
            }
        }
    }
}

#[async_trait]
impl SchemaProvider for SnapshotSchema {
    fn table_names(&self) -> Vec<String> {
        let metrics = self.snapshot.metrics().into_iter().map(|metric| metric.to_string());
        ["samples", "series"].map(str::to_owned).into_iter().chain(metrics).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let table =
            self.kind(name).map(|kind| SnapshotTable::new(Arc::clone(&self.snapshot), kind));
        Ok(table.map(|table| Arc::new(table) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.kind(name).is_some()
    }
}
