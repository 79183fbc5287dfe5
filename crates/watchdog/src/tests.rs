//! What the watchdog does with real processes that end, hang, grow or cannot be cured.

use crate::{ChildConfig, EaseConfig, MARK, WatchdogConfig, mark, run};
use model::Bytes;
use platform::child::{Child, Command};
use runtime::{Clock, Stop};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use telemetry::Registry;
use tempfile::TempDir;

/// A watchdog of one child, made of a shell script.
struct Kept {
    dir: TempDir,
    config: WatchdogConfig,
}

impl Kept {
    fn new(script: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let child = ChildConfig { name: "c".to_owned(), command, ..ChildConfig::default() };
        let config = WatchdogConfig {
            dir: dir.path().to_owned(),
            interval: Duration::from_millis(10),
            timeout: Duration::from_millis(200),
            start_grace: Duration::ZERO,
            max_restart_wait: Duration::from_millis(100),
            child: vec![child],
            ..WatchdogConfig::default()
        };
        Self { dir, config }
    }

    fn child(&mut self) -> &mut ChildConfig {
        &mut self.config.child[0]
    }

    /// Asks once the child was started.
    fn ask(dir: &Path, wish: Value, at: Option<String>) -> PathBuf {
        let journal = dir.join("journal.jsonl");
        while !std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("started")) {
            std::thread::yield_now();
        }
        let at =
            at.unwrap_or_else(|| Clock::system().now().plus(Duration::from_millis(2)).to_string());
        let mut request = json!({ "id": "7", "by": "test", "reason": "leaks", "at": at });
        request.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        let folder = dir.join("requests");
        platform::durable::create_dir(&folder).unwrap();
        platform::durable::replace(&folder.join("c.json"), request.to_string().as_bytes()).unwrap();
        folder.join("c.json")
    }

    /// Runs until the journal has `text`, then stops; the journal's events.
    async fn until(
        self,
        text: &str,
        meanwhile: impl FnOnce(&Path) + Send + 'static,
    ) -> (Vec<Value>, TempDir) {
        let stop = Stop::new();
        let run = tokio::spawn(run(
            self.config,
            Vec::new(),
            Clock::system(),
            Registry::new(),
            stop.clone(),
        ));
        let folder = self.dir.path().to_owned();
        let aside = tokio::task::spawn_blocking(move || meanwhile(&folder));
        let path = self.dir.path().join("journal.jsonl");
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        let begun = Clock::system().monotonic();
        while !read().contains(text) {
            let late = begun.elapsed() > Duration::from_secs(60);
            assert!(!late && !run.is_finished(), "waited in vain for {text}: {}", read());
            tokio::task::yield_now().await;
        }
        aside.await.unwrap();
        stop.request();
        run.await.unwrap().unwrap();
        let events = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (events, self.dir)
    }
}

fn count(events: &[Value], event: &str) -> usize {
    events.iter().filter(|it| it["event"] == event).count()
}

fn find<'a>(events: &'a [Value], event: &str) -> &'a Value {
    events.iter().find(|it| it["event"] == event).unwrap_or_else(|| panic!("{event}: {events:?}"))
}

/// A server that answers 200 to everything and tells of what it was sent.
fn server() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = BufReader::new(socket.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while socket.read_line(&mut head).unwrap_or(0) > 2 {
                let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                if let Some(text) = line.strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            socket.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = socket.get_mut().write_all(answer);
            let first = head.lines().next().unwrap_or_default().to_owned();
            if tell.send(format!("{first} {}", String::from_utf8_lossy(&body))).is_err() {
                return;
            }
        }
    });
    (url, told)
}

#[tokio::test]
async fn a_child_that_ends_is_started_again_and_its_last_words_kept() {
    let (events, _dir) = Kept::new("echo oh no; exit 3").until("\"starts\":3", |_| ()).await;
    let exited = find(&events, "exited");
    assert_eq!(
        (&exited["status"], &exited["last_lines"][0]),
        (&json!("exit status: 3"), &json!("oh no"))
    );
}

