//! The only integration binary: it drives the built program from outside and links none of it.
//!
//! - `harness`: starts and ends programs, serves pages, waits for facts
//! - `acceptance`: one test for each criterion that is met so far, by its id
//! - `crash`: kills at random instants and at every named crash point
//! - `commands`: the command line as a user types it; `sql`: SQL in, table out, from `.slt` files
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod acceptance;
mod commands;
mod crash;
mod harness;
mod sql;
