//! Tools: what is behind the gateway.
//!
//! - `tool`: one tool with its door, breaker and budget; `call`: a call with its retries, inside its time
//! - `mock`: answers without a network; `proxy`: requests passed on as they are
//! - `breaker`, `budget`: when a tool is left alone, and how often a call is tried again

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod call;
mod mock;
pub(crate) mod proxy;
pub(crate) mod tool;
