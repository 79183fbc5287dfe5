//! Forerunner: one program, three long-running roles. Parses arguments, runs one command, and turns its
//! outcome into an exit code: 0 done, 1 the answer is no, 2 usage, 64 and over as in sysexits.
//!
//! - `cli`: the commands and their arguments; `exit`: outcomes as exit codes
//! - `config`: the one configuration file
//! - `role/`: gateway, monitor and watchdog, each builds and runs one process
//! - `api/`: the monitor's HTTP interface
//! - `query/`: SQL from the command line, from a monitor or from files
//! - `wire`: the only translations between rooms; `rules`: rule files checked and tested
//! - `env`: the environment file, changed from the command line
//! - `exchange/`: samples from files and to files
//! - `chaos`: experiments run, listed, ended and scored; `monitor_client`: how a command has a monitor do things
//! - `burnin/`: 48 hours of load and faults, and a verdict
//! - `bench`: measured against peers; `demo`: all three roles on built-in defaults under a modest load

#[cfg(feature = "monitor")]
mod api;
#[cfg(feature = "monitor")]
mod bench;
#[cfg(all(feature = "gateway", feature = "monitor", feature = "watchdog"))]
mod burnin;
#[cfg(feature = "monitor")]
mod chaos;
mod cli;
mod config;
#[cfg(all(feature = "gateway", feature = "monitor", feature = "watchdog"))]
mod demo;
#[cfg(feature = "gateway")]
mod env;
#[cfg(feature = "monitor")]
mod exchange;
mod exit;
#[cfg(feature = "monitor")]
mod monitor_client;
#[cfg(feature = "monitor")]
mod query;
#[cfg(feature = "monitor")]
mod report;
mod role;
#[cfg(feature = "monitor")]
mod rules;
#[cfg(feature = "monitor")]
mod wire;

use clap::Parser;
use std::process::ExitCode;

/// Gives freed memory back to the system within seconds; the system's own allocator keeps it.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("forerunner: {}", words(&failure.error));
            ExitCode::from(failure.code)
        }
    }
}

/// The error with its causes; a cause that an error says itself is not said twice.
fn words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !words.contains(&cause) {
            let colon = if words.is_empty() { "" } else { ": " };
            words.extend([colon, &cause]);
        }
    }
    words
}
