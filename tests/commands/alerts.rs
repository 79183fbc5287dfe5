//! Alerts on the real program: rules, receivers, outbox, silences, roles.

use crate::harness::mailbox::{Hook, Mailbox, hook, mail};
use crate::harness::page::{PageServer, get, get_with, ok, post};
use crate::harness::program::{Monitor, NO_HOST, job, run, write};
use crate::harness::wait::wait_for;
use serde_json::Value;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// A target whose metric `level` is what the test says.
fn level(value: &Arc<AtomicBool>) -> PageServer {
    let value = Arc::clone(value);
    PageServer::start(move |_| {
        ok(&format!("level {}\n", if value.load(Ordering::SeqCst) { 9 } else { 1 }))
    })
}

const RULES: &str = r#"
groups:
  - name: g
    rules:
      - alert: LevelHigh
        expr: level > 5
        labels: { severity: critical }
        annotations: { summary: "level is {{ $value }}" }
"#;

/// The name of a rule file in the folder, as configuration.
fn rules(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("rules.yml");
    write(&path, text);
    format!("[alerts]\nrules = [{:?}]\n", path.to_str().unwrap())
}

#[test]
fn a_threshold_is_told_by_webhook_signed_and_so_is_its_end() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("secret"), "a secret of ours\n");
    let high = Arc::new(AtomicBool::new(false));
    let page = level(&high);
    let sink = Hook::start();
    let secret = format!(", secret_file = {:?}", dir.path().join("secret").to_str().unwrap());
    let config = [
        rules(&dir, RULES),
        hook("h", sink.address, &secret),
        job("app", page.address),
        NO_HOST.to_owned(),
    ];
    let monitor = Monitor::start(dir.path(), &config.concat());
    monitor.wait_rows("SELECT 1 FROM level");
    assert!(sink.got().is_empty());
    high.store(true, Ordering::SeqCst);
    let got = sink.wait("the message", |it| it.alerts() == ["LevelHigh firing"]);
    let json = got.json();
    assert_eq!(json["version"], "4");
    assert_eq!(json["commonAnnotations"]["summary"], "level is 9");
    assert_eq!(json["alerts"][0]["labels"]["job"], "app");
    // Signed as openssl signs.
    let text = format!("{}.{}", got.headers["x-forerunner-timestamp"], got.body);
    write(&dir.path().join("text"), &text);
    let openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", "a secret of ours", "-r"])
        .arg(dir.path().join("text"))
        .output()
        .unwrap();
    let theirs = String::from_utf8(openssl.stdout).unwrap();
    let theirs = theirs.split(' ').next().unwrap();
    assert_eq!(got.headers["x-forerunner-signature"], format!("sha256={theirs}"));
    // The SQL of the alert gives its evidence.
    let sql = json["alerts"][0]["annotations"]["sql"].as_str().unwrap();
    assert!(monitor.query(sql).iter().any(|row| row.ends_with(",9.0")), "{sql}");
    let link = json["alerts"][0]["generatorURL"].as_str().unwrap();
    assert!(link.starts_with(&format!("http://{}/?alert=", monitor.address)), "{link}");
    high.store(false, Ordering::SeqCst);
    sink.wait("the end", |it| it.alerts() == ["LevelHigh resolved"]);
    let rows = monitor
        .wait_rows("SELECT service, recovery_seconds > 0 FROM incidents WHERE ended IS NOT NULL");
    assert_eq!(rows, ["app,true"]);
    monitor.wait_rows("SELECT 1 FROM notifications WHERE state = 'sent' HAVING count(*) = 2");
    assert!(!monitor.program.output().contains("a secret of ours"));
}

