//! R3, monitoring and observability.

use crate::harness::mailbox::{Hook, Mailbox, hook, mail};
use crate::harness::page::{PageServer, ok};
use crate::harness::program::{Monitor, NO_HOST, PROGRAM, Program, job, write};
use crate::harness::wait::wait_for;
use rustix::process::Signal;
use std::fs;
use tempfile::TempDir;

#[test]
fn r3_1_system_metrics_continue_while_the_gateway_is_stopped() {
    let dir = TempDir::new().unwrap();
    let (gateway, control) = gateway(dir.path(), "127.0.0.1:0");
    let pid = gateway.pid();
    let config = format!(
        "[collector]\ninterval = \"200ms\"\n{}[[collector.process]]\nname = \"gateway\"\npid = {pid}\n",
        job("gateway", &control)
    );
    let monitor = Monitor::start(dir.path(), &config);
    monitor.wait_rows("SELECT 1 FROM up WHERE job = 'gateway' AND value = 1");

    gateway.signal(Signal::STOP);
    monitor.wait_rows("SELECT 1 FROM process_stopped WHERE process = 'gateway' AND value = 1");
    monitor.wait_rows("SELECT 1 FROM up WHERE job = 'gateway' AND value = 0");
    monitor.wait_rows(
        "SELECT 1 FROM scrape_failures_total WHERE job = 'gateway' AND reason = 'timeout'",
    );
    let since =
        monitor.query("SELECT max(time) FROM process_stopped WHERE value = 1").pop().unwrap();
    for metric in [
        "node_cpu_seconds_total",
        "node_memory_MemAvailable_bytes",
        "process_resident_memory_bytes",
    ] {
        // Five more readings of each while the gateway hangs.
        monitor.wait_rows(&format!(
            "SELECT 1 FROM {metric} WHERE time > TIMESTAMP '{since}' HAVING count(DISTINCT time) >= 5"
        ));
    }
    gateway.signal(Signal::CONT);
    monitor.wait_rows(&format!(
        "SELECT 1 FROM up WHERE job = 'gateway' AND value = 1 AND time > TIMESTAMP '{since}'"
    ));
}

#[test]
fn r3_2_failed_scrapes_are_retried_and_their_causes_are_series() {
    let dir = TempDir::new().unwrap();
    // Two failures before each good page.
    let server = PageServer::start(|n| {
        if n % 3 == 0 {
            ok(&format!("attempt {n}\n"))
        } else {
            "HTTP/1.1 503 No\r\nconnection: close\r\n\r\n".to_owned()
        }
    });
    let config = format!("{NO_HOST}{}", job("flaky", server.address).replace("100ms", "2s"));
    let monitor = Monitor::start(dir.path(), &config);
    let rows = monitor.wait_rows("SELECT time, value FROM attempt");
    assert!(rows[0].ends_with(",3.0"), "{rows:?}");
    let rows = monitor.query("SELECT value FROM scrape_attempts ORDER BY time LIMIT 1");
    assert_eq!(rows, ["3.0"]);
    let rows =
        monitor.query("SELECT reason, value FROM scrape_failures_total ORDER BY time LIMIT 1");
    assert_eq!(rows, ["status,2.0"]);
    assert_eq!(monitor.query("SELECT value FROM up ORDER BY time LIMIT 1"), ["1.0"]);
}

#[test]
fn r3_2_a_dead_target_is_tried_five_times_a_scrape() {
    let dir = TempDir::new().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!("{NO_HOST}{}", job("dead", port).replace("100ms", "2s"));
    let monitor = Monitor::start(dir.path(), &config);
    let rows = monitor
        .wait_rows("SELECT u.value, a.value FROM up u JOIN scrape_attempts a ON u.time = a.time");
    assert_eq!(rows[0], "0.0,5.0");
    monitor.wait_rows("SELECT 1 FROM scrape_failures_total WHERE reason = 'refused' AND value = 5");
}

/// A gateway process, and where its control listener is.
fn gateway(dir: &std::path::Path, control: &str) -> (Program, String) {
    let (config, ready) = (dir.join("gateway.toml"), dir.join("gateway.json"));
    let data = dir.join("gateway");
    let text = "[gateway]\nlisten = \"127.0.0.1:0\"\n";
    write(&config, format!("{text}control = \"{control}\"\ndir = {data:?}\n"));
    let _ = fs::remove_file(&ready);
    let args =
        ["gateway", "--config", config.to_str().unwrap(), "--ready-file", ready.to_str().unwrap()];
    let program = Program::start(dir, &args, &[]);
    let told = wait_for("the gateway", || fs::read_to_string(&ready).ok());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    (program, told["control"].as_str().unwrap().to_owned())
}

