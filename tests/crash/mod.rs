//! Kills, damage, and what is left after.

mod full_disk;
mod push;
mod store;
