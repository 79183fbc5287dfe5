//! Findings, feedback, reports and back-tests, on imported history with a known end.

use crate::harness::page::{get, post};
use crate::harness::program::{Monitor, data, query, run, write};
use crate::harness::push::now;
use crate::harness::wait::wait_for;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use tempfile::TempDir;

const MINUTE: i64 = 60_000;
const DAYS: i64 = 4;

/// Looks often, and collects nothing of this machine.
const QUICK: &str = "[collector.host]\nenabled = false\n[analyzer]\ninterval = \"1s\"\n";

/// Four days of a service that leaks memory from the second day on, and of a disk that is full two days after now.
fn history(path: &Path) {
    let end = now() / MINUTE * MINUTE - MINUTE;
    let mut text = String::new();
    let (mut requests, mut seed) = (1e6_f64, 1_u64);
    for n in 0..DAYS * 1440 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = (seed >> 33) as f64 / f64::from(1_u32 << 31) - 0.5;
        let time = end - (DAYS * 1440 - 1 - n) * MINUTE;
        let day = n as f64 / 1440.0;
        let rate = 50.0 * (1.0 + 0.3 * (day * std::f64::consts::TAU).sin()) * (1.0 + 0.1 * noise);
        requests += (rate * 60.0).round();
        let leak = 5e6 * ((n - 1440).max(0) as f64 / 60.0);
        let memory = (2e8 + 1e5 * rate + leak + 4e6 * noise).round();
        // 100 GB, of which 60 are used after four days, at 20 a day.
        let free = (100e9 - 60e9 + 20e9 * (DAYS as f64 - day) + 2e7 * noise).round();
        let target = "instance=\"a:1\",job=\"app\"";
        let disk = "device=\"d\",instance=\"a:9\",job=\"node\",mountpoint=\"/\"";
        let _ = write!(
            text,
            "app_requests_total{{code=\"200\",{target}}} {requests} {time}\n\
             process_resident_memory_bytes{{{target}}} {memory} {time}\n\
             node_filesystem_avail_bytes{{{disk}}} {free} {time}\n\
             node_filesystem_size_bytes{{{disk}}} 100000000000 {time}\n"
        );
    }
    write(path, text);
}

