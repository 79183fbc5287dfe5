//! What the kernel says of one process. It says so even when the process is stopped or hangs.

#[cfg(not(target_os = "linux"))]
use crate::PlatformError;

/// One process at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its id, which the system uses again after its end.
    pub pid: u32,
    /// Clock ticks from boot to its start; with the id it names the process for good.
    pub started_ticks: u64,
    /// Seconds since the epoch at its start.
    pub start_time: f64,
    /// Seconds of processor time, user and system.
    pub cpu_seconds: f64,
    /// Bytes in memory.
    pub resident: u64,
    /// How many of them are pages of files, its program's for the most part, which the system takes back when it needs room.
    pub of_files: u64,
    /// Bytes of address space.
    pub virtual_size: u64,
    /// Threads.
    pub threads: u64,
    /// Open handles; unknown where we may not look.
    pub open_fds: Option<u64>,
    /// Handles it may open; unknown where we may not look.
    pub max_fds: Option<u64>,
    /// Whether it is stopped by a signal or a tracer, or dead and not yet collected.
    pub stopped: bool,
}

/// A thread at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// R runs, S sleeps, D waits for a device, T is stopped, Z is dead.
    pub state: char,
    /// Seconds of processor time so far, in hundredths.
    pub cpu_centis: u64,
    /// The place in the kernel that it waits in, where we may know it.
    pub waits_in: String,
}

#[cfg(target_os = "linux")]
pub use linux::{children, find, kill_marked, oom_kills, read, threads};

#[cfg(target_os = "linux")]
mod linux {
    use super::{Process, Thread};
    use crate::PlatformError;
    use procfs::WithCurrentSystemInfo;
    use procfs::process::{self, LimitValue};

    fn failed(error: procfs::ProcError) -> PlatformError {
        PlatformError::Reading { what: "/proc/<pid>", cause: error.to_string() }
    }

