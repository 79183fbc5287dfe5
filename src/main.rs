//! Forerunner: one program, three long-running roles. Parses arguments, runs one command, and turns its
//! outcome into an exit code: 0 done, 1 the answer is no, 2 usage, 64 and over as in sysexits.
//!
//! - `cli`: the commands and their arguments; `exit`: outcomes as exit codes
//! - `config`: the one configuration file
//! - `role/`: gateway, monitor and watchdog, each builds and runs one process
//! - `api/`: the monitor's HTTP interface
//! - `query/`: SQL from the command line, from a monitor or from files
//! - `bench`: measured against peers; `demo`: all three roles on built-in defaults under a modest load

#[cfg(feature = "monitor")]
mod api;
#[cfg(feature = "monitor")]
mod bench;
mod cli;
mod config;
#[cfg(all(feature = "gateway", feature = "monitor", feature = "watchdog"))]
mod demo;
mod exit;
#[cfg(feature = "monitor")]
mod query;
mod role;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("forerunner: {:#}", failure.error);
            ExitCode::from(failure.code)
        }
    }
}
