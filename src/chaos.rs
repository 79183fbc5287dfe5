//! The command `chaos`: experiments run, listed, ended and scored by a running monitor.

use crate::exit::{self, Failure};
use crate::monitor_client::MonitorClient;
use crate::role::block_on;
use chaos::score::{Score, Scored, campaign};
use chaos::{Event, Experiment, Fault};
use clap::{Args, Subcommand};
use platform::http::Method;
use runtime::Clock;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// What `chaos` does.
#[derive(Debug, Subcommand)]
pub(crate) enum ChaosCommand {
    /// Run an experiment of the configuration, or a fault, and wait until all is well again
    Run(RunArgs),
    /// Say what is configured and what was done
    List {
        #[command(flatten)]
        place: Place,
    },
    /// End an event, or take it back while it waits
    Stop {
        #[command(flatten)]
        place: Place,
        /// Its id, as `list` says it
        id: String,
    },
    /// Run each kind of fault once, in quiet between, and print what was noticed, how soon, and how soon all was well
    Score(ScoreArgs),
}

/// Where the monitor is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The monitor
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9490")]
    url: String,
    /// A file with a token of the role operate, where the monitor wants one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// What `chaos run` takes.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    place: Place,
    /// An experiment of the configuration, or a fault such as latency, database_away, process_kill
    name: String,
    /// The tool, for faults of tools
    #[arg(long)]
    tool: Option<String>,
    /// The component, for task_panic and task_hang
    #[arg(long)]
    component: Option<String>,
    /// Of a tool's calls, in hundredths
    #[arg(long, default_value_t = 100.0)]
    percent: f64,
    /// How much, where the fault has a measure
    #[arg(long, allow_negative_numbers = true)]
    amount: Option<f64>,
    /// For how long
    #[arg(long = "for", default_value = "30s", value_parser = model::time::parse_duration)]
    duration: Duration,
}

/// What `chaos score` takes.
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    place: Place,
    /// Of the order of the kinds
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For how long each fault is there
    #[arg(long = "for", default_value = "20s", value_parser = model::time::parse_duration)]
    duration: Duration,
    /// Quiet before each fault
    #[arg(long, default_value = "15s", value_parser = model::time::parse_duration)]
    quiet: Duration,
    /// The tool that faults of tools are of
    #[arg(long, default_value = "serpapi")]
    tool: String,
    /// The component that faults of components are of
    #[arg(long, default_value = "stats")]
    component: String,
    /// Only these kinds
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    faults: Vec<Fault>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn fault(name: &str) -> Result<Fault, String> {
    serde_json::from_value(json!(name)).map_err(|_| {
        let names: Vec<String> = Fault::ALL.iter().map(|it| it.name()).collect();
        format!("no fault {name:?}; there are: {}", names.join(", "))
    })
}

/// Between two looks at an event.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) fn run(command: ChaosCommand) -> Result<(), Failure> {
    block_on(async {
        match command {
            ChaosCommand::Run(args) => run_one(args).await,
            ChaosCommand::List { place } => list(&place).await,
            ChaosCommand::Stop { place, id } => {
                let path = format!("/api/v1/chaos/{id}");
                client(&place)?.call(Method::DELETE, &path, None).await?;
                eprintln!("{id} ends");
                Ok(())
            }
            ChaosCommand::Score(args) => score(args).await,
        }
    })
}

fn client(place: &Place) -> Result<MonitorClient, Failure> {
    MonitorClient::new(&place.url, place.token_file.as_deref())
}

async fn run_one(args: RunArgs) -> Result<(), Failure> {
    let monitor = client(&args.place)?;
    let asked = match fault(&args.name) {
        Err(_) => json!({ "run": args.name }),
        Ok(fault) => {
            let RunArgs { tool, component, percent, amount, .. } = args;
            let base = Experiment::new(&args.name, fault, args.duration);
            json!(Experiment { tool, component, percent, amount, ..base })
        }
    };
    let id = ask(&monitor, &asked).await?;
    let event = wait(&monitor, &id).await?;
    println!("{}", serde_json::to_string_pretty(&event).map_err(exit::with(exit::SOFTWARE))?);
    match event.outcome {
        chaos::Outcome::Recovered | chaos::Outcome::Aborted => Ok(()),
        other => Err(Failure::text(exit::NO, format!("{}: {}", other.name(), event.detail))),
    }
}

/// Has an experiment run; its event's id.
pub(crate) async fn ask(monitor: &MonitorClient, asked: &Value) -> Result<String, Failure> {
    let answer = monitor.call(Method::POST, "/api/v1/chaos", Some(asked)).await?;
    Ok(answer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// Waits until an event is over, its recovery and what noticed it included.
pub(crate) async fn wait(monitor: &MonitorClient, id: &str) -> Result<Event, Failure> {
    loop {
        let path = format!("/api/v1/chaos/{id}");
        let event: Event = serde_json::from_value(monitor.call(Method::GET, &path, None).await?)
            .map_err(exit::with(exit::SOFTWARE))?;
        if event.outcome != chaos::Outcome::Running {
            return Ok(event);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn list(place: &Place) -> Result<(), Failure> {
    let all = client(place)?.call(Method::GET, "/api/v1/chaos", None).await?;
    let list = |name: &str| all.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    for it in list("experiments") {
        println!("configured  {it}");
    }
    for it in list("events") {
        let event: Event = serde_json::from_value(it).map_err(exit::with(exit::SOFTWARE))?;
        let began = event.began.unwrap_or(event.due);
        let (name, outcome) = (&event.experiment.name, event.outcome.name());
        println!("{}  {began}  {outcome:<13} {name}  {}", event.id, event.detail);
    }
    Ok(())
}

async fn score(args: ScoreArgs) -> Result<(), Failure> {
    let monitor = client(&args.place)?;
    let mut score = Score { events: Vec::new(), quiet_seconds: 0.0, false_alarms: Vec::new() };
    for it in campaign(args.seed, args.duration, &args.tool, &args.component) {
        if !args.faults.is_empty() && !args.faults.contains(&it.fault) {
            continue;
        }
        let from = Clock::system().now();
        tokio::time::sleep(args.quiet).await;
        let to = Clock::system().now();
        score.quiet_seconds += args.quiet.as_secs_f64();
        let sql = format!(
            "SELECT alertname AS name FROM alerts WHERE fired > TIMESTAMP '{from}' AND fired < TIMESTAMP '{to}' \
             UNION ALL SELECT kind AS name FROM findings WHERE at > TIMESTAMP '{from}' AND at < TIMESTAMP '{to}'"
        );
        let rows = monitor.rows(&sql).await?;
        let names = rows.iter().filter_map(|row| row.get("name")?.as_str());
        score.false_alarms.extend(names.map(str::to_owned));
        eprintln!("{} …", it.fault.name());
        let id = ask(&monitor, &json!(it)).await?;
        wait(&monitor, &id).await?;
        let event = settled(&monitor, &id).await?;
        score.events.push(Scored::of(&event));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&score).map_err(exit::with(exit::SOFTWARE))?);
    } else {
        print!("{}", score.table());
    }
    if score.recovered() {
        return Ok(());
    }
    Err(Failure::text(exit::NO, "not all was well again after each fault"))
}

/// An event when what noticed it has been looked for long enough.
async fn settled(monitor: &MonitorClient, id: &str) -> Result<Event, Failure> {
    let start = Clock::system().monotonic();
    loop {
        let event = wait(monitor, id).await?;
        if event.alert.is_some() || start.elapsed() > Duration::from_secs(20) {
            return Ok(event);
        }
        tokio::time::sleep(LOOK).await;
    }
}
