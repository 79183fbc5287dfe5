//! What a push was told is stored is there after any crash, once, and nothing that was not sent.

use crate::harness::program::{Monitor, NO_HOST, data, run};
use crate::harness::push::{Row, now, push};
use crate::harness::wait::wait_for;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tempfile::TempDir;

const SERIES: u64 = 200;
const ALL: &str =
    "SELECT CAST(time AS BIGINT), count(*), min(value), max(value) FROM pushed GROUP BY time";

/// The value of every series in batch `batch`.
fn value(batch: i64) -> f64 {
    (batch % 1000) as f64 / 4.0
}

fn rows(start: i64, batch: i64) -> Vec<Row> {
    (0..SERIES).map(|series| Row { series, time: start + batch, value: value(batch) }).collect()
}

#[test]
fn pushes_that_were_confirmed_survive_kills_under_load_and_none_is_invented() {
    let dir = TempDir::new().unwrap();
    // Flushes and merges fall among the kills, too.
    let config = format!("flush_interval = \"1s\"\n{NO_HOST}");
    let start = now() - 600_000;
    let next = AtomicI64::new(0);
    let confirmed: Mutex<Vec<i64>> = Mutex::default();
    for round in 0..12 {
        let monitor = Monitor::start(dir.path(), &config);
        let address = monitor.address.clone();
        let goal = confirmed.lock().unwrap().len() + 40 + 7 * round;
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let batch = next.fetch_add(1, Ordering::Relaxed);
                        match push(&address, "pushed", &rows(start, batch)) {
                            Some((204, _)) => confirmed.lock().unwrap().push(batch),
                            Some((status, text)) => panic!("{status}: {text}"),
                            None => return, // killed meanwhile
                        }
                    }
                });
            }
            wait_for("confirmed pushes", || {
                (confirmed.lock().unwrap().len() >= goal).then_some(())
            });
            monitor.program.kill();
            ended.store(true, Ordering::Relaxed);
        });
    }
    let monitor = Monitor::start(dir.path(), &config);
    let found = monitor.wait_rows(ALL);
    let sent = next.load(Ordering::Relaxed);
    let mut seen = BTreeMap::new();
    for row in &found {
        let columns: Vec<&str> = row.split(',').collect();
        let batch = columns[0].parse::<i64>().unwrap() - start;
        assert!((0..sent).contains(&batch), "{row} was never sent");
        assert!(columns[1].parse::<u64>().unwrap() <= SERIES, "{row}: a sample came twice");
        for bound in &columns[2..] {
            assert_eq!(bound.parse::<f64>().unwrap(), value(batch), "{row} was not sent so");
        }
        seen.insert(batch, columns[1].parse::<u64>().unwrap());
    }
    let confirmed = confirmed.lock().unwrap();
    let lost: Vec<&i64> =
        confirmed.iter().filter(|batch| seen.get(batch) != Some(&SERIES)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} confirmed batches lost: {lost:?}",
        lost.len(),
        confirmed.len()
    );
    monitor.program.kill();

    // And the files say the same of themselves.
    let folder = data(dir.path());
    let report = run(&["store", "check", folder.to_str().unwrap()], "");
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
}
