//! `forerunner query`, from a monitor and from files, once and at the prompt; and configuration faults.

use crate::harness::page::{PageServer, ok};
use crate::harness::program::{Monitor, NO_HOST, data, job, run, write};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tempfile::TempDir;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn one_query_in_every_format_from_the_monitor_and_from_the_files() {
    let dir = TempDir::new().unwrap();
    let server = PageServer::start(|_| ok("a{x=\"one, \\\"two\\\"\"} 1.5\nb NaN\n"));
    let config = format!("{NO_HOST}{}", job("j", server.address));
    let monitor = Monitor::start(dir.path(), &config);
    monitor.wait_rows("SELECT 1 FROM a");
    let folder = data(dir.path());
    let url = format!("http://{}", monitor.address);
    let sql = "SELECT x, value FROM a LIMIT 1";
    let expect = |from: [&str; 2]| {
        let ask = |format: &str, sql: &str| {
            let output = run(&["query", from[0], from[1], "--format", format, sql], "");
            assert!(output.status.success(), "{}", text(output.stderr));
            output.stdout
        };
        assert_eq!(text(ask("csv", sql)), "x,value\n\"one, \"\"two\"\"\",1.5\n");
        assert_eq!(
            text(ask("json", sql)),
            "{\"columns\":[{\"name\":\"x\",\"type\":\"string\"},{\"name\":\"value\",\"type\":\"float64\"}],\"rows\":[[\"one, \\\"two\\\"\",1.5]]}\n"
        );
        assert!(text(ask("json", "SELECT value FROM b LIMIT 1")).contains("[[\"NaN\"]]"));
        assert!(text(ask("table", sql)).contains("| one, \"two\" | 1.5   |"));
        assert!(
            ask("arrow", sql).starts_with(b"\xff\xff\xff\xff"),
            "an Arrow stream begins with its marker"
        );
        let labels = text(ask("json", "SELECT labels FROM samples WHERE metric = 'a' LIMIT 1"));
        assert!(labels.contains("\"x\":\"one, \\\"two\\\"\""), "{labels}");
    };
    expect(["--url", &url]);
    expect(["--data-dir", folder.to_str().unwrap()]); // in use: the monitor is asked
    monitor.program.kill();
    expect(["--data-dir", folder.to_str().unwrap()]); // now the files alone
}

#[test]
fn the_prompt_runs_statements_and_lists_tables_and_columns() {
    let dir = TempDir::new().unwrap();
    let server = PageServer::start(|_| ok("a{x=\"1\",Y=\"2\"} 1\n"));
    let config = format!("{NO_HOST}{}", job("j", server.address));
    let monitor = Monitor::start(dir.path(), &config);
    monitor.wait_rows("SELECT 1 FROM a");
    let url = format!("http://{}", monitor.address);
    let input = "SELECT 1 +\n 1 AS two;\n\\d\n\\d a\n\\nonsense\nSELECT Y FROM a LIMIT 1";
    let output = run(&["query", "--url", &url, "--format", "csv"], input);
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(out.starts_with("two\n2\n"), "{out}");
    assert!(
        out.contains("\na\n") && out.contains("\nup\n") && out.contains("\nsamples\n"),
        "{out}"
    );
    assert!(out.contains("time,\"Timestamp(ms, \"\"UTC\"\")\"\nY,Utf8View\n"), "{out}");
    assert!(out.ends_with("Y\n2\n"), "{out}");
    assert!(err.contains("no command \\nonsense"), "{err}");
}

