//! Faults on purpose, each with a lease that ends by itself.
//!
//! - `fault`: of tools; `own`: of the gateway itself; `lease`: how each ends by itself

pub(crate) mod fault;
pub(crate) mod lease;
pub(crate) mod own;
