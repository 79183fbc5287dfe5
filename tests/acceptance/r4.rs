//! R4, graceful degradation and recovery of the gateway.

use crate::harness::gateway::{Answer, Gateway, ask};
use crate::harness::service::Postgres;
use crate::harness::upstream::{Upstream, json as answer};
use crate::harness::wait::wait_for;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// A tool at `url` with one action that reads; `more` goes into its table, `action` into its action's.
pub(crate) fn tool(url: &str, more: &str, action: &str) -> String {
    format!(
        "[[gateway.tool]]\nname = \"live\"\nbase_url = \"{url}\"\n{more}\nactions = [{{ name = \"get\", permission = \"read\"{action} }}]\n"
    )
}

#[test]
fn r4_1_more_than_a_tool_can_do_is_refused_with_retry_after_and_the_tool_is_not_flooded() {
    let gate = std::sync::Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let held = std::sync::Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        let (open, changed) = &*held;
        let open = open.lock().unwrap();
        drop(changed.wait_while(open, |open| !*open).unwrap());
        answer("{}")
    });
    let dir = TempDir::new().unwrap();
    let config = format!(
        "anonymous = [\"live:get\"]\n[gateway.admission]\nmax_queue = 8\nqueue_time = \"10s\"\n{}",
        tool(&upstream.url(), "max_concurrency = 4", "")
    );
    let gateway = Gateway::start(dir.path(), &config);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let call = |n: u32| {
            let data = &gateway.data;
            scope.spawn(move || {
                ask(data, "POST", "/t/live/get", "", &json!({ "n": n }).to_string()).unwrap()
            })
        };
        let calls: Vec<_> = (0..40).map(call).collect();
        // All but those inside and those that may wait are refused while the tool still does nothing.
        wait_for("28 refusals", || {
            (gateway.metric("gateway_upstream_calls_total{outcome=\"shed\"") >= 28.0).then_some(())
        });
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let refused: Vec<&Answer> = answers.iter().filter(|it| it.status == 503).collect();
    assert_eq!((refused.len(), answers.iter().filter(|it| it.status == 200).count()), (28, 12));
    assert!(refused.iter().all(|it| it.header("retry-after") == Some("1")));
    assert!(refused[0].reason().contains("all the calls that it can take"), "{:?}", refused[0]);
    assert_eq!(upstream.most_at_once(), 4);
}

#[test]
fn r4_2_without_its_postgresql_it_serves_what_it_knows_and_returns_by_itself() {
    let dir = TempDir::new().unwrap();
    let mut postgres = Postgres::start(dir.path());
    let fails = std::sync::Arc::new(AtomicBool::new(false));
    let failing = std::sync::Arc::clone(&fails);
    let upstream = Upstream::start(move |_| match failing.load(Ordering::SeqCst) {
        true => crate::harness::upstream::status(500),
        false => answer("{\"live\":true}"),
    });
    let config = format!(
        "[gateway.database]\npostgres = \"{}\"\ntimeout = \"1s\"\n{}",
        postgres.config(),
        tool(&upstream.url(), "", ", fresh = \"100ms\", stale = \"10m\"")
    );
    let gateway = Gateway::start(dir.path(), &config);
    gateway.policy("reader", &["live:get"]);
    let token = gateway.token("reader", &["live"], &["read"]);
    let call = || gateway.call(&token, "live", "get", json!({ "q": 1 }));
    assert_eq!((call().status, gateway.check("database").0.as_str()), (200, "healthy"));
    wait_for("the audit", || {
        postgres.query("SELECT count(*) FROM audit WHERE kind = 'call'").filter(|n| n == "1")
    });

    postgres.end();
    gateway.wait_check("database", "failed");
    assert_eq!(ask(&gateway.control, "GET", "/ready", "", "").unwrap().status, 200);
    // Tokens and policies are decided on from what is known; what is not granted is still denied.
    for _ in 0..20 {
        assert_eq!(call().status, 200);
    }
    assert_eq!(gateway.call(&token, "live", "get", json!([])).status, 400);
    let listed = ask(&gateway.data, "GET", "/api/policies", "", "").unwrap();
    assert_eq!(
        (listed.status, listed.json()["policies"][0]["name"].as_str()),
        (200, Some("reader"))
    );
    // A token for an agent that is known can be given; what must be kept cannot be done.
    let agent = json!({ "name": "x", "created_by": "x", "role": "reader" });
    let refused = gateway.post("/api/create-agent", &agent);
    assert!(refused.status == 503 && refused.header("retry-after").is_some(), "{refused:?}");
    assert!(refused.reason().contains("the database is away"), "{refused:?}");
    // The tool fails too: the last answer, marked as stale with its age.
    fails.store(true, Ordering::SeqCst);
    let stale = wait_for("a stale answer", || {
        Some(call()).filter(|it| it.header("x-cache") == Some("STALE"))
    });
    assert!(stale.status == 200 && stale.json()["data"]["live"] == true, "{stale:?}");
    assert!(stale.header("age").is_some());
    assert!(gateway.metric("gateway_audit_journaled_total") > 0.0);
    fails.store(false, Ordering::SeqCst);

    // Back again, and no record was lost.
    postgres.begin();
    gateway.wait_check("database", "healthy");
    assert_eq!(gateway.post("/api/create-agent", &agent).status, 201);
    wait_for("the journal's end", || {
        (gateway.metric("gateway_audit_journal_bytes") == 0.0).then_some(())
    });
    assert_eq!(gateway.metric("gateway_audit_lost_total"), 0.0);
    let calls = gateway.metric("gateway_requests_total{code=\"200\",route=\"/api/proxy-request\"");
    wait_for("every call in the audit once", || {
        let kept =
            postgres.query("SELECT count(*) FROM audit WHERE kind = 'call' AND status = 200")?;
        (kept.parse() == Ok(calls)).then_some(())
    });
}

