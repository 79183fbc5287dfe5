//! How much work is let in: as much as there is room for, the rest told at once to come back later.
//!
//! - `limiter`: how many calls a tool gets at once, found from its answers; `queue`: who waits, for how long, and who goes first
//! - `overload`: work refused at the door while our own processor is the bottleneck

pub(crate) mod limiter;
pub(crate) mod overload;
pub(crate) mod queue;
