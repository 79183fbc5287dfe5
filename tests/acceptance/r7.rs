//! R7, resources of the gateway: what is taken is given back, and limits hold.

use super::r4::tool;
use crate::harness::gateway::{Gateway, ask};
use crate::harness::service::Postgres;
use crate::harness::upstream::{Upstream, json as answer};
use crate::harness::wait::wait_for;
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn handles(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn r7_2_connections_to_the_database_are_bounded_and_go_back_to_what_is_needed() {
    let dir = TempDir::new().unwrap();
    let mut postgres = Postgres::start(dir.path());
    let config = format!(
        "[gateway.database]\npostgres = \"{}\"\nmax_connections = 3\nmax_lifetime = \"2s\"\n",
        postgres.config()
    );
    let gateway = Gateway::start(dir.path(), &config);
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forerunner'";
    let open = || postgres.query(count).and_then(|n| n.parse::<u32>().ok());
    let most = std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    gateway.token("reader", &["serpapi"], &["read"]);
                }
            });
        }
        (0..20).filter_map(|_| open()).max().unwrap()
    });
    assert!((1..=3).contains(&most), "{most}");
    // Each is replaced after its time: the oldest is never much older.
    let oldest = "SELECT coalesce(max(extract(epoch FROM now() - backend_start)), 0)::int FROM pg_stat_activity WHERE application_name = 'forerunner'";
    for _ in 0..30 {
        let age: u32 = postgres.query(oldest).unwrap().parse().unwrap();
        assert!(age <= 5, "{age} s");
    }
    postgres.end();
    gateway.wait_check("database", "failed");
    wait_for("no connection", || {
        (gateway.metric("gateway_database_connections") == 0.0).then_some(())
    });
    postgres.begin();
    gateway.wait_check("database", "healthy");
    wait_for("few connections", || {
        (gateway.metric("gateway_database_connections") <= 3.0).then_some(())
    });
}

#[test]
fn r7_3_file_handles_go_back_when_the_load_ends() {
    let upstream = Upstream::start(|_| answer("{}"));
    let dir = TempDir::new().unwrap();
    let config = format!("anonymous = [\"live:get\"]\n{}", tool(&upstream.url(), "", ""));
    let gateway = Gateway::start(dir.path(), &config);
    let pid = gateway.program.pid();
    assert_eq!(ask(&gateway.data, "POST", "/t/live/get", "", "{}").unwrap().status, 200);
    let before = handles(pid);
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(&gateway.data).unwrap();
        stream.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut some = [0; 12];
        stream.read_exact(&mut some).unwrap();
        idle.push(stream);
    }
    assert!(handles(pid) >= before + 195); // the one before them may just have been closed
    drop(idle);
    wait_for("the handles to go back", || (handles(pid) <= before + 2).then_some(()));
    wait_for("no connection", || (gateway.metric("gateway_connections ") == 0.0).then_some(()));
}

