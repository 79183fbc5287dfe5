#![expect(clippy::disallowed_methods, reason = "damages files on purpose")]

use super::*;
use crate::{Chunk, Series, Snapshot};
use model::{Bytes, Labels};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

const T0: i64 = 1_795_418_000_000;
type Model = BTreeMap<(String, i64), u64>;

fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        dir: dir.to_owned(),
        late_limit: Duration::from_secs(3_600_000_000),
        early_limit: Duration::from_secs(3_600_000_000),
        retention: Duration::from_secs(3_600_000_000),
        ..StoreConfig::default()
    }
}

fn opened(dir: &Path) -> Opened {
    open(config(dir), Clock::system(), &Registry::new()).unwrap()
}

fn series(writer: &Writer, metric: &str, host: &str) -> Series {
    writer.series(&SeriesKey::new(metric, Labels::from_pairs([("host", host)]))).unwrap()
}

fn one(series: &Series, time: i64, value: f64) -> Batch {
    let times = Times::One(Timestamp(time));
    Batch { series: vec![series.clone()].into(), values: vec![value], times }
}

fn read_snapshot(snapshot: &Snapshot) -> Model {
    let mut all = Model::new();
    for metric in snapshot.metrics() {
        for scan in snapshot.scan(&metric, &|_| true, i64::MIN, i64::MAX, 2).unwrap() {
            for chunk in scan {
                let Chunk { key, points, id } = chunk.unwrap();
                assert_eq!(id, crate::series_id(&key));
                for (time, value) in points.times.iter().zip(&points.values) {
                    let before = all.insert((key.to_string(), *time), value.to_bits());
                    assert_eq!(before, None, "{key} at {time} came twice");
                }
            }
        }
    }
    all
}

fn read(reader: &Reader) -> Model {
    read_snapshot(&reader.snapshot(None))
}

fn wal_files(dir: &Path) -> Vec<PathBuf> {
    durable::list(&dir.join("wal")).unwrap()
}

#[test]
fn samples_are_read_back_bit_for_bit_from_memory_log_and_segments() {
    let dir = TempDir::new().unwrap();
    let values = [
        0.0,
        -0.0,
        1.5,
        f64::NAN,
        f64::from_bits(model::sample::STALE_BITS),
        f64::INFINITY,
        1e300,
        0.1,
    ];
    let mut expected = Model::new();
    {
        let store = opened(dir.path());
        for (n, value) in values.into_iter().enumerate() {
            let series = series(&store.writer, "m", if n % 2 == 0 { "a" } else { "b" });
            let time = T0 + n as i64;
            store.writer.append(one(&series, time, value)).unwrap();
            expected.insert((series.key().to_string(), time), value.to_bits());
        }
        assert_eq!(read(&store.reader), expected);
    }
    let store = opened(dir.path());
    assert_eq!((store.replayed.samples, store.replayed.torn_bytes), (8, 0));
    assert_eq!(read(&store.reader), expected);
    store.upkeep.flush_now().unwrap();
    assert_eq!(read(&store.reader), expected);
    assert_eq!(store.reader.metrics().into_keys().collect::<Vec<_>>(), ["m".into()]);
    drop(store);
    let store = opened(dir.path());
    assert_eq!(store.replayed.samples, 0);
    assert_eq!(read(&store.reader), expected);
}

#[test]
fn a_snapshot_stays_as_it_was_taken() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let a = series(&store.writer, "m", "a");
    for n in 0..300 {
        store.writer.append(one(&a, T0 + n, n as f64)).unwrap();
    }
    let snapshot = store.reader.snapshot(None);
    let before = read_snapshot(&snapshot);
    for n in 300..600 {
        store.writer.append(one(&a, T0 + n, 0.5)).unwrap();
    }
    store.upkeep.flush_now().unwrap();
    assert_eq!((before.len(), read_snapshot(&snapshot)), (300, before));
    assert_eq!(read(&store.reader).len(), 600);
}

