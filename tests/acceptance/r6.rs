//! R6: faults on purpose against the real programs, by the command line, and what is written down of them.

use crate::harness::gateway::{Gateway, ask};
use crate::harness::mailbox::{Hook, hook};
use crate::harness::page::get;
use crate::harness::program::{Monitor, NO_HOST, PROGRAM};
use crate::harness::wait::wait_for;
use serde_json::{Value, json};
use std::process::Command;
use tempfile::TempDir;

/// A gateway, a monitor that may hurt it, and a client that goes on asking.
struct Stage {
    gateway: Gateway,
    monitor: Monitor,
    hook: Hook,
    config: String,
    dir: TempDir,
}

impl Stage {
    fn begin() -> Self {
        let dir = TempDir::new().unwrap();
        let gateway = Gateway::with_handles(dir.path(), "anonymous = [\"*:*\"]\n", 800);
        let hook_at = Hook::start();
        let config = format!(
            "[collector]\ninterval = \"200ms\"\n[[collector.scrape]]\njob = \"gateway\"\ntargets = [\"{control}\"]\n\
             [chaos]\ngateway = \"http://{control}\"\n{receiver}{NO_HOST}",
            control = gateway.control,
            receiver = hook("person", hook_at.address, ""),
        );
        let monitor = Monitor::start(dir.path(), &config);
        monitor.wait_rows("SELECT 1 FROM last.up WHERE job = 'gateway' AND value = 1");
        Self { gateway, monitor, hook: hook_at, config, dir }
    }

    /// Runs `forerunner chaos` while requests go on; whether it went well, and what it printed.
    fn chaos(&self, args: &[&str]) -> (bool, String) {
        let url = format!("http://{}", self.monitor.address);
        let mut command = Command::new(PROGRAM);
        command.arg("chaos").arg(args[0]).args(["--url", &url]).args(&args[1..]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            self.request();
        }
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn request(&self) {
        let _ = ask(&self.gateway.data, "GET", "/t/openai/chat?messages=x", "", "");
    }

    fn left(&self) -> Value {
        let tools = self.gateway.admin("GET", "/admin/chaos", &json!({})).json();
        let own = self.gateway.admin("GET", "/admin/chaos/own", &json!({})).json();
        json!([tools["faults"], own["faults"]])
    }
}

#[test]
fn r6_2_r6_3_faults_hurt_pass_and_are_written_down_with_what_they_did() {
    let stage = Stage::begin();
    let fetch = ["--tool", "openai", "--for", "3s"];
    let (good, text) =
        stage.chaos(&[&["run", "latency"], &fetch[..], &["--amount", "0.3"]].concat());
    assert!(good, "{text}");
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["outcome"], "recovered");
    let (good, text) = stage.chaos(&[&["run", "abort"], &fetch[..], &["--percent", "30"]].concat());
    assert!(good, "{text}");
    for fault in ["database_away", "cache_away", "clock_jump", "handle_hog"] {
        let (good, text) = stage.chaos(&["run", fault, "--for", "4s"]);
        assert!(good, "{fault}: {text}");
        if fault == "database_away" {
            // Faults that follow so soon are of the same incident, and its cause may be a later one.
            stage.monitor.wait_rows("SELECT 1 FROM incidents WHERE cause = 'database'");
        }
    }
    assert_eq!(stage.left(), json!([[], []]));
    let rows = stage.monitor.query(
        "SELECT fault, outcome, requests > 0, hits > 0, latency_delta > 0.05 FROM chaos_events WHERE fault IN ('latency', 'abort') ORDER BY began",
    );
    assert_eq!(rows[0], "latency,recovered,true,true,true");
    assert!(rows[1].starts_with("abort,recovered,true,true"), "{rows:?}");
    // The fault was noticed, told, and joined to the event.
    stage
        .hook
        .wait("the check", |got| got.alerts().contains(&"GatewayCheckFailed firing".to_owned()));
    stage.monitor.wait_rows(
        "SELECT 1 FROM chaos_events WHERE fault = 'database_away' AND alert = 'GatewayCheckFailed' AND alerted_seconds < 30",
    );
}

#[test]
fn r1_2_r3_4_each_transient_fault_is_over_within_a_minute_and_named_as_the_cause() {
    let stage = Stage::begin();
    for (args, cause) in [
        (vec!["run", "database_away", "--for", "6s"], "database"),
        (vec!["run", "cache_away", "--for", "6s"], "cache"),
        (
            vec!["run", "upstream_away", "--tool", "openai", "--percent", "45", "--for", "8s"],
            "upstream",
        ),
        (vec!["run", "handle_hog", "--amount", "698", "--for", "8s"], "handles"),
    ] {
        let (good, text) = stage.chaos(&args);
        assert!(good, "{args:?}: {text}");
        let event: Value = serde_json::from_str(&text).unwrap();
        let seconds = event["recovery_seconds"].as_f64().unwrap();
        assert!(seconds < 60.0, "{args:?}: {seconds}");
        stage.monitor.wait_rows(&format!(
            "SELECT 1 FROM incidents WHERE service = 'gateway' AND cause = '{cause}' AND recovery_seconds < 60"
        ));
    }
}

#[test]
fn r6_2_an_experiment_that_hurts_too_much_is_broken_off_and_bad_ones_are_refused() {
    let stage = Stage::begin();
    let fatal = ["run", "abort", "--tool", "openai", "--for", "10m"];
    let (good, text) = stage.chaos(&fatal);
    assert!(good && text.contains("\"aborted\""), "{text}");
    assert!(text.contains("of requests fail"), "{text}");
    for (args, words) in [
        (vec!["run", "latency", "--for", "5s"], "set tool"),
        (vec!["run", "no_such_fault"], "no experiment"),
        (vec!["stop", "no-such-event"], "neither runs nor waits"),
        (vec!["run", "cpu_burn", "--amount", "1000"], "amount must be"),
    ] {
        let (good, text) = stage.chaos(&args);
        assert!(!good && text.contains(words), "{args:?}: {text}");
    }
}

#[test]
fn r6_4_a_fault_ends_by_itself_when_its_controller_is_killed() {
    let stage = Stage::begin();
    let asked = json!({ "fault": "latency", "tool": "openai", "amount": 0.2, "duration": "10m" });
    let body = asked.to_string();
    let (code, text) =
        crate::harness::page::post(&stage.monitor.address, "/api/v1/chaos", &[], body.as_bytes())
            .unwrap();
    assert_eq!(code, 200, "{text}");
    wait_for("the fault", || {
        stage.request();
        (stage.left()[0][0]["mode"] == "latency").then_some(())
    });
    let Stage { gateway, monitor, config, dir, .. } = stage;
    monitor.program.kill();
    wait_for("the end of the fault", || {
        let left = gateway.admin("GET", "/admin/chaos", &json!({})).json();
        left["faults"].as_array().unwrap().is_empty().then_some(())
    });
    let monitor = Monitor::start(dir.path(), &config);
    assert_eq!(monitor.query("SELECT outcome FROM chaos_events"), ["interrupted"]);
    let (code, text) = get(&monitor.address, "/api/v1/chaos").unwrap();
    assert!(code == 200 && text.contains("interrupted"), "{text}");
}