    /// Reads process `pid`.
    ///
    /// # Errors
    /// There is none with that id.
    pub fn read(pid: u32) -> Result<Process, PlatformError> {
        let id = i32::try_from(pid).unwrap_or(i32::MAX);
        let process = process::Process::new(id).map_err(failed)?;
        let stat = process.stat().map_err(failed)?;
        let ticks = procfs::ticks_per_second() as f64;
        let boot = procfs::boot_time_secs().map_err(failed)?;
        let max_fds =
            process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
                LimitValue::Value(max) => Some(max),
                LimitValue::Unlimited => None,
            });
        Ok(Process {
            pid,
            started_ticks: stat.starttime,
            start_time: boot as f64 + stat.starttime as f64 / ticks,
            cpu_seconds: stat.utime.saturating_add(stat.stime) as f64 / ticks,
            resident: stat.rss_bytes().get(),
            of_files: process.statm().map_or(0, |it| it.shared * procfs::page_size()),
            virtual_size: stat.vsize,
            threads: u64::try_from(stat.num_threads).unwrap_or(0),
            open_fds: process.fd_count().ok().map(|n| n as u64),
            max_fds,
            stopped: matches!(stat.state, 'T' | 't' | 'Z' | 'X'),
        })
    }

    /// The threads of process `pid`, at most `limit`; none if there is no such process.
    pub fn threads(pid: u32, limit: usize) -> Vec<Thread> {
        let id = i32::try_from(pid).unwrap_or(i32::MAX);
        let Ok(tasks) = process::Process::new(id).and_then(|it| it.tasks()) else {
            return Vec::new();
        };
        let read = |task: process::Task| {
            let stat = task.stat().ok()?;
            let path = format!("/proc/{id}/task/{}/wchan", task.tid);
            let waits_in = std::fs::read_to_string(path).unwrap_or_default();
            let ticks = stat.utime.saturating_add(stat.stime);
            Some(Thread {
                name: stat.comm,
                state: stat.state,
                cpu_centis: ticks * 100 / procfs::ticks_per_second().max(1),
                waits_in,
            })
        };
        tasks.flatten().filter_map(read).take(limit).collect()
    }

    /// The ids of the processes that `pid` has begun and that are there.
    pub fn children(pid: u32) -> Vec<u32> {
        let id = i32::try_from(pid).unwrap_or(i32::MAX);
        let main = process::Process::new(id).and_then(|it| it.task_main_thread());
        main.and_then(|it| it.children()).unwrap_or_default()
    }

    /// How many processes the kernel has killed so far because memory ran out, on the whole machine.
    pub fn oom_kills() -> Option<u64> {
        let text = std::fs::read_to_string("/proc/vmstat").ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }

    /// Kills every process whose environment has `name` with the value `value`; gives their ids.
    pub fn kill_marked(name: &str, value: &str) -> Vec<u32> {
        let own = std::process::id();
        let mut killed = Vec::new();
        for process in process::all_processes().into_iter().flatten().flatten() {
            let marked = process.environ().is_ok_and(|all| {
                all.get(std::ffi::OsStr::new(name))
                    .is_some_and(|it| it == std::ffi::OsStr::new(value))
            });
            let Some(pid) = u32::try_from(process.pid()).ok().filter(|pid| marked && *pid != own)
            else {
                continue;
            };
            if let Some(target) = rustix::process::Pid::from_raw(process.pid()) {
                let _ = rustix::process::kill_process(target, rustix::process::Signal::KILL);
                killed.push(pid);
            }
        }
        killed
    }

    /// The ids of processes whose short name is `name`, or whose command line (words joined by one
    /// space) contains it; at most `limit`, ascending.
    ///
    /// # Errors
    /// `/proc` could not be listed.
    pub fn find(name: &str, limit: usize) -> Result<Vec<u32>, PlatformError> {
        let me = std::process::id();
        let mut found = Vec::new();
        for process in process::all_processes().map_err(failed)?.flatten() {
            let Ok(pid) = u32::try_from(process.pid()) else { continue };
            let short = || process.stat().is_ok_and(|stat| stat.comm == name);
            let long = || process.cmdline().is_ok_and(|words| words.join(" ").contains(name));
            if found.len() < limit && (long() || pid != me && short()) {
                found.push(pid);
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Reads process `pid`.
///
/// # Errors
/// Always: not read on this system.
#[cfg(not(target_os = "linux"))]
pub fn read(_pid: u32) -> Result<Process, PlatformError> {
    let cause = "only read on Linux so far".to_owned();
    Err(PlatformError::Reading { what: "process", cause })
}

/// The threads of a process: none are read on this system.
#[cfg(not(target_os = "linux"))]
pub fn threads(_pid: u32, _limit: usize) -> Vec<Thread> {
    Vec::new()
}

/// The children of a process: none are known on this system.
#[cfg(not(target_os = "linux"))]
pub fn children(_pid: u32) -> Vec<u32> {
    Vec::new()
}

/// Unknown on this system.
#[cfg(not(target_os = "linux"))]
pub fn oom_kills() -> Option<u64> {
    None
}

/// Kills nothing on this system.
#[cfg(not(target_os = "linux"))]
pub fn kill_marked(_name: &str, _value: &str) -> Vec<u32> {
    Vec::new()
}

/// Finds processes by name.
///
/// # Errors
/// Always: not read on this system.
#[cfg(not(target_os = "linux"))]
pub fn find(_name: &str, _limit: usize) -> Result<Vec<u32>, PlatformError> {
    let cause = "only read on Linux so far".to_owned();
    Err(PlatformError::Reading { what: "processes", cause })
}

/// Lets other threads go first from here on; for work that can wait. Where the system knows no priority of a
/// thread, nothing changes.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10); // of the calling thread alone, on Linux
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_found_and_read() {
        let pid = std::process::id();
        let me = read(pid).unwrap();
        assert!(me.resident > 0 && me.threads > 0 && me.open_fds > Some(2) && !me.stopped);
        let path = std::env::args().next().unwrap();
        assert!(find(&path, 10).unwrap().contains(&pid));
    }
}
