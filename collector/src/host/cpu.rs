//! `/proc/stat` and `/proc/loadavg`: processor time by mode, switches, load.

use super::{Reading, reading};
use platform::PlatformError;
use platform::host;

pub(super) fn read() -> Result<Vec<Reading>, PlatformError> {
    let (cpus, totals) = host::cpus()?;
    let mut readings = vec![
        reading("node_boot_time_seconds", [], totals.boot_time as f64),
        reading("node_context_switches_total", [], totals.context_switches as f64),
        reading("node_forks_total", [], totals.forks as f64),
        reading("node_procs_running", [], totals.running as f64),
        reading("node_procs_blocked", [], totals.blocked as f64),
    ];
    for cpu in cpus {
        let number = cpu.cpu.to_string();
        for (mode, seconds) in cpu.modes {
            readings.push(reading(
                "node_cpu_seconds_total",
                [("cpu", &number), ("mode", mode)],
                seconds,
            ));
        }
    }
    Ok(readings)
}

pub(super) fn read_load() -> Result<Vec<Reading>, PlatformError> {
    let load = host::load()?;
    let names = ["node_load1", "node_load5", "node_load15"];
    Ok(names.into_iter().zip(load).map(|(name, load)| reading(name, [], load)).collect())
}
