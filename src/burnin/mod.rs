//! The command `burnin`: 48 hours of load and faults against the real programs, compressed or in real time, and a verdict.
//!
//! - `stack`: the system under test, begun and ended
//! - `traffic`: who sends what, and how far the run is
//! - `faults`: what is done to it on the way
//! - `judge` and `series`: what came of it, criterion by criterion, as seen from outside and in the monitor's series

mod faults;
mod judge;
mod series;
mod stack;
mod traffic;

use crate::exit::{self, Failure};
use crate::monitor_client::MonitorClient;
use crate::role::{block_on, stop_on_request};
use ::burnin::page::page;
use ::burnin::plan::{CLIENTS, REQUESTS};
use ::burnin::probe::{self, Probed};
use ::burnin::readings::{self, Gaps, Readings};
use ::burnin::sink::Sink;
use ::burnin::tally::Tally;
use ::burnin::verdict::Verdict;
use clap::{Args, ValueEnum};
use faults::Done;
use model::Timestamp;
use platform::durable;
use runtime::{Clock, Stop, Tick};
use serde_json::json;
use stack::Stack;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use traffic::{Pace, Run};

/// What `burnin` takes.
#[derive(Debug, Args)]
pub(crate) struct BurninArgs {
    /// Where the system under test and the verdict go; must be empty or not there
    #[arg(long, value_name = "DIR", default_value = "forerunner-burnin")]
    dir: PathBuf,
    /// Requests in all, as fast as the machine allows; 48 hours pass with them. The default is 300 a second for 48 hours
    #[arg(long, value_name = "N", default_value_t = REQUESTS, conflicts_with_all = ["realtime", "replay"])]
    requests: u64,
    /// The same as without a mode: compressed
    #[arg(long, conflicts_with_all = ["realtime", "replay"])]
    compressed: bool,
    /// At the rates of the plan, open loop, for this time; the 48 hours of the plan are stretched over it
    #[arg(long, value_name = "DURATION", value_parser = model::time::parse_duration)]
    realtime: Option<Duration>,
    /// At the rates of a file, open loop: CSV with the columns t_s and offered_rps
    #[arg(long, value_name = "FILE", conflicts_with = "realtime")]
    replay: Option<PathBuf>,
    /// Clients with agents and tokens of their own; all begin at once
    #[arg(long, default_value_t = CLIENTS)]
    clients: usize,
    /// Where the random numbers start
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these faults of the plan, such as process_kill,latency@6 (the one of hour 6)
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    only: Vec<String>,
    /// A defect on purpose: the run must fail at its criterion
    #[arg(long, value_enum)]
    control: Option<Control>,
    /// Burn in another gateway with the same interface: its address. The command that runs it comes last, after --
    #[arg(long, value_name = "HOST:PORT", requires = "command")]
    target: Option<std::net::SocketAddr>,
    /// The command of the other gateway
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A defect on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Control {
    /// The gateway leaks: R1.4 and R7.1 must fail
    Leaky,
    /// The gateway hangs and nobody restarts it: R1.1 and R1.2 must fail
    Hanging,
    /// The environment file is edited as the failed run did it: R2.1 must fail
    Corrupting,
    /// Nobody is told of anything: R3.3 must fail
    Mute,
    /// A fault does not end with its window: R6.4 must fail
    Endless,
}

impl Control {
    /// The criterion that must fail.
    fn criterion(self) -> &'static str {
        match self {
            Self::Leaky => "R1.4",
            Self::Hanging => "R1.2",
            Self::Corrupting => "R2.1",
            Self::Mute => "R3.3",
            Self::Endless => "R6.4",
        }
    }
}

/// For all to end.
const END: Duration = Duration::from_secs(10);

/// All that was measured.
pub(crate) struct Measured {
    began: Timestamp,
    seconds: f64,
    whole: Duration,
    tally: Tally,
    probed: Probed,
    gateway: Readings,
    monitor: Readings,
    gaps: Gaps,
    sink: Sink,
    done: Done,
    /// Handles of the gateway a while after the load, and bytes of its metrics page at the beginning and the end.
    handles_after: Option<u64>,
    pages: [usize; 2],
}