#[test]
fn the_log_is_cut_only_by_a_flush() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let a = series(&store.writer, "m", "a");
    store.writer.append(one(&a, T0, 1.0)).unwrap();
    let before = wal_files(dir.path());
    store.upkeep.flush_now().unwrap();
    let after = wal_files(dir.path());
    assert!(before.len() == 1 && after.len() == 1 && before != after, "{before:?} {after:?}");
}

#[test]
fn a_second_process_may_neither_write_nor_read_files_in_use() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let refused = open(config(dir.path()), Clock::system(), &Registry::new()).unwrap_err();
    assert!(refused.to_string().contains("in use by process"), "{refused}");
    assert!(open_read_only(dir.path(), Clock::system()).is_err());
    drop(store);
    assert!(open_read_only(dir.path(), Clock::system()).is_ok());
}

#[test]
fn reading_only_changes_no_file() {
    let dir = TempDir::new().unwrap();
    {
        let store = opened(dir.path());
        let a = series(&store.writer, "m", "a");
        store.writer.append(one(&a, T0, 1.0)).unwrap();
        store.upkeep.flush_now().unwrap();
        store.writer.append(one(&a, T0 + 1, 2.0)).unwrap();
    }
    let last = wal_files(dir.path()).pop().unwrap();
    let mut torn = fs::read(&last).unwrap();
    torn.extend_from_slice(&[0xf5, 0x0e, 0xd7]);
    fs::write(&last, &torn).unwrap();
    let (reader, replayed) = open_read_only(dir.path(), Clock::system()).unwrap();
    assert_eq!((read(&reader).len(), replayed.torn_bytes), (2, 3));
    assert_eq!(fs::read(&last).unwrap(), torn);
}

#[test]
fn untimely_samples_are_left_out_and_counted() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::new();
    let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    let store = open(config, Clock::system(), &registry).unwrap();
    let a = series(&store.writer, "m", "a");
    let now = Clock::system().now();
    let times = vec![Timestamp(0), now, Timestamp(i64::MAX)];
    let batch = Batch {
        series: vec![a.clone(), a.clone(), a].into(),
        values: vec![1.0, 2.0, 3.0],
        times: Times::Each(times),
    };
    store.writer.append(batch).unwrap();
    assert_eq!(
        read(&store.reader).into_keys().map(|(_, time)| time).collect::<Vec<_>>(),
        [now.millis()]
    );
    assert!(registry.page().contains("forerunner_store_untimely_samples_total 2\n"));
}

#[test]
fn a_damaged_segment_is_set_aside_and_the_rest_served() {
    for file in ["samples.parquet", "series.parquet"] {
        let dir = TempDir::new().unwrap();
        let store = opened(dir.path());
        let a = series(&store.writer, "m", "a");
        for n in 0..2 {
            store.writer.append(one(&a, T0 + n, n as f64)).unwrap();
            store.upkeep.flush_now().unwrap();
        }
        drop(store);
        let days = durable::list(&dir.path().join("seg/raw")).unwrap();
        let segments = durable::list(&days[0]).unwrap();
        let path = segments[0].join(file);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let store = opened(dir.path());
        assert_eq!(
            read(&store.reader).into_keys().map(|(_, time)| time).collect::<Vec<_>>(),
            [T0 + 1]
        );
        let quarantine = durable::list(&dir.path().join("quarantine")).unwrap();
        assert_eq!(quarantine.len(), 1, "{quarantine:?}");
        drop(store);
        assert_eq!(read(&opened(dir.path()).reader).len(), 1);
    }
}

#[test]
fn appends_are_refused_while_memory_is_full_and_taken_again_after_a_flush() {
    let dir = TempDir::new().unwrap();
    let config = StoreConfig { memory_budget: Bytes(20_000), ..config(dir.path()) };
    let store = open(config, Clock::system(), &Registry::new()).unwrap();
    let a = series(&store.writer, "m", "a");
    let mut taken = 0;
    let refused = loop {
        match store.writer.append(one(&a, T0 + taken, 1.0)) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100_000, "memory is not bounded");
    };
    assert!(refused.is_transient(), "{refused}");
    store.upkeep.flush_now().unwrap();
    store.writer.append(one(&a, T0 + taken, 1.0)).unwrap();
    assert_eq!(read(&store.reader).len() as i64, taken + 1);
    drop(store);
    let budget = StoreConfig { memory_budget: Bytes(8_000), ..self::config(dir.path()) };
    let store = open(budget, Clock::system(), &Registry::new()).unwrap();
    assert_eq!(
        read(&store.reader).len() as i64,
        taken + 1,
        "a replay over the budget flushes as it goes"
    );
}

