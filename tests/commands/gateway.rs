//! The gateway's own calls, as clients of the failed one make them, and how it ends.

use crate::acceptance::r4::tool;
use crate::harness::gateway::{Gateway, KeptConnection, ask};
use crate::harness::program::write;
use crate::harness::upstream::{Upstream, json as answer, status};
use crate::harness::wait::wait_for;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

#[test]
fn agents_tokens_and_policies_are_made_as_clients_of_the_failed_gateway_make_them() {
    let dir = TempDir::new().unwrap();
    let gateway = Gateway::start(dir.path(), "");
    let agent = gateway.post(
        "/api/create-agent",
        &json!({ "name": "a", "created_by": "burnin", "role": "scraper" }),
    );
    assert_eq!(agent.status, 201);
    let key = agent.json()["private_key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{key}");
    let id = agent.json()["agent_id"].as_str().unwrap().to_owned();
    let body = json!({
        "agent_id": id, "tools": ["serpapi", "gmail_send"], "permissions": ["read"], "expires_at": "2099-01-01T00:00:00.000Z",
    });
    let far = gateway.post("/api/generate-token", &body);
    assert!(far.status == 400 && far.reason().contains("31 days"), "{far:?}");
    let token = gateway.token("scraper", &["serpapi", "gmail_send"], &["read"]);
    let call = |tool: &str, action: &str, params: Value| gateway.call(&token, tool, action, params);

    // Default deny, with the reason; then what a policy grants, and no more.
    let denied = call("serpapi", "search", json!({ "query": "x" }));
    assert!(denied.status == 403 && denied.json()["error"] == "Policy denied", "{denied:?}");
    let spec = json!({ "scopes": ["serpapi:search", "gmail_send:send", "http_fetch:get"], "quotas": [{ "action": "serpapi:search", "limit": 2, "window": "24h" }] });
    let policy =
        gateway.post("/api/policies", &json!({ "name": "p", "role": "scraper", "spec": spec }));
    assert_eq!(policy.status, 201);
    let granted = call("serpapi", "search", json!({ "query": "x" }));
    assert!(granted.status == 200 && granted.json()["success"] == true, "{granted:?}");
    assert!(
        granted.json()["metadata"]["tool"] == "serpapi"
            && granted.header("x-correlation-id").is_some()
    );
    for (tool, action, params, code, error) in [
        ("http_fetch", "get", json!({ "url": "http://a/" }), 403, "Tool not allowed"),
        ("gmail_send", "send", json!({ "to": "a", "subject": "b" }), 403, "Permission denied"),
        ("serpapi", "search", json!({ "q": "x" }), 400, "Bad request"),
        ("serpapi", "delete", json!({}), 400, "Bad request"),
        ("unknown", "x", json!({}), 400, "Bad request"),
    ] {
        let refused = call(tool, action, params);
        assert_eq!((refused.status, refused.json()["error"].as_str()), (code, Some(error)));
    }
    assert_eq!(call("serpapi", "search", json!({ "query": "y" })).status, 200);
    let over = call("serpapi", "search", json!({ "query": "z" }));
    assert!(over.status == 429 && over.header("retry-after").is_some(), "{over:?}");
    let other = gateway.call("a.b", "serpapi", "search", json!({ "query": "x" }));
    assert_eq!(
        (other.status, other.json()["error"].as_str()),
        (403, Some("Invalid token signature"))
    );
    let missing = gateway.post("/api/proxy-request", &json!({ "agent_token": token, "tool": "x" }));
    assert!(missing.status == 400 && missing.reason().contains("missing field"), "{missing:?}");

    // A policy is read, replaced and removed.
    let path = format!("/api/policies/{}", policy.json()["id"].as_str().unwrap());
    assert_eq!(ask(&gateway.data, "GET", &path, "", "").unwrap().json()["name"], "p");
    let body = json!({ "name": "p", "role": "scraper", "spec": { "scopes": [] } }).to_string();
    assert_eq!(ask(&gateway.data, "PUT", &path, "", &body).unwrap().status, 200);
    assert_eq!(call("serpapi", "search", json!({ "query": "x" })).status, 403);
    assert_eq!(ask(&gateway.data, "DELETE", &path, "", "").unwrap().status, 200);
    assert_eq!(ask(&gateway.data, "DELETE", &path, "", "").unwrap().status, 404);
    for (body, words) in [
        (json!({ "name": "p", "role": "r", "spec": { "scope": [] } }), "unknown field `scope`"),
        (json!({ "name": "p", "spec": { "scopes": [] } }), "either role or agentId"),
        (
            json!({ "name": "p", "role": "r", "spec": { "scopes": ["x"] } }),
            "not of the form tool:action",
        ),
    ] {
        let refused = gateway.post("/api/policies", &body);
        assert!(refused.status == 400 && refused.reason().contains(words), "{refused:?}");
    }
}

