//! Tools: what is behind the gateway.
//!
//! - `tool`: one tool with its door, breaker and budget; `call`: a call with its retries, inside its time
//! - `link`: connections to it; `proxy`: requests passed on as they are; `mock`: answers without a network
//! - `breaker`, `budget`: when a tool is left alone, and how often a call is tried again

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod call;
pub(crate) mod link;
mod mock;
pub(crate) mod proxy;
pub(crate) mod tool;
