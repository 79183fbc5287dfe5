//! R8, health monitoring.

use crate::harness::page::get;
use crate::harness::program::{Monitor, Program, write};
use crate::harness::wait::wait_for;
use std::fs;
use tempfile::TempDir;

#[test]
fn r8_3_host_readings_agree_with_the_kernel() {
    let dir = TempDir::new().unwrap();
    let monitor = Monitor::start(dir.path(), "[collector]\ninterval = \"200ms\"\n");
    let stored = monitor.wait_rows("SELECT value FROM node_memory_MemTotal_bytes LIMIT 1");
    let kernel = fs::read_to_string("/proc/meminfo").unwrap();
    let line = kernel.lines().find(|line| line.starts_with("MemTotal:")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(stored[0].parse::<f64>().unwrap(), kib * 1024.0);

    let modes = monitor.query("SELECT DISTINCT mode FROM node_cpu_seconds_total ORDER BY mode");
    assert_eq!(modes, ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"]);
    let processors = monitor.query("SELECT count(DISTINCT cpu) FROM node_cpu_seconds_total");
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let expected = stat.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count();
    assert_eq!(processors, [expected.to_string()]);
    for metric in ["node_network_receive_bytes_total", "node_load1", "node_filesystem_size_bytes"] {
        monitor.wait_rows(&format!("SELECT 1 FROM {metric} LIMIT 1"));
    }
}

#[test]
fn r8_1_the_gateway_says_how_it_is_on_its_control_listener() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("gateway.toml");
    write(
        &config,
        format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\ncontrol = \"127.0.0.1:0\"\nanonymous = [\"*\"]\ndir = {:?}\n",
            dir.path().join("gateway").to_str().unwrap()
        ),
    );
    let ready = dir.path().join("ready.json");
    let args =
        ["gateway", "--config", config.to_str().unwrap(), "--ready-file", ready.to_str().unwrap()];
    let _gateway = Program::start(dir.path(), &args, &[]);
    let told = wait_for("the gateway", || fs::read_to_string(&ready).ok());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let (data, control) = (told["data"].as_str().unwrap(), told["control"].as_str().unwrap());
    assert_eq!(get(control, "/live").unwrap(), (200, "live\n".to_owned()));
    assert_eq!(get(control, "/ready").unwrap().0, 200);
    let health: serde_json::Value =
        serde_json::from_str(&get(control, "/health").unwrap().1).unwrap();
    assert_eq!(health["status"], "healthy");

    assert_eq!(get(data, "/t/serpapi/search?query=x").unwrap().0, 200);
    let (status, reason) = get(data, "/t/serpapi/delete").unwrap();
    assert!(status == 404 && reason.contains("no such action"), "{status} {reason}");
    let page = get(control, "/metrics").unwrap().1;
    assert!(
        page.contains("gateway_requests_total{code=\"200\",route=\"/t/serpapi/search\"} 1\n"),
        "{page}"
    );
    assert!(page.contains("gateway_requests_total{code=\"404\",route=\"unknown\"} 1\n"), "{page}");
    assert!(page.contains("\nprocess_resident_memory_bytes "), "{page}");
}
