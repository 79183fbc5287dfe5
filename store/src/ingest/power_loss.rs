//! The store on a disk that fails and forgets, against a model: whatever goes wrong at whatever change to the
//! file system, every sample acknowledged as durable is read back exactly once, and none is invented.

use super::tests::{LATER, config, read};
use super::*;
use model::{Labels, SeriesKey};
use platform::fault::disk::{self, Disk, Fault};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::PathBuf;
use tempfile::TempDir;

const T0: i64 = 1_795_391_970_000; // half a minute before midnight UTC

#[derive(Clone, Debug)]
enum Step {
    /// One value for each of some series; with times of their own or all at one.
    Append {
        hosts: u8,
        time: i64,
        each: bool,
    },
    Sync,
    Rotate,
    Flush,
    Compact,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..8_u8, 0..60_i64, any::<bool>())
            .prop_map(|(hosts, time, each)| Step::Append { hosts, time, each }),
        4 => Just(Step::Sync),
        1 => Just(Step::Rotate),
        3 => Just(Step::Flush),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Dead),
        Just(Fault::Fail(ErrorKind::StorageFull)),
        Just(Fault::Fail(ErrorKind::Other)),
    ]
}

/// A value handed to the store.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    bits: u64,
    /// `None` when the store said that it did not take it.
    sequence: Option<u64>,
}

/// What may and what must be read back: for each series and time the values handed over, in order.
#[derive(Default)]
struct Expected {
    attempts: BTreeMap<(String, i64), Vec<Attempt>>,
    next_value: u32,
    /// Values from earlier lives of the machine, which are durable since they were read back.
    settled: BTreeMap<(String, i64), u64>,
}

impl Expected {
    fn append(&mut self, writer: &Writer, hosts: u8, time: i64, each: bool) {
        let mut rows = Vec::new();
        for host in (0..3_u8).filter(|host| hosts & (1 << host) != 0) {
            self.next_value += 1;
            let key = SeriesKey::new("m", Labels::from_pairs([("host", format!("h{host}"))]));
            let Ok(series) = writer.series(&key) else { continue };
            let own = if each { i64::from(host) } else { 0 };
            rows.push((series, T0 + time * 1000 + own, f64::from(self.next_value)));
        }
        let times = match each {
            true => Times::Each(rows.iter().map(|row| Timestamp(row.1)).collect()),
            false => Times::One(Timestamp(T0 + time * 1000)),
        };
        let batch = Batch {
            series: rows.iter().map(|row| row.0.clone()).collect(),
            values: rows.iter().map(|row| row.2).collect(),
            times,
        };
        let sequence = writer.append(batch).ok().map(|appended| appended.sequence);
        for (series, time, value) in rows {
            let attempt = Attempt { bits: value.to_bits(), sequence };
            self.attempts.entry((series.key().to_string(), time)).or_default().push(attempt);
        }
    }

    /// Compares what was read back with what was durable up to sequence `durable`.
    fn check(&mut self, found: BTreeMap<(String, i64), u64>, durable: u64) -> Result<(), String> {
        for (place, bits) in &found {
            let attempts = self.attempts.get(place).map(Vec::as_slice).unwrap_or_default();
            // A value must not be older than the last durable one.
            let least = attempts
                .iter()
                .rposition(|attempt| attempt.sequence.is_some_and(|sequence| sequence <= durable));
            let fits = attempts.iter().skip(least.unwrap_or(0)).any(|a| a.bits == *bits)
                || (least.is_none() && self.settled.get(place) == Some(bits));
            if !fits {
                let settled = self.settled.get(place);
                return Err(format!(
                    "{place:?} has {}, durable up to {durable}, handed over {attempts:?}, before {settled:?}",
                    f64::from_bits(*bits)
                ));
            }
        }
        for (place, attempts) in &self.attempts {
            let must = attempts.iter().any(|a| a.sequence.is_some_and(|it| it <= durable));
            if must && !found.contains_key(place) {
                return Err(format!("{place:?} is lost: {attempts:?}, durable up to {durable}"));
            }
        }
        if let Some(place) = self.settled.keys().find(|place| !found.contains_key(place)) {
            return Err(format!("{place:?} of an earlier life is lost"));
        }
        self.settled = found;
        self.attempts.clear();
        Ok(())
    }
}

