//! One query: parse, take one snapshot of the metrics that it names, plan, run within the limits.

use super::call::{self, CallTable};
use super::catalog::SnapshotCatalog;
use super::given::Given;
use super::wanted::Wanted;
use super::workers::Workers;
use super::{direct, functions};
use crate::forecast::capacity::{self, Capacity};
use crate::watch::replay::{Question, replay};
use crate::{AnalyzerConfig, Finding, Findings, Forecasts, Kind, QueryConfig, QueryError};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use futures_util::StreamExt;
use model::Timestamp;
use model::text::nearest;
use runtime::Clock;
use serde_json::Value;
use std::sync::Arc;
use store::Reader;
use tokio::sync::Semaphore;

/// The capability to query. Clones share limits and store.
#[derive(Clone)]
pub struct Query(Arc<Shared>);

struct Shared {
    config: QueryConfig,
    reader: Reader,
    analyzer: AnalyzerConfig,
    findings: Findings,
    forecasts: Forecasts,
    given: Given,
    /// What every query begins with; large, so it is never copied but to run one.
    base: SessionState,
    running: Arc<Semaphore>,
    workers: Workers,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// The rows of an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    /// The memory of all queries counts them while they are there.
    pub(crate) _held: Option<Arc<MemoryReservation>>,
}

impl Answer {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// The catalog and schema that names without a prefix are looked up in.
pub(crate) const CATALOG: &str = "forerunner";
pub(crate) const SCHEMA: &str = "public";

impl Query {
    /// Queries over `reader`, with detectors on their defaults and no findings.
    ///
    /// # Errors
    /// The query engine could not be set up.
    pub fn new(config: QueryConfig, reader: Reader) -> Result<Self, QueryError> {
        let analyzer = AnalyzerConfig::default();
        let findings = Findings::in_memory(&analyzer);
        let own = (findings, Forecasts::in_memory());
        Self::with_findings(config, reader, analyzer, own, Given::none())
    }

    /// Queries over `reader`, findings and forecasts, and what others give, with detectors as `analyzer` says.
    ///
    /// # Errors
    /// The query engine could not be set up.
    pub fn with_findings(
        config: QueryConfig,
        reader: Reader,
        analyzer: AnalyzerConfig,
        (findings, forecasts): (Findings, Forecasts),
        given: Given,
    ) -> Result<Self, QueryError> {
        let running = Arc::new(Semaphore::new(config.concurrency));
        let base = base_state(&config)?;
        let workers = Workers::new()?;
        let shared =
            Shared { config, reader, analyzer, findings, forecasts, given, base, running, workers };
        Ok(Self(Arc::new(shared)))
    }

    /// Runs one query over one consistent snapshot. `params` stand for `$1`, `$2`, … in it: numbers,
    /// strings, booleans or null.
    ///
    /// # Errors
    /// The query is not understood, or a limit was reached; each error names its remedy.
    pub async fn run(&self, sql: &str, params: &[Value]) -> Result<Answer, QueryError> {
        let limit = self.0.config.timeout;
        let params = params.iter().map(parameter).collect::<Result<Vec<_>, _>>()?;
        let whole = async {
            let turn = Arc::clone(&self.0.running).acquire_owned().await;
            let statement = self.parse(sql)?;
            if let Some(answer) = self.directly(&statement, &params).await? {
                return Ok(answer);
            }
            let (own, wanted) = (self.clone(), Wanted::default());
            let _waiting = wanted.waiting();
            let planned = async move {
                // Held until the work ends, also when nobody waits for it any more.
                let _turn = turn;
                own.run_planned(statement, params, wanted).await
            };
            self.0.workers.run(planned).await
        };
        tokio::time::timeout(limit, whole).await.map_err(|_| QueryError::Timeout(limit))?
    }

