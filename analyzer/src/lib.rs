//! SQL over snapshots of the store, and the detectors that turn series into findings. The only room that names
//! DataFusion.
//!
//! - [`Query`]: a query in, an [`Answer`] out, within limits of time, memory and rows
//! - [`Analyzer`]: new samples in, findings out, for as long as the process lives; `watch/`: how
//! - [`Finding`]: what was found, in numbers, words and SQL; [`Findings`]: those that are kept
//! - `detect/`: from what a detector of `stats` says to names and words; `forecast/`: bands, and the capacity report
//! - `sql/session`: the session of one query over one snapshot
//! - `sql/catalog`: metric names as tables, found when they are asked for
//! - `sql/table`: the columns of each table; `sql/scan`: from snapshot to record batches
//! - `sql/pushdown`: which filters the store can answer itself
//! - `sql/functions`: aggregates over (time, value); `sql/call`: the detectors as table functions
//! - `sql/given`: tables of other rooms, handed in; `sql/found`, `sql/kept`, `sql/about`: our own
//! - `sql/encode`: answers as table, CSV, JSON and Arrow; `parquet_files`: answers to and rows from Parquet files
//! - `sql/direct/`: small and common questions without the engine

mod analyze;
mod config;
mod detect;
mod error;
mod finding;
mod findings;
mod forecast;
mod parquet_files;
mod sql;
mod watch;

pub use analyze::Analyzer;
pub use config::{AnalyzerConfig, Detect, QueryConfig, WatchConfig};
pub use error::{AnalyzerError, QueryError};
pub use finding::{Change, Estimate, Finding, Kind, Numbers, Related, Severity, Subject, Verdict};
pub use findings::Findings;
pub use forecast::capacity::{Capacity, Resource};
pub use forecast::kept::{Coverage, Forecasts, Kept};
pub use parquet_files::{ParquetWriter, read_parquet};
pub use sql::encode::Format;
pub use sql::given::{Column, Columns, Given};
pub use sql::session::{Answer, Query};