#[test]
fn chaos_of_tools_begins_hits_and_ends_and_needs_the_administrators_token() {
    let dir = TempDir::new().unwrap();
    let secret = dir.path().join("admin");
    write(&secret, "0123456789abcdef0123\n");
    let config = format!(
        "admin_token_file = {:?}\nanonymous = [\"gmail_send:send\"]\n",
        secret.to_str().unwrap()
    );
    let gateway = Gateway::start(dir.path(), &config);
    let fault = json!({ "tool": "gmail_send", "mode": "500", "pct": 100, "ttl": 3600 }).to_string();
    let admin = "authorization: Bearer 0123456789abcdef0123\r\n";
    let path = "/api/admin/chaos/tool";
    assert_eq!(ask(&gateway.data, "POST", path, "", &fault).unwrap().status, 403);
    assert_eq!(gateway.admin("POST", "/admin/cleanup", &Value::Null).status, 403);
    let send = || {
        ask(&gateway.data, "POST", "/t/gmail_send/send", "", "{\"to\":\"a\",\"subject\":\"b\"}")
            .unwrap()
    };
    assert_eq!(send().status, 200);
    assert_eq!(ask(&gateway.data, "POST", path, admin, &fault).unwrap().status, 200);
    let failed = send();
    assert!(failed.status == 502 && failed.reason().contains("a fault on purpose"), "{failed:?}");
    let listed = ask(&gateway.data, "GET", "/api/admin/chaos", admin, "").unwrap().json();
    assert_eq!(
        (listed["faults"][0]["calls_hit"].as_u64(), listed["faults"][0]["mode"].as_str()),
        (Some(1), Some("500"))
    );
    assert_eq!(
        ask(&gateway.data, "DELETE", &format!("{path}/gmail_send"), admin, "").unwrap().status,
        200
    );
    assert_eq!(send().status, 200);
    let none = json!({ "tool": "none", "mode": "500", "pct": 1 }).to_string();
    assert_eq!(ask(&gateway.data, "POST", path, admin, &none).unwrap().status, 400);
}

#[test]
fn what_reads_is_tried_again_and_what_writes_is_not_and_a_failing_tool_is_left_alone() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let upstream = Upstream::start(move |request| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        match request.head.starts_with("POST /get") {
            true if n == 0 => status(503),
            true if request.body.contains("\"break\"") => String::new(),
            true => answer(&format!("{{\"n\":{n}}}")),
            false => status(500),
        }
    });
    let dir = TempDir::new().unwrap();
    let config = format!(
        "anonymous = [\"*\"]\n[[gateway.tool]]\nname = \"live\"\nbase_url = \"{}\"\ntimeout = \"5s\"\nactions = [\"put\", {{ name = \"get\", permission = \"read\" }}]\n",
        upstream.url()
    );
    let gateway = Gateway::start(dir.path(), &config);
    let post = |path: &str, body: &str| ask(&gateway.data, "POST", path, "", body).unwrap();
    let again = post("/t/live/get", "{}");
    assert!(again.status == 200 && again.json()["data"]["n"] == 1, "{again:?}");
    let before = upstream.asked();
    let failed = post("/t/live/put", "{}");
    assert!(failed.status == 502 && failed.reason().contains("500"), "{failed:?}");
    assert_eq!(upstream.asked(), before + 1, "what writes is asked once");
    let broken = post("/t/live/get", "{\"x\":\"break\"}");
    assert_eq!(broken.status, 502, "{broken:?}");
    let open = wait_for("the breaker to open", || {
        Some(post("/t/live/put", "{}")).filter(|it| it.status == 503)
    });
    assert!(
        open.reason().contains("left alone") && open.header("retry-after").is_some(),
        "{open:?}"
    );
    let before = upstream.asked();
    assert_eq!((post("/t/live/put", "{}").status, upstream.asked()), (503, before));
    assert!(gateway.wait_check("admission", "degraded").contains("live failed too often"));
}