#[test]
fn r7_5_connections_heads_bodies_and_slow_clients_are_limited_each() {
    let dir = TempDir::new().unwrap();
    let config = "max_connections = 4\nmax_body_size = \"1KiB\"\nmax_head_size = \"8KiB\"\nread_timeout = \"300ms\"\nidle_timeout = \"2s\"\nanonymous = [\"http_fetch:get\"]\n";
    let gateway = Gateway::start(dir.path(), config);
    let data = &gateway.data;
    // Four that say nothing hold all places, and not for long.
    let silent: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(data).unwrap()).collect();
    assert_eq!(ask(data, "GET", "/live", "", "").unwrap().status, 200);
    drop(silent);
    assert!(gateway.metric("gateway_connections_ended_total{reason=\"silent\"}") >= 1.0);
    let mut half = TcpStream::connect(data).unwrap();
    half.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nx-slow: ").unwrap();
    half.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = String::new();
    let _ = half.read_to_string(&mut answer);
    let slow_heads = || gateway.metric("gateway_connections_ended_total{reason=\"head_timeout\"}");
    wait_for("the slow head to be told", || (slow_heads() >= 1.0).then_some(()));
    let mut second = TcpStream::connect(data).unwrap();
    second.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    second.read_exact(&mut [0; 12]).unwrap();
    second.write_all(b"GET /live HTTP/1.1\r\nx-slow: ").unwrap();
    wait_for("the slow second head to be told", || (slow_heads() >= 2.0).then_some(()));
    let large = "x".repeat(2_000);
    let body = json!({ "url": large }).to_string();
    assert_eq!(ask(data, "POST", "/t/http_fetch/get", "", &body).unwrap().status, 413);
    let head = format!("x-large: {}\r\n", "y".repeat(20_000));
    assert_eq!(ask(data, "GET", "/t/http_fetch/get?url=a", &head, "").unwrap().status, 431);
    // A body that comes byte by byte.
    let mut slow = TcpStream::connect(data).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    slow.write_all(b"POST /t/http_fetch/get HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        .unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // An idle connection is closed by us, in order, and not after the time that a head may take.
    let mut idle = TcpStream::connect(data).unwrap();
    #[allow(clippy::disallowed_methods, reason = "how long it lasted is what is looked at")]
    let start = Instant::now();
    idle.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = String::new();
    idle.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("live\n"), "{answer}");
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(ask(data, "GET", "/t/http_fetch/get?url=a", "", "").unwrap().status, 200);
}

#[test]
fn r7_5_clients_that_upload_slowly_hold_half_of_a_tools_places_and_no_more() {
    let upstream = Upstream::start(|_| answer("{}"));
    let dir = TempDir::new().unwrap();
    let route = "[[gateway.route]]\npath = \"/up/\"\ntool = \"live\"\n";
    let places = "max_concurrency = 4\ntimeout = \"60s\"";
    let config = format!("anonymous = [\"live:*\"]\n{}{route}", tool(&upstream.url(), places, ""));
    let gateway = Gateway::start(dir.path(), &config);
    let slow = || {
        let mut slow = TcpStream::connect(&gateway.data).unwrap();
        slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        slow.write_all(b"POST /up/x HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nbegun")
            .unwrap();
        slow
    };
    let held = [slow(), slow()];
    let inside = "gateway_upstream_in_flight{tool=\"live\"}";
    wait_for("both in", || (gateway.metric(inside) == 2.0).then_some(()));
    let mut refused = String::new();
    let _ = slow().read_to_string(&mut refused);
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after"), "{refused}");
    for _ in 0..20 {
        assert_eq!(ask(&gateway.data, "GET", "/up/x", "", "").unwrap().status, 200);
        assert_eq!(ask(&gateway.data, "POST", "/up/x", "", "small").unwrap().status, 200);
    }
    drop(held);
    wait_for("their places to be free", || (gateway.metric(inside) == 0.0).then_some(()));
    let large = "x".repeat(100_000);
    assert_eq!(ask(&gateway.data, "POST", "/up/x", "", &large).unwrap().status, 200);
}

#[test]
fn r7_5_a_disk_that_is_almost_full_narrows_the_gateway_and_is_told() {
    let dir = TempDir::new().unwrap();
    let gateway = Gateway::start(
        dir.path(),
        "anonymous = [\"http_fetch:get\"]\n[gateway.pressure]\nmin_free_disk = \"8EB\"\n"
            .replace("8EB", "8000000TiB")
            .as_str(),
    );
    let reason = gateway.wait_check("disk", "failed");
    assert!(reason.contains("MiB free"), "{reason}");
    wait_for("the emergency", || (gateway.metric("gateway_pressure_level") == 4.0).then_some(()));
    let refused = ask(&gateway.data, "GET", "/t/http_fetch/get?url=a", "", "").unwrap();
    assert!(refused.status == 503 && refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(ask(&gateway.data, "GET", "/health", "", "").unwrap().status, 200, "told even now");
    let ready = ask(&gateway.control, "GET", "/ready", "", "").unwrap();
    assert_eq!(ready.status, 503, "nothing is let in: traffic belongs elsewhere");
}