/// A log of a few batches, and what it holds after each.
fn small_log(dir: &Path) -> (PathBuf, Vec<(usize, Model)>) {
    let store = opened(dir);
    let path = wal_files(dir).pop().unwrap();
    let mut model = Model::new();
    let mut states = vec![(0, model.clone())];
    for n in 0..4 {
        let a = series(&store.writer, "m", if n % 2 == 0 { "a" } else { "b" });
        store.writer.append(one(&a, T0 + n, n as f64)).unwrap();
        model.insert((a.key().to_string(), T0 + n), (n as f64).to_bits());
        states.push((fs::metadata(&path).unwrap().len() as usize, model.clone()));
    }
    (path, states)
}

#[test]
fn r3_5_a_log_cut_at_any_byte_gives_every_batch_before_the_cut() {
    let dir = TempDir::new().unwrap();
    let (path, states) = small_log(dir.path());
    let whole = fs::read(&path).unwrap();
    let name = path.file_name().unwrap();
    for end in 0..=whole.len() {
        let copy = TempDir::new().unwrap();
        fs::create_dir(copy.path().join("wal")).unwrap();
        fs::write(copy.path().join("wal").join(name), &whole[..end]).unwrap();
        let expected = &states.iter().rfind(|(len, _)| *len <= end).unwrap().1;
        for _ in 0..2 {
            let store = opened(copy.path());
            assert_eq!(&read(&store.reader), expected, "cut at {end}");
        }
        let again = opened(copy.path()).replayed;
        assert_eq!(again.torn_bytes, 0, "the tail is cut once");
    }
}

#[test]
fn a_log_with_any_byte_flipped_never_invents_a_sample() {
    let dir = TempDir::new().unwrap();
    let (path, states) = small_log(dir.path());
    let whole = fs::read(&path).unwrap();
    let all = &states.last().unwrap().1;
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        let copy = TempDir::new().unwrap();
        fs::create_dir(copy.path().join("wal")).unwrap();
        fs::write(copy.path().join("wal").join(path.file_name().unwrap()), &bad).unwrap();
        let store = opened(copy.path());
        let found = read(&store.reader);
        assert!(found.iter().all(|(key, value)| all.get(key) == Some(value)), "flip at {at}");
        assert!(
            found != *all || store.replayed.torn_bytes + store.replayed.damaged_bytes > 0,
            "flip at {at} went unseen"
        );
        assert!(copy.path().join("quarantine").exists(), "what was cut is kept");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { metric: u8, host: u8, time: i64, value: i32 },
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..2_u8, 0..3_u8, 0..60_i64, any::<i32>())
            .prop_map(|(metric, host, time, value)| Step::Append { metric, host, time, value }),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_a_map_from_series_and_time_to_the_last_value(steps in prop::collection::vec(step(), 1..60)) {
        let dir = TempDir::new().unwrap();
        let mut store = opened(dir.path());
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Append { metric, host, time, value } => {
                    let series = series(&store.writer, &format!("m{metric}"), &format!("h{host}"));
                    // Minutes around midnight, so that segments of two days appear.
                    let time = 1_795_391_970_000 + time * 1000;
                    let value = f64::from(value) / 8.0;
                    store.writer.append(one(&series, time, value)).unwrap();
                    model.insert((series.key().to_string(), time), value.to_bits());
                }
                Step::Flush => store.upkeep.flush_now().unwrap(),
                Step::Reopen => {
                    drop(store);
                    store = opened(dir.path());
                }
            }
            prop_assert_eq!(&read(&store.reader), &model);
        }
    }
}
