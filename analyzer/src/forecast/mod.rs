//! What comes: bands of values for the days ahead, and when a resource is full.
//!
//! - `hourly`: from stored samples to hourly means, of raw samples and of rollups where those are gone
//! - `bands`: the forecast of each series that a call of `forecast()` asks for
//! - `kept`: forecasts that were made, and how good they were
//! - `capacity`: all that the capacity report says; `report`: it as page, Markdown, CSV and JSON; `plot`: its pictures

pub(crate) mod bands;
pub(crate) mod capacity;
mod hourly;
pub(crate) mod kept;
mod plot;
pub(crate) mod report;
