//! `forerunner demo`, from the first line of the README.

use crate::harness::program::{Program, processes_with, query};
use crate::harness::wait::wait_for;
use rustix::process::Signal;
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

/// A demo takes the default ports when they are free, and lets go of them before its children listen: of
/// two that start at once one could send its load to the other's gateway, and fail when that is killed.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A demo in a folder of its own, once it has printed its guide; and the monitor's URL.
fn start(dir: &TempDir, more: &[&str]) -> (Program, String) {
    let data = dir.path().join("data");
    let args = [&["demo", "--data-dir", data.to_str().unwrap()], more].concat();
    let mut demo = Program::start(dir.path(), &args, &[]);
    let guide = wait_for("the demo's guide", || {
        assert!(!demo.has_ended(), "{}", demo.output());
        Some(demo.output()).filter(|text| text.contains("Ctrl-C"))
    });
    let line = guide.lines().find(|line| line.trim_start().starts_with("page ")).unwrap();
    let url = line.split_whitespace().nth(1).unwrap().trim_end_matches('/').to_owned();
    (demo, url)
}

fn wait_rows(url: &str, sql: &str) -> Vec<String> {
    wait_for(sql, || {
        query(&["--url", url, "--format", "csv", sql]).ok().filter(|rows| !rows.is_empty())
    })
}

fn wait_gone(dir: &TempDir) {
    let path = dir.path().to_str().unwrap().to_owned();
    wait_for("the end of every process", || processes_with(&path).is_empty().then_some(()));
}

#[test]
fn the_demo_answers_its_three_questions_and_ends_by_itself() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let (mut demo, url) = start(&dir, &["--for", "12s"]);
    let path = dir.path().to_str().unwrap().to_owned();
    wait_for("demo, watchdog, gateway and monitor", || {
        (processes_with(&path).len() >= 4).then_some(())
    });
    let routes = wait_rows(
        &url,
        "SELECT route FROM (SELECT route, code, rate(time, value) AS r FROM gateway_requests_total WHERE time > now() - INTERVAL '1 minute' GROUP BY route, code) WHERE r > 1",
    );
    assert!(routes.iter().any(|route| route == "/t/serpapi/search"), "{routes:?}");
    let memory = wait_rows(
        &url,
        "SELECT value FROM process_resident_memory_bytes WHERE process = 'gateway' ORDER BY time DESC LIMIT 1",
    );
    assert!(memory[0].parse::<f64>().unwrap() > 1e6, "{memory:?}");
    let modes = "SELECT mode FROM (SELECT cpu, mode, rate(time, value) AS r FROM node_cpu_seconds_total WHERE time > now() - INTERVAL '1 minute' GROUP BY cpu, mode) GROUP BY mode HAVING sum(r) > 0";
    // The demo itself is at work; a busy machine need not be idle for a moment.
    wait_for("processor time by mode", || {
        wait_rows(&url, modes).iter().any(|mode| mode == "user").then_some(())
    });
    let guide = demo.output();
    assert_eq!(guide.matches(" query").count(), 3, "{guide}");
    assert!(demo.wait().success(), "{}", demo.output());
    assert!(demo.output().contains(" 0 failed"), "{}", demo.output());
    wait_gone(&dir);
}

#[test]
fn signals_end_the_whole_demo_and_even_a_kill_leaves_no_process_behind() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let dir = TempDir::new().unwrap();
        let (mut demo, _) = start(&dir, &[]);
        demo.signal(signal);
        let status = demo.wait();
        assert_eq!(status.success(), signal != Signal::KILL, "{signal:?}: {}", demo.output());
        if signal == Signal::KILL {
            wait_gone(&dir); // each child notices by itself that its parent has gone
        } else {
            assert_eq!(processes_with(dir.path().to_str().unwrap()), [""; 0], "{signal:?}");
        }
    }
}

#[test]
fn a_killed_gateway_is_back_and_the_monitor_saw_it_go() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let (_demo, url) = start(&dir, &[]);
    wait_rows(&url, "SELECT 1 FROM up WHERE job = 'gateway' AND value = 1");
    let pid = find_pid("gateway --with-parent", dir.path().to_str().unwrap());
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    wait_rows(
        &url,
        "SELECT 1 FROM process_start_time_seconds WHERE job = 'gateway' HAVING count(DISTINCT value) = 2",
    );
    let journal = dir.path().join("data/logs/journal.jsonl");
    let journal = std::fs::read_to_string(journal).unwrap();
    assert!(journal.contains("\"event\":\"exited\"") && journal.contains("SIGKILL"), "{journal}");
}

fn find_pid(role: &str, folder: &str) -> rustix::process::Pid {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(role) && words.contains(folder) {
            let pid = entry.file_name().to_string_lossy().parse().unwrap();
            return rustix::process::Pid::from_raw(pid).unwrap();
        }
    }
    panic!("no {role} in {folder}");
}