pub(crate) fn run(args: BurninArgs) -> Result<(), Failure> {
    telemetry::trace::start("error");
    let steps = ::burnin::plan::steps();
    let known = |it: &&String| steps.iter().any(|step| step.is_in(std::slice::from_ref(*it)));
    if let Some(odd) = args.only.iter().find(|it| !known(it)) {
        let all: Vec<String> = steps.iter().map(|it| format!("{}@{}", it.fault, it.hour)).collect();
        let text = format!("--only: no fault {odd:?} is in the plan; there are {}", all.join(", "));
        return Err(Failure::text(exit::USAGE, text));
    }
    let dir = std::path::absolute(&args.dir).map_err(exit::with(exit::SYSTEM))?;
    let pace = Pace::of(&args).map_err(|error| Failure::text(exit::DATA, error))?;
    let used = durable::list(&dir).is_ok_and(|files| !files.is_empty());
    if used {
        let text = format!("{} is not empty; give another folder with --dir", dir.display());
        return Err(Failure::text(exit::USAGE, text));
    }
    durable::create_dir(&dir).map_err(exit::with(exit::SYSTEM))?;
    block_on(burn(args, dir, pace))
}

async fn burn(args: BurninArgs, dir: PathBuf, pace: Pace) -> Result<(), Failure> {
    let stop = stop_on_request(false);
    let sink = Sink::default();
    let hook = sink.listen(Clock::system()).await.map_err(exit::with(exit::SYSTEM))?;
    eprintln!("starting watchdog, gateway and monitor in {} …", dir.display());
    let (stack, mut watchdog) = Stack::start(&dir, &args, hook, &stop).await?;
    let monitor = MonitorClient::new(&stack.monitor_url(), None)?;
    let outcome = tokio::select! {
        measured = measure(&args, &stack, pace, sink, &monitor, &stop) => measured,
        status = watchdog.wait() => Err(Failure::text(exit::SOFTWARE, format!(
            "the watchdog ended ({status:?}); its last words:\n{}", watchdog.last_lines().join("\n")
        ))),
    };
    let verdict = match outcome {
        Ok(measured) => {
            let mut verdict = judge::judge(&measured, &stack, &monitor).await;
            let facts = facts(&args, &measured);
            let _ = watchdog.end(END).await;
            judge::left_behind(&mut verdict, &dir);
            tell(&dir, &verdict, &measured, &facts)?;
            verdict
        }
        Err(failure) => {
            let _ = watchdog.end(END).await;
            return Err(failure);
        }
    };
    conclude(&args, &verdict)
}

/// The exit code: of a control, whether it failed where it must.
fn conclude(args: &BurninArgs, verdict: &Verdict) -> Result<(), Failure> {
    let failed = verdict.failed();
    match args.control {
        Some(control) if failed.contains(&control.criterion()) => {
            eprintln!("the control failed at {}, as it must", control.criterion());
            Ok(())
        }
        Some(control) => {
            let text = format!("the control did not fail at {}", control.criterion());
            Err(Failure::text(exit::NO, text))
        }
        None if failed.is_empty() => Ok(()),
        None => Err(Failure::text(exit::NO, format!("not met: {}", failed.join(", ")))),
    }
}

async fn measure(
    args: &BurninArgs,
    stack: &Stack,
    pace: Pace,
    sink: Sink,
    monitor: &MonitorClient,
    stop: &Stop,
) -> Result<Measured, Failure> {
    let tally = Tally::default();
    let run = Arc::new(Run::new(pace, tally.clone()));
    let (probed, gaps, end) = (Probed::default(), Gaps::default(), Stop::new());
    let (gateway, reads_monitor) = (stack.gateway_readings(), stack.monitor_readings());
    let first_page = stack.page_bytes().await;
    tokio::spawn(probe::run(stack.health.0, stack.health.1.clone(), probed.clone(), end.clone()));
    let all = vec![gateway.clone(), reads_monitor.clone()];
    tokio::spawn(readings::run(all, run.clone(), tally.clone(), gaps.clone(), end.clone()));
    let (began, start) = (Clock::system().now(), Instant::now());
    ::burnin::client::grant(stack.data).await.map_err(|error| {
        Failure::text(exit::UNAVAILABLE, format!("the policies could not be made: {error}"))
    })?;
    let done = Done::default();
    let faults = faults::run(args, stack, monitor.clone(), run.clone(), done.clone());
    let faults = tokio::spawn(faults);
    let bar = tokio::spawn(progress(run.clone(), probed.clone(), gateway.clone(), end.clone()));
    traffic::run(run.clone(), args.clients, args.seed, stack.data, stop.clone()).await;
    if stop.requested() {
        end.request();
        faults.abort();
        return Err(Failure::text(exit::NO, "interrupted: no verdict of a part of a run"));
    }
    let whole = start.elapsed();
    // What was begun comes to its end.
    if tokio::time::timeout(Duration::from_secs(180), faults).await.is_err() {
        done.never_ended();
    }
    let handles_after = handles_after(&gateway).await;
    let last_page = stack.page_bytes().await;
    end.request();
    let _ = bar.await;
    Ok(Measured {
        began,
        seconds: start.elapsed().as_secs_f64(),
        whole,
        tally,
        probed,
        gateway,
        monitor: reads_monitor,
        gaps,
        sink,
        done,
        handles_after,
        pages: [first_page, last_page],
    })
}