#[test]
fn routes_are_passed_on_both_ways_as_they_are() {
    let upstream = Upstream::start(|request| {
        let text = format!("{}\n{}", request.head.replace("\r\n", "|"), request.body.len());
        format!(
            "HTTP/1.1 203 x\r\nx-end: 1\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
    });
    let dir = TempDir::new().unwrap();
    let config = format!(
        "{}[[gateway.route]]\npath = \"/files/\"\ntool = \"live\"\nstrip = true\n",
        tool(&format!("{}/v1", upstream.url()), "", "")
    );
    let gateway = Gateway::start(dir.path(), &config);
    let path = "/files/a%20b?c=d";
    assert_eq!(ask(&gateway.data, "GET", path, "", "").unwrap().status, 403, "default deny");
    gateway.policy("user", &["live:proxy"]);
    let reads = gateway.token("user", &["live"], &["read"]);
    let writes = gateway.token("user", &["live"], &["read", "write"]);
    let bearer = |token: &str| {
        format!("authorization: Bearer {token}\r\nx-forwarded-for: 1.2.3.4\r\nx-mine: 1\r\n")
    };
    let large = "x".repeat(3 << 20); // larger than what is read whole
    assert_eq!(ask(&gateway.data, "PUT", path, &bearer(&reads), "x").unwrap().status, 403);
    let passed = ask(&gateway.data, "PUT", path, &bearer(&writes), &large).unwrap();
    assert_eq!(passed.status, 203, "{passed:?}");
    assert!(passed.header("x-end").is_some() && passed.header("x-hop").is_none(), "{passed:?}");
    let (head, length) = passed.body.split_once('\n').unwrap();
    assert_eq!(length, large.len().to_string());
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("put /v1/a%20b?c=d http/1.1|"), "{head}");
    assert!(
        head.contains("x-mine: 1|") && head.contains("x-forwarded-for: 1.2.3.4, 127.0.0.1|"),
        "{head}"
    );
    assert!(!head.contains("authorization"), "the gateway's token is not the tool's: {head}");
    let passed = ask(&gateway.data, "GET", "/t/live/any/where", &bearer(&reads), "").unwrap();
    assert!(passed.body.starts_with("GET /v1/any/where HTTP/1.1|"), "{passed:?}");
}

#[test]
fn what_is_passed_on_keeps_its_meaning_whatever_each_side_speaks() {
    let old = Upstream::start(|asked| {
        let answer = format!("{} {}", asked.body, asked.head.lines().next().unwrap_or_default());
        format!("HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
    });
    let dir = TempDir::new().unwrap();
    let route = "[[gateway.route]]\npath = \"/up/\"\ntool = \"live\"\n";
    let config = format!("anonymous = [\"live:*\"]\n{}{route}", tool(&old.url(), "", ""));
    let gateway = Gateway::start(dir.path(), &config);
    // A query in a body of unknown length stays with its GET.
    let mut stream = TcpStream::connect(&gateway.data).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let text = "GET /up/_search HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nquery\r\n0\r\n\r\n";
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("query GET /up/_search"),
        "{answer}"
    );
}

#[test]
fn a_client_that_goes_away_leaves_its_request_in_counts_and_audit() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow = Upstream::start(move |_| {
        let _ = wait.lock().unwrap().recv();
        answer("{}")
    });
    let dir = TempDir::new().unwrap();
    let config = format!("anonymous = [\"live:*\"]\n{}", tool(&slow.url(), "", ""));
    let gateway = Gateway::start(dir.path(), &config);
    let mut client = TcpStream::connect(&gateway.data).unwrap();
    let text = "POST /t/live/get HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    client.write_all(text.as_bytes()).unwrap();
    wait_for("the tool to be asked", || (slow.asked() == 1).then_some(()));
    drop(client);
    wait_for("a request without an answer", || {
        let series = "gateway_requests_total{code=\"499\",route=\"/t/live/get\"}";
        (gateway.metric(series) == 1.0).then_some(())
    });
    wait_for("its record", || (gateway.metric("gateway_audit_written_total") == 1.0).then_some(()));
    drop(go);
}

