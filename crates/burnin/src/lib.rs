//! Drives the real programs from outside, and judges them.
//!
//! - `plan`: what happens in 48 hours, and when; `client`: who sends requests, and what is due to each; `tally`: what came of them
//! - `exchange`: one connection of a client; [`load`]: requests of one kind at a rate
//! - `probe`: health, asked all along; `readings`: memory, processor time and handles; `sink`: which alert came when
//! - `verdict`: judgements by criterion; `page`: the same as a page with plots

pub mod client;
pub mod exchange;
pub mod load;
pub mod page;
pub mod plan;
pub mod probe;
pub mod readings;
pub mod sink;
pub mod tally;
pub mod verdict;
