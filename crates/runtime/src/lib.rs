//! How a task lives: time, retries, stopping and supervision. Touches no file and no socket.
//!
//! - [`clock`]: [`Clock`], the only source of time, real or paused
//! - [`backoff`]: [`Backoff`], exponential with full jitter
//! - [`stop`]: [`Stop`], how a task learns that it shall end
//! - [`supervise`]: [`Tasks`], named tasks that stop together and never die unheard

pub mod backoff;
pub mod clock;
pub mod stop;
pub mod supervise;

pub use backoff::{Backoff, Jitter};
pub use clock::{Clock, jump};
pub use stop::{Stop, Tick};
pub use supervise::{TaskFailed, Tasks};
