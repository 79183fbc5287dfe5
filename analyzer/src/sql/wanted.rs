//! Breaks a query off that nobody waits for any more, where the engine works long without asking: in joins that compare all with
//! all, and in our aggregates. Everywhere else its task ends at the next batch.

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody waits for the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    given_up: Arc<AtomicBool>,
}

/// Whoever waits; dropped when the answer came, the time is up, or the client went away.
#[derive(Debug)]
pub(crate) struct Waiting(Wanted);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Wanted {
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting(self.clone())
    }

    /// Whatever works on it may end.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Fails once nobody waits.
    pub(crate) fn ask(&self) -> Result<(), DataFusionError> {
        if self.is_given_up() {
            return Err(DataFusionError::Execution("nobody waits for this query".to_owned()));
        }
        Ok(())
    }

    /// The same plan, in which joins ask for each batch that they compare, and let others run after some that they give.
    pub(crate) fn watch(
        &self,
        plan: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let watched = plan.transform_up(|plan| {
            let joined: Arc<dyn ExecutionPlan> =
                if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
                    let filter = join.filter().map(|filter| self.asking(filter));
                    Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?)
                } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
                    let filter = join.filter().map(|filter| self.asking(filter));
                    join.builder().with_filter(filter).build_exec()?
                } else if plan.name().contains("Join") {
                    plan
                } else {
                    return Ok(Transformed::no(plan));
                };
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(joined)) as _))
        });
        Ok(watched?.data)
    }

    fn asking(&self, filter: &JoinFilter) -> JoinFilter {
        let asking = Asking { inner: Arc::clone(filter.expression()), wanted: self.clone() };
        let columns = filter.column_indices().to_vec();
        JoinFilter::new(Arc::new(asking), columns, Arc::clone(filter.schema()))
    }
}

/// An expression that is worked out only while it is wanted.
#[derive(Debug)]
struct Asking {
    inner: Arc<dyn PhysicalExpr>,
    wanted: Wanted,
}

impl PartialEq for Asking {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Asking {}

impl Hash for Asking {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Asking {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue, DataFusionError> {
        self.wanted.ask()?;
        self.inner.evaluate(batch)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef, DataFusionError> {
        self.inner.return_field(schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let inner = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(Self { inner, wanted: self.wanted.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
