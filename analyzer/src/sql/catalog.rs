//! Schemas and their tables. A table is made when a query names it, from the snapshot of that query.
//!
//! - `public`: raw samples, one table for each metric, and the tables about them
//! - `last`: the same tables with the newest sample of each active series alone
//! - `call`: one table for each call of a table function in the query
//! - `rollup_5m`, `rollup_1h`: the same with figures of five minutes and of an hour, the label `stat` saying which

use super::call::{self, CallTable};
use super::given::Given;
use super::session::{CATALOG, SCHEMA};
use super::table::{Kind, SnapshotTable};
use super::{about, found, kept};
use crate::{Findings, Forecasts};
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Reader, Resolution, Snapshot};

/// A schema and what its tables show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Samples(Resolution),
    Last,
}

/// All schemas but `public`.
const VIEWS: [(&str, View); 3] = [
    ("last", View::Last),
    ("rollup_5m", View::Samples(Resolution::FiveMinutes)),
    ("rollup_1h", View::Samples(Resolution::Hour)),
];

/// Tables of what the analyzer found and forecast.
const OURS: [&str; 2] = [found::TABLE, kept::TABLE];

/// The one catalog of a query: the schemas that it names.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotCatalog {
    schemas: Arc<[(&'static str, Arc<SnapshotSchema>)]>,
    calls: Arc<CallSchema>,
}

/// The tables of the calls in a query, by function and place.
#[derive(Debug)]
struct CallSchema(Vec<(String, Arc<CallTable>)>);

#[async_trait]
impl SchemaProvider for CallSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let found = self.0.iter().find(|(have, _)| have == name);
        Ok(found.map(|(_, table)| Arc::clone(table) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.iter().any(|(have, _)| have == name)
    }
}

#[derive(Debug)]
struct SnapshotSchema {
    snapshot: Arc<Snapshot>,
    reader: Reader,
    findings: Findings,
    forecasts: Forecasts,
    given: Given,
    public: bool,
}

impl SnapshotCatalog {
    /// Takes the snapshots that a query with these `references` reads.
    pub(crate) fn new(
        reader: &Reader,
        (findings, forecasts, given): (&Findings, &Forecasts, &Given),
        references: &[TableReference],
        calls: Vec<(String, Arc<CallTable>)>,
    ) -> Self {
        let all = [(SCHEMA, View::Samples(Resolution::Raw))].into_iter().chain(VIEWS);
        let wanted = all.filter(|(name, _)| {
            *name == SCHEMA || references.iter().any(|it| it.schema() == Some(name))
        });
        let schemas = wanted.map(|(name, view)| {
            let here = |it: &&TableReference| it.schema().unwrap_or(SCHEMA) == name;
            let tables: BTreeSet<&str> =
                references.iter().filter(here).map(TableReference::table).collect();
            let tables: Vec<&str> = tables.into_iter().collect();
            let others = name == SCHEMA
                && references.iter().any(|it| it.schema() == Some("information_schema"));
            let reader = match view {
                View::Samples(resolution) => reader.at(resolution),
                View::Last => reader.clone(),
            };
            // Metrics alone are read alone; a table over all of them, or about them, needs all.
            let all = others || tables.iter().any(|table| !reader.has_metric(table));
            let metrics = (!all).then_some(tables.as_slice());
            let snapshot = match view {
                View::Samples(_) => reader.snapshot(metrics),
                View::Last => reader.last(metrics, &|_| true),
            };
            let public = name == SCHEMA;
            let (findings, forecasts) = (findings.clone(), forecasts.clone());
            let (snapshot, given) = (Arc::new(snapshot), given.clone());
            let schema = SnapshotSchema { snapshot, reader, findings, forecasts, given, public };
            (name, Arc::new(schema))
        });
        Self { schemas: schemas.collect(), calls: Arc::new(CallSchema(calls)) }
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
        (name == CATALOG).then(|| Arc::new(self.clone()) as _)
    }
}

impl CatalogProvider for SnapshotCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == call::SCHEMA {
            return Some(Arc::clone(&self.calls) as _);
        }
        let (_, schema) = self.schemas.iter().find(|(have, _)| *have == name)?;
        Some(Arc::clone(schema) as _)
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

    fn about(&self, name: &str) -> bool {
        self.public
            && (about::TABLES.contains(&name)
                || OURS.contains(&name)
                || self.given.names().contains(&name))
    }
}

#[async_trait]
impl SchemaProvider for SnapshotSchema {
    fn table_names(&self) -> Vec<String> {
        let metrics = self.snapshot.metrics().into_iter().map(|metric| metric.to_string());
        let about = about::TABLES.into_iter().chain(OURS).chain(self.given.names().iter().copied());
        let about = about.filter(|_| self.public);
        about.chain(["samples", "series"]).map(str::to_owned).chain(metrics).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(kind) = self.kind(name) {
            return Ok(Some(Arc::new(SnapshotTable::new(Arc::clone(&self.snapshot), kind))));
        }
        if self.about(name) {
            return Ok(Some(match name {
                found::TABLE => found::table(&self.findings.list())?,
                kept::TABLE => kept::table(&self.forecasts.list())?,
                name if self.given.names().contains(&name) => return self.given.table(name),
                _ => about::table(name, &self.reader)?,
            }));
        }
        Ok(None)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.about(name) || self.kind(name).is_some()
    }
}
