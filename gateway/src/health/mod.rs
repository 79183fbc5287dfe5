//! How the gateway is.
//!
//! - `board`: one verdict a check, written by whoever knows, read by the control thread without waiting
//! - `check`: asks database, cache, disk and clock how they are

pub(crate) mod board;
pub(crate) mod check;
