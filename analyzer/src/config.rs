//! What can be set about queries.

use model::Bytes;
use model::time::human_duration;
use serde::Deserialize;
use std::time::Duration;

/// The query part of the configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// For one query. Default 30 s.
    #[serde(with = "human_duration")]
    pub timeout: Duration,
    /// Memory for all queries together. Default 256 MiB.
    pub memory: Bytes,
    /// Rows of one answer; a longer one is refused, not cut. Default 1,000,000.
    pub max_rows: usize,
    /// Queries at once; those over it wait within their time. Default 4.
    pub concurrency: usize,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            memory: Bytes::mebi(256),
            max_rows: 1_000_000,
            concurrency: 4,
        }
    }
}

impl QueryConfig {
    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in [("max_rows", self.max_rows), ("concurrency", self.concurrency)] {
            if value == 0 {
                faults.push(format!("query.{name} is 0; allow at least 1"));
            }
        }
        faults
    }
}
