//! Answers kept to be served again.
//!
//! - `store`: bounded in bytes; fresh, stale, gone
//! - `flight`: of many who ask for the same, one asks the tool
//! - `warmer`: what is asked for again and again is fetched before it is too old
//! - `second`: a Redis behind it, shared by several gateways, of which nothing depends

pub(crate) mod flight;
pub(crate) mod second;
pub(crate) mod store;
pub(crate) mod warmer;
