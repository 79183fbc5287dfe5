//! What the kernel says of the machine. Readings come from `/proc`; elsewhere than on Linux each call
//! answers [`Reading`](crate::PlatformError::Reading).

#[cfg(not(target_os = "linux"))]
use crate::PlatformError;

/// Seconds that one processor has spent since boot, by mode.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuSeconds {
    /// The processor's number.
    pub cpu: usize,
    /// Mode and seconds; the modes of Linux: user, nice, system, idle, iowait, irq, softirq, steal.
    pub modes: Vec<(&'static str, f64)>,
}

/// Totals of one block device since boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// The device's name, `sda`.
    pub device: String,
    /// Requests read and written.
    pub ops: [u64; 2],
    /// Bytes read and written.
    pub bytes: [u64; 2],
    /// Seconds spent reading and writing, over all requests.
    pub seconds: [f64; 2],
    /// Seconds with any request in flight.
    pub busy_seconds: f64,
}

/// Room on one mounted file system.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSystem {
    /// What is mounted.
    pub device: String,
    /// Where.
    pub mount_point: String,
    /// Its kind, `ext4`.
    pub kind: String,
    /// Bytes in all.
    pub size: u64,
    /// Bytes free.
    pub free: u64,
    /// Bytes free to users without privilege.
    pub available: u64,
    /// Inodes in all and free.
    pub files: [u64; 2],
}

/// Totals of one network interface since boot, received and sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// The interface's name, `eth0`.
    pub device: String,
    /// Bytes.
    pub bytes: [u64; 2],
    /// Packets.
    pub packets: [u64; 2],
    /// Errors.
    pub errors: [u64; 2],
    /// Packets dropped.
    pub drops: [u64; 2],
}

/// Seconds since boot in which tasks stalled for want of one resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// `cpu`, `memory` or `io`.
    pub resource: &'static str,
    /// Seconds in which at least one task waited.
    pub waiting_seconds: f64,
    /// Seconds in which all tasks waited; unknown for the CPU of older kernels.
    pub stalled_seconds: f64,
}

/// Counts of the whole machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals {
    /// Seconds since the epoch at boot.
    pub boot_time: u64,
    /// Context switches since boot.
    pub context_switches: u64,
    /// Processes started since boot.
    pub forks: u64,
    /// Processes that run or could.
    pub running: u64,
    /// Processes that wait for a disk.
    pub blocked: u64,
}

/// Bytes that may still be written to the disk that holds `path`.
///
/// # Errors
/// The system does not say.
#[cfg(unix)]
pub fn free_bytes(path: &std::path::Path) -> Result<u64, crate::PlatformError> {
    let room = rustix::fs::statvfs(path);
    let room = room
        .map_err(|error| crate::PlatformError::file("ask for the room at", path)(error.into()))?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Bytes that may still be written to the disk that holds `path`.
///
/// # Errors
/// Always; it is not read on this system.
#[cfg(not(unix))]
pub fn free_bytes(_path: &std::path::Path) -> Result<u64, crate::PlatformError> {
    Err(crate::PlatformError::Reading {
        what: "the room on a disk",
        cause: "not read on this system".to_owned(),
    })
}

/// Since the boot of the machine, the time that it slept included; where the system says so.
pub fn uptime() -> Option<std::time::Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    std::time::Duration::try_from_secs_f64(text.split(' ').next()?.parse().ok()?).ok()
}

/// The machine's name in the network, `localhost` where it is not known.
pub fn name() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = text.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

#[cfg(target_os = "linux")]
pub use linux::{cpus, disks, file_systems, interfaces, load, memory, pressure};

#[cfg(target_os = "linux")]
mod linux {
    use super::{CpuSeconds, Disk, FileSystem, Interface, Pressure, Totals};
    use crate::PlatformError;
    use procfs::{Current, CurrentSI};

    const SECTOR: u64 = 512; // the unit of /proc/diskstats on every device

    fn failed(what: &'static str) -> impl FnOnce(procfs::ProcError) -> PlatformError {
        move |error| PlatformError::Reading { what, cause: error.to_string() }
    }

