//! Memory, processor time and handles of processes, read from outside all along, each reading with the requests that were answered by
//! then; and gaps in which the machine slept.

use crate::tally::Tally;
use platform::process;
use runtime::{Stop, Tick};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);
/// Readings kept; beyond, every second one goes and they come half as often.
const MOST: usize = 8_192;
/// Time that passed for the machine and not for us by so much: it slept.
const GAP: Duration = Duration::from_secs(2);

/// One reading of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Seconds since the start.
    pub at: f64,
    /// The hour of 48 then.
    pub hour: f64,
    /// Which run of the process: it changes with each restart.
    pub pid: u32,
    /// Bytes in memory.
    pub resident: f64,
    /// Those of them that are no pages of files.
    pub own: f64,
    /// Seconds of processor time of this run.
    pub cpu: f64,
    /// Open handles.
    pub fds: f64,
    /// Requests answered by then.
    pub requests: u64,
}

/// Readings of one process by its command line. Clones share them.
#[derive(Clone, Debug)]
pub struct Readings {
    /// What its command line contains.
    command: String,
    kept: Arc<Mutex<Vec<Reading>>>,
}

impl Readings {
    /// Of the process whose command line contains `command`.
    pub fn of(command: &str) -> Self {
        Self { command: command.to_owned(), kept: Arc::default() }
    }

    /// All so far.
    pub fn all(&self) -> Vec<Reading> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process as it is now: its readings, the newest of several with such a command line.
    pub fn now(&self) -> Option<process::Process> {
        let pids = process::find(&self.command, 16).ok()?;
        let own = std::process::id();
        let read =
            pids.into_iter().filter(|pid| *pid != own).filter_map(|pid| process::read(pid).ok());
        read.max_by_key(|it| it.started_ticks)
    }
}

/// Where the run is, for whoever marks a reading with it.
pub trait Progress: Send + Sync {
    /// The hour of 48.
    fn hour(&self) -> f64;
}

/// Gaps in which the machine slept: when, and for how long, in seconds.
pub type Gaps = Arc<Mutex<Vec<(f64, f64)>>>;

/// Reads until stopped.
pub async fn run(
    processes: Vec<Readings>,
    progress: Arc<dyn Progress>,
    tally: Tally,
    gaps: Gaps,
    stop: Stop,
) {
    let start = Instant::now();
    // How far the machine's own time is ahead of ours, which stands still while it sleeps.
    let ahead = || Some(platform::host::uptime()?.saturating_sub(start.elapsed()));
    let mut asleep = ahead();
    let (mut every, mut next) = (EVERY, start);
    while stop.wait_until(next).await == Tick::Elapsed {
        next += every;
        let at = start.elapsed().as_secs_f64();
        let now = ahead();
        if let (Some(before), Some(now)) = (asleep, now)
            && now.saturating_sub(before) > GAP
        {
            let slept = now.saturating_sub(before).as_secs_f64();
            gaps.lock().unwrap_or_else(PoisonError::into_inner).push((at, slept));
        }
        asleep = now;
        let mut full = false;
        for readings in &processes {
            let Some(it) = readings.now() else { continue };
            let mut kept = readings.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(Reading {
                at,
                hour: progress.hour(),
                pid: it.pid,
                resident: it.resident as f64,
                own: it.resident.saturating_sub(it.of_files) as f64,
                cpu: it.cpu_seconds,
                fds: it.open_fds.map_or(f64::NAN, |n| n as f64),
                requests: tally.total(),
            });
            full |= kept.len() >= MOST;
        }
        if full {
            every *= 2;
            for readings in &processes {
                let mut kept = readings.kept.lock().unwrap_or_else(PoisonError::into_inner);
                let mut odd = false;
                kept.retain(|_| {
                    odd = !odd;
                    odd
                });
            }
        }
    }
}
