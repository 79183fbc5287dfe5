//! R1 and R7: short burn-ins of the real programs, and burn-ins with a defect that must fail.

use crate::harness::gateway::ask;
use crate::harness::program::{Monitor, NO_HOST, PROGRAM, Program, processes_with};
use crate::harness::wait::wait_for;
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Runs a burn-in; whether it ended well, its verdict, and what it printed.
fn burnin(dir: &Path, args: &[&str]) -> (bool, Value, String) {
    let mut command = Command::new(PROGRAM);
    command.args(["burnin", "--clients", "20", "--dir"]).arg(dir).args(args);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let verdict = std::fs::read_to_string(dir.join("verdict.json"));
    let verdict = verdict.unwrap_or_else(|error| panic!("{error}: {text}"));
    (output.status.success(), serde_json::from_str(&verdict).unwrap(), text)
}

fn state<'a>(verdict: &'a Value, id: &str) -> &'a str {
    let all = verdict["criteria"].as_array().unwrap();
    let it = all.iter().find(|it| it["id"] == id).unwrap();
    it["state"].as_str().unwrap()
}

#[test]
fn r1_1_r1_2_r1_3_r7_1_a_short_burn_in_is_passed_and_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let faults = "latency@6,process_kill,process_stop,database_away";
    let (_, verdict, text) =
        burnin(&dir.path().join("run"), &["--realtime", "100s", "--only", faults]);
    assert_eq!(verdict["criteria"].as_array().unwrap().len(), 40);
    for id in [
        "R1.2", "R2.1", "R2.4", "R3.1", "R3.2", "R4.2", "R6.2", "R6.4", "R7.1", "R7.4", "R8.1",
        "R8.2",
    ] {
        assert_eq!(state(&verdict, id), "pass", "{id}: {text}");
    }
    for id in ["R1.1", "R1.3", "R3.3"] {
        assert_ne!(state(&verdict, id), "not_measured", "{id}: {text}");
    }
    // Nobody looked at memory long enough: that is no pass.
    assert_eq!(state(&verdict, "R1.4"), "not_measured", "{text}");
    let page = std::fs::read_to_string(dir.path().join("run/verdict.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("R8.5"));
    assert!(processes_with(dir.path().to_str().unwrap()).is_empty());
}

#[test]
fn r3_5_r4_3_r6_5_r7_5_a_killed_monitor_faults_at_once_and_used_up_limits_hurt_nobody() {
    let dir = TempDir::new().unwrap();
    let faults = "monitor_kill@10.5,latency@16.5,jitter@16.5,cache_away@16.5,abort@16.5,memory_balloon,handle_hog";
    let (_, verdict, text) =
        burnin(&dir.path().join("run"), &["--realtime", "90s", "--only", faults]);
    for id in ["R3.5", "R4.3", "R6.4", "R6.5", "R7.5"] {
        assert_eq!(state(&verdict, id), "pass", "{id}: {text}");
    }
    assert!(text.contains("3 faults at once at most, none on one target"), "{text}");
}

#[test]
fn a_corrupting_editor_a_mute_alerter_and_a_fault_without_end_are_found() {
    let dir = TempDir::new().unwrap();
    for (control, only, criterion) in [
        ("corrupting", "latency@6", "R2.1"),
        ("mute", "process_kill@12", "R3.3"),
        ("endless", "process_kill@12", "R6.4"),
    ] {
        let run = dir.path().join(control);
        let args = ["--realtime", "15s", "--only", only, "--control", control];
        let (good, verdict, text) = burnin(&run, &args);
        assert_eq!(state(&verdict, criterion), "fail", "{control}: {text}");
        assert!(good && text.contains("as it must"), "{control}: {text}");
    }
    let odd = Command::new(PROGRAM).args(["burnin", "--only", "nothing"]).output().unwrap();
    let text = String::from_utf8_lossy(&odd.stderr).into_owned();
    assert!(odd.status.code() == Some(2) && text.contains("process_kill"), "{text}");
}

#[test]
fn a_burn_in_that_cannot_be_is_refused_before_anything_starts() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("load.csv");
    crate::harness::program::write(&file, "t_s,offered_rps\n0,65\n5,much\n");
    let run = |args: &[&str]| {
        let output = Command::new(PROGRAM).arg("burnin").args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (path, used) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
    let (code, text) = run(&["--replay", path, "--dir", &format!("{used}/run")]);
    assert!(code == Some(65) && text.contains("line 3") && !text.contains("starting"), "{text}");
    let (code, text) = run(&["--dir", used]);
    assert!(code == Some(2) && text.contains("not empty"), "{text}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a recovery takes real time")]
fn r1_2_r3_4_exhausted_memory_that_cannot_be_eased_ends_the_process_and_is_named() {
    let dir = TempDir::new().unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (data, control) = (free(), format!("127.0.0.1:{}", free()));
    let config = format!(
        "[gateway]\nlisten = \"127.0.0.1:{data}\"\ncontrol = \"{control}\"\ndir = {gateway:?}\n\
         [collector]\ninterval = \"200ms\"\n[[collector.scrape]]\njob = \"gateway\"\ntargets = [\"{control}\"]\n{NO_HOST}\
         [watchdog]\ndir = {logs:?}\nstop_grace = \"1s\"\n\
         [[watchdog.child]]\nname = \"gateway\"\ncommand = [{PROGRAM:?}, \"gateway\", \"--with-parent\", \"--config\", {file:?}]\n\
         probe = \"http://{control}/live\"\nmemory_limit = \"400MiB\"\n\
         [[watchdog.child.ease]]\nname = \"cleanup\"\ncall = \"http://{control}/admin/cleanup\"\n",
        gateway = dir.path().join("gateway").to_str().unwrap(),
        logs = dir.path().join("logs").to_str().unwrap(),
        file = dir.path().join("monitor.toml").to_str().unwrap(),
    );
    let monitor = Monitor::start(dir.path(), &config);
    let file = dir.path().join("monitor.toml");
    let watchdog = ["watchdog", "--config", file.to_str().unwrap(), "--with-parent"];
    let _watchdog = Program::start(dir.path(), &watchdog, &[]);
    let ready = || ask(&control, "GET", "/ready", "", "").filter(|it| it.status == 200);
    wait_for("the gateway", ready);
    monitor.wait_rows("SELECT 1 FROM last.up WHERE job = 'gateway' AND value = 1");

    let balloon = r#"{"fault": "memory_balloon", "amount": 600, "ttl": 300}"#;
    let begun = Instant::now();
    let hurt = ask(&control, "POST", "/admin/chaos/own", "", balloon).unwrap();
    assert_eq!(hurt.status, 200, "{hurt:?}");
    let journal = dir.path().join("logs/journal.jsonl");
    let wait_word = |word: &str| {
        wait_for(word, || std::fs::read_to_string(&journal).ok().filter(|it| it.contains(word)))
    };
    wait_word("\"ease_useless\"");
    wait_word("\"over_memory\"");
    // The fault ends with the process; what comes after it serves.
    wait_for("the next gateway", || {
        let faults = ask(&control, "GET", "/admin/chaos/own", "", "")?;
        (faults.json()["faults"].as_array()?.is_empty() && ready().is_some()).then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    monitor.wait_rows(
        "SELECT 1 FROM incidents WHERE service = 'gateway' AND cause = 'memory' AND recovery_seconds < 60",
    );
}
