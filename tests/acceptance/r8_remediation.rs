//! R8.4: from a finding or a threshold to a step, to whether it helped, to the next step, on a process that really leaks.

use crate::harness::mailbox::{Hook, hook};
use crate::harness::page::post;
use crate::harness::program::{Monitor, NO_HOST, Program};
use crate::harness::wait::{wait_for, wait_within};
use std::net::TcpListener;
use std::time::Duration;
use tempfile::TempDir;

/// A leaking process under a watchdog, and a monitor that may act.
struct Loop {
    monitor: Monitor,
    hook: Hook,
    _watchdog: Program,
    _dir: TempDir,
}

/// How the process's cleanup behaves, how fast it leaks, and what the runbook is for and does.
fn begin(cleanup: &str, megabytes: f64, child: &str, runbook: &str) -> Loop {
    let dir = TempDir::new().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/leaky.py");
    let rules = dir.path().join("rules.yml");
    crate::harness::program::write(
        &rules,
        r#"
groups:
  - name: memory
    rules:
      - alert: MemoryHigh
        expr: process_resident_memory_bytes{job="app"} > 1e8
        labels: { severity: critical }
        annotations: { summary: "app has {{ $value | humanize1024 }}B" }
"#,
    );
    let hook_at = Hook::start();
    let config = format!(
        r#"
[alerts]
rules = [{rules:?}]
{receiver}
[[alerts.runbook]]
name = "memory"
{runbook}
[[collector.scrape]]
job = "app"
interval = "250ms"
targets = ["127.0.0.1:{port}"]
[[collector.process]]
name = "app"
command = "leaky.py {port}"
{NO_HOST}
[watchdog]
dir = {logs:?}
stop_grace = "500ms"
[[watchdog.child]]
name = {child:?}
command = ["/usr/bin/python3", {script:?}, "{port}", {cleanup:?}, "{megabytes}"]
"#,
        rules = rules.to_str().unwrap(),
        receiver = hook("person", hook_at.address, ""),
        logs = dir.path().join("logs").to_str().unwrap(),
    );
    let monitor = Monitor::start(dir.path(), &config);
    let file = dir.path().join("monitor.toml");
    let watchdog = Program::start(
        dir.path(),
        &["watchdog", "--config", file.to_str().unwrap(), "--with-parent"],
        &[],
    );
    Loop { monitor, hook: hook_at, _watchdog: watchdog, _dir: dir }
}

const AGREE: &str =
    r#"agree = ['process_resident_memory_bytes{process="app"} > 5e7', 'up{job="app"} == 1']"#;

const CLEANUP: &str = r#"
[[alerts.runbook.step]]
name = "cleanup"
callback = { url = "http://{{ $labels.instance }}/cleanup", timeout = "1s" }
measure = 'process_resident_memory_bytes{job="app"}'
verify = 'process_resident_memory_bytes{job="app"} < 0.7 * {{ $before }}'
within = "3s"
"#;

const RESTART: &str = r#"
[[alerts.runbook.step]]
name = "restart"
restart = "app"
within = "20s"
"#;

const PERSON: &str = r#"
[[alerts.runbook.step]]
name = "call"
page = ["person"]
"#;

const STEPS: &str = "SELECT step, step_outcome FROM remediations WHERE step IS NOT NULL AND ended IS NOT NULL ORDER BY step_began";

#[test]
fn r8_4_a_leak_is_found_cleaned_and_seen_to_be_cleaned() {
    let runbook = format!(
        "matchers = 'alertname=\"Leak\", job=\"app\"'\ncooldown = \"5m\"\nmax_alerts = 5\n{AGREE}\n{CLEANUP}"
    );
    let it = begin("helps", 3.0, "app", &runbook);
    let waiting = std::panic::AssertUnwindSafe(|| {
        wait_within(Duration::from_secs(240), "the leak to be cleaned", || {
            it.monitor.try_query(STEPS).ok().filter(|rows| !rows.is_empty())
        })
    });
    // Which step on the way was not taken is what a failure must say.
    let steps = std::panic::catch_unwind(waiting).unwrap_or_else(|_| {
        let ask = |sql| it.monitor.try_query(sql);
        panic!(
            "findings {:?}, alerts {:?}, remediations {:?}, memory {:?}",
            ask("SELECT kind, at, since, belongs_to, summary FROM findings"),
            ask("SELECT alertname, state, since FROM alerts"),
            ask("SELECT outcome, detail, step, step_outcome FROM remediations"),
            ask("SELECT count(*), min(value), max(value), last(time, value) FROM process_resident_memory_bytes WHERE job = 'app'"),
        )
    });
    assert_eq!(steps[0], "cleanup,helped");
    it.hook.wait("the leak", |got| got.alerts().contains(&"Leak firing".to_owned()));
    it.monitor.wait_rows("SELECT 1 FROM incidents WHERE service = 'app' AND cause = 'leak'");
    let before = it.monitor.query("SELECT before > after FROM remediations WHERE step = 'cleanup'");
    assert_eq!(before[0], "true");
}

