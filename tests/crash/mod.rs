//! Kills, damage, and what is left after.

mod store;
