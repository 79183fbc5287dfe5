//! `forerunner store`, `last`, `segments`, and what the receiver refuses.

use crate::harness::page::post;
use crate::harness::program::{Monitor, NO_HOST, data, run};
use crate::harness::push::{Row, now, push};
use tempfile::TempDir;

fn row(series: u64, time: i64) -> Row {
    Row { series, time, value: series as f64 }
}

#[test]
fn what_is_pushed_is_seen_at_once_and_a_lost_manifest_is_mended() {
    let dir = TempDir::new().unwrap();
    let config = format!("flush_interval = \"100ms\"\n{NO_HOST}");
    let monitor = Monitor::start(dir.path(), &config);
    let now = now();
    let rows = [row(1, now - 5), row(1, now), row(2, now)];
    assert_eq!(push(&monitor.address, "pushed", &rows).map(|answer| answer.0), Some(204));
    assert_eq!(monitor.query("SELECT count(*) FROM pushed"), ["3"]);
    assert_eq!(monitor.query("SELECT n, value FROM last.pushed ORDER BY n"), ["1,1.0", "2,2.0"]);
    monitor.wait_rows("SELECT 1 FROM segments HAVING sum(samples) = 3");
    let folder = data(dir.path());
    let in_use = run(&["store", "check", folder.to_str().unwrap()], "");
    let told = String::from_utf8(in_use.stderr).unwrap();
    assert!(!in_use.status.success() && told.contains("in use"), "{told}");
    monitor.program.kill();

    let manifest = std::fs::read_to_string(folder.join("CURRENT")).unwrap();
    std::fs::remove_file(folder.join(manifest.trim())).unwrap();
    let check = run(&["store", "check", folder.to_str().unwrap()], "");
    assert!(!check.status.success());
    let repair = run(&["store", "repair", folder.to_str().unwrap()], "");
    let told = String::from_utf8(repair.stdout).unwrap();
    assert!(repair.status.success() && told.contains("taken back"), "{told}");
    let monitor = Monitor::start(dir.path(), &config);
    assert_eq!(monitor.query("SELECT count(*) FROM pushed"), ["3"]);
}

#[test]
fn the_receiver_says_what_it_refuses_and_keeps_the_rest() {
    let dir = TempDir::new().unwrap();
    let monitor = Monitor::start(dir.path(), &format!("max_series_per_metric = 2\n{NO_HOST}"));
    let now = now();
    let (status, text) =
        push(&monitor.address, "pushed", &[row(1, now), row(2, now), row(3, now)]).unwrap();
    assert!(status == 400 && text.contains("1 of 3 samples refused"), "{status}: {text}");
    assert!(text.contains("number of series of pushed"), "{text}");
    assert_eq!(monitor.query("SELECT count(*) FROM pushed"), ["2"]);
    let label = "SELECT label, label_values FROM cardinality WHERE metric = 'pushed'";
    assert_eq!(monitor.query(label), ["n,2"]);
    let (status, text) = push(&monitor.address, "pushed", &[row(1, now + 86_400_000)]).unwrap();
    assert!(status == 400 && text.contains("early_limit"), "{status}: {text}");
    let answer = post(&monitor.address, "/api/v1/write", &[], b"nonsense").unwrap();
    assert!(answer.0 == 400 && answer.1.contains("snappy"), "{answer:?}");
    let headers = [("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")];
    assert_eq!(post(&monitor.address, "/api/v1/write", &headers, b"").unwrap().0, 415);
}
