//! Kills, damage, and what is left after.

mod push;
mod store;