    /// What is forecast of all watched resources at `at`, or now.
    ///
    /// # Errors
    /// A file could not be read, or the limit of time was reached.
    pub async fn capacity(&self, at: Option<Timestamp>) -> Result<Capacity, QueryError> {
        let limit = self.0.config.timeout;
        let now = at.unwrap_or_else(|| Clock::system().now());
        let deadline = Clock::system().monotonic() + limit;
        let turn = Arc::clone(&self.0.running).acquire_owned();
        let turn =
            tokio::time::timeout(limit, turn).await.map_err(|_| QueryError::Timeout(limit))?;
        let own = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            // Held until the work ends, also when nobody waits for it any more.
            let _turn = turn;
            let wanted = || Clock::system().monotonic() < deadline;
            let Shared { reader, analyzer, forecasts, .. } = &*own.0;
            let made = capacity::capacity(reader, analyzer, forecasts, now, &wanted);
            made.map(|made| wanted().then_some(made))
        });
        let made = work.await.map_err(|error| QueryError::Failed(error.to_string()))?;
        let made = made.map_err(|error| QueryError::Failed(error.to_string()))?;
        made.ok_or(QueryError::Timeout(limit))
    }

    /// What the detectors would have found from `from` to `to`, in all that is watched. Takes as long as it takes.
    ///
    /// # Errors
    /// A file could not be read.
    pub async fn backtest(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Finding>, QueryError> {
        let own = self.clone();
        let question = Question {
            kinds: Kind::BY_CAUSE.to_vec(),
            from: Some(from),
            to: Some(to),
            ..Question::default()
        };
        let work = tokio::task::spawn_blocking(move || {
            let Shared { reader, analyzer, .. } = &*own.0;
            replay(reader, analyzer, &question, to, &|| true)
        });
        let found = work.await.map_err(|error| QueryError::Failed(error.to_string()))?;
        found.map_err(|error| QueryError::Failed(error.to_string()))
    }

    pub(super) fn parse(&self, sql: &str) -> Result<Statement, QueryError> {
        let dialect = self.0.base.config().options().sql_parser.dialect;
        Ok(self.0.base.sql_to_statement(sql, &dialect)?)
    }

    /// Answers by the short way where that knows how.
    pub(super) async fn directly(
        &self,
        statement: &Statement,
        params: &[ScalarValue],
    ) -> Result<Option<Answer>, QueryError> {
        let now = Clock::system().now().millis().saturating_mul(1_000_000);
        let Some(question) = direct::recognise(statement, params, now) else { return Ok(None) };
        let pool = &self.0.base.runtime_env().memory_pool;
        direct::answer(question, &self.0.reader, &self.0.config, pool).await
    }

    /// Answers by the query engine.
    pub(super) async fn run_planned(
        &self,
        mut statement: Statement,
        params: Vec<ScalarValue>,
        wanted: Wanted,
    ) -> Result<Answer, QueryError> {
        let calls = self.calls(&mut statement, &params)?;
        let frame = self.plan(statement, params, calls, &wanted).await;
        let frame = frame.map_err(|error| self.explain(error))?;
        self.collect(frame, &wanted).await
    }

    /// The calls of table functions in a statement, as tables that are ready to be read.
    fn calls(
        &self,
        statement: &mut Statement,
        params: &[ScalarValue],
    ) -> Result<Vec<(String, Arc<CallTable>)>, QueryError> {
        let now = Clock::system().now();
        let calls = call::take(statement, params, now)?.into_iter().enumerate();
        let table = |(at, call): (usize, call::Call)| {
            let name = format!("{}_{at}", call.function.name());
            let config = self.0.analyzer.clone();
            (name, Arc::new(CallTable::new(call, config, self.0.reader.clone(), now)))
        };
        Ok(calls.map(table).collect())
    }

    async fn plan(
        &self,
        statement: Statement,
        params: Vec<ScalarValue>,
        calls: Vec<(String, Arc<CallTable>)>,
        wanted: &Wanted,
    ) -> Result<DataFrame, DataFusionError> {
        let references = self.0.base.resolve_table_references(&statement)?;
        let Shared { reader, findings, forecasts, given, .. } = &*self.0;
        let catalog =
            SnapshotCatalog::new(reader, (findings, forecasts, given), &references, calls);
        let mut state = self.0.base.clone();
        state.register_catalog_list(Arc::new(catalog));
        for aggregate in functions::aggregates(wanted) {
            state.register_udaf(aggregate)?;
        }
        let plan = state.statement_to_plan(statement).await?;
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        read_only.verify_plan(&plan)?;
        let plan = if params.is_empty() { plan } else { plan.with_param_values(params)? };
        SessionContext::new_with_state(state).execute_logical_plan(plan).await
    }

    async fn collect(&self, frame: DataFrame, wanted: &Wanted) -> Result<Answer, QueryError> {
        let context = Arc::new(frame.task_ctx());
        let mut counter = RecordBatchMemoryCounter::new();
        let held = MemoryConsumer::new("answer").register(context.memory_pool());
        let plan = wanted.watch(frame.create_physical_plan().await?)?;
        let mut stream = execute_stream(plan, context)?;
        let schema = stream.schema();
        let mut batches = Vec::new();
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows();
            if rows > self.0.config.max_rows {
                return Err(QueryError::Rows(self.0.config.max_rows));
            }
            held.try_grow(counter.count_batch(&batch))?;
            batches.push(batch);
        }
        Ok(Answer { schema, batches, _held: Some(Arc::new(held)) })
    }

    /// A table that is not there is mostly a metric misspelt: name the nearest.
    fn explain(&self, error: DataFusionError) -> QueryError {
        let text = error.strip_backtrace();
        let missing = text.split_once("table '").and_then(|(_, rest)| rest.split_once('\''));
        let Some((name, _)) = missing.filter(|_| text.contains("not found")) else {
            return error.into();
        };
        let (schema, name) = name.rsplit_once('.').unwrap_or(("", name));
        let metrics = self.0.reader.metrics();
        if metrics.contains_key(name) {
            let schema = schema.rsplit('.').next().unwrap_or(schema);
            return QueryError::Invalid(format!(
                "{schema} has nothing of {name}: rollups are made when a day is over, and last shows active series alone"
            ));
        }
        let near = nearest(name, metrics.keys().map(AsRef::as_ref));
        let hint = near.map(|metric| format!("; did you mean {metric}?")).unwrap_or_default();
        QueryError::Invalid(format!(
            "no metric or table is named {name}{hint} (\\d in the prompt lists all)"
        ))
    }
}

