//! Queries over an hour of a thousand series from a segment, against reading the same points without SQL.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use analyzer::{Query, QueryConfig};
use criterion::{Criterion, criterion_group, criterion_main};
use model::{Labels, SeriesKey, Timestamp};
use runtime::Clock;
use std::sync::Arc;
use store::{Batch, Series, StoreConfig, Times};
use telemetry::Registry;

const HOSTS: usize = 1_000;
const ROUNDS: i64 = 360;

fn queries(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    let store = store::open(config, Clock::system(), &Registry::new()).unwrap();
    let series: Vec<Series> = (0..HOSTS)
        .map(|n| {
            let labels = Labels::from_pairs([("host", format!("host_{n}"))]);
            store.writer.series(&SeriesKey::new("cpu", labels)).unwrap()
        })
        .collect();
    let series: Arc<[Series]> = series.into();
    let start = Clock::system().now().millis() - ROUNDS * 10_000;
    for round in 0..ROUNDS {
        let values = (0..HOSTS).map(|n| ((n as i64 * 7 + round) % 1000) as f64 / 10.0).collect();
        let times = Times::One(Timestamp(start + round * 10_000));
        store.writer.append(Batch { series: Arc::clone(&series), values, times }).unwrap();
    }
    store.upkeep.flush_now().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let query = Query::new(QueryConfig::default(), store.reader.clone()).unwrap();
    let mut group = c.benchmark_group("query");
    group.sample_size(20);
    for (name, sql) in [
        (
            "one_series_by_minute",
            "SELECT time_bucket(INTERVAL '1 minute', time) AS t, avg(value) FROM cpu WHERE host = 'host_7' GROUP BY t ORDER BY t",
        ),
        (
            "all_series_by_hour",
            "SELECT time_bucket(INTERVAL '1 hour', time) AS t, avg(value) FROM cpu GROUP BY t",
        ),
        ("values_over_90", "SELECT host, time, value FROM cpu WHERE value > 90"),
        (
            "last_of_each_host",
            "SELECT host, last(time, value) FROM cpu WHERE time > now() - INTERVAL '1 minute' GROUP BY host",
        ),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(query.run(sql, &[])).unwrap().rows())
        });
    }
    group.bench_function("baseline_scan_without_sql", |b| {
        b.iter(|| {
            let snapshot = store.reader.snapshot(Some(&["cpu"]));
            let scans = snapshot.scan("cpu", &|_, _| true, i64::MIN, i64::MAX, 1).unwrap();
            scans.into_iter().flatten().map(|chunk| chunk.unwrap().points.len()).sum::<usize>()
        });
    });
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