#[test]
fn what_is_asked_for_again_and_again_is_fetched_before_it_is_too_old() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let upstream = Upstream::start(move |_| {
        answer(&json!({ "n": asked.fetch_add(1, Ordering::SeqCst) }).to_string())
    });
    let dir = TempDir::new().unwrap();
    let tool = tool(&upstream.url(), "", ", fresh = \"2s\", stale = \"10m\"");
    let gateway = Gateway::start(dir.path(), &format!("anonymous = [\"live:get\"]\n{tool}"));
    let mut last = None;
    // Another answer than before, and nobody waited for the tool: it was fetched meanwhile.
    wait_for("a fresh answer that nobody waited for", || {
        let got = ask(&gateway.data, "POST", "/t/live/get", "", "{\"q\":1}").unwrap();
        let hit = got.header("x-cache") == Some("HIT");
        let n = got.json()["data"]["n"].as_u64().unwrap();
        let before = last.replace((hit, n));
        (hit && before.is_some_and(|before| before.1 != n && before.0)).then_some(())
    });
    wait_for("its count", || {
        (gateway.metric("gateway_cache_total{result=\"warmed\"") >= 1.0).then_some(())
    });
}

#[test]
fn r4_2_a_gateway_that_starts_without_its_database_knows_the_policies_of_before() {
    let dir = TempDir::new().unwrap();
    let mut postgres = Postgres::start(dir.path());
    let config =
        format!("[gateway.database]\npostgres = \"{}\"\ntimeout = \"500ms\"\n", postgres.config());
    let gateway = Gateway::start(dir.path(), &config);
    gateway.policy("reader", &["serpapi:search"]);
    let token = gateway.token("reader", &["serpapi"], &["read"]);
    postgres.end();
    gateway.program.kill();
    let again = Gateway::start(dir.path(), &config);
    assert_eq!(again.call(&token, "serpapi", "search", json!({ "query": "x" })).status, 200);
    again.program.kill();
    // One that never knew any says so, and does not pretend that nothing is granted.
    std::fs::remove_file(dir.path().join("gateway/policies.json")).unwrap();
    let blank = Gateway::start(dir.path(), &config);
    let refused = blank.call(&token, "serpapi", "search", json!({ "query": "x" }));
    assert!(
        refused.status == 503 && refused.reason().contains("no policies are known"),
        "{refused:?}"
    );
    blank.wait_check("policies", "failed");
    assert_eq!(ask(&blank.control, "GET", "/ready", "", "").unwrap().status, 503);
}

#[test]
fn r4_3_memory_over_eighty_percent_is_given_back_while_requests_are_served() {
    let large = "x".repeat(100_000);
    let upstream = Upstream::start(move |_| answer(&format!("\"{large}\"")));
    let dir = TempDir::new().unwrap();
    // First without a limit, to know what the program takes by itself.
    let probe = Gateway::start(dir.path(), "");
    let own = probe.metric("process_resident_memory_bytes") as u64 >> 20;
    probe.program.kill();
    let config = format!(
        "anonymous = [\"live:get\"]\n[gateway.cache]\nmax_size = \"256MiB\"\n[gateway.pressure]\nmax_memory = \"{}MiB\"\n{}",
        own + 80,
        tool(&upstream.url(), "", ", fresh = \"10m\"")
    );
    let gateway = Gateway::start(dir.path(), &config);
    let mut served = 0;
    wait_for("a cleanup", || {
        let body = json!({ "n": served }).to_string();
        let answer = ask(&gateway.data, "POST", "/t/live/get", "", &body).unwrap();
        assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
        served += 1;
        (gateway.metric("gateway_cleanups_total") >= 1.0).then_some(())
    });
    assert!(served > 200, "only {served}");
    wait_for("memory given back", || {
        (gateway.metric("gateway_cleanup_freed_bytes_total") > 10e6).then_some(())
    });
    wait_for("calm", || (gateway.metric("gateway_pressure_level") <= 1.0).then_some(()));
    assert_eq!(ask(&gateway.data, "POST", "/t/live/get", "", "{}").unwrap().status, 200);
    assert!(gateway.program.output().contains("cleanup"));
}

