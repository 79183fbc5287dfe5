//! The monitor killed at any instant between fault and delivery: every alert arrives, and what comes twice has the same key.

use crate::harness::mailbox::{Got, Hook, hook};
use crate::harness::page::{PageServer, ok};
use crate::harness::program::{Monitor, NO_HOST, job, write};
use crate::harness::wait::wait_for;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const RULES: &str = r#"
groups:
  - name: g
    rules:
      - { alert: LevelHigh, expr: level > 5, labels: { severity: critical } }
"#;

/// Kills, by default; `FORERUNNER_KILLS` asks for more.
const KILLS: u64 = 12;

#[test]
fn an_alert_survives_a_kill_at_any_instant_and_a_second_message_has_the_first_ones_key() {
    let kills =
        std::env::var("FORERUNNER_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(KILLS);
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("rules.yml"), RULES);
    let high = Arc::new(AtomicBool::new(false));
    let shown = Arc::clone(&high);
    let page = PageServer::start(move |_| {
        ok(&format!("level {}\n", if shown.load(Ordering::SeqCst) { 9 } else { 1 }))
    });
    // Slow to answer, so that some kills fall between the sending of a message and the note that it was sent.
    let sink = Hook::answering(|_| {
        std::thread::park_timeout(Duration::from_millis(150));
        "200 OK".to_owned()
    });
    let config = format!(
        "[alerts]\nrules = [{:?}]\nbuilt_in = false\ngroup_burst = 1000\n{}{}{NO_HOST}",
        dir.path().join("rules.yml").to_str().unwrap(),
        hook("h", sink.address, ""),
        job("app", page.address),
    );
    let mut monitor = Monitor::start(dir.path(), &config);
    let (mut duplicates, mut before, mut amid) = (0, 0, 0);
    for kill in 0..kills {
        let start = sink.got().len();
        monitor.wait_rows("SELECT 1 FROM last.level WHERE value = 1");
        high.store(true, Ordering::SeqCst);
        // Spread over the time from fault to answer, 0 to 700 ms, in an order that repeats only after 97 kills.
        wait_until(Duration::from_millis((kill * 61 % 97) * 7));
        monitor.program.kill();
        let at_kill = sink.got().len() - start;
        monitor = Monitor::start(dir.path(), &config);
        wait_for("the alert", || of(&sink, start, "firing").first().cloned());
        monitor
            .wait_rows("SELECT 1 FROM notifications WHERE state = 'waiting' HAVING count(*) = 0");
        let firing = of(&sink, start, "firing");
        let keys: BTreeSet<&String> =
            firing.iter().map(|it| &it.headers["idempotency-key"]).collect();
        assert_eq!(keys.len(), 1, "kill {kill}: {firing:#?}");
        duplicates += firing.len() - 1;
        before += usize::from(at_kill == 0);
        amid += usize::from(at_kill > 0);
        high.store(false, Ordering::SeqCst);
        wait_for("its end", || of(&sink, start, "resolved").first().cloned());
    }
    eprintln!(
        "{kills} kills: {before} before the message, {amid} during or after it, {duplicates} messages twice"
    );
    assert!(
        before > 0 && amid > 0,
        "the kills fell at one side of the message only: {before} {amid}"
    );
}

fn of(sink: &Hook, start: usize, status: &str) -> Vec<Got> {
    let wanted = format!("LevelHigh {status}");
    sink.got().into_iter().skip(start).filter(|it| it.alerts() == [wanted.clone()]).collect()
}

/// The instant of a kill is a time and no fact.
#[allow(clippy::disallowed_methods, reason = "the instant of a kill is real time")]
fn wait_until(after: Duration) {
    let end = Instant::now() + after;
    while Instant::now() < end {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
