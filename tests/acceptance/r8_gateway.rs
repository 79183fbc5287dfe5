//! R8, health and metrics of the gateway.

use super::r4::tool;
use crate::harness::gateway::{Gateway, ask};
use crate::harness::program::write;
use crate::harness::service::Redis;
use crate::harness::upstream::{Upstream, json as answer};
use crate::harness::wait::wait_for;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use tempfile::TempDir;

#[test]
fn r8_1_each_dependency_that_breaks_is_told_with_its_reason_and_its_return() {
    let dir = TempDir::new().unwrap();
    let mut redis = Redis::start();
    let env = dir.path().join(".env");
    write(&env, "FF_CACHE=on\n");
    let upstream = Upstream::start(|_| answer("{}"));
    let config = format!(
        "anonymous = [\"live:get\"]\n[gateway.cache]\nredis = \"{}\"\n{}",
        redis.url(),
        tool(&upstream.url(), "", ", fresh = \"10m\"")
    );
    let gateway = Gateway::start_with(dir.path(), &config, &["--env", env.to_str().unwrap()]);
    for name in [
        "application",
        "admission",
        "database",
        "policies",
        "cache",
        "disk",
        "clock",
        "configuration",
        "memory",
        "components",
    ] {
        gateway.wait_check(name, "healthy");
    }
    assert_eq!(gateway.health()["status"], "healthy");
    let since = |name: &str| {
        let health = gateway.health();
        let all = health["checks"].as_array().unwrap().clone();
        all.iter().find(|it| it["name"] == name).unwrap()["since"].as_str().unwrap().to_owned()
    };

    // The cache's second tier: what was asked through it is still answered without it.
    let before = since("cache");
    redis.end();
    let reason = gateway.wait_check("cache", "degraded");
    assert!(reason.contains("Redis is away") && since("cache") > before, "{reason}");
    assert_eq!(ask(&gateway.data, "POST", "/t/live/get", "", "{\"n\":1}").unwrap().status, 200);
    redis.begin();
    assert!(gateway.wait_check("cache", "healthy").contains("Redis answers"));

    // The database's file is taken away, and comes back.
    let data = dir.path().join("gateway/gateway.sqlite");
    let away = dir.path().join("away.sqlite");
    fs::copy(&data, &away).unwrap();
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap(); // so that it cannot be made anew
    let reason = gateway.wait_check("database", "failed");
    assert!(reason.contains("unable to open"), "{reason}");
    assert_eq!(gateway.health()["status"], "degraded");
    fs::remove_dir(&data).unwrap();
    gateway.wait_check("database", "healthy");

    // The environment file.
    write(&env, "FF_CACHE=perhaps\n");
    let reason = gateway.wait_check("configuration", "degraded");
    assert!(reason.contains("neither on nor off"), "{reason}");
    write(&env, "FF_CACHE=on\n");
    gateway.wait_check("configuration", "healthy");

    // A component.
    let hang = json!({ "component": "checks", "ailment": "hang" });
    gateway.admin("POST", "/admin/chaos/component", &hang);
    let reason = gateway.wait_check("components", "degraded");
    assert!(reason.contains("checks: "), "{reason}");
    gateway.wait_check("components", "healthy");
    assert_eq!(gateway.health()["status"], "healthy");
}

#[test]
fn r8_1_what_redis_holds_serves_a_second_gateway() {
    let redis = Redis::start();
    let upstream = Upstream::start(|_| answer("{\"live\":true}"));
    let gateway = |dir: &TempDir| {
        let config = format!(
            "anonymous = [\"live:get\"]\n[gateway.cache]\nredis = \"{}\"\n{}",
            redis.url(),
            tool(&upstream.url(), "", ", fresh = \"10m\"")
        );
        let gateway = Gateway::start(dir.path(), &config);
        wait_for("Redis", || gateway.check("cache").1.contains("Redis answers").then_some(()));
        gateway
    };
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (one, two) = (gateway(&one), gateway(&two));
    let call = |gateway: &Gateway| {
        let answer = ask(&gateway.data, "POST", "/t/live/get", "", "{\"n\":1}").unwrap();
        assert!(answer.status == 200 && answer.json()["data"]["live"] == true, "{answer:?}");
        (answer.header("x-cache").unwrap().to_owned(), answer.header("age").unwrap().to_owned())
    };
    assert_eq!(call(&one), ("MISS".to_owned(), "0".to_owned()));
    wait_for("an answer of some age", || (call(&one).1 != "0").then_some(()));
    let (from, age) = call(&two);
    assert!(from == "HIT" && age != "0", "{from}, {age} s old");
    assert_eq!((upstream.asked(), two.metric("gateway_cache_total{result=\"second\"")), (1, 1.0));
}

#[test]
fn r8_1_a_gateway_that_is_stopped_or_drains_is_not_ready() {
    let dir = TempDir::new().unwrap();
    let gateway = Gateway::start(dir.path(), "");
    let ready = || ask(&gateway.control, "GET", "/ready", "", "").map(|answer| answer.status);
    gateway.admin("POST", "/admin/drain", &Value::Null);
    assert_eq!(ready(), Some(503));
    // What still comes is answered, and asked to come elsewhere.
    let answer = ask(&gateway.data, "GET", "/t/x/y", "", "").unwrap();
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
    gateway.admin("DELETE", "/admin/drain", &Value::Null);
    assert_eq!(ready(), Some(200));
    gateway.program.signal(Signal::STOP);
    gateway.program.signal(Signal::CONT);
    wait_for("ready again", || (ready() == Some(200)).then_some(()));
}

#[test]
fn r8_2_the_metrics_page_is_valid_for_promtool_and_does_not_grow_with_what_is_asked() {
    let dir = TempDir::new().unwrap();
    let gateway = Gateway::start(dir.path(), "anonymous = [\"*:*\"]\n");
    let page = || ask(&gateway.control, "GET", "/metrics", "", "").unwrap().body;
    let load = |from: u32| {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let data = &gateway.data;
                scope.spawn(move || {
                    for n in from..from + 60 {
                        // Paths, tools, hosts, methods and tokens that nobody has seen before.
                        let name = format!("{thread}-{n}");
                        ask(data, "GET", &format!("/{name}"), "", "");
                        ask(data, "POST", &format!("/t/{name}/x"), "", "{}");
                        ask(data, &format!("M{thread}X{n}"), "/api/policies", "", "");
                        let more =
                            format!("authorization: Bearer {name}\r\nhost: {name}.example\r\n");
                        ask(data, "GET", &format!("/t/http_fetch/get?url={name}"), &more, "");
                        ask(data, "GET", &format!("/t/http_fetch/get?url={name}"), "", "");
                    }
                });
            }
        });
    };
    load(0);
    let first = page().lines().count();
    load(1_000);
    assert_eq!(page().lines().count(), first, "{}", page());
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool; tests/run installs it");
    child.stdin.take().unwrap().write_all(page().as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success() && words.is_empty(), "{words}");
}
