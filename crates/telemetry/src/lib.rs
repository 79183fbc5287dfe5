//! How we report on ourselves: metrics of bounded size and structured logs. Decides nothing.
//!
//! - [`registry`]: [`Registry`], the families of a process and their exposition page
//! - [`histogram`]: [`Histogram`], fixed buckets, constant size
//! - [`trace`]: log set-up

pub mod histogram;
pub mod registry;
pub mod trace;

pub use histogram::Histogram;
pub use registry::{Counter, CounterVec, Gauge, HistogramVec, Registry};
