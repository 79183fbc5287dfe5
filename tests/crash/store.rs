//! What SQL has shown once is there after any crash, once; damage is told, set aside, and costs only itself.

use crate::harness::page::{PageServer, ok};
use crate::harness::program::{Monitor, NO_HOST, data, job, query, write};
use crate::harness::wait::wait_for;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ALL: &str = "SELECT time, value FROM n ORDER BY time";

/// A page whose metric `n` is the number of the request, among a hundred other series.
fn numbered() -> PageServer {
    PageServer::start(|n| {
        let others: String = (0..100).map(|i| format!("other{{i=\"{i}\"}} {}\n", n * i)).collect();
        ok(&format!("n {n}\n{others}"))
    })
}

/// Every sample once, and all of `seen` among them.
fn check(rows: &[String], seen: &BTreeSet<String>, when: &str) {
    let found: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(found.len(), rows.len(), "{when}: a sample came twice");
    let lost: Vec<&String> = seen.difference(&found).collect();
    assert!(lost.is_empty(), "{when}: {} samples lost, such as {:?}", lost.len(), lost.first());
}

#[test]
fn r3_5_two_hundred_kills_lose_no_sample_that_was_acknowledged() {
    let dir = TempDir::new().unwrap();
    let server = numbered();
    // Flushes fall among the kills, too.
    let config = format!("flush_interval = \"1s\"\n{NO_HOST}{}", job("n", server.address));
    let mut seen = BTreeSet::new();
    let mut random = 0x9e37_79b9_u64;
    for kill in 0..200 {
        let monitor = Monitor::start(dir.path(), &config);
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let until = server.served() + (random >> 60) % 4;
        wait_for("scrapes", || (server.served() >= until).then_some(()));
        if let Ok(rows) = monitor.try_query(ALL) {
            check(&rows, &seen, &format!("before kill {kill}"));
            seen.extend(rows);
        }
        monitor.program.kill();
    }
    let monitor = Monitor::start(dir.path(), &config);
    check(&monitor.query(ALL), &seen, "at the end");
    assert!(seen.len() > 100, "only {} samples were seen", seen.len());
    assert!(!data(dir.path()).join("quarantine").exists(), "a kill is no damage");
}

/// Every name that the store passes.
#[cfg(feature = "crash-points")]
const POINTS: [&str; 10] = [
    "wal_before_append",
    "wal_after_append:7",
    "segment_before_rename",
    "segment_after_rename",
    "manifest_before_append",
    "manifest_before_append:2",
    "manifest_after_sync",
    "flush_before_wal_cut",
    "manifest_before_current",
    "replace_before_rename",
];

#[cfg(feature = "crash-points")]
#[test]
fn a_crash_at_any_point_of_the_write_path_loses_and_repeats_nothing() {
    for point in POINTS {
        let dir = TempDir::new().unwrap();
        let server = numbered();
        let config = format!("flush_interval = \"500ms\"\n{NO_HOST}{}", job("n", server.address));
        let mut seen = BTreeSet::new();
        let env = [("FORERUNNER_CRASH_AT", point)];
        let output = match Monitor::try_start(dir.path(), &config, &env) {
            Ok(mut monitor) => {
                while !monitor.program.has_ended() {
                    let Ok(rows) = monitor.try_query(ALL) else { continue };
                    check(&rows, &seen, point);
                    seen.extend(rows);
                }
                monitor.program.output()
            }
            Err(output) => output,
        };
        let name = point.split(':').next().unwrap();
        assert!(
            output.contains(&format!("crash point {name}")),
            "{point} was not passed: {output}"
        );
        let monitor = Monitor::start(dir.path(), &config);
        check(&monitor.wait_rows(ALL), &seen, point);
    }
}

fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, name));
        } else if path.to_string_lossy().ends_with(name) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_damaged_segment_is_told_and_set_aside_and_the_rest_is_served() {
    let dir = TempDir::new().unwrap();
    let server = numbered();
    let config = format!("flush_interval = \"200ms\"\n{NO_HOST}{}", job("n", server.address));
    let monitor = Monitor::start(dir.path(), &config);
    let data = data(dir.path());
    wait_for("three segments", || (files(&data, "samples.parquet").len() >= 3).then_some(()));
    let before = monitor.query(ALL);
    monitor.program.kill();

    let path = files(&data, "samples.parquet").remove(1);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write(&path, bytes);
    let monitor = Monitor::start(dir.path(), &config);
    let output = wait_for("the report", || {
        Some(monitor.program.output()).filter(|text| text.contains("damaged segment set aside"))
    });
    assert!(output.contains("fails its checksum"), "{output}");
    let after: BTreeSet<String> = monitor.query(ALL).into_iter().collect();
    let left = before.iter().filter(|row| after.contains(*row)).count();
    assert!(left < before.len() && left > 0, "{left} of {} rows left", before.len());
    assert_eq!(files(&data.join("quarantine"), "samples.parquet").len(), 1);
    let page = crate::harness::page::get(&monitor.address, "/metrics").unwrap().1;
    assert!(page.contains("forerunner_store_quarantined_segments_total 1\n"), "{page}");
}

#[test]
fn a_torn_log_is_cut_told_and_counted() {
    let dir = TempDir::new().unwrap();
    let server = numbered();
    let config = format!("{NO_HOST}{}", job("n", server.address));
    let monitor = Monitor::start(dir.path(), &config);
    let before = monitor.wait_rows("SELECT 1 FROM n HAVING count(*) > 3");
    assert_eq!(before.len(), 1);
    let rows = monitor.query(ALL);
    monitor.program.kill();
    let log = files(&data(dir.path()), ".wal").pop().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes.extend_from_slice(b"\xf5\x0e\xd7\xc1torn");
    write(&log, bytes);

    // The files alone answer without being changed.
    let folder = data(dir.path());
    let alone = query(&["--data-dir", folder.to_str().unwrap(), "--format", "csv", ALL]).unwrap();
    check(&alone, &rows.iter().cloned().collect(), "from the files alone");

    let monitor = Monitor::start(dir.path(), &config);
    check(&monitor.query(ALL), &rows.into_iter().collect(), "after the cut");
    let output = monitor.program.output();
    assert!(output.contains("torn or corrupt tail") && output.contains("bytes=8"), "{output}");
    let page = crate::harness::page::get(&monitor.address, "/metrics").unwrap().1;
    assert!(page.contains("forerunner_store_wal_torn_bytes_total 8\n"), "{page}");
}

#[test]
fn a_polite_stop_is_quick_and_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let server = numbered();
    let config = format!("{NO_HOST}{}", job("n", server.address));
    let mut monitor = Monitor::start(dir.path(), &config);
    let rows = monitor.wait_rows(ALL);
    monitor.program.signal(Signal::TERM);
    assert!(monitor.program.wait().success());
    let folder = data(dir.path());
    let alone = query(&["--data-dir", folder.to_str().unwrap(), "--format", "csv", ALL]).unwrap();
    check(&alone, &rows.into_iter().collect(), "after SIGTERM");
}
