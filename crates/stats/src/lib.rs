//! Numbers in, estimates out, each with its uncertainty. Never sees a label, a clock or a file.
//!
//! - [`order`]: quantiles, and the tails of the normal distribution
//! - [`slope`]: the median slope with its interval, the Mann–Kendall test, the time to a limit
//!
//! Detectors take one sample after the other, and hold bounded state that can be written down:
//! - [`leak`]: growth that does not come back; [`growth`]: when a resource is full
//! - [`cost`]: processor time for a unit of work; [`saturation`]: a process at its end of speed
//! - [`baseline`]: latency, errors and throughput against what is usual; [`novelty`]: values that never were
//!
//! [`forecast`] takes a whole history and gives bands of what comes.

pub mod baseline;
pub mod cost;
pub mod forecast;
pub mod growth;
pub mod leak;
pub mod novelty;
pub mod order;
pub mod saturation;
pub mod slope;

#[cfg(test)]
mod hostile;
