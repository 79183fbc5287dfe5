//! Everything outside the process. The only crate with branches by operating system; it never knows
//! why it is asked.
//!
//! - [`durable`]: files and folders that survive a crash once the call returns
//! - [`journal`]: lines that survive, the damaged set aside; [`lock`]: one writer per data directory
//! - [`child`]: child processes, their output bounded, their group ended whole
//! - [`log`]: a log file of bounded size
//! - [`signal`]: the requests to end that the system sends
//! - [`host`], [`cgroup`] and [`process`]: what the kernel says of the machine, of our control group and of one process
//! - [`http`]: requests to others, bounded in bytes and time; [`serve`]: a page or two for whoever looks in; [`tls`]: who is trusted; [`dns`]: names asked anew
//! - [`crash_point`]: named instants at which a test ends the process; [`fault`]: a disk that fails and forgets

pub mod cgroup;
pub mod child;
pub mod crash_point;
pub mod dns;
pub mod durable;
pub mod error;
pub mod fault;
pub mod host;
pub mod http;
pub mod journal;
pub mod lock;
pub mod log;
pub mod process;
pub mod serve;
pub mod signal;
pub mod tls;

pub use error::PlatformError;