#[test]
fn a_bad_query_says_what_is_wrong_and_what_to_do() {
    let dir = TempDir::new().unwrap();
    let server =
        PageServer::start(|_| ok("requests_total{x=\"1\"} 1\nrequests_total{x=\"2\"} 1\n"));
    let config = format!("{NO_HOST}{}[query]\nmax_rows = 100\n", job("j", server.address));
    let monitor = Monitor::start(dir.path(), &config);
    monitor.wait_rows("SELECT 1 FROM requests_total HAVING count(*) > 4");
    for (sql, words) in [
        ("SELECT * FROM request_total", "did you mean requests_total?"),
        ("SELECT nothing FROM up", "nothing"),
        ("SELEC 1", "SELEC"),
        ("DROP TABLE up", "DDL"),
        ("INSERT INTO up SELECT * FROM up", "DML"),
        ("SET x = 1", "not supported: SetVariable"),
        ("SELECT rate(time, value) FROM requests_total", "GROUP BY all labels"),
        ("SELECT rate(value) FROM requests_total", "rate(time, value)"),
        ("SELECT * FROM generate_series(1, 1000)", "LIMIT"),
    ] {
        let said = monitor.try_query(sql).unwrap_err();
        assert!(said.starts_with("forerunner: ") && said.contains(words), "{sql}: {said}");
    }
    let said = run(&["query", "--url", "http://127.0.0.1:1", "SELECT 1"], "");
    assert_eq!(said.status.code(), Some(69));
    assert!(text(said.stderr).contains("start one with `forerunner demo`"));
    let said = run(&["query", "--data-dir", "/nonexistent", "SELECT 1"], "");
    assert!(text(said.stderr).contains("no file named CURRENT"));
}

#[test]
fn configuration_faults_are_all_told_with_their_place() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("c.toml");
    let check = |content: &str| {
        write(&file, content);
        let output = run(&["config", "check", file.to_str().unwrap()], "");
        (output.status.code(), text(output.stderr))
    };
    assert_eq!(check("").0, Some(0));
    let (code, said) = check("[store]\ndri = \"x\"\n");
    assert!(
        code == Some(78) && said.contains("line 2, column 1") && said.contains("`dri`"),
        "{said}"
    );
    let (code, said) = check(
        "[api]\nlisten = \"0.0.0.0:1\"\n[[collector.scrape]]\njob = \"j\"\ntargets = [\"http://x\"]\nlabels = { job = \"k\" }\ntimeout = \"1h\"\n",
    );
    assert_eq!(code, Some(78));
    for words in [
        "api.token_file",
        "\"http://x\" is not of the form",
        "label \"job\" is set by",
        "timeout must be",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (_, said) = check("[collector]\ninterval = \"soon\"\n");
    assert!(said.contains("\"soon\" is no duration such as \"10s\""), "{said}");
}

#[test]
fn with_a_token_only_those_who_send_it_may_ask() {
    let dir = TempDir::new().unwrap();
    let token = dir.path().join("token");
    write(&token, "0123456789abcdef\n");
    let file = dir.path().join("m.toml");
    let ready = dir.path().join("r.json");
    write(
        &file,
        format!(
            "[api]\nlisten = \"127.0.0.1:0\"\ntoken_file = {:?}\n[store]\ndir = {:?}\n{NO_HOST}",
            token.to_str().unwrap(),
            data(dir.path()).to_str().unwrap()
        ),
    );
    let args =
        ["monitor", "--config", file.to_str().unwrap(), "--ready-file", ready.to_str().unwrap()];
    let _monitor = crate::harness::program::Program::start(dir.path(), &args, &[]);
    let told =
        crate::harness::wait::wait_for("the monitor", || std::fs::read_to_string(&ready).ok());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let url = format!("http://{}", told["api"].as_str().unwrap());
    let refused = run(&["query", "--url", &url, "SELECT 1"], "");
    assert!(text(refused.stderr).contains("token"));
    let taken =
        run(&["query", "--url", &url, "--token-file", token.to_str().unwrap(), "SELECT 1"], "");
    assert!(taken.status.success(), "{}", text(taken.stderr));
}

#[test]
fn a_body_that_does_not_come_or_is_too_long_is_refused_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let monitor = Monitor::start(dir.path(), NO_HOST);
    let answer = |length: usize, body: &str| {
        let mut socket = TcpStream::connect(&monitor.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head =
            format!("POST /api/v1/sql HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}");
        write!(socket, "{head}\r\nconnection: close\r\n\r\n{body}").unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        said
    };
    let late = answer(100, "{\"query\"");
    assert!(
        late.starts_with("HTTP/1.1 408 ") && late.contains("did not arrive within 10s"),
        "{late}"
    );
    let long = answer(2_000_000, "");
    assert!(long.starts_with("HTTP/1.1 413 ") && long.contains("api.max_body_size"), "{long}");
}