#[test]
fn mail_goes_over_starttls_with_a_password_and_has_text_html_and_an_image() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let made = Command::new("/bin/sh")
        .args(["-c", concat!(
            "cd $0 && openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem && ",
            "openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out req.pem && ",
            "printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > ext && ",
            "openssl x509 -req -in req.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out cert.pem"
        )])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    write(&dir.path().join("password"), "s3cret-of-mail");
    let high = Arc::new(AtomicBool::new(false));
    let page = level(&high);
    for mode in ["starttls", "smtps"] {
        high.store(false, Ordering::SeqCst);
        let own = dir.path().join(mode);
        std::fs::create_dir(&own).unwrap();
        let server = Mailbox::start(
            &own,
            mode,
            &[&path("cert.pem"), &path("key.pem"), "joe", "s3cret-of-mail"],
        );
        let more = format!(
            "security = {:?}\nca_file = {:?}\nusername = \"joe\"\npassword_file = {:?}",
            if mode == "smtps" { "tls" } else { "starttls" },
            path("ca.pem"),
            path("password")
        );
        let config = [
            rules(&dir, RULES),
            mail("m", server.port, &more),
            job("app", page.address),
            NO_HOST.to_owned(),
        ];
        let monitor = Monitor::start(&own, &config.concat());
        monitor.wait_rows("SELECT 1 FROM level HAVING count(*) > 5");
        high.store(true, Ordering::SeqCst);
        let first = wait_for("a mail", || server.mails().first().cloned());
        let envelope = server.envelope(1);
        assert_eq!(
            (envelope["tls"].as_bool(), envelope["auth"].as_str()),
            (Some(true), Some("joe")),
            "{mode}"
        );
        assert_eq!(envelope["to"].as_array().unwrap().len(), 2);
        for part in [
            "Subject: [FIRING:1] level is 9",
            "text/plain",
            "text/html",
            "image/png",
            "multipart/related",
            "In-Reply-To: <",
        ] {
            assert!(first.contains(part), "{mode}: {part}\n{first}");
        }
        high.store(false, Ordering::SeqCst);
        let second = wait_for("the mail of its end", || server.mails().get(1).cloned());
        let thread = |mail: &str| {
            mail.lines().find(|line| line.starts_with("References: ")).unwrap().to_owned()
        };
        assert_eq!(thread(&first), thread(&second));
        assert!(!monitor.program.output().contains("s3cret-of-mail"));
        let (_, receivers) = get(&monitor.address, "/api/v1/receivers").unwrap();
        assert!(receivers.contains("email") && !receivers.contains("s3cret"), "{receivers}");
    }
}

#[test]
fn a_receiver_that_hangs_or_refuses_delays_no_other_and_gets_its_message_in_the_end() {
    let dir = TempDir::new().unwrap();
    let high = Arc::new(AtomicBool::new(true));
    let page = level(&high);
    let hangs = Hook::answering(|_| String::new());
    let refuses = Hook::answering(|n| {
        if n <= 2 { "503 Busy\r\nretry-after: 1".to_owned() } else { "200 OK".to_owned() }
    });
    let takes = Hook::start();
    let config = [
        rules(&dir, RULES),
        hook("hangs", hangs.address, ", timeout = \"1h\""),
        hook("refuses", refuses.address, ""),
        hook("takes", takes.address, ""),
        job("app", page.address),
        NO_HOST.to_owned(),
    ];
    let monitor = Monitor::start(dir.path(), &config.concat());
    takes.wait("the message", |it| it.alerts().contains(&"LevelHigh firing".to_owned()));
    let three = wait_for("the third attempt", || Some(refuses.got()).filter(|it| it.len() >= 3));
    let keys: Vec<&String> = three.iter().map(|it| &it.headers["idempotency-key"]).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    wait_for("the one that hangs", || (!hangs.got().is_empty()).then_some(()));
    let rows = monitor.wait_rows("SELECT receiver, attempts FROM notifications WHERE receiver = 'refuses' AND state = 'sent'");
    assert_eq!(rows, ["refuses,3.0"]);
    // Whoever hears nothing is told of to those who do.
    takes.wait("the alert about the receiver", |it| {
        it.alerts() == ["ReceiverFailing firing"] || it.alerts() == ["LevelHigh firing"]
    });
}

