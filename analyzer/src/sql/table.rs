//! The columns of each table, and how a scan of it begins.
//!
//! - a metric: `time`, one nullable string column for each label, `value`
//! - `samples`, everything: `time`, `metric`, `labels`, `series`, `value`
//! - `series`, one row each: `series`, `metric`, `labels`, `first_time`, `last_time`

use super::pushdown::{self, TimeRange};
use super::scan::{Job, ScanExec};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::collections::BTreeSet;
use std::sync::Arc;
use store::Snapshot;

/// What a table shows.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// One metric.
    Metric { name: Arc<str>, labels: BTreeSet<Arc<str>> },
    /// Every sample.
    Samples,
    /// Every series.
    Series,
}

/// A table over one snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotTable {
    snapshot: Arc<Snapshot>,
    kind: Kind,
    schema: SchemaRef,
}

impl SnapshotTable {
    pub(crate) fn new(snapshot: Arc<Snapshot>, kind: Kind) -> Self {
        let schema = Arc::new(kind.schema());
        Self { snapshot, kind, schema }
    }
}

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The type of the column `labels`, as arrow's map builder makes it.
pub(crate) fn labels_type() -> DataType {
    let fields = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8, true),
    ]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
}

/// The column of a label. A label that has the name of a column of ours gets `label_` before it.
pub(crate) fn label_column(label: &str) -> String {
    if matches!(label, "time" | "value") { format!("label_{label}") } else { label.to_owned() }
}

impl Kind {
    fn schema(&self) -> Schema {
        let field = |name: &str, kind: DataType| Field::new(name, kind, false);
        match self {
            Self::Metric { labels, .. } => {
                let mut fields = vec![field("time", time_type())];
                let label =
                    |label: &Arc<str>| Field::new(label_column(label), DataType::Utf8View, true);
                fields.extend(labels.iter().map(label));
                fields.push(field("value", DataType::Float64));
                Schema::new(fields)
            }
            Self::Samples => Schema::new(vec![
                field("time", time_type()),
                field("metric", DataType::Utf8View),
                field("labels", labels_type()),
                field("series", DataType::UInt64),
                field("value", DataType::Float64),
            ]),
            Self::Series => Schema::new(vec![
                field("series", DataType::UInt64),
                field("metric", DataType::Utf8View),
                field("labels", labels_type()),
                field("first_time", time_type()),
                field("last_time", time_type()),
            ]),
        }
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        let answer = |filter: &&Expr| match &self.kind {
            Kind::Metric { .. } if pushdown::only_labels(filter) => {
                TableProviderFilterPushDown::Exact
            }
            Kind::Metric { .. } | Kind::Samples if pushdown::bounds_time(filter) => {
                TableProviderFilterPushDown::Inexact
            }
            Kind::Samples | Kind::Series if pushdown::names_metric(filter).is_some() => {
                TableProviderFilterPushDown::Inexact
            }
            _ => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let range = filters.iter().fold(TimeRange::ALL, |range, filter| range.narrow(filter));
        let metrics = match &self.kind {
            Kind::Metric { name, .. } => vec![Arc::clone(name)],
            Kind::Samples | Kind::Series => {
                let wanted: Vec<String> =
                    filters.iter().filter_map(pushdown::names_metric).collect();
                let all = self.snapshot.metrics().into_iter();
                all.filter(|metric| wanted.iter().all(|name| name.as_str() == metric.as_ref()))
                    .collect()
            }
        };
        let labels = match &self.kind {
            Kind::Metric { .. } => pushdown::label_filters(state, filters, &self.schema)?,
            Kind::Samples | Kind::Series => Vec::new(),
        };
        let job = Job {
            snapshot: Arc::clone(&self.snapshot),
            kind: self.kind.clone(),
            metrics,
            range,
            labels,
            schema: Arc::clone(&self.schema),
            projection: projection.cloned(),
            limit,
        };
        let parts = state.config().target_partitions();
        Ok(Arc::new(ScanExec::plan(job, parts).await?))
    }
}