#[test]
fn a_restart_under_load_fails_no_request_where_the_socket_is_handed_over() {
    let dir = TempDir::new().unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    // Children get the socket, as of whoever starts gateways one after another.
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
    let config = "anonymous = [\"http_fetch:get\"]\n";
    let mut number = 0;
    let mut start = || {
        number += 1;
        let own = dir.path().join(number.to_string());
        std::fs::create_dir(&own).unwrap();
        Gateway::inheriting(&own, config, &socket)
    };
    let mut old = start();
    assert_eq!(old.data, address);
    let (asking, asked) = (AtomicBool::new(true), AtomicU32::new(0));
    let failed = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (address, asking, asked) = (&address, &asking, &asked);
                // Half of them keep their connections.
                scope.spawn(move || {
                    let mut kept = KeptConnection::new(address);
                    let mut failed = Vec::new();
                    while asking.load(Ordering::SeqCst) {
                        let path = format!("/t/http_fetch/get?url=http://{client}/");
                        let status = match client % 2 {
                            0 => ask(address, "GET", &path, "", "").map(|answer| answer.status),
                            _ => kept.get(&path),
                        };
                        if status != Some(200) {
                            failed.push(status);
                        }
                        asked.fetch_add(1, Ordering::SeqCst);
                    }
                    failed
                })
            })
            .collect();
        let some = |n: u32| {
            let from = asked.load(Ordering::SeqCst);
            wait_for("requests", || (asked.load(Ordering::SeqCst) > from + n).then_some(()));
        };
        some(50);
        for _ in 0..3 {
            let next = start();
            some(50);
            old.program.signal(Signal::TERM);
            assert!(old.program.wait().success(), "{}", old.program.output());
            some(50);
            old = next;
        }
        asking.store(false, Ordering::SeqCst);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), asked.load(Ordering::SeqCst));
}

#[test]
fn tls_and_http_2_serve_many_requests_on_one_connection() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-keyout", &file("key.pem"), "-out", &file("cert.pem"), "-days", "2"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let config = format!(
        "anonymous = [\"http_fetch:get\"]\ntls = {{ cert_file = {:?}, key_file = {:?} }}\n",
        file("cert.pem"),
        file("key.pem")
    );
    let gateway = Gateway::start(dir.path(), &config);
    let url = format!("https://{}/t/http_fetch/get?url=http://[1-20]/", gateway.data);
    for (version, told) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let asked = std::process::Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--cacert",
                &file("cert.pem"),
                version,
                "--parallel",
            ])
            .args(["--write-out", "%{http_version} %{http_code}\\n", "--output", "/dev/null", &url])
            .output()
            .expect("curl; tests/run installs it");
        let said = String::from_utf8(asked.stdout).unwrap();
        let good = said.lines().filter(|line| *line == format!("{told} 200")).count();
        assert_eq!(good, 20, "{said} {:?}", String::from_utf8_lossy(&asked.stderr));
    }
    // Twenty requests at once on few connections.
    assert!(gateway.metric("gateway_connections_total") <= 22.0);
    // Who speaks no TLS is told nothing and costs nothing.
    assert!(ask(&gateway.data, "GET", "/live", "", "").is_none_or(|answer| answer.status == 0));
}

