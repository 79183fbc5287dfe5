//! Faults on purpose, each with a lease that ends by itself.

pub(crate) mod fault;
