#![expect(clippy::disallowed_methods, reason = "damages files on purpose")]

use super::*;
use crate::{Chunk, Resolution, Series, Snapshot};
use model::{Bytes, Labels};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

pub(super) const T0: i64 = 1_795_418_000_000;
/// When every window and day of these tests is closed.
pub(super) const LATER: Timestamp = Timestamp(T0 + 30 * 86_400_000);
pub(super) type Model = BTreeMap<(String, i64), u64>;

pub(super) fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        dir: dir.to_owned(),
        late_limit: Duration::from_secs(3_600_000_000),
        early_limit: Duration::from_secs(3_600_000_000),
        retention: Duration::from_secs(3_600_000_000),
        ..StoreConfig::default()
    }
}

pub(super) fn opened(dir: &Path) -> Opened {
    open(config(dir), Clock::system(), &Registry::new()).unwrap()
}

pub(super) fn series(writer: &Writer, metric: &str, host: &str) -> Series {
    writer.series(&SeriesKey::new(metric, Labels::from_pairs([("host", host)]))).unwrap()
}

pub(super) fn one(series: &Series, time: i64, value: f64) -> Batch {
    let times = Times::One(Timestamp(time));
    Batch { series: vec![series.clone()].into(), values: vec![value], times }
}

fn read_snapshot(snapshot: &Snapshot) -> Model {
    let mut all = Model::new();
    for metric in snapshot.metrics() {
        for scan in snapshot.scan(&metric, &|_, _| true, i64::MIN, i64::MAX, 2).unwrap() {
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

pub(super) fn read(reader: &Reader) -> Model {
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
fn a_clock_that_is_ahead_at_the_start_deletes_nothing() {
    let dir = TempDir::new().unwrap();
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let config = || StoreConfig { retention: days(15), ..config(dir.path()) };
    let now = Clock::system().now();
    let store = open(config(), Clock::system(), &Registry::new()).unwrap();
    let a = series(&store.writer, "m", "a");
    store.writer.append(one(&a, now.millis(), 1.0)).unwrap();
    store.upkeep.flush_now().unwrap();
    drop(store);
    let ahead = || {
        let clock = Clock::paused_at(now.plus(days(60)));
        let store = open(config(), clock, &Registry::new()).unwrap();
        store.upkeep.state.flush_if_due().unwrap();
        read(&store.reader).len()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(runtime.block_on(async { ahead() }), 1);
}

#[tokio::test]
async fn who_waits_for_memory_goes_on_when_the_flush_ends_though_nobody_else_comes() {
    let dir = TempDir::new().unwrap();
    let config = StoreConfig { memory_budget: Bytes(20_000), ..config(dir.path()) };
    let store = open(config, Clock::system(), &Registry::new()).unwrap();
    let a = series(&store.writer, "m", "a");
    let mut taken = 0;
    while store.writer.append(one(&a, T0 + taken, 1.0)).is_ok() {
        taken += 1;
    }
    store.upkeep.state.sync();
    let writer = store.writer.clone();
    let waits = tokio::spawn(async move { writer.room(Duration::from_secs(3_600)).await });
    tokio::task::yield_now().await;
    store.upkeep.flush_now().unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(60), waits).await;
    assert!(waited.unwrap().unwrap().is_ok());
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

pub(super) fn segment_count(store: &Opened) -> usize {
    store.reader.segment_list().iter().filter(|it| it.resolution == Resolution::Raw).count()
}

#[test]
fn a_closed_day_becomes_one_segment_while_snapshots_keep_their_files() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let start = T0 - T0 % 86_400_000;
    for n in 0..24 {
        for host in ["a", "b"] {
            let series = series(&store.writer, if n % 3 == 0 { "m" } else { "n" }, host);
            store.writer.append(one(&series, start + n * 3_600_000, n as f64)).unwrap();
        }
        store.upkeep.flush_now().unwrap();
    }
    let (snapshot, before) = (store.reader.snapshot(None), read(&store.reader));
    assert_eq!((segment_count(&store), before.len()), (24, 48));
    store.upkeep.compact_now(LATER).unwrap();
    assert_eq!(segment_count(&store), 1);
    assert_eq!(read_snapshot(&snapshot), before);
    assert_eq!(read(&store.reader), before);
    drop(snapshot);
    let folders = durable::list(&dir.path().join("seg/raw")).unwrap();
    assert_eq!(durable::list(&folders[0]).unwrap().len(), 1, "inputs leave the disk");
    let ids = || store.reader.segment_list().into_iter().map(|it| it.id).collect::<Vec<_>>();
    let settled = ids();
    store.upkeep.compact_now(LATER).unwrap();
    assert_eq!(ids(), settled, "it converges");
    drop(store);
    assert_eq!(read(&opened(dir.path()).reader), before);
}

#[test]
fn late_samples_join_a_merged_day_and_the_later_value_wins() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let a = series(&store.writer, "m", "a");
    let mut expected = Model::new();
    for (time, value) in [(T0, 1.0), (T0 + 10, 2.0), (T0, 3.0), (T0 - 10, 4.0), (T0 + 10, 5.0)] {
        store.writer.append(one(&a, time, value)).unwrap();
        store.upkeep.flush_now().unwrap();
        store.upkeep.compact_now(LATER).unwrap();
        expected.insert((a.key().to_string(), time), value.to_bits());
        assert_eq!(read(&store.reader), expected);
        assert_eq!(segment_count(&store), 1);
    }
}

#[test]
fn rollups_are_made_when_a_window_is_closed_and_again_when_late_samples_come() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let a = series(&store.writer, "m", "a");
    let start = T0 - T0 % 3_600_000;
    let rollup = |resolution, stat: &str| {
        let reader = store.reader.at(resolution);
        let key = format!(r#"m{{host="a",stat="{stat}"}}"#);
        let found = read(&reader).into_iter().filter(|((series, _), _)| *series == key);
        found.map(|((_, time), bits)| (time - start, f64::from_bits(bits))).collect::<Vec<_>>()
    };
    for n in 0..60 {
        store.writer.append(one(&a, start + n * 60_000, n as f64)).unwrap();
    }
    store.upkeep.flush_now().unwrap();
    assert!(rollup(Resolution::Hour, "max").is_empty());
    store.upkeep.compact_now(LATER).unwrap();
    assert_eq!(rollup(Resolution::Hour, "max"), [(0, 59.0)]);
    assert_eq!(rollup(Resolution::Hour, "increase"), [(0, 59.0)]);
    assert_eq!(rollup(Resolution::FiveMinutes, "sum").len(), 12);
    assert_eq!(rollup(Resolution::FiveMinutes, "sum")[1], (300_000, 35.0));
    store.writer.append(one(&a, start + 300_001, 1000.0)).unwrap();
    store.upkeep.flush_now().unwrap();
    store.upkeep.compact_now(LATER).unwrap();
    assert_eq!(rollup(Resolution::FiveMinutes, "sum")[1], (300_000, 1035.0));
    assert_eq!(rollup(Resolution::Hour, "count"), [(0, 61.0)]);
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
    Compact,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..2_u8, 0..3_u8, 0..60_i64, any::<i32>())
            .prop_map(|(metric, host, time, value)| Step::Append { metric, host, time, value }),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
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
                Step::Compact => store.upkeep.compact_now(LATER).unwrap(),
                Step::Reopen => {
                    drop(store);
                    store = opened(dir.path());
                }
            }
            prop_assert_eq!(&read(&store.reader), &model);
        }
    }
}

