//! Readings of processes by id or name. They come from the kernel, so they go on while the process is
//! stopped or hangs.

use crate::config::{CollectorConfig, ProcessConfig};
use crate::schedule::Ticks;
use crate::stage::Stage;
use model::Labels;
use platform::process::{self, Process};
use runtime::{Clock, Stop};
use std::collections::HashMap;
use std::time::Duration;
use store::Writer;
use tracing::{info, warn};

/// Processes read under one name.
const MOST: usize = 1_000;

/// Reads every configured process at the interval until stopped.
pub(crate) async fn run(config: CollectorConfig, writer: Writer, clock: Clock, stop: Stop) {
    let name = platform::host::name();
    let pairs = config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let ours = [("job", "process"), ("instance", name.as_str())];
    let mut stage = Stage::new(writer, Labels::from_pairs(pairs.chain(ours)));
    let mut ticks = Ticks::new(config.interval, Duration::ZERO, clock);
    let mut groups: Vec<Group> = config.process.into_iter().map(Group::new).collect();
    while let Some(due) = ticks.next(&stop).await {
        let read = move || {
            let found: Vec<Option<Vec<Process>>> = groups.iter().map(Group::find).collect();
            (groups, found)
        };
        let Ok((returned, found)) = tokio::task::spawn_blocking(read).await else { return };
        groups = returned;
        for (group, found) in groups.iter_mut().zip(&found) {
            if let Some(found) = found {
                group.add(found, due.millis() as f64 / 1e3, &mut stage);
            }
        }
        if let Err(error) = stage.append(due).await {
            warn!(%error, "process readings were not taken by the store");
        }
    }
}

/// The processes that one entry of the configuration names.
#[derive(Debug)]
struct Group {
    config: ProcessConfig,
    /// Processor seconds of the processes seen last, so that the sum never falls when one ends; none before the first look.
    seen: Option<HashMap<(u32, u64), f64>>,
    /// Since the first look: what was before is no rise of the counter, and after our restart it would be one for the second time.
    cpu_seconds: f64,
    was_up: Option<bool>,
    /// When it was looked last, in seconds since the epoch.
    looked: f64,
}

impl Group {
    fn new(config: ProcessConfig) -> Self {
        Self { config, seen: None, cpu_seconds: 0.0, was_up: None, looked: 0.0 }
    }

    /// None where nobody can say, as without a free handle: that is no sign that the process is gone.
    fn find(&self) -> Option<Vec<Process>> {
        let pids = match (&self.config.pid, &self.config.command) {
            (Some(pid), _) => vec![*pid],
            (None, Some(command)) => process::find(command, MOST).ok()?,
            (None, None) => Vec::new(),
        };
        // One that ended in between is no error.
        Some(pids.into_iter().filter_map(|pid| process::read(pid).ok()).collect())
    }

    fn add(&mut self, found: &[Process], now: f64, stage: &mut Stage) {
        let up = !found.is_empty();
        if self.was_up.replace(up) != Some(up) {
            let name = &self.config.name;
            if up {
                info!(process = %name, pids = ?found.iter().map(|p| p.pid).collect::<Vec<_>>(), "process found");
            } else {
                warn!(process = %name, "no such process");
            }
        }
        self.count_cpu(found, now);
        let name = self.config.name.clone();
        let mut push =
            |metric: &str, value: f64| stage.push(metric, &[("process", name.as_str())], value);
        push("up", f64::from(u8::from(up)));
        push("process_count", found.len() as f64);
        push("process_cpu_seconds_total", self.cpu_seconds);
        if !up {
            return;
        }
        let sum = |read: fn(&Process) -> u64| found.iter().map(read).sum::<u64>() as f64;
        push("process_stopped", sum(|process| u64::from(process.stopped)));
        push("process_resident_memory_bytes", sum(|process| process.resident));
        push("process_virtual_memory_bytes", sum(|process| process.virtual_size));
        push("process_threads", sum(|process| process.threads));
        if found.iter().all(|process| process.open_fds.is_some()) {
            push("process_open_fds", sum(|process| process.open_fds.unwrap_or(0)));
        }
        if found.iter().all(|process| process.max_fds.is_some()) {
            push("process_max_fds", sum(|process| process.max_fds.unwrap_or(0)));
        }
        let started = found.iter().map(|process| process.start_time).fold(f64::INFINITY, f64::min);
        push("process_start_time_seconds", started);
    }

    fn count_cpu(&mut self, found: &[Process], now: f64) {
        let mut seen = HashMap::with_capacity(found.len());
        for process in found {
            let id = (process.pid, process.started_ticks);
            // One that was there before and could not be read then has no time to its name yet.
            let was_there = process.start_time < self.looked;
            let unread = if was_there { process.cpu_seconds } else { 0.0 };
            let before = match &self.seen {
                Some(known) => known.get(&id).copied().unwrap_or(unread),
                None => process.cpu_seconds,
            };
            self.cpu_seconds += (process.cpu_seconds - before).max(0.0);
            seen.insert(id, process.cpu_seconds);
        }
        self.seen = Some(seen);
        self.looked = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, cpu_seconds: f64) -> Process {
        Process {
            pid,
            started_ticks: 7,
            start_time: 1.0,
            cpu_seconds,
            resident: 1,
            of_files: 0,
            virtual_size: 1,
            threads: 1,
            open_fds: None,
            max_fds: None,
            stopped: false,
        }
    }

    #[test]
    fn processor_time_of_a_group_counts_from_the_first_look_and_never_falls_when_a_member_ends() {
        let config =
            ProcessConfig { name: "x".to_owned(), pid: None, command: Some("x".to_owned()) };
        let mut group = Group::new(config);
        let sums: Vec<f64> = [
            vec![process(1, 5.0), process(2, 1.0)],
            vec![process(1, 6.0)],
            vec![process(1, 6.5), Process { start_time: 20.0, ..process(3, 0.25) }],
            // One that was there all the time and could not be read.
            vec![process(4, 500.0)],
            vec![process(4, 501.0)],
            vec![],
        ]
        .iter()
        .map(|found| {
            group.count_cpu(found, 10.0);
            group.cpu_seconds
        })
        .collect();
        assert_eq!(sums, [0.0, 1.0, 1.75, 1.75, 2.75, 2.75]);
    }
}
