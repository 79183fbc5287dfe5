//! The nouns of Forerunner and their text form; no I/O, no clock, no task.
//!
//! - [`time`]: [`Timestamp`], milliseconds since the Unix epoch, and durations in configuration files
//! - [`mod@unit`]: [`Bytes`], a size as a type
//! - [`label`]: [`Labels`], a sorted set of names and values
//! - [`series`]: [`SeriesKey`], the metric name and labels that identify one series
//! - [`sample`]: [`Sample`], one time and value, and the staleness mark
//! - [`text`]: names that are near another, and what HTML takes
//! - [`exposition`]: the Prometheus and OpenMetrics text formats, read and written

pub mod exposition;
pub mod label;
pub mod sample;
pub mod series;
pub mod text;
pub mod time;
pub mod unit;

pub use label::Labels;
pub use sample::Sample;
pub use series::{MetricInfo, MetricKind, SeriesKey};
pub use time::Timestamp;
pub use unit::Bytes;
