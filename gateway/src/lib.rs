//! The gateway: serves traffic on the data listener, and says how it is on the control listener, which has
//! a thread of its own. Never knows that a monitor exists.
//!
//! - [`config`](GatewayConfig): listeners, limits, tools, routes; `settings`: what the environment file says; [`mod@env`]: that file, changed safely
//! - `listener`: accepts connections within limits and closes them in order; `lane`: the threads that they stay on; `stall`: clients that
//!   take nothing
//! - `request`: the life of one request: find → admit → grant → answer → record
//! - `target`: host and path to what is meant; `api`: the gateway's own calls; `refusal` and `body`: what is answered
//! - `admit`: how much is let in; `access`: who may do what; `cache`: answers served again; `upstream`: the tools
//! - `database`: agents, policies, audit; what is at hand while it is away
//! - `health`: one verdict a check; `pressure`: what is done when it gets narrow; `component`: parts that are begun anew alone
//! - `control`: `/live`, `/ready`, `/health`, `/metrics`, `/admin`; `chaos`: faults on purpose; `meters`: what is counted
//! - `assemble`: how these are put together

mod access;
mod admit;
mod api;
mod assemble;
mod body;
mod cache;
mod chaos;
mod component;
mod config;
mod control;
mod database;
pub mod env;
mod error;
mod health;
mod lane;
mod listener;
mod meters;
mod pressure;
mod refusal;
mod request;
mod settings;
mod stall;
mod target;
mod upstream;

pub use admit::queue::Priority;
pub use assemble::{Addresses, run};
pub use config::{
    ActionConfig, AdmissionConfig, CacheConfig, DatabaseConfig, GatewayConfig, Permission,
    PressureConfig, RouteConfig, TlsConfig, ToolConfig,
};
pub use error::GatewayError;