#[test]
fn r3_3_health_failure_alerts_within_30s_by_webhook_and_mail() {
    let dir = TempDir::new().unwrap();
    let (mut process, control) = gateway(dir.path(), "127.0.0.1:0");
    let server = Mailbox::start(dir.path(), "plain", &[]);
    let sink = Hook::start();
    // All as shipped but who is told, and of what.
    let config = [
        format!("[[collector.scrape]]\njob = \"gateway\"\ntargets = [\"{control}\"]\n"),
        hook("h", sink.address, ""),
        mail("m", server.port, "security = \"none\""),
        NO_HOST.to_owned(),
    ];
    let monitor = Monitor::start(dir.path(), &config.concat());
    for fault in ["killed", "hung"] {
        monitor.wait_rows("SELECT 1 FROM last.up WHERE job = 'gateway' AND value = 1");
        let (hooks, mails) = (sink.got().len(), server.mails().len());
        let start = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        if fault == "killed" {
            process.signal(Signal::KILL);
        } else {
            process.signal(Signal::STOP);
        }
        let down = |text: &str| text.contains("TargetDown");
        wait_for("the webhook", || {
            sink.got()
                .into_iter()
                .skip(hooks)
                .find(|it| down(&it.body) && it.alerts().contains(&"TargetDown firing".to_owned()))
        });
        wait_for("the mail", || {
            server.mails().into_iter().skip(mails).find(|it| down(it) && it.contains("FIRING"))
        });
        let took = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - start;
        assert!(took.as_secs() < 30, "{fault}: {took:?}");
        if fault == "killed" {
            process = gateway(dir.path(), &control).0;
        } else {
            process.signal(Signal::CONT);
        }
        wait_for("the end", || {
            sink.got()
                .into_iter()
                .skip(hooks)
                .find(|it| it.alerts().contains(&"TargetDown resolved".to_owned()))
        });
    }
    // The monitor has measured it too, each message.
    let page = crate::harness::page::get(&monitor.address, "/metrics").unwrap().1;
    let count = |line: &str| -> u64 {
        let found = page.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("{line}\n{page}"))
    };
    let within = count("forerunner_alert_latency_seconds_bucket{stage=\"total\",le=\"30\"}");
    assert_eq!(within, count("forerunner_alert_latency_seconds_count{stage=\"total\"}"));
    assert!(within >= 4, "{within}");
}

#[test]
fn r3_4_an_incident_has_its_cause_with_evidence_and_its_recovery_seconds() {
    let dir = TempDir::new().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = dir.path().join("gateway.toml");
    write(
        &gateway,
        format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\ncontrol = \"127.0.0.1:{port}\"\ndir = {:?}\n",
            dir.path().join("data")
        ),
    );
    let config = format!(
        "[[collector.scrape]]\njob = \"gateway\"\ninterval = \"200ms\"\ntargets = [\"127.0.0.1:{port}\"]\n\
         [[collector.process]]\nname = \"gateway\"\ncommand = \"{gateway}\"\n{NO_HOST}\
         [watchdog]\ndir = \"{logs}\"\n[[watchdog.child]]\nname = \"gateway\"\ncommand = [\"{program}\", \"gateway\", \"--with-parent\", \"--config\", \"{gateway}\"]\n",
        gateway = gateway.display(),
        logs = dir.path().join("logs").display(),
        program = PROGRAM,
    );
    let monitor = Monitor::start(dir.path(), &config);
    let file = dir.path().join("monitor.toml");
    let _watchdog = Program::start(
        dir.path(),
        &["watchdog", "--config", file.to_str().unwrap(), "--with-parent"],
        &[],
    );
    let pid = |monitor: &Monitor| -> i32 {
        monitor.wait_rows("SELECT 1 FROM last.up WHERE job = 'gateway' AND value = 1");
        wait_for("the process", || {
            let found = fs::read_dir("/proc").unwrap().flatten().find(|entry| {
                let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let words = String::from_utf8_lossy(&words).replace('\0', " ");
                words.contains(gateway.to_str().unwrap()) && words.contains(" gateway ")
            });
            found.and_then(|entry| entry.file_name().to_string_lossy().parse().ok())
        })
    };
    let signal = |pid: i32, signal| {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap()
    };
    signal(pid(&monitor), Signal::KILL);
    let killed = monitor.wait_rows(
        "SELECT cause, evidence LIKE '%watchdog at%', recovery_seconds > 0 FROM incidents WHERE service = 'gateway' AND ended IS NOT NULL AND cause = 'killed'",
    );
    assert_eq!(killed, ["killed,true,true"]);
    let stopped = pid(&monitor);
    signal(stopped, Signal::STOP);
    monitor.wait_rows("SELECT 1 FROM incidents WHERE cause = 'stopped' AND ended IS NULL");
    signal(stopped, Signal::CONT);
    monitor.wait_rows("SELECT 1 FROM incidents WHERE cause = 'stopped' AND recovery_seconds > 0");
}
