//! Kills, damage, and what is left after.

mod alerts;
mod audit;
mod full_disk;
mod push;
mod store;