#[test]
fn rules_on_sql_and_on_what_is_gone_fire_too() {
    let dir = TempDir::new().unwrap();
    let gone = Arc::new(AtomicBool::new(false));
    let hide = Arc::clone(&gone);
    let page = PageServer::start(move |_| {
        let more = if hide.load(Ordering::SeqCst) { "" } else { "jobs_done 1\n" };
        ok(&format!("queue{{name=\"a\"}} 1\nqueue{{name=\"b\"}} 8\n{more}"))
    });
    let sink = Hook::start();
    let text = r#"
groups:
  - name: g
    rules:
      - alert: Queue
        sql: SELECT name, last(time, value) AS value FROM queue GROUP BY name HAVING last(time, value) > 5
        every: 200ms
        annotations: { summary: "{{ $labels.name }} has {{ $value }}" }
      - alert: JobsGone
        expr: gone(jobs_done[10m])
"#;
    let config = [
        rules(&dir, text),
        hook("h", sink.address, ""),
        job("app", page.address),
        NO_HOST.to_owned(),
    ];
    let monitor = Monitor::start(dir.path(), &config.concat());
    let got = sink.wait("the row", |it| it.alerts() == ["Queue firing"]);
    assert_eq!(got.json()["commonAnnotations"]["summary"], "b has 8");
    gone.store(true, Ordering::SeqCst);
    // What is missing is believed some time after the start only.
    sink.wait("what is gone", |it| it.alerts() == ["JobsGone firing"]);
    drop(monitor);
}

#[test]
fn rule_files_are_checked_with_place_and_remedy_and_tested() {
    let dir = TempDir::new().unwrap();
    let page = PageServer::start(|_| ok("level 1\n"));
    let monitor =
        Monitor::start(dir.path(), &[job("app", page.address), NO_HOST.to_owned()].concat());
    monitor.wait_rows("SELECT 1 FROM level");
    let file = |name: &str, text: &str| {
        write(&dir.path().join(name), text);
        dir.path().join(name).to_str().unwrap().to_owned()
    };
    let url = format!("http://{}", monitor.address);
    let good = file("good.yml", RULES);
    assert!(run(&["rules", "check", "--url", &url, &good], "").status.success());
    let bad = file("bad.yml", &RULES.replace("level > 5", "levl > 5"));
    let said = run(&["rules", "check", "--url", &url, &bad], "");
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(
        text.contains("bad.yml:6:15: no target has ever exposed levl: did you mean level?"),
        "{text}"
    );
    assert!(run(&["rules", "check", "--allow-unknown-metrics", &bad], "").status.success());
    let tests = file(
        "tests.yml",
        r#"
rule_files: [good.yml]
evaluation_interval: 10s
tests:
  - interval: 10s
    input_series:
      - { series: 'level{job="a"}', values: "1 9x3 1" }
    alert_rule_test:
      - { eval_time: 0s, alertname: LevelHigh }
      - eval_time: 20s
        alertname: LevelHigh
        exp_alerts:
          - exp_labels: { job: a, severity: critical }
            exp_annotations: { summary: level is 9 }
"#,
    );
    let said = run(&["rules", "test", &tests], "");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    let wrong = file(
        "wrong.yml",
        &std::fs::read_to_string(&tests).unwrap().replace("level is 9", "level is 8"),
    );
    let said = run(&["rules", "test", &wrong], "");
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("LevelHigh after 20s") && text.contains("level is 8"), "{text}");
    // A monitor does not start on rules that are not fit for use.
    let broken = file(
        "broken.yml",
        "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: up ==\n",
    );
    let config = format!("[alerts]\nrules = [{broken:?}]\n");
    let other = TempDir::new().unwrap();
    let output = Monitor::try_start(other.path(), &config, &[]).err().unwrap();
    assert!(output.contains("broken.yml:5:20:"), "{output}");
}

