//! Drives the real programs from outside.
//!
//! - [`load`]: an open-loop load of requests

pub mod load;