/// The least number of handles within ten seconds of the load's end.
async fn handles_after(gateway: &Readings) -> Option<u64> {
    let mut least = None;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = gateway.now().and_then(|it| it.open_fds);
        least = match (least, now) {
            (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
            (a, b) => a.or(b),
        };
    }
    least
}

/// A line that says how far it is and how it stands.
async fn progress(run: Arc<Run>, probed: Probed, gateway: Readings, end: Stop) {
    use ::burnin::readings::Progress;
    let start = Instant::now();
    let (mut before, mut at) = (0, start);
    while end.wait_for(Duration::from_secs(2)).await == Tick::Elapsed {
        let total = run.tally.total();
        let rate = (total - before) as f64 / at.elapsed().as_secs_f64();
        (before, at) = (total, Instant::now());
        let good = run.tally.count(::burnin::tally::Kind::Due, false);
        let share = good as f64 / run.tally.all(false).max(1) as f64 * 100.0;
        let resident = gateway.now().map_or(0.0, |it| it.resident as f64 / 1_048_576.0);
        eprint!(
            "\r{:5.1} of 48 h  {total} requests  {rate:.0}/s  {share:.3} % as due  health {}  {resident:.1} MiB   ",
            run.hour(),
            if probed.is_good() { "good" } else { "BAD " },
        );
    }
    eprintln!();
}

fn facts(args: &BurninArgs, measured: &Measured) -> String {
    let mode = match (&args.realtime, &args.replay) {
        (Some(time), _) => format!("in real time for {:.0} minutes", time.as_secs_f64() / 60.0),
        (_, Some(file)) => format!("replay of {}", file.display()),
        _ => "compressed".to_owned(),
    };
    let what = match (&args.target, args.control) {
        (Some(target), _) => format!("{} at {target}", args.command.join(" ")),
        (_, Some(control)) => format!("our gateway with the defect {control:?}"),
        _ => "our gateway".to_owned(),
    };
    format!(
        "{what}, {mode}: {} requests of {} clients in {:.0} s from {}, seed {}.",
        measured.tally.total(),
        args.clients,
        measured.whole.as_secs_f64(),
        measured.began,
        args.seed
    )
}

/// Prints the verdict and writes it as JSON and as a page.
fn tell(dir: &Path, verdict: &Verdict, measured: &Measured, facts: &str) -> Result<(), Failure> {
    let judged = verdict.judgements();
    let text = serde_json::to_string_pretty(&json!({
        "run": facts,
        "requests": measured.tally.total(),
        "seconds": measured.seconds,
        "failed": verdict.failed(),
        "criteria": judged,
        "faults": measured.done.all().iter().filter_map(|it| it.event.clone()).collect::<Vec<_>>(),
    }))
    .map_err(exit::with(exit::SOFTWARE))?;
    let html = page("Burn-in", facts, &judged, &judge::plots(measured), &judge::marks(measured));
    for (name, content) in [("verdict.json", text), ("verdict.html", html)] {
        durable::replace(&dir.join(name), content.as_bytes()).map_err(exit::with(exit::SYSTEM))?;
    }
    println!("{facts}\n{}", verdict.table());
    println!("written to {0}/verdict.html and {0}/verdict.json", dir.display());
    Ok(())
}