#[test]
fn the_last_sample_of_each_active_series_is_at_hand() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let (a, b) = (series(&store.writer, "m", "a"), series(&store.writer, "m", "b"));
    for (series, time, value) in
        [(&a, T0 + 5, 1.0), (&a, T0, 2.0), (&b, T0 + 1, 3.0), (&b, T0 + 1, 4.0)]
    {
        store.writer.append(one(series, time, value)).unwrap();
    }
    store.upkeep.flush_now().unwrap();
    let expected = Model::from([
        ((a.key().to_string(), T0 + 5), 1_f64.to_bits()),
        ((b.key().to_string(), T0 + 1), 4_f64.to_bits()),
    ]);
    assert_eq!(read_snapshot(&store.reader.last(None, &|_| true)), expected);
    assert_eq!(read_snapshot(&store.reader.last(Some(&["m"]), &|_| true)), expected);
    assert!(read_snapshot(&store.reader.last(Some(&["n"]), &|_| true)).is_empty());
    let found = store.reader.cardinality();
    assert_eq!((found.len(), found[0].series, found[0].values), (1, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leaps_ahead_and_back_neither_loses_samples_nor_shuts_series() {
    let dir = TempDir::new().unwrap();
    let day = 86_400_000;
    let config = || StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    let each = |series: &Series, time: i64, value: f64| Batch {
        times: Times::Each(vec![Timestamp(time)]),
        ..one(series, time, value)
    };
    let mut expected = Model::new();
    // Before the leap, a day ahead, and back again.
    for (n, now) in [T0, T0 + day, T0 + 60_000].into_iter().enumerate() {
        let store = open(config(), Clock::paused_at(Timestamp(now)), &Registry::new()).unwrap();
        let (pushed, scraped) =
            (series(&store.writer, "m", "pushed"), series(&store.writer, "m", "scraped"));
        for batch in [each(&pushed, now, n as f64), one(&scraped, now, n as f64)] {
            let key = batch.series[0].key().to_string();
            assert_eq!(store.writer.append(batch).unwrap().refused, 0, "{key} at {now}");
            expected.insert((key, now), (n as f64).to_bits());
        }
        assert_eq!(
            store.writer.append(each(&pushed, now - 2 * 3_600_000, 9.0)).unwrap().refused,
            1
        );
        store.upkeep.flush_now().unwrap();
        store.upkeep.compact_now(Timestamp(now)).unwrap();
        assert_eq!(read(&store.reader), expected);
    }
    let store = open(config(), Clock::paused_at(Timestamp(T0)), &Registry::new()).unwrap();
    store.upkeep.compact_now(Timestamp(T0 + 3 * day)).unwrap();
    assert_eq!((segment_count(&store), read(&store.reader)), (2, expected), "one for each day");
}

#[tokio::test(start_paused = true)]
async fn recent_samples_are_flushed_by_age_also_when_the_clock_was_put_back() {
    let dir = TempDir::new().unwrap();
    let clock = Clock::paused_at(Timestamp(T0));
    let store = open(config(dir.path()), clock, &Registry::new()).unwrap();
    let a = series(&store.writer, "m", "a");
    store.writer.append(one(&a, T0 + 86_400_000, 1.0)).unwrap();
    tokio::time::advance(Duration::from_secs(599)).await;
    store.upkeep.state.flush_if_due().unwrap();
    assert_eq!(segment_count(&store), 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    store.upkeep.state.flush_if_due().unwrap();
    assert_eq!(segment_count(&store), 1);
}

#[test]
fn history_may_be_older_than_what_is_there() {
    let dir = TempDir::new().unwrap();
    let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    let store = open(config, Clock::system(), &Registry::new()).unwrap();
    let a = series(&store.writer, "m", "a");
    let now = Clock::system().now().millis();
    let each =
        |time: i64| Batch { times: Times::Each(vec![Timestamp(time)]), ..one(&a, time, 1.0) };
    let day = 86_400_000;
    assert_eq!(store.writer.append(each(now)).unwrap().refused, 0);
    assert_eq!(store.writer.append(each(now - day)).unwrap().refused, 1);
    let history = store.writer.for_history();
    assert_eq!(history.append(each(now - day)).unwrap().refused, 0);
    assert_eq!(history.append(each(now - 16 * day)).unwrap().refused, 1, "past retention");
    assert_eq!(read(&store.reader).len(), 2);
}

#[test]
fn metrics_past_their_own_age_leave_their_segments() {
    let dir = TempDir::new().unwrap();
    let day = 86_400_000;
    let rule = crate::RetentionRule {
        metrics: vec!["debug_*".to_owned()],
        retention: Some(Duration::from_secs(2 * 86_400)),
        retention_5m: None,
        retention_1h: None,
    };
    let config = StoreConfig { retention_rules: vec![rule], ..config(dir.path()) };
    let store = open(config, Clock::system(), &Registry::new()).unwrap();
    let start = T0 - T0 % day;
    for metric in ["debug_a", "kept"] {
        for n in 0..10 {
            let series = series(&store.writer, metric, "a");
            store.writer.append(one(&series, start + n * 3_600_000, n as f64)).unwrap();
        }
    }
    store.upkeep.flush_now().unwrap();
    let metrics = |reader: &Reader| reader.snapshot(None).metrics().into_iter().collect::<Vec<_>>();
    store.upkeep.compact_now(Timestamp(start + 2 * day)).unwrap();
    assert_eq!(metrics(&store.reader), ["debug_a".into(), "kept".into()]);
    store.upkeep.compact_now(Timestamp(start + 3 * day)).unwrap();
    assert_eq!((metrics(&store.reader), segment_count(&store)), (vec!["kept".into()], 1));
    let hourly = store.reader.at(Resolution::Hour);
    assert_eq!(
        metrics(&hourly),
        ["debug_a".into(), "kept".into()],
        "figures have an age of their own"
    );
    let before = read(&hourly);
    // Late samples of that day do not make the figures anew, for what they were made of is gone.
    let late = series(&store.writer, "kept", "a");
    store.writer.append(one(&late, start + 1, 5.0)).unwrap();
    store.upkeep.flush_now().unwrap();
    store.upkeep.compact_now(Timestamp(start + 3 * day)).unwrap();
    assert_eq!(read(&hourly), before);
}

#[test]
fn of_what_retention_has_deleted_nothing_is_kept_in_memory() {
    let dir = TempDir::new().unwrap();
    let day = 86_400_000;
    let config = StoreConfig { retention: Duration::from_secs(86_400), ..config(dir.path()) };
    let store = open(config, Clock::system(), &Registry::new()).unwrap();
    let a = series(&store.writer, "m", "a");
    let now = Clock::system().now().millis();
    for age in (2..8).rev() {
        store.writer.append(one(&a, now - age * day, 1.0)).unwrap();
        store.upkeep.flush_now().unwrap();
        assert_eq!(segment_count(&store), 1);
        store.upkeep.state.flush_if_due().unwrap();
        assert_eq!(segment_count(&store), 0);
    }
    assert!(store.upkeep.state.doomed.lock().len() <= 1);
}