#[test]
fn a_silence_is_set_audited_and_ended_and_a_token_to_read_may_not() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("read"), "a-token-that-reads-1");
    write(&dir.path().join("operate"), "a-token-that-operates");
    let token = |name: &str| {
        let file = dir.path().join(name).to_str().unwrap().to_owned();
        format!("[[api.token]]\nname = \"{name}er\"\nfile = {file:?}\nrole = \"{name}\"\n")
    };
    let high = Arc::new(AtomicBool::new(true));
    let page = level(&high);
    let sink = Hook::start();
    let config = [
        token("read"),
        token("operate"),
        rules(&dir, RULES),
        hook("h", sink.address, ""),
        job("app", page.address),
        NO_HOST.to_owned(),
    ];
    let monitor = Monitor::start(dir.path(), &config.concat());
    sink.wait("the message", |it| it.alerts() == ["LevelHigh firing"]);
    let send = |token: &str, path: &str, body: &str, origin: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("origin", origin)];
        post(&monitor.address, path, &headers, body.as_bytes()).unwrap()
    };
    let own = format!("http://{}", monitor.address);
    let body = r#"{"matchers": "alertname=\"LevelHigh\"", "duration": "1h", "reason": "known"}"#;
    assert_eq!(send("wrong", "/api/v1/silences", body, &own).0, 401);
    let (code, text) = send("a-token-that-reads-1", "/api/v1/silences", body, &own);
    assert!(code == 403 && text.contains("may only read"), "{text}");
    let (code, text) =
        send("a-token-that-operates", "/api/v1/silences", body, "http://evil.example");
    assert!(code == 403 && text.contains("another site"), "{text}");
    let (code, text) = send("a-token-that-operates", "/api/v1/silences", body, &own);
    assert_eq!(code, 200, "{text}");
    assert!(text.contains("\"author\":\"operateer\""), "{text}");
    let reader = [("authorization", "Bearer a-token-that-reads-1")];
    for (path, shown) in [("/api/v1/silences?limit=0", 0), ("/api/v1/silences", 1)] {
        let (_, text) = get_with(&monitor.address, path, &reader).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(all["total"], 1, "{text}");
        assert_eq!(all["silences"].as_array().unwrap().len(), shown, "{text}");
    }
    let (code, text) = send("a-token-that-operates", "/api/v1/silences", "{}", &own);
    assert!(code == 400 && text.contains("matchers"), "{text}");
    let (code, text) = send(
        "a-token-that-reads-1",
        "/api/v1/sql",
        r#"{"query": "SELECT who, what FROM audit"}"#,
        &own,
    );
    assert!(code == 200 && text.contains("operateer") && text.contains("until"), "{text}");
    high.store(false, Ordering::SeqCst);
    sink.wait("its end, which is told though it is silenced", |it| {
        it.alerts() == ["LevelHigh resolved"]
    });
}

#[test]
fn ten_thousand_alerts_at_once_are_one_message_and_the_page_goes_on() {
    let dir = TempDir::new().unwrap();
    let lines: String = (0..10_000).map(|n| format!("level{{n=\"{n}\"}} 9\n")).collect();
    let page = PageServer::start(move |_| ok(&lines));
    let sink = Hook::start();
    let target = format!(
        "[[collector.scrape]]\njob = \"app\"\ninterval = \"1s\"\ntargets = [\"{}\"]\n",
        page.address
    );
    let config = [rules(&dir, RULES), hook("h", sink.address, ""), target, NO_HOST.to_owned()];
    let monitor = Monitor::start(dir.path(), &config.concat());
    let got =
        sink.wait("the flood", |it| it.alerts().first().is_some_and(|it| it == "LevelHigh firing"));
    let json = got.json();
    assert_eq!(
        (json["firing"].as_u64(), json["truncatedAlerts"].as_u64()),
        (Some(10_000), Some(9_900))
    );
    assert!(got.body.len() < 200_000, "{}", got.body.len());
    let (code, text) = get(&monitor.address, "/api/v1/alerts?limit=200").unwrap();
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, shown["total"].as_u64(), shown["alerts"].as_array().unwrap().len()),
        (200, Some(10_000), 200)
    );
    assert_eq!(monitor.query("SELECT count(*) FROM alerts WHERE state = 'firing'"), ["10000"]);
    assert_eq!(monitor.query("SELECT count(*) FROM incidents"), ["1"]);
    assert_eq!(sink.got().len(), 1);
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", monitor.program.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 600 << 10, "{peak} KiB");
}

/// Rules `A0` to `A5`, each a group of its own.
fn six() -> String {
    let rule = |n: u32| {
        format!("      - {{ alert: A{n}, expr: level > 5, labels: {{ severity: critical }} }}\n")
    };
    format!("groups:\n  - name: g\n    rules:\n{}", (0..6).map(rule).collect::<String>())
}