#[test]
fn r4_4_components_that_panic_hang_or_slow_down_are_begun_anew_and_requests_go_on() {
    let dir = TempDir::new().unwrap();
    let gateway = Gateway::start(dir.path(), "anonymous = [\"http_fetch:get\"]\n");
    let asking = AtomicBool::new(true);
    let failed = std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut failed = 0;
            while asking.load(Ordering::SeqCst) {
                let answer = ask(&gateway.data, "GET", "/t/http_fetch/get?url=http://a/", "", "");
                failed += u32::from(answer.is_none_or(|answer| answer.status != 200));
            }
            failed
        });
        for (component, ailment) in [
            ("stats", "panic"),
            ("audit_writer", "hang"),
            ("checks", "slow"),
            ("policies", "panic"),
            ("sweeper", "panic"),
        ] {
            let restarts = format!(
                "gateway_component_restarts_total{{cause=\"{ailment}\",component=\"{component}\"}}"
            );
            let body = json!({ "component": component, "ailment": ailment });
            let told = gateway.admin("POST", "/admin/chaos/component", &body);
            assert_eq!(told.status, 202, "{told:?}");
            // The sweeper's next beat is half a minute away: it is begun anew first, and meets its ailment then.
            if component == "sweeper" {
                gateway.admin(
                    "POST",
                    "/admin/restart-component",
                    &json!({ "component": component }),
                );
            }
            wait_for(&restarts, || (gateway.metric(&restarts) >= 1.0).then_some(()));
            gateway.admin(
                "POST",
                "/admin/chaos/component",
                &json!({ "component": component, "ailment": "none" }),
            );
        }
        asking.store(false, Ordering::SeqCst);
        requests.join().unwrap()
    });
    assert_eq!(failed, 0);
    gateway.wait_check("components", "healthy");
    // None of the others was touched.
    assert_eq!(
        gateway.metric("gateway_component_restarts_total{cause=\"panic\",component=\"settings\"}"),
        0.0
    );
    let unknown = gateway.admin("POST", "/admin/restart-component", &json!({ "component": "x" }));
    assert!(unknown.status == 404 && unknown.reason().contains("audit_writer"), "{unknown:?}");
}

#[test]
fn r4_5_degradation_that_was_asked_for_ends_by_itself() {
    let dir = TempDir::new().unwrap();
    let gateway = Gateway::start(dir.path(), "");
    let body = json!({ "level": "critical", "ttl": 1.0, "reason": "test" });
    assert_eq!(gateway.admin("POST", "/admin/degrade", &body).status, 200);
    let level = || gateway.admin("GET", "/admin/degrade", &Value::Null).json();
    wait_for("the level", || (level()["level"] == "critical").then_some(()));
    assert_eq!(level()["asked_for"]["reason"], "test");
    wait_for("its end", || (level()["level"] == "calm").then_some(()));
    assert!(level()["asked_for"].is_null());
    let refused = gateway.admin("POST", "/admin/degrade", &json!({ "level": "high", "ttl": 1e9 }));
    assert_eq!(refused.status, 400);
    // A cleanup is done once for each key, and says what it measured.
    let clean = |key: &str| {
        let more = format!("idempotency-key: {key}\r\n");
        ask(&gateway.control, "POST", "/admin/cleanup", &more, "{}").unwrap()
    };
    let before = gateway.metric("gateway_cleanups_total"); // the level above took some of its own
    let first = clean("a");
    assert!(
        first.json()["cleaned"]["resident_before_bytes"].as_u64() > Some(1_000_000),
        "{first:?}"
    );
    assert_eq!(
        (clean("a").body, gateway.metric("gateway_cleanups_total")),
        (first.body, before + 1.0)
    );
    assert_eq!((clean("b").status, gateway.metric("gateway_cleanups_total")), (200, before + 2.0));
}
