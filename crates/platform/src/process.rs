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

#[cfg(target_os = "linux")]
pub use linux::{find, read};

#[cfg(target_os = "linux")]
mod linux {
    use super::Process;
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
            virtual_size: stat.vsize,
            threads: u64::try_from(stat.num_threads).unwrap_or(0),
            open_fds: process.fd_count().ok().map(|n| n as u64),
            max_fds,
            stopped: matches!(stat.state, 'T' | 't' | 'Z' | 'X'),
        })
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

/// Finds processes by name.
///
/// # Errors
/// Always: not read on this system.
#[cfg(not(target_os = "linux"))]
pub fn find(_name: &str, _limit: usize) -> Result<Vec<u32>, PlatformError> {
    let cause = "only read on Linux so far".to_owned();
    Err(PlatformError::Reading { what: "processes", cause })
}

#[cfg(target_os = "linux")]
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