fn base_state(config: &QueryConfig) -> Result<SessionState, QueryError> {
    let no_spill = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime: RuntimeEnv = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(config.memory.as_usize())))
        .with_disk_manager_builder(no_spill)
        .build()?;
    let mut session = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(std::thread::available_parallelism().map_or(2, usize::from));
    // Metric names have capitals: node_memory_MemFree_bytes must not need quotes.
    session.options_mut().sql_parser.enable_ident_normalization = false;
    session.options_mut().execution.time_zone = Some("UTC".to_owned());
    let context = SessionContext::new_with_state(
        SessionStateBuilder::new()
            .with_config(session)
            .with_runtime_env(Arc::new(runtime))
            .with_default_features()
            .build(),
    );
    functions::register(&context);
    Ok(context.state())
}

fn parameter(value: &Value) -> Result<ScalarValue, QueryError> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(value) => ScalarValue::Boolean(Some(*value)),
        Value::String(text) => ScalarValue::Utf8(Some(text.clone())),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => ScalarValue::Int64(Some(integer)),
            None => ScalarValue::Float64(number.as_f64()),
        },
        Value::Array(_) | Value::Object(_) => {
            let text = "a parameter is a list or an object; use numbers, strings, booleans or null";
            return Err(QueryError::Invalid(text.to_owned()));
        }
    })
}
