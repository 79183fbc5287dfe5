//! The commands and their arguments.

use crate::config::Config;
use crate::exit::Failure;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Sees the end of a long-running gateway coming, and prevents it.
#[derive(Debug, Parser)]
#[command(name = "forerunner", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run gateway, monitor and watchdog on built-in defaults, with a modest load
    #[cfg(all(feature = "gateway", feature = "monitor", feature = "watchdog"))]
    Demo(crate::demo::DemoArgs),
    /// Collect, store and answer queries
    #[cfg(feature = "monitor")]
    Monitor(RoleArgs),
    /// Serve traffic
    #[cfg(feature = "gateway")]
    Gateway(GatewayArgs),
    /// Keep other processes alive
    #[cfg(feature = "watchdog")]
    Watchdog(WatchdogArgs),
    /// Become a command that ends when whoever started it does
    #[cfg(feature = "watchdog")]
    #[command(hide = true)]
    Bound {
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Run SQL over collected metrics; without SQL, an interactive prompt
    #[cfg(feature = "monitor")]
    Query(crate::query::QueryArgs),
    /// Write samples or the rows of a query to a file
    #[cfg(feature = "monitor")]
    Export(crate::exchange::export::ExportArgs),
    /// Take in samples from files: Prometheus text and OpenMetrics with times, CSV, Parquet
    #[cfg(feature = "monitor")]
    Import(crate::exchange::import::ImportArgs),
    /// Write a report to a file
    #[cfg(feature = "monitor")]
    Report(crate::report::ReportArgs),
    /// Check and test rule files
    #[cfg(feature = "monitor")]
    #[command(subcommand)]
    Rules(crate::rules::RulesCommand),
    /// Put 48 hours of load and faults on the real programs, compressed or in real time, and judge them
    #[cfg(all(feature = "gateway", feature = "monitor", feature = "watchdog"))]
    Burnin(crate::burnin::BurninArgs),
    /// Measure this program against the peers that are installed, on the same data
    #[cfg(feature = "monitor")]
    Bench(crate::bench::BenchArgs),
    /// Look through a data directory that no monitor uses, and mend it
    #[cfg(feature = "monitor")]
    #[command(subcommand)]
    Store(StoreCommand),
    /// Faults on purpose, and what comes of them
    #[cfg(feature = "monitor")]
    #[command(subcommand)]
    Chaos(crate::chaos::ChaosCommand),
    /// Read and change an environment file without loss
    #[cfg(feature = "gateway")]
    #[command(subcommand)]
    Env(crate::env::EnvCommand),
    /// Check configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What every role takes.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write the addresses listened on to this file, as JSON, once ready
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Stop when standard input ends, as it does when the parent dies
    #[arg(long)]
    pub(crate) with_parent: bool,
}

/// What the gateway takes.
#[cfg(feature = "gateway")]
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) role: RoleArgs,
    /// The environment file with switches and credentials; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) env: Option<PathBuf>,
}

/// What the watchdog takes.
#[derive(Debug, Args)]
pub(crate) struct WatchdogArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "command")]
    pub(crate) config: Option<PathBuf>,
    /// Stop when standard input ends, as it does when the parent dies
    #[arg(long)]
    pub(crate) with_parent: bool,
    /// A command to keep alive, besides those of the configuration
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether a file is fit for use, and if not, where and why
    Check {
        /// The file
        file: PathBuf,
    },
}

#[cfg(feature = "monitor")]
#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Read every file and say what is damaged; changes nothing, exit code 1 if something is
    Check {
        /// The data directory
        dir: PathBuf,
    },
    /// Take back segments that a damaged manifest forgot, set aside what cannot be read, cut a torn log
    Repair {
        /// The data directory
        dir: PathBuf,
    },
}

#[cfg(feature = "monitor")]
fn run_store(command: StoreCommand) -> Result<(), Failure> {
    use crate::exit;
    telemetry::trace::start("error");
    let (report, repaired) = match command {
        StoreCommand::Check { dir } => (store::check(&dir), false),
        StoreCommand::Repair { dir } => (store::repair(&dir, runtime::Clock::system()), true),
    };
    let report = report.map_err(exit::with(exit::DATA))?;
    println!("{report}");
    if repaired || report.faults.is_empty() {
        return Ok(());
    }
    let text = "the store has faults; `forerunner store repair` mends what can be mended";
    Err(Failure::text(exit::NO, text))
}

/// Runs one command to its end.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        #[cfg(all(feature = "gateway", feature = "monitor", feature = "watchdog"))]
        Command::Demo(args) => crate::demo::run(args),
        #[cfg(feature = "monitor")]
        Command::Monitor(args) => crate::role::monitor::run(args),
        #[cfg(feature = "gateway")]
        Command::Gateway(args) => crate::role::gateway::run(args),
        #[cfg(feature = "watchdog")]
        Command::Watchdog(args) => crate::role::watchdog::run(args),
        #[cfg(feature = "watchdog")]
        Command::Bound { command } => crate::role::watchdog::become_bound(command),
        #[cfg(feature = "monitor")]
        Command::Query(args) => crate::query::run(args),
        #[cfg(feature = "monitor")]
        Command::Export(args) => crate::exchange::export::run(args),
        #[cfg(feature = "monitor")]
        Command::Import(args) => crate::exchange::import::run(args),
        #[cfg(feature = "monitor")]
        Command::Report(args) => crate::report::run(args),
        #[cfg(feature = "monitor")]
        Command::Rules(command) => crate::rules::run(command),
        #[cfg(all(feature = "gateway", feature = "monitor", feature = "watchdog"))]
        Command::Burnin(args) => crate::burnin::run(args),
        #[cfg(feature = "monitor")]
        Command::Bench(args) => crate::bench::run(args),
        #[cfg(feature = "monitor")]
        Command::Store(command) => run_store(command),
        #[cfg(feature = "monitor")]
        Command::Chaos(command) => crate::chaos::run(command),
        #[cfg(feature = "gateway")]
        Command::Env(command) => crate::env::run(command),
        Command::Config(ConfigCommand::Check { file }) => {
            let config = Config::load(&file)?;
            #[cfg(feature = "monitor")]
            alerts::check_config(&config.alerts).map_err(crate::exit::with(crate::exit::CONFIG))?;
            #[cfg(not(feature = "monitor"))]
            drop(config);
            eprintln!("{}: fit for use", file.display());
            Ok(())
        }
    }
}
