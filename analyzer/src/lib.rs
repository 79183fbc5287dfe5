//! SQL over snapshots of the store. The only room that names DataFusion.
//!
//! - [`Query`]: a query in, an [`Answer`] out, within limits of time, memory and rows
//! - `sql/session`: the session of one query over one snapshot
//! - `sql/catalog`: metric names as tables, found when they are asked for
//! - `sql/table`: the columns of each table; `sql/scan`: from snapshot to record batches
//! - `sql/pushdown`: which filters the store can answer itself
//! - `sql/functions`: `rate`, `increase`, `delta`, `last`, `time_bucket`
//! - `sql/encode`: answers as table, CSV, JSON and Arrow; `parquet_files`: answers to and rows from Parquet files
//! - `sql/direct/`: small and common questions without the engine

mod config;
mod error;
mod parquet_files;
mod sql;

pub use config::QueryConfig;
pub use error::QueryError;
pub use parquet_files::{ParquetWriter, read_parquet};
pub use sql::encode::Format;
pub use sql::session::{Answer, Query};