#[test]
fn r8_4_a_cleanup_that_does_nothing_is_seen_through_and_a_restart_follows() {
    let runbook = format!(
        "matchers = 'alertname=\"MemoryHigh\"'\ncooldown = \"5m\"\n{AGREE}\n{CLEANUP}{RESTART}{PERSON}"
    );
    let it = begin("nothing", 8.0, "app", &runbook);
    let steps = it.monitor.wait_rows(STEPS);
    assert_eq!(steps, ["cleanup,did_not_help", "restart,helped"]);
    it.hook.wait("the alert", |got| got.alerts() == ["MemoryHigh firing"]);
    it.hook.wait("its end", |got| got.alerts() == ["MemoryHigh resolved"]);
    let done =
        it.monitor.wait_rows("SELECT actions FROM incidents WHERE recovery_seconds > 0").join("\n");
    assert!(done.contains("step restart of runbook memory: helped"), "{done}");
    let reasons: Vec<String> =
        it.hook.got().iter().map(|got| got.json()["reason"].as_str().unwrap().to_owned()).collect();
    assert!(!reasons.contains(&"remediation".to_owned()), "nobody needs to come: {reasons:?}");
    // It leaks on; within the cooldown nothing more is done, and that is said.
    let rows = it.monitor.wait_rows(
        "SELECT detail FROM remediations WHERE outcome = 'refused' AND detail LIKE 'cooldown%'",
    );
    assert!(rows[0].starts_with("cooldown until"), "{rows:?}");
}

#[test]
fn nothing_more_is_done_once_a_person_looks_after_it() {
    let runbook =
        format!("matchers = 'alertname=\"MemoryHigh\"'\n{AGREE}\n{CLEANUP}{RESTART}{PERSON}");
    let it = begin("nothing", 8.0, "app", &runbook);
    it.monitor.wait_rows("SELECT 1 FROM remediations WHERE step = 'cleanup' AND ended IS NULL");
    let alert = it.monitor.query("SELECT fingerprint FROM alerts WHERE alertname = 'MemoryHigh'");
    let path = format!("/api/v1/alerts/{}/acknowledge", alert[0]);
    let (code, text) = post(&it.monitor.address, &path, &[], b"{}").unwrap();
    assert_eq!(code, 200, "{text}");
    let rows = it.monitor.wait_rows(
        "SELECT outcome, step, step_outcome, detail FROM remediations WHERE ended IS NOT NULL AND outcome <> 'refused'",
    );
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert!(row.starts_with("stopped,cleanup,did_not_help,before step restart: a person"), "{row}");
}

#[test]
fn r8_4_when_cleanup_hangs_and_nobody_restarts_a_person_is_told() {
    let runbook = format!("matchers = 'alertname=\"MemoryHigh\"'\ncooldown = \"5m\"\n{AGREE}\n{CLEANUP}{RESTART}{PERSON}")
        .replace("within = \"20s\"", "within = \"2s\"");
    let it = begin("hangs", 8.0, "another-name", &runbook);
    let steps = it.monitor.wait_rows(STEPS);
    assert_eq!(steps, ["cleanup,failed", "restart,did_not_help", "call,told"]);
    let got = it.hook.wait("the call", |got| got.json()["reason"] == "remediation");
    let text = got.json()["alerts"][0]["annotations"]["being_done"].as_str().unwrap().to_owned();
    assert!(text.contains("a person is needed"), "{text}");
    let detail = it.monitor.query("SELECT step_detail FROM remediations WHERE step = 'cleanup'");
    assert!(detail[0].contains("no answer"), "{detail:?}");
}

#[test]
fn nothing_is_done_on_one_signal_alone_in_a_dry_run_or_when_it_is_switched_off() {
    let one = format!(
        "matchers = 'alertname=\"MemoryHigh\"'\nagree = ['process_resident_memory_bytes{{process=\"nobody\"}} > 1']\n{CLEANUP}"
    );
    let it = begin("helps", 20.0, "app", &one);
    let detail = it.monitor.wait_rows("SELECT detail FROM remediations WHERE outcome = 'refused'");
    assert!(detail[0].contains("no second signal"), "{detail:?}");
    assert_eq!(it.monitor.query("SELECT count(*) FROM remediations WHERE step IS NOT NULL"), ["0"]);
    drop(it);

    let dry = format!(
        "matchers = 'alertname=\"MemoryHigh\"'\ndry_run = true\n{AGREE}\n{CLEANUP}{RESTART}"
    );
    let it = begin("helps", 20.0, "app", &dry);
    let steps = it.monitor.wait_rows(STEPS);
    assert_eq!(steps, ["cleanup,dry_run", "restart,dry_run"]);
    let falls = "SELECT 1 FROM process_resident_memory_bytes WHERE job = 'app' HAVING last(time, value) < 0.9 * max(value)";
    assert!(it.monitor.query(falls).is_empty(), "memory was cleaned in a dry run");
    drop(it);

    let off = format!("matchers = 'alertname=\"MemoryHigh\"'\n{AGREE}\n{CLEANUP}");
    let it = begin("helps", 4.0, "app", &off);
    let (code, text) =
        post(&it.monitor.address, "/api/v1/remediation", &[], b"{\"allowed\": false}").unwrap();
    assert!(code == 200 && text.contains("\"allowed\":false"), "{text}");
    it.hook.wait("the alert", |got| got.alerts() == ["MemoryHigh firing"]);
    let detail = it.monitor.wait_rows("SELECT detail FROM remediations WHERE outcome = 'refused'");
    assert!(detail[0].contains("switched off"), "{detail:?}");
    assert_eq!(
        post(&it.monitor.address, "/api/v1/remediation", &[], b"{\"allowed\": true}").unwrap().0,
        200
    );
    wait_for("the cleanup", || {
        it.monitor.try_query(STEPS).ok().filter(|rows| *rows == ["cleanup,helped"])
    });
}