/// Runs `steps` on the store in `dir` until the end or until the power goes. Returns up to which sequence the
/// store called samples durable.
fn live(dir: &std::path::Path, steps: &[Step], expected: &mut Expected) -> u64 {
    let open = || super::open(config(dir), Clock::system(), &Registry::new());
    let mut durable = 0;
    let mut store = open().ok();
    for step in steps {
        if disk::is_dead() {
            break;
        }
        let Some(opened) = &store else {
            store = open().ok();
            continue;
        };
        match step {
            Step::Append { hosts, time, each } => {
                expected.append(&opened.writer, *hosts, *time, *each);
            }
            Step::Sync => opened.upkeep.state.sync(),
            Step::Rotate => opened.upkeep.state.rotate_log(1),
            Step::Flush => drop(opened.upkeep.flush_now()),
            Step::Compact => drop(opened.upkeep.compact_now(LATER)),
            Step::Reopen => {
                let _ = opened.upkeep.close();
                durable = durable.max(opened.writer.durable_sequence());
                drop(store.take());
                store = open().ok();
            }
        }
        if let Some(opened) = &store {
            durable = durable.max(opened.writer.durable_sequence());
        }
    }
    drop(store);
    durable
}

fn power_loss(dir: &TempDir, seed: u64) -> (TempDir, Disk) {
    let followed = disk::unfollow().unwrap();
    let left = TempDir::new_in(root()).unwrap();
    let mut random = runtime::Jitter::seeded(seed);
    let mut choose = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
    followed.after_power_loss(left.path(), &mut choose).unwrap();
    assert!(dir.path().exists());
    (left, followed)
}

/// Memory, where there is such a folder: the disk under test is simulated anyway.
fn root() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 2, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn r3_5_whatever_the_disk_does_what_was_durable_is_read_back_and_nothing_is_invented(
        lives in prop::collection::vec(
            (prop::collection::vec(step(), 1..30), prop::collection::vec((0..150_u64, fault()), 0..3), any::<u64>()),
            1..4,
        ),
    ) {
        let mut dir = TempDir::new_in(root()).unwrap();
        let mut expected = Expected::default();
        for (steps, faults, seed) in lives {
            disk::follow(dir.path(), HashMap::from_iter(faults.clone()));
            let durable = live(dir.path(), &steps, &mut expected);
            let (left, _) = power_loss(&dir, seed);
            dir = left;
            let store = super::open(config(dir.path()), Clock::system(), &Registry::new()).unwrap();
            if let Err(cause) = expected.check(read(&store.reader), durable) {
                return Err(TestCaseError::fail(cause));
            }
            // What was read back is durable from now on: a test of the next life rests on it.
            store.upkeep.flush_now().unwrap();
        }
    }
}

#[test]
fn r3_5_a_run_cut_off_at_each_change_to_the_disk_loses_nothing_durable() {
    let append = |hosts, time, each| Step::Append { hosts, time, each };
    let steps = [
        append(7, 0, false),
        Step::Sync,
        append(3, 40, true),
        Step::Flush,
        append(7, 1, false),
        append(1, 0, false),
        Step::Sync,
        Step::Rotate,
        append(5, 50, true),
        Step::Flush,
        Step::Compact,
        append(7, 2, false),
        Step::Sync,
    ];
    let mut changes = u64::MAX;
    let mut at = 0;
    while at < changes {
        for seed in 0..6 {
            let dir = TempDir::new_in(root()).unwrap();
            let mut expected = Expected::default();
            disk::follow(dir.path(), HashMap::from([(at, Fault::Dead)]));
            let durable = live(dir.path(), &steps, &mut expected);
            let died = disk::is_dead();
            let (left, followed) = power_loss(&dir, seed);
            if !died {
                changes = changes.min(followed.changes());
            }
            let store =
                super::open(config(left.path()), Clock::system(), &Registry::new()).unwrap();
            let outcome = expected.check(read(&store.reader), durable);
            assert_eq!(outcome, Ok(()), "power gone at change {at}, way {seed}");
        }
        at += 1;
    }
    assert!(changes > 60, "only {changes} changes: the run did not do what it should");
}
