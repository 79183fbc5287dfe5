//! Faults on purpose, each with a lease that ends by itself.
//!
//! - `fault`: of tools; `body`: of their answers on the way; `own`: of the gateway itself; `lease`: how each ends by itself

pub(crate) mod body;
pub(crate) mod fault;
pub(crate) mod lease;
pub(crate) mod own;