    /// Every processor's seconds by mode, and the machine's totals: one read of `/proc/stat`.
    ///
    /// # Errors
    /// `/proc/stat` could not be read.
    pub fn cpus() -> Result<(Vec<CpuSeconds>, Totals), PlatformError> {
        let stat = procfs::KernelStats::current().map_err(failed("/proc/stat"))?;
        let ticks = procfs::ticks_per_second() as f64;
        let cpus = stat.cpu_time.iter().enumerate().map(|(cpu, time)| {
            let modes = [
                ("user", Some(time.user)),
                ("nice", Some(time.nice)),
                ("system", Some(time.system)),
                ("idle", Some(time.idle)),
                ("iowait", time.iowait),
                ("irq", time.irq),
                ("softirq", time.softirq),
                ("steal", time.steal),
            ];
            let seconds = |(mode, t): (_, Option<u64>)| Some((mode, t? as f64 / ticks));
            CpuSeconds { cpu, modes: modes.into_iter().filter_map(seconds).collect() }
        });
        let totals = Totals {
            boot_time: stat.btime,
            context_switches: stat.ctxt,
            forks: stat.processes,
            running: u64::from(stat.procs_running.unwrap_or(0)),
            blocked: u64::from(stat.procs_blocked.unwrap_or(0)),
        };
        Ok((cpus.collect(), totals))
    }

    /// The load averages over 1, 5 and 15 minutes.
    ///
    /// # Errors
    /// `/proc/loadavg` could not be read.
    pub fn load() -> Result<[f64; 3], PlatformError> {
        let load = procfs::LoadAverage::current().map_err(failed("/proc/loadavg"))?;
        Ok([load.one, load.five, load.fifteen].map(f64::from))
    }

    /// The lines of `/proc/meminfo`: name with `(…)` turned to `_…`, and bytes.
    ///
    /// # Errors
    /// `/proc/meminfo` could not be read.
    pub fn memory() -> Result<Vec<(String, u64)>, PlatformError> {
        let path = std::path::Path::new("/proc/meminfo");
        let text = std::fs::read_to_string(path).map_err(PlatformError::file("read", path))?;
        Ok(text.lines().filter_map(memory_line).collect())
    }

    pub(super) fn memory_line(line: &str) -> Option<(String, u64)> {
        let (name, rest) = line.split_once(':')?;
        let mut words = rest.split_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        let bytes = if words.next() == Some("kB") { number.checked_mul(1024)? } else { number };
        Some((name.replace('(', "_").replace(')', ""), bytes))
    }

    /// Every block device that is not a RAM disk or a loop.
    ///
    /// # Errors
    /// `/proc/diskstats` could not be read.
    pub fn disks() -> Result<Vec<Disk>, PlatformError> {
        let stats = procfs::DiskStats::current().map_err(failed("/proc/diskstats"))?;
        let real = |name: &str| !name.starts_with("ram") && !name.starts_with("loop");
        let disks = stats.0.into_iter().filter(|disk| real(&disk.name)).map(|disk| Disk {
            ops: [disk.reads, disk.writes],
            bytes: [disk.sectors_read, disk.sectors_written].map(|n| n.saturating_mul(SECTOR)),
            seconds: [disk.time_reading, disk.time_writing].map(|ms| ms as f64 / 1000.0),
            busy_seconds: disk.time_in_progress as f64 / 1000.0,
            device: disk.name,
        });
        Ok(disks.collect())
    }

    /// Every mounted file system that lies on a device, once per device. A mount that hangs would hang
    /// this call: call it where that does no harm.
    ///
    /// # Errors
    /// The table of mounts could not be read.
    pub fn file_systems() -> Result<Vec<FileSystem>, PlatformError> {
        let me = procfs::process::Process::myself().map_err(failed("/proc/self"))?;
        let mounts = me.mountinfo().map_err(failed("/proc/self/mountinfo"))?;
        let mut found: Vec<FileSystem> = Vec::new();
        for mount in mounts {
            let device = plain(&mount.mount_source.unwrap_or_default());
            let point = plain(&mount.mount_point.to_string_lossy());
            let remote = ["nfs", "nfs4", "cifs", "fuse"].contains(&mount.fs_type.as_str());
            let seen = found.iter().any(|have| have.device == device);
            if !device.starts_with("/dev/") || remote || seen {
                continue;
            }
            let Ok(room) = rustix::fs::statvfs(point.as_str()) else { continue };
            found.push(FileSystem {
                device,
                mount_point: point,
                kind: mount.fs_type,
                size: room.f_blocks.saturating_mul(room.f_frsize),
                free: room.f_bfree.saturating_mul(room.f_frsize),
                available: room.f_bavail.saturating_mul(room.f_frsize),
                files: [room.f_files, room.f_ffree],
            });
        }
        Ok(found)
    }

