//! Measures the real programs against their peers, in one run, on the same data.
//!
//! - `devops`: the data, seeded; `remote_write`: the data as requests
//! - `system`: ours and the peers as processes: how to start, feed and ask each
//! - `detect/`: the detectors over series from files
//! - `alert/`: from fault to message; `gateway/`: as a reverse proxy, in calm and in overload
//! - `ingest`, `query`, `scrape`: one benchmark each; `table`: what they print
//! - `ratios`: our work against plain work on the same machine

mod alert;
mod detect;
mod devops;
mod gateway;
mod ingest;
mod query;
mod ratios;
mod remote_write;
mod scrape;
mod system;
mod table;

pub use alert::{AlertPlan, alert};
pub use detect::{DetectData, DetectError, DetectPlan, detect};
pub use devops::Devops;
pub use gateway::{GatewayPlan, gateway};
pub use ingest::ingest;
pub use query::query;
pub use ratios::ratios;
pub use scrape::{ScrapePlan, scrape};
pub use system::BenchError;