#[tokio::test]
async fn a_child_that_does_not_answer_is_ended_with_evidence_and_started_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut kept = Kept::new("echo busy; read hold");
    kept.child().probe = Some(format!("http://{}/live", listener.local_addr().unwrap()));
    let (events, dir) = kept.until("\"starts\":2", |_| ()).await;
    let hung = find(&events, "hung");
    assert!(hung["reason"].as_str().unwrap().contains("time limit"), "{hung}");
    let evidence = dir.path().join(hung["evidence"].as_str().unwrap());
    let text = std::fs::read_to_string(evidence).unwrap();
    assert!(text.contains("bytes resident") && text.contains(" sh\n"), "{text}");
}

#[tokio::test]
async fn a_restart_that_is_asked_for_happens_once_and_an_old_request_does_nothing() {
    let (events, _dir) = Kept::new("read hold")
        .until("\"starts\":2", |dir| {
            let old = Kept::ask(dir, json!({}), Some("2020-01-01T00:00:00Z".to_owned()));
            while old.exists() {
                std::thread::yield_now();
            }
            Kept::ask(dir, json!({}), None);
        })
        .await;
    assert_eq!(count(&events, "restarted"), 1, "{events:?}");
    let restarted = find(&events, "restarted");
    assert_eq!((&restarted["by"], &restarted["reason"]), (&json!("test"), &json!("leaks")));
}

#[tokio::test]
async fn r6_4_a_pause_ends_by_itself_and_a_kill_is_seen_as_one() {
    let (events, _dir) = Kept::new("read hold")
        .until("\"resumed\"", |dir| {
            Kept::ask(dir, json!({ "action": "pause", "seconds": 0.2 }), None);
        })
        .await;
    assert_eq!((count(&events, "paused"), count(&events, "resumed")), (1, 1), "{events:?}");
    // A restart does not wait for the end of a long one.
    let (events, _dir) = Kept::new("read hold")
        .until("\"starts\":2", |dir| {
            let taken = Kept::ask(dir, json!({ "action": "pause", "seconds": 300 }), None);
            while taken.exists() {
                std::thread::yield_now();
            }
            Kept::ask(dir, json!({}), None);
        })
        .await;
    assert_eq!((count(&events, "resumed"), count(&events, "restarted")), (1, 1), "{events:?}");
    let (events, _dir) = Kept::new("read hold")
        .until("\"starts\":2", |dir| drop(Kept::ask(dir, json!({ "action": "kill" }), None)))
        .await;
    assert_eq!(count(&events, "killed"), 1);
    assert!(
        find(&events, "exited")["status"].as_str().unwrap().contains("signal: 9"),
        "{events:?}"
    );
}

#[tokio::test]
async fn memory_over_its_limit_is_eased_first_and_then_ends_the_child() {
    let (url, told) = server();
    // Python grows; the call changes nothing.
    let script = "exec /usr/bin/python3 -c 'import time; a=bytearray(80_000_000); time.sleep(600)'";
    let mut kept = Kept::new(script);
    kept.child().memory_limit = Some(Bytes::mebi(40));
    kept.child().ease = vec![EaseConfig {
        name: "cleanup".to_owned(),
        call: format!("{url}/cleanup"),
        body: "{}".to_owned(),
        within: Duration::from_millis(100),
    }];
    kept.child().drain = Some(format!("{url}/drain"));
    let (events, _dir) = kept.until("over_memory", |_| ()).await;
    assert_eq!(find(&events, "ease_useless")["step"], "cleanup");
    let over = find(&events, "over_memory");
    assert!(over["resident"].as_u64().unwrap() > over["limit"].as_u64().unwrap(), "{over}");
    let calls: Vec<String> = told.try_iter().collect();
    assert!(
        calls[0].starts_with("POST /cleanup") && calls[1].starts_with("POST /drain"),
        "{calls:?}"
    );
}

