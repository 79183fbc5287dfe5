//! Benchmarks of this program against the peers that are installed, as commands.

use crate::exit::{self, Failure};
use crate::query::Place;
use crate::query::source::Source;
use crate::role::block_on;
use bench::{AlertPlan, BenchError, DetectData, DetectPlan, Devops, GatewayPlan, ScrapePlan};
use clap::{Args, Subcommand};
use model::Timestamp;
use runtime::Clock;
use std::path::PathBuf;
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
    /// Seconds from a fault to the message about it, by webhook and mail
    Alert {
        /// Faults in all, of six kinds; 200 take about ten minutes
        #[arg(long, default_value_t = 200)]
        faults: usize,
        /// Where the random numbers start
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Processor time, overload and memory of the gateway as a reverse proxy
    Gateway {
        /// Requests of each proxy in the measurement of processor time, in ten turns
        #[arg(long, default_value_t = 500_000)]
        requests: u64,
        /// Seconds of each overload
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Another build of this program to measure too, such as one with the gateway alone
        #[arg(long, value_name = "PROGRAM")]
        also: Option<PathBuf>,
    },
    /// What the detectors find, in CSV files or in stored history
    Detect(DetectArgs),
    /// Our work as multiples of plain work on this machine: a table to compare machines and systems by
    Ratios(DataArgs),
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

/// What `bench detect` takes.
#[derive(Debug, Args)]
struct DetectArgs {
    #[command(flatten)]
    place: Place,
    /// From this time on, RFC 3339 or an age such as '7 days', in what is stored
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Up to this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,
    /// Instead of what is stored, scenarios with exact truth that are made from this number
    #[arg(long, conflicts_with_all = ["from", "to", "data", "data_dir", "url"])]
    seed: Option<u64>,
    /// Scenarios of each of 33 kinds
    #[arg(long, default_value_t = 6, requires = "seed")]
    each: usize,
    /// Instead of what is stored, a folder of CSV files: t,value,load or timestamp,value or TimeStamp,Value,Label; series.json beside them may say
    /// [{"id": …, "signal": "memory|fd|cpu|disk|latency|errors|throughput", "limit": …, "restarts": [row, …]}]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["from", "to", "data_dir", "url"])]
    data: Option<PathBuf>,
    /// Where alarms.csv, intervals.csv and scores/ go
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    out: Option<PathBuf>,
    /// Only this detector; repeat for more [default: all that fit]
    #[arg(long = "detector", value_name = "NAME", conflicts_with = "from")]
    detectors: Vec<String>,
    /// False alarms that a series may give in a day
    #[arg(long, default_value_t = 0.002, value_name = "RATE", conflicts_with = "from")]
    false_alarms: f64,
}

fn time(text: &str) -> Result<Timestamp, String> {
    let unknown = || "neither a time in RFC 3339 nor an age such as '7 days'".to_owned();
    Timestamp::parse_or_age(text, Clock::system().now()).ok_or_else(unknown)
}

impl DetectArgs {
    fn run(self) -> Result<(), Failure> {
        let data = match (&self.data, self.seed) {
            (Some(folder), _) => Some(DetectData::Folder(folder)),
            (None, Some(seed)) => Some(DetectData::Scenarios { seed, each: self.each }),
            (None, None) => None,
        };
        let Some(data) = data else {
            let Some(from) = self.from else {
                let text = "say what to go through: --from '7 days' for what is stored, --data DIR for CSV files, or --seed N for scenarios";
                return Err(Failure::text(exit::USAGE, text));
            };
            telemetry::trace::start("error");
            return block_on(async {
                let to = self.to.unwrap_or_else(|| Clock::system().now());
                let source = Source::open(self.place).await?;
                println!("{}", source.backtest(from, to).await?);
                Ok(())
            });
        };
        let plan = DetectPlan {
            data,
            out: self.out.as_deref(),
            detectors: self.detectors,
            false_alarms_per_day: self.false_alarms,
        };
        let clock = Clock::system();
        let table = bench::detect(&plan, &|| clock.monotonic().into_std());
        println!("{}", table.map_err(exit::with(exit::DATA))?);
        Ok(())
    }
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
    let BenchArgs { alone, command } = args;
    if let BenchCommand::Detect(detect) = command {
        return detect.run();
    }
    if cfg!(debug_assertions) {
        eprintln!("this is no release build: the numbers say little");
    }
    block_on(async {
        let table: Result<String, BenchError> = match command {
            BenchCommand::Ingest(data) => bench::ingest(data.plan(), !alone).await,
            BenchCommand::Query { data, times } => bench::query(data.plan(), times, !alone).await,
            BenchCommand::Ratios(data) => bench::ratios(data.plan()).await,
            BenchCommand::Detect(_) => return Ok(()),
            BenchCommand::Alert { faults, seed } => {
                bench::alert(AlertPlan { faults, seed }, !alone).await
            }
            BenchCommand::Gateway { requests, seconds, also } => {
                let time = Duration::from_secs(seconds.max(1));
                let requests = requests.max(1_000);
                bench::gateway(GatewayPlan { requests, time, also }, !alone).await
            }
            BenchCommand::Scrape { targets, seconds, seed } => {
                let time = Duration::from_secs(seconds.max(1));
                bench::scrape(ScrapePlan { targets, time, seed }, !alone).await
            }
        };
        println!("{}", table.map_err(exit::with(exit::UNAVAILABLE))?);
        Ok(())
    })
}
