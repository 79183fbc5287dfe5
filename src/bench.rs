//! Benchmarks of this program against the peers that are installed, as commands.

use crate::exit::{self, Failure};
use crate::role::block_on;
use bench::{BenchError, Devops, ScrapePlan};
use clap::{Args, Subcommand};
use runtime::Clock;
use std::time::Duration;

/// What `bench` takes.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Measure this program alone
    #[arg(long, global = true)]
    alone: bool,
    #[command(subcommand)]
    command: BenchCommand,
}

/// What to measure.
#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Rate, processor time, memory, size, freshness and losses of remote-write
    Ingest(DataArgs),
    /// Milliseconds of four common questions
    Query {
        #[command(flatten)]
        data: DataArgs,
        /// Times that each question is asked; the median counts
        #[arg(long, default_value_t = 21)]
        times: usize,
    },
    /// Processor time and memory of scraping many targets each second
    Scrape {
        /// Targets of 1,010 series
        #[arg(long, default_value_t = 100)]
        targets: usize,
        /// Seconds that each system is watched
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// Where the random numbers start
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// The data to send.
#[derive(Debug, Args)]
struct DataArgs {
    /// Hosts, each with 101 series
    #[arg(long, default_value_t = 100)]
    hosts: usize,
    /// Hours of samples, up to now
    #[arg(long, default_value_t = 12.0)]
    hours: f64,
    /// Seconds between two samples of a series
    #[arg(long, default_value_t = 10)]
    step: u32,
    /// Where the random numbers start
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl DataArgs {
    fn plan(&self) -> Devops {
        let step = i64::from(self.step.max(1)) * 1000;
        let steps = (self.hours * 3_600_000.0 / step as f64) as usize;
        let end = Clock::system().now().millis() / step * step;
        Devops { hosts: self.hosts.max(1), step, steps: steps.max(1), end, seed: self.seed }
    }
}

pub(crate) fn run(args: BenchArgs) -> Result<(), Failure> {
    if cfg!(debug_assertions) {
        eprintln!("this is no release build: the numbers say little");
    }
    let BenchArgs { alone, command } = args;
    block_on(async {
        let table: Result<String, BenchError> = match command {
            BenchCommand::Ingest(data) => bench::ingest(data.plan(), !alone).await,
            BenchCommand::Query { data, times } => bench::query(data.plan(), times, !alone).await,
            BenchCommand::Scrape { targets, seconds, seed } => {
                let time = Duration::from_secs(seconds.max(1));
                bench::scrape(ScrapePlan { targets, time, seed }, !alone).await
            }
        };
        println!("{}", table.map_err(exit::with(exit::UNAVAILABLE))?);
        Ok(())
    })
}