#[tokio::test]
async fn what_restarts_do_not_cure_brings_files_back_once_and_then_holds_and_tells_a_person() {
    let (url, told) = server();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("app.conf");
    platform::durable::replace(&file, b"good").unwrap();
    let script = format!("grep -q good '{}' && read hold; exit 1", file.display());
    let mut kept = Kept::new(&script);
    kept.child().files = vec![file.clone()];
    kept.config.page = vec![format!("{url}/page")];
    kept.config.cured_after = Duration::from_millis(50);
    (kept.config.page_after, kept.config.hold_after) = (2, 3);
    let path = file.clone();
    let (events, _dir) = kept
        .until("files_put_back", move |dir| {
            while !dir.join("good/c/0").exists() {
                std::thread::yield_now();
            }
            platform::durable::replace(&path, b"worse").unwrap();
            Kept::ask(dir, json!({}), None);
        })
        .await;
    assert_eq!(std::fs::read(&file).unwrap(), b"good");
    assert_eq!(count(&events, "held"), 0, "the files have helped: {events:?}");
    let page = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(page.contains("WatchdogRestartsDoNotHelp"), "{page}");

    let mut kept = Kept::new("exit 1");
    kept.config.page = vec![format!("{url}/page")];
    (kept.config.page_after, kept.config.hold_after) = (2, 3);
    let (events, _dir) = kept
        .until("released", move |dir| {
            let journal = dir.join("journal.jsonl");
            while !std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("\"held\"")) {
                std::thread::yield_now();
            }
            Kept::ask(dir, json!({}), None);
        })
        .await;
    let starts = events.iter().take_while(|it| it["event"] != "held");
    assert_eq!(starts.filter(|it| it["event"] == "started").count(), 3, "{events:?}");
    assert_eq!(find(&events, "released")["by"], "test");
    let pages = [0; 2].map(|_| told.recv_timeout(Duration::from_secs(20)).unwrap());
    assert!(pages.iter().any(|page| page.contains("WatchdogHolds")), "{pages:?}");
}

#[tokio::test]
async fn clients_wait_at_the_socket_while_the_child_restarts() {
    let script = r#"exec /usr/bin/python3 -c '
import socket, os
s = socket.socket(fileno=3)
c, _ = s.accept()
c.sendall(str(os.getpid()).encode())
c.close()'"#;
    let mut kept = Kept::new(script);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    kept.child().listen = Some(port);
    let (events, _dir) = kept
        .until("\"starts\":4", move |_| {
            let mut seen = Vec::new();
            while seen.len() < 3 {
                // Refused only before the watchdog has opened it.
                let Ok(mut socket) = TcpStream::connect(port) else {
                    assert!(seen.is_empty(), "refused between two children");
                    continue;
                };
                let mut text = String::new();
                socket.read_to_string(&mut text).unwrap();
                seen.push(text);
            }
            seen.dedup();
            assert_eq!(seen.len(), 3);
        })
        .await;
    assert!(count(&events, "exited") >= 3);
}

#[tokio::test]
async fn r7_4_what_an_earlier_watchdog_left_running_is_ended() {
    let mut kept = Kept::new("read hold");
    let name = kept.child().name.clone();
    let args = ["-c", "sleep 600 & echo ready; wait"].map(str::to_owned).to_vec();
    let mut left = Command::new("/bin/sh", args);
    left.env.push((MARK.to_owned(), mark(kept.dir.path(), &name)));
    let mut left = Child::start(&left, None).unwrap();
    while left.last_lines().is_empty() {
        tokio::task::yield_now().await;
    }
    let (events, _dir) = kept.until("\"starts\":1", |_| ()).await;
    let pids = find(&events, "orphans_ended")["pids"].as_array().unwrap();
    assert_eq!(pids.len(), 2, "the shell and what it started: {pids:?}");
    assert!(!left.wait().await.unwrap().success());
}

#[tokio::test]
async fn stopping_ends_the_child() {
    let (events, _dir) = Kept::new("read hold").until("\"starts\":1", |_| ()).await;
    assert_eq!(count(&events, "stopped"), 1);
}
