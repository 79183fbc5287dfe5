//! Kills, damage, and what is left after.

mod alerts;
mod full_disk;
mod push;
mod store;