    /// Text of the table of mounts, in which blanks and backslashes are three octal digits.
    fn plain(text: &str) -> String {
        let mut parts = text.split('\\');
        let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
            match code {
                Some(byte) => {
                    plain.push(byte);
                    plain.extend_from_slice(part.get(3..).unwrap_or_default().as_bytes());
                }
                None => {
                    plain.push(b'\\');
                    plain.extend_from_slice(part.as_bytes());
                }
            }
        }
        String::from_utf8_lossy(&plain).into_owned()
    }

    /// Every network interface.
    ///
    /// # Errors
    /// `/proc/net/dev` could not be read.
    pub fn interfaces() -> Result<Vec<Interface>, PlatformError> {
        let status = procfs::net::dev_status().map_err(failed("/proc/net/dev"))?;
        let mut found: Vec<Interface> = status
            .into_values()
            .map(|device| Interface {
                bytes: [device.recv_bytes, device.sent_bytes],
                packets: [device.recv_packets, device.sent_packets],
                errors: [device.recv_errs, device.sent_errs],
                drops: [device.recv_drop, device.sent_drop],
                device: device.name,
            })
            .collect();
        found.sort_by(|a, b| a.device.cmp(&b.device));
        Ok(found)
    }

    /// The stall times of CPU, memory and I/O.
    ///
    /// # Errors
    /// The kernel has no pressure stall information.
    pub fn pressure() -> Result<[Pressure; 3], PlatformError> {
        let read = |resource: &'static str| {
            let path = format!("/proc/pressure/{resource}");
            let text = std::fs::read_to_string(&path)
                .map_err(PlatformError::file("read", std::path::Path::new(&path)))?;
            stalls(resource, &text).ok_or_else(|| PlatformError::Reading {
                what: "the stall times of the kernel",
                cause: format!("{path} has no total"),
            })
        };
        Ok([read("cpu")?, read("memory")?, read("io")?])
    }

    /// Before Linux 5.13 nothing is said of the time in which all waited for a processor.
    fn stalls(resource: &'static str, text: &str) -> Option<Pressure> {
        let seconds = |kind: &str| {
            let line = text.lines().find(|line| line.starts_with(kind))?;
            let total = line.split("total=").nth(1)?.split_whitespace().next()?;
            Some(total.parse::<u64>().ok()? as f64 / 1e6)
        };
        Some(Pressure {
            resource,
            waiting_seconds: seconds("some")?,
            stalled_seconds: seconds("full").unwrap_or(0.0),
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn mount_points_with_blanks_are_read() {
            assert_eq!(plain("/mnt/My\\040Disk\\134x"), "/mnt/My Disk\\x");
            assert_eq!(plain("/mnt/a\\9"), "/mnt/a\\9");
        }

        #[test]
        fn r8_3_stalls_are_read_also_where_a_kernel_says_less() {
            let whole = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n";
            assert_eq!(stalls("io", whole).unwrap().waiting_seconds, 1.5);
            assert_eq!(stalls("io", whole).unwrap().stalled_seconds, 0.5);
            let some = whole.lines().next().unwrap();
            assert_eq!(stalls("cpu", some).unwrap().stalled_seconds, 0.0);
            assert!(stalls("cpu", "").is_none());
        }
    }
}

#[cfg(not(target_os = "linux"))]
macro_rules! not_here {
    ($($name:ident -> $type:ty),* $(,)?) => {$(
        /// Not read on this system.
        ///
        /// # Errors
        /// Always.
        pub fn $name() -> Result<$type, PlatformError> {
            let cause = "only read on Linux so far".to_owned();
            Err(PlatformError::Reading { what: stringify!($name), cause })
        }
    )*};
}

#[cfg(not(target_os = "linux"))]
not_here!(
    cpus -> (Vec<CpuSeconds>, Totals), load -> [f64; 3], memory -> Vec<(String, u64)>,
    disks -> Vec<Disk>, file_systems -> Vec<FileSystem>, interfaces -> Vec<Interface>,
    pressure -> [Pressure; 3],
);

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r8_3_readings_agree_with_the_kernels_own_files() {
        let (cpus, totals) = cpus().unwrap();
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let processors = stat.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu "));
        assert_eq!(cpus.len(), processors.count());
        assert!(stat.contains(&format!("btime {}\n", totals.boot_time)));
        let memory = memory().unwrap();
        let total = memory.iter().find(|(name, _)| name == "MemTotal").unwrap().1;
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        assert!(text.contains(&format!("{} kB", total / 1024)), "{total}");
        assert!(interfaces().unwrap().iter().any(|i| i.device == "lo"));
        assert!(load().is_ok() && disks().is_ok() && file_systems().is_ok());
    }

    #[test]
    fn memory_lines_are_bytes_under_plain_names() {
        let line = linux::memory_line;
        assert_eq!(line("Active(anon):   12 kB"), Some(("Active_anon".to_owned(), 12 << 10)));
        assert_eq!(line("HugePages_Total:       3"), Some(("HugePages_Total".to_owned(), 3)));
        assert_eq!(line("rubbish"), None);
    }
}