#[test]
fn clients_that_do_not_send_what_they_promised_cost_the_tool_nothing() {
    let upstream = Upstream::start(|_| answer("{}"));
    let dir = TempDir::new().unwrap();
    let config = format!(
        "anonymous = [\"*\"]\nread_timeout = \"500ms\"\n{}",
        tool(&upstream.url(), "timeout = \"500ms\"", "")
    );
    let gateway = Gateway::start(dir.path(), &config);
    let statuses: Vec<String> = std::thread::scope(|scope| {
        let silent = |path: &'static str| {
            let data = &gateway.data;
            scope.spawn(move || {
                let mut stream = std::net::TcpStream::connect(data).unwrap();
                let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n");
                std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
                let mut answer = String::new();
                let _ = std::io::Read::read_to_string(&mut stream, &mut answer);
                answer.get(9..12).unwrap_or("none").to_owned()
            })
        };
        let passed: Vec<_> = (0..30).map(|_| silent("/t/live/any")).collect();
        let called: Vec<_> = (0..30).map(|_| silent("/api/proxy-request")).collect();
        passed.into_iter().chain(called).map(|it| it.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| status == "408"), "{statuses:?}");
    let breaker = gateway.metric("gateway_breaker_open_ratio{tool=\"live\"}");
    assert_eq!(breaker, 0.0, "the tool did nothing wrong");
    assert_eq!(ask(&gateway.data, "POST", "/t/live/get", "", "{}").unwrap().status, 200);
    wait_for("no request in flight", || {
        (gateway.metric("gateway_requests_in_flight") == 0.0).then_some(())
    });
}

#[test]
fn guards_on_hosts_grant_nothing_of_which_nobody_can_say_where_it_leads() {
    let upstream = Upstream::start(|_| answer("{}"));
    let dir = TempDir::new().unwrap();
    let gateway = Gateway::start(dir.path(), &tool(&upstream.url(), "", ""));
    let spec = json!({ "scopes": ["live:*"], "guards": { "allowedDomains": ["example.org"] } });
    let made = gateway.post("/api/policies", &json!({ "name": "p", "role": "r", "spec": spec }));
    assert_eq!(made.status, 201, "{made:?}");
    let token = gateway.token("r", &["live"], &["read"]);
    let call = |url: Value| gateway.call(&token, "live", "get", json!({ "url": url })).status;
    assert_eq!(call(json!("http://api.example.org/x")), 200);
    for url in [
        json!("http://evil.net/"),
        json!("http://evil.net/a b"),
        json!("//evil.net/"),
        json!("http://example.org\\@evil.net/"),
        json!(["http://evil.net/"]),
        json!(" http://evil.net/"),
    ] {
        assert_eq!(call(url.clone()), 403, "{url}");
    }
    let bearer = format!("authorization: Bearer {token}\r\n");
    for (path, status) in [
        ("/t/live/get?url=http://example.org/", 200),
        ("/t/live/%67et?url=http://evil.net/", 404),
        ("/t/live/get/?url=http://evil.net/", 404),
        ("/t/live/any?url=http://evil.net/", 403),
    ] {
        assert_eq!(ask(&gateway.data, "GET", path, &bearer, "").unwrap().status, status, "{path}");
    }
    assert_eq!(upstream.asked(), 2);
}

/// An orderly end waits for what the client does not take: that would be for ever.
#[test]
fn a_client_of_http_2_that_never_takes_its_answer_is_cut_off() {
    let dir = TempDir::new().unwrap();
    let gateway = Gateway::start(dir.path(), "idle_timeout = \"1s\"\n");
    let mut socket = std::net::TcpStream::connect(&gateway.data).unwrap();
    let frame = |kind: u8, flags: u8, stream: u8, body: &[u8]| {
        [&[0, 0, u8::try_from(body.len()).unwrap(), kind, flags, 0, 0, 0, stream], body].concat()
    };
    // A window of nothing (SETTINGS), and GET http://a/live (HEADERS, all of it; RFC 9113, RFC 7541).
    let shut = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let ask = frame(1, 5, 1, b"\x82\x86\x04\x05/live\x01\x01a");
    socket
        .write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &shut, &ask].concat())
        .unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    loop {
        let mut head = [0; 9];
        if socket.read_exact(&mut head).is_err() {
            break;
        }
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut body = vec![0; length];
        socket.read_exact(&mut body).unwrap();
        // PING: it is alive.
        if head[3] == 6 && head[4] == 0 {
            socket.write_all(&frame(6, 1, 0, &body)).unwrap();
        }
    }
    wait_for("its count", || {
        (gateway.metric("gateway_connections_ended_total{reason=\"stalled\"") >= 1.0).then_some(())
    });
}
