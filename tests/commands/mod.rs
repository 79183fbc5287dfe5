//! The command line as a user types it.

mod alerts;
mod analyzer;
mod demo;
mod exchange;
mod gateway;
mod query;
mod store;
mod targets;
