//! Whether all is well, asked of the series: users are served, the gateway says that it is ready, and what an experiment adds to that.

use crate::experiment::{ChaosConfig, Experiment};
use model::Timestamp;
use serde_json::{Map, Value};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Rows of an answer: values by the names of columns.
pub type Rows = Vec<Map<String, Value>>;

type Answer = Pin<Box<dyn Future<Output = Result<Rows, String>> + Send>>;

/// Runs SQL over the series.
#[derive(Clone)]
pub struct Ask(pub Arc<dyn Fn(String) -> Answer + Send + Sync>);

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

impl Ask {
    pub(crate) async fn rows(&self, sql: &str) -> Result<Rows, String> {
        (self.0)(sql.to_owned()).await
    }

    /// The number in the first column of the first row.
    pub(crate) async fn number(&self, sql: &str) -> Option<f64> {
        first(&self.rows(sql).await.ok()?)
    }
}

/// The share of requests that failed between two instants, by expressions of SQL; NULL where there was none.
pub(crate) fn failing(job: &str, from: &str, to: &str) -> String {
    format!(
        "SELECT sum(CASE WHEN code LIKE '5%' THEN n ELSE 0 END) / sum(n) AS share FROM (\
         SELECT instance, route, code, increase(time, value) AS n FROM gateway_requests_total \
         WHERE job = '{job}' AND time > {from} AND time <= {to} GROUP BY instance, route, code)"
    )
}

/// Why not all is well, if it is not.
pub(crate) async fn complaint(ask: &Ask, config: &ChaosConfig, it: &Experiment) -> Option<String> {
    let job = &config.job;
    let up = format!(
        "SELECT count(*) AS n, last(time, value) AS up FROM up WHERE job = '{job}' \
         AND time > now() - INTERVAL '5 seconds'"
    );
    match ask.rows(&up).await {
        Err(error) => return Some(format!("the series cannot be asked: {error}")),
        Ok(rows) => {
            let up = rows.first().and_then(|row| row.get("up")).and_then(Value::as_f64);
            if up != Some(1.0) {
                return Some(format!("{job} does not answer its scrapes"));
            }
        }
    }
    let ready = format!(
        "SELECT last(time, value) AS ready FROM gateway_ready WHERE job = '{job}' \
         AND time > now() - INTERVAL '5 seconds'"
    );
    if ask.number(&ready).await == Some(0.0) {
        return Some(format!("{job} is not ready"));
    }
    // A gateway without traffic fails nobody.
    let failing = failing(job, "now() - INTERVAL '5 seconds'", "now()");
    if let Some(share) = ask.number(&failing).await.filter(|share| *share > 0.01) {
        return Some(format!("{:.1} % of requests fail", share * 100.0));
    }
    for sql in &it.steady {
        match ask.rows(sql).await {
            Ok(rows) if rows.is_empty() => {}
            Ok(rows) => {
                let row = rows.first().map(|row| Value::Object(row.clone()).to_string());
                return Some(format!("{sql}: {}", row.unwrap_or_default()));
            }
            Err(error) => return Some(format!("{sql}: {error}")),
        }
    }
    None
}

/// Why an experiment that began at `began` must be broken off, if it must.
///
/// # Errors
/// What could not be asked: then nobody knows.
pub(crate) async fn too_much(
    ask: &Ask,
    config: &ChaosConfig,
    it: &Experiment,
    began: Timestamp,
) -> Result<Option<String>, String> {
    // The end of a process fails what is on its way, and is over before anything could be broken off.
    if !it.alone() {
        let job = &config.job;
        // Who is gone counts no failures.
        let up = format!(
            "SELECT max(value) AS up FROM up WHERE job = '{job}' AND time > TIMESTAMP '{began}' \
             AND time > now() - INTERVAL '10 seconds' HAVING count(*) >= 5"
        );
        if first(&ask.rows(&up).await?) == Some(0.0) {
            return Ok(Some(format!("{job} does not answer its scrapes")));
        }
        let failing = failing(job, "now() - INTERVAL '10 seconds'", "now()");
        let share = ask.number(&failing).await.filter(|share| *share > config.most_failing);
        if let Some(share) = share {
            return Ok(Some(format!("{:.1} % of requests fail", share * 100.0)));
        }
        let starts = format!(
            "SELECT max(value) AS newest FROM process_start_time_seconds WHERE job = '{job}' \
             AND time > TIMESTAMP '{began}'"
        );
        let newest = ask.number(&starts).await;
        if newest.is_some_and(|newest| newest * 1_000.0 > began.millis() as f64) {
            return Ok(Some(format!("{job} did not survive it and was started anew")));
        }
    }
    for sql in &it.abort {
        let rows = ask.rows(sql).await.map_err(|error| format!("{sql}: {error}"))?;
        if let Some(row) = rows.first() {
            return Ok(Some(format!("{sql}: {}", Value::Object(row.clone()))));
        }
    }
    Ok(None)
}

/// The number in the first column of the first row.
fn first(rows: &Rows) -> Option<f64> {
    rows.first()?.values().next()?.as_f64()
}