#[test]
fn more_mails_than_are_wanted_in_a_minute_become_one_and_nothing_is_left_out() {
    let dir = TempDir::new().unwrap();
    let page = level(&Arc::new(AtomicBool::new(true)));
    let server = Mailbox::start(dir.path(), "plain", &[]);
    let config = [
        rules(&dir, &six()),
        mail("m", server.port, "security = \"none\"\nmax_per_minute = 2"),
        job("app", page.address),
        NO_HOST.to_owned(),
    ];
    let monitor = Monitor::start(dir.path(), &config.concat());
    monitor.wait_rows("SELECT 1 FROM notifications WHERE state = 'sent' HAVING count(*) = 6");
    let mails = server.mails();
    assert_eq!(mails.len(), 2, "{mails:#?}");
    for n in 0..6 {
        let with = mails.iter().filter(|it| it.contains(&format!("FIRING A{n}\r\n"))).count();
        assert_eq!(with, 1, "A{n}");
    }
    assert!(mails[1].contains("Subject: [FIRING:5] 5 groups of alerts"), "{}", mails[1]);
}

#[test]
fn a_mail_server_that_hangs_or_refuses_is_told_of_and_delays_nobody() {
    let dir = TempDir::new().unwrap();
    let page = level(&Arc::new(AtomicBool::new(true)));
    let server = Mailbox::start(dir.path(), "plain", &[]);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = Hook::start();
    let hangs =
        mail("hangs", silent.local_addr().unwrap().port(), "security = \"none\"\ntimeout = \"1s\"");
    let refuses = mail("refuses", server.port, "security = \"none\"")
        .replace("a@example.org", "reject@example.org")
        .replace("b@example.org", "rejected@example.org");
    let half = mail("half", server.port, "security = \"none\"")
        .replace("a@example.org", "reject@example.org");
    let config = [
        rules(&dir, RULES),
        hangs,
        refuses,
        half,
        hook("h", sink.address, ""),
        job("app", page.address),
        NO_HOST.to_owned(),
    ];
    let monitor = Monitor::start(dir.path(), &config.concat());
    sink.wait("the message", |it| it.alerts() == ["LevelHigh firing"]);
    let error = |receiver: &str, text: &str| {
        monitor.wait_rows(&format!("SELECT 1 FROM notifications WHERE receiver = '{receiver}' AND state = 'waiting' AND error LIKE '%{text}%'"))
    };
    error("hangs", "no answer of the mail server within 1s");
    error("refuses", "550");
    // Whoever is there hears, though the server knows not all of them.
    wait_for("the mail to the one who is there", || (!server.mails().is_empty()).then_some(()));
    assert_eq!(server.envelope(1)["to"], serde_json::json!(["b@example.org"]));
    for receiver in ["hangs", "refuses"] {
        sink.wait("the alert about the receiver", |it| {
            it.alerts().contains(&"ReceiverFailing firing".to_owned())
                && it.body.contains(&format!("\"receiver\":\"{receiver}\""))
        });
    }
}

#[test]
fn the_sign_of_life_comes_again_and_again_and_a_route_without_receivers_tells_nobody() {
    let dir = TempDir::new().unwrap();
    let page = level(&Arc::new(AtomicBool::new(true)));
    let (life, other) = (Hook::start(), Hook::start());
    let config = [
        rules(&dir, RULES),
        "[alerts.heartbeat]\nreceiver = \"life\"\ninterval = \"1s\"\n".to_owned(),
        hook("life", life.address, ""),
        hook("other", other.address, ""),
        "[[alerts.route]]\nmatchers = 'alertname=\"LevelHigh\"'\nreceivers = []\n".to_owned(),
        "[[alerts.route]]\nreceivers = [\"other\"]\n".to_owned(),
        job("app", page.address),
        NO_HOST.to_owned(),
    ];
    let monitor = Monitor::start(dir.path(), &config.concat());
    monitor.wait_rows("SELECT 1 FROM alerts WHERE state = 'firing'");
    let signs = wait_for("three signs", || Some(life.got()).filter(|it| it.len() >= 3));
    assert!(signs.iter().all(|it| it.alerts() == ["DeadMansSwitch firing"]));
    assert!(other.got().is_empty(), "{:?}", other.got());
}
