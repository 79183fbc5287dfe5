//! `/proc/diskstats`, and the room on mounted file systems.

use super::{Reading, reading};
use platform::PlatformError;
use platform::host;

pub(super) fn read() -> Result<Vec<Reading>, PlatformError> {
    let mut readings = Vec::new();
    for disk in host::disks()? {
        let mut add = |what: &str, value: f64| {
            let name = format!("node_disk_{what}_total");
            readings.push(reading(&name, [("device", &disk.device)], value));
        };
        let [reads, writes] = disk.ops;
        let [read_bytes, written_bytes] = disk.bytes;
        let [read_seconds, write_seconds] = disk.seconds;
        add("reads_completed", reads as f64);
        add("writes_completed", writes as f64);
        add("read_bytes", read_bytes as f64);
        add("written_bytes", written_bytes as f64);
        add("read_time_seconds", read_seconds);
        add("write_time_seconds", write_seconds);
        add("io_time_seconds", disk.busy_seconds);
    }
    Ok(readings)
}

pub(super) fn read_file_systems() -> Result<Vec<Reading>, PlatformError> {
    let mut readings = Vec::new();
    for system in host::file_systems()? {
        let mut add = |what: &str, value: u64| {
            let labels = [
                ("device", system.device.as_str()),
                ("fstype", system.kind.as_str()),
                ("mountpoint", system.mount_point.as_str()),
            ];
            readings.push(reading(&format!("node_filesystem_{what}"), labels, value as f64));
        };
        let [files, free_files] = system.files;
        add("size_bytes", system.size);
        add("free_bytes", system.free);
        add("avail_bytes", system.available);
        add("files", files);
        add("files_free", free_files);
    }
    Ok(readings)
}