fn said(args: &[&str]) -> String {
    let output = run(args, "");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

fn findings(monitor: &Monitor, asked: &str) -> Vec<Value> {
    let (status, body) = get(&monitor.address, &format!("/api/v1/findings{asked}")).unwrap();
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    body["findings"].as_array().unwrap().clone()
}

/// Each finding's own query gives its numbers again.
fn assert_reproduced(monitor: &Monitor, all: &[Value]) {
    let leak = all.iter().find(|it| it["kind"] == "leak").unwrap();
    let slope = leak["numbers"]["slope_per_hour"]["value"].as_f64().unwrap();
    assert!((slope / 5e6 - 1.0).abs() < 0.3, "{slope}");
    for finding in all {
        let (name, column) = match finding["kind"].as_str().unwrap() {
            "leak" => ("slope_per_hour", "slope_per_hour"),
            _ => ("rate_per_day", "rate_per_day"),
        };
        let sql = finding["sql"].as_str().unwrap().replacen('*', column, 1);
        let again: f64 = monitor.query(&sql)[0].parse().unwrap();
        let kept = finding["numbers"][name]["value"].as_f64().unwrap();
        assert!((again / kept - 1.0).abs() < 1e-9, "{again} and {kept}: {sql}");
    }
}

fn assert_date(monitor: &Monitor) {
    // The date at which the disk is full is known: two days from now.
    let sql = "SELECT seconds_to_100, seconds_to_100_low, seconds_to_100_high FROM capacity(metric => 'node_filesystem_avail_bytes', at => '0s')";
    let row = monitor.query(sql).remove(0);
    let [left, low, high] =
        row.split(',').map(|it| it.parse::<f64>().unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("{row}")
    };
    let truth = 2.0 * 86_400.0;
    assert!((left / truth - 1.0).abs() < 0.1, "{row}");
    assert!(low <= truth && truth <= high, "{row}");
}

fn assert_reports(monitor: &Monitor, dir: &Path) {
    for kind in ["html", "md", "csv", "json"] {
        let out = dir.join(format!("capacity.{kind}"));
        said(&[
            "report",
            "capacity",
            "--url",
            &format!("http://{}", monitor.address),
            "--out",
            out.to_str().unwrap(),
        ]);
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(text.contains("node_filesystem_avail_bytes"), "{kind}: {text}");
        assert_eq!(text.contains("<svg"), kind == "html");
    }
}

#[test]
fn r8_5_what_history_shows_is_found_judged_reported_and_kept() {
    let dir = TempDir::new().unwrap();
    let folder = data(dir.path());
    let folder = folder.to_str().unwrap();
    let prom = dir.path().join("history.prom");
    history(&prom);
    said(&["import", "--data-dir", folder, prom.to_str().unwrap()]);

    // A back-test on the files alone finds what the monitor will.
    let told = said(&["bench", "detect", "--data-dir", folder, "--from", "4 days"]);
    assert!(told.contains(" leak process_resident_memory_bytes{"), "{told}");
    assert!(told.contains(" ticket capacity node_filesystem_avail_bytes{"), "{told}");

    let monitor = Monitor::start(dir.path(), QUICK);
    let kinds = wait_for("both findings", || {
        let sql = "SELECT DISTINCT kind FROM findings WHERE severity <> 'note' ORDER BY kind";
        monitor.try_query(sql).ok().filter(|rows| rows.len() >= 2)
    });
    assert_eq!(kinds, ["capacity", "leak"]);

    let all = findings(&monitor, "?all=true");
    assert_reproduced(&monitor, &all);
    assert_date(&monitor);
    assert_reports(&monitor, dir.path());
    let leak = all.iter().find(|it| it["kind"] == "leak").unwrap();

    // A person's word counts, and survives with the findings.
    let id = leak["id"].as_str().unwrap();
    let feedback = format!("/api/v1/findings/{id}/feedback");
    let (status, body) =
        post(&monitor.address, &feedback, &[], b"{\"verdict\": \"nothing\"}").unwrap();
    assert!(status == 200 && body.contains("\"rank\":0.5"), "{status} {body}");
    let (status, body) =
        post(&monitor.address, &feedback, &[], b"{\"verdict\": \"maybe\"}").unwrap();
    assert!(status == 400 && body.contains("verdict"), "{status} {body}");
    assert_eq!(
        post(&monitor.address, "/api/v1/findings/no/feedback", &[], b"{\"verdict\": \"right\"}")
            .unwrap()
            .0,
        404
    );
    let before = findings(&monitor, "?all=true").len();
    monitor.program.kill();
    let rows = query(&[
        "--data-dir",
        folder,
        "--format",
        "csv",
        "SELECT verdict FROM findings WHERE kind = 'leak'",
    ]);
    assert_eq!(rows.unwrap(), ["nothing"]);
    let monitor = Monitor::start(dir.path(), QUICK);
    let series = "forerunner_analyzer_series 6";
    wait_for("the watch", || {
        get(&monitor.address, "/metrics").filter(|page| page.1.contains(series))
    });
    assert_eq!(findings(&monitor, "?all=true").len(), before, "nothing is found twice");
}

#[test]
fn what_is_asked_wrongly_of_a_table_function_is_told() {
    let dir = TempDir::new().unwrap();
    let monitor = Monitor::start(dir.path(), QUICK);
    for (sql, told) in [
        ("SELECT * FROM leaks(metrics => 'a')", "there are metric, labels, from, to, at, limit"),
        ("SELECT * FROM leaks(at => 'soon')", "neither a time in RFC 3339 nor an age"),
        ("SELECT mann_kendall(value) FROM last.samples", "mann_kendall(time, value)"),
        ("SELECT time_to(time, value) FROM last.samples", "time_to(1024, time, value)"),
    ] {
        let said = monitor.try_query(sql).unwrap_err();
        assert!(said.contains(told), "{sql}: {said}");
    }
    let none = monitor.query("SELECT count(*) FROM anomalies()");
    assert_eq!(none, ["0"]);
    let (status, body) = get(&monitor.address, "/api/v1/findings?severity=loud").unwrap();
    assert!(status == 400 && body.contains("loud"), "{status} {body}");
    let (status, body) = get(&monitor.address, "/api/v1/findings/none").unwrap();
    assert!(status == 404 && body.contains("/api/v1/findings lists them"), "{status} {body}");
}
