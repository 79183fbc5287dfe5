//! R3, monitoring and observability.

use crate::harness::page::{PageServer, ok};
use crate::harness::program::{Monitor, NO_HOST, Program, job, write};
use crate::harness::wait::wait_for;
use rustix::process::Signal;
use std::fs;
use tempfile::TempDir;

#[test]
fn r3_1_system_metrics_continue_while_the_gateway_is_stopped() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("gateway.toml");
    write(&config, "[gateway]\nlisten = \"127.0.0.1:0\"\ncontrol = \"127.0.0.1:0\"\n");
    let ready = dir.path().join("gateway.json");
    let args =
        ["gateway", "--config", config.to_str().unwrap(), "--ready-file", ready.to_str().unwrap()];
    let gateway = Program::start(dir.path(), &args, &[]);
    let told = wait_for("the gateway", || fs::read_to_string(&ready).ok());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let pid = gateway.pid();
    let config = format!(
        "[collector]\ninterval = \"200ms\"\n{}[[collector.process]]\nname = \"gateway\"\npid = {pid}\n",
        job("gateway", told["control"].as_str().unwrap())
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
