//! Appending scrapes of a thousand series: to the store, against writing the same doubles to a plain file.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Bytes, Labels, SeriesKey, Timestamp};
use runtime::Clock;
use std::io::Write;
use std::sync::Arc;
use store::{Batch, Series, StoreConfig, Times};
use telemetry::Registry;

const SERIES: usize = 1_000;

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        dir: dir.path().to_owned(),
        memory_budget: Bytes::mebi(64),
        ..StoreConfig::default()
    };
    let store = store::open(config, Clock::system(), &Registry::new()).unwrap();
    let series: Vec<Series> = (0..SERIES)
        .map(|n| {
            let labels = Labels::from_pairs([("host", format!("host_{n}"))]);
            store.writer.series(&SeriesKey::new("cpu", labels)).unwrap()
        })
        .collect();
    let series: Arc<[Series]> = series.into();
    let start = Clock::system().now();
    let mut round = 0_i64;
    let mut group = c.benchmark_group("wal");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("append_scrape", |b| {
        b.iter(|| {
            round += 1;
            let values =
                (0..SERIES).map(|n| ((n as i64 * 7 + round) % 1000) as f64 / 10.0).collect();
            let times = Times::One(Timestamp(start.millis() + round));
            let batch = Batch { series: Arc::clone(&series), values, times };
            if store.writer.append(batch.clone()).is_err() {
                store.upkeep.flush_now().unwrap();
                store.writer.append(batch).unwrap();
            }
        });
    });
    let mut file = std::fs::File::create(dir.path().join("plain")).unwrap();
    group.bench_function("baseline_plain_write", |b| {
        b.iter(|| {
            round += 1;
            let bytes: Vec<u8> = (0..SERIES)
                .flat_map(|n| (((n as i64 * 7 + round) % 1000) as f64 / 10.0).to_le_bytes())
                .collect();
            file.write_all(&bytes).unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
