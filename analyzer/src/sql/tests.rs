use crate::sql::given::{Column, Given};
use crate::{AnalyzerConfig, Findings, Forecasts, Format, Query, QueryConfig, QueryError};
use model::{Bytes, Labels, SeriesKey, Timestamp};
use runtime::Clock;
use std::time::Duration;
use store::{Batch, Opened, StoreConfig, Times};
use telemetry::Registry;
use tempfile::TempDir;

/// A store with a counter of two series, five minutes at 1 s, partly in segments, with a reset in it.
fn filled() -> (Opened, TempDir) {
    let dir = TempDir::new().unwrap();
    let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    let store = store::open(config, Clock::system(), &Registry::new()).unwrap();
    let key = |x: &str| SeriesKey::new("c", Labels::from_pairs([("x", x)]));
    let series = ["1", "2"].map(|x| store.writer.series(&key(x)).unwrap());
    // Within one window of two hours at any time of the day, so that each flush makes one segment.
    let now = Clock::system().now().millis();
    let start = now - now % 7_200_000 - 3_600_000;
    for n in 0..300_i64 {
        // One a second, and from zero again at 200.
        let value = if n < 200 { n } else { n - 200 } as f64;
        let times = Times::One(Timestamp(start + n * 1000));
        let batch =
            Batch { series: series.to_vec().into(), values: vec![value, 10.0 * value], times };
        store.writer.append(batch).unwrap();
        if n % 100 == 50 {
            store.upkeep.flush_now().unwrap();
        }
    }
    (store, dir)
}

async fn csv(query: &Query, sql: &str) -> Result<String, QueryError> {
    let answer = query.run(sql, &[]).await?;
    Ok(String::from_utf8(answer.encode(Format::Csv)?).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_see_through_segments_memory_and_resets() {
    let (store, _dir) = filled();
    let query = Query::new(QueryConfig::default(), store.reader.clone()).unwrap();
    let sql = "SELECT x, increase(time, value), rate(time, value) * 299, delta(time, value), last(time, value), count(*) FROM c GROUP BY x ORDER BY x";
    let rows = csv(&query, sql).await.unwrap();
    let rows: Vec<&str> = rows.lines().skip(1).collect();
    assert_eq!(rows, ["1,298.0,298.0,99.0,99.0,300", "2,2980.0,2980.0,990.0,990.0,300"]);
    let params = [serde_json::json!("2"), serde_json::json!(1980)];
    let answer =
        query.run("SELECT count(*) FROM c WHERE x = $1 AND value >= $2", &params).await.unwrap();
    assert_eq!(answer.encode(Format::Csv).unwrap(), b"count(*)\n2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_query_reads_one_instant_while_others_write() {
    let (store, _dir) = filled();
    let query = Query::new(QueryConfig::default(), store.reader.clone()).unwrap();
    let writer = store.writer.clone();
    let stop = runtime::Stop::new();
    let stopped = stop.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let key = |metric: &str| SeriesKey::new(metric, Labels::default());
        let pair = ["left", "right"].map(|metric| writer.series(&key(metric)).unwrap());
        let mut time = Clock::system().now().millis();
        while !stopped.requested() {
            time += 1;
            let times = Times::One(Timestamp(time));
            writer
                .append(Batch { series: pair.to_vec().into(), values: vec![1.0, 1.0], times })
                .unwrap();
        }
    });
    let sql = "SELECT (SELECT count(*) FROM left) - (SELECT count(*) FROM right) AS d";
    let mut answered = 0;
    while answered < 50 {
        let quoted = sql.replace("left", "\"left\"").replace("right", "\"right\"");
        let Ok(rows) = csv(&query, &quoted).await else { continue };
        assert_eq!(rows, "d\n0\n");
        answered += 1;
        if answered == 25 {
            store.upkeep.flush_now().unwrap();
        }
    }
    stop.request();
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_has_its_own_words() {
    let (store, _dir) = filled();
    let with = |config: QueryConfig| Query::new(config, store.reader.clone()).unwrap();
    let default = QueryConfig::default;
    let rows = with(QueryConfig { max_rows: 10, ..default() });
    let said = csv(&rows, "SELECT * FROM c").await.unwrap_err().to_string();
    assert!(said.contains("more than 10 rows") && said.contains("LIMIT"), "{said}");
    let time = with(QueryConfig { timeout: Duration::from_millis(50), ..default() });
    let sql = "SELECT count(*) FROM c a, c b, c d WHERE a.value + b.value + d.value < 0";
    let said = csv(&time, sql).await.unwrap_err().to_string();
    assert!(said.contains("longer than 50ms"), "{said}");
    let memory = with(QueryConfig { memory: Bytes(10_000), ..default() });
    let said = csv(&memory, "SELECT * FROM c ORDER BY value").await.unwrap_err().to_string();
    assert!(said.contains("more memory than allowed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_on_labels_and_time_are_shown_as_pushed_down() {
    let (store, _dir) = filled();
    let query = Query::new(QueryConfig::default(), store.reader.clone()).unwrap();
    let plan = |rest: &str| {
        let rest = rest.to_owned();
        let query = query.clone();
        async move { csv(&query, &format!("EXPLAIN SELECT value FROM c {rest}")).await.unwrap() }
    };
    let all = plan("").await;
    assert!(all.contains("ScanExec: table=c, segments=3, series_in_memory=2"), "{all}");
    let label = plan("WHERE x = '1'").await;
    assert!(
        label.contains("series_in_memory=1, labels=[x@0 = 1]") && !label.contains("FilterExec"),
        "{label}"
    );
    let recent = csv(&query, "SELECT max(time) - INTERVAL '10 seconds' FROM c").await.unwrap();
    let recent = recent.lines().nth(1).unwrap();
    let time = plan(&format!("WHERE time > TIMESTAMP '{recent}'")).await;
    assert!(time.contains("segments=0, series_in_memory=2, time="), "{time}");
    let never = plan("WHERE x = 'no'").await;
    assert!(never.contains("segments=0, series_in_memory=0"), "{never}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_show_the_last_samples_and_the_rollups_and_tables_tell_of_the_store() {
    let (store, _dir) = filled();
    let query = Query::new(QueryConfig::default(), store.reader.clone()).unwrap();
    let last = csv(&query, "SELECT x, value FROM last.c ORDER BY x").await.unwrap();
    assert_eq!(last, "x,value\n1,99.0\n2,990.0\n");
    let all = csv(&query, "SELECT count(*), min(metric) FROM last.samples").await.unwrap();
    assert_eq!(all.lines().nth(1), Some("2,c"));
    let sql = "SELECT metric, series, label, label_values FROM cardinality";
    assert_eq!(csv(&query, sql).await.unwrap(), "metric,series,label,label_values\nc,2,x,2\n");
    store.upkeep.flush_now().unwrap();
    let later = Clock::system().now().plus(Duration::from_secs(86_400));
    store.upkeep.compact_now(later).unwrap();
    let sql = "SELECT x, sum(value) FROM rollup_5m.c WHERE stat = 'count' GROUP BY x ORDER BY x";
    let counts = csv(&query, sql).await.unwrap();
    assert_eq!(counts.lines().skip(1).collect::<Vec<_>>(), ["1,300.0", "2,300.0"]);
    let sql = "SELECT sum(r.value), count(DISTINCT raw.time) FROM rollup_1h.c AS r, c AS raw WHERE r.stat = 'max' AND r.x = '1' AND raw.x = '1' AND raw.value < 2";
    assert!(csv(&query, sql).await.is_ok());
    let sql =
        "SELECT resolution, sum(samples) > 0 FROM segments GROUP BY resolution ORDER BY resolution";
    let segments = csv(&query, sql).await.unwrap();
    assert_eq!(segments.lines().skip(1).collect::<Vec<_>>(), ["1h,true", "5m,true", "raw,true"]);
    let other = filled();
    let early = Query::new(QueryConfig::default(), other.0.reader.clone()).unwrap();
    let told = early.run("SELECT * FROM rollup_5m.c", &[]).await.unwrap_err().to_string();
    assert!(told.contains("rollup_5m has nothing of c"), "{told}");
    let told = query.run("SELECT * FROM rollup_5m.d", &[]).await.unwrap_err().to_string();
    assert!(told.contains("no metric or table is named d"), "{told}");
}

/// On one thread: whatever held it up would hold up the test.
#[tokio::test]
async fn a_query_that_works_without_a_pause_holds_nobody_up_and_is_over_in_time() {
    let (store, _dir) = filled();
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let slow = Given::new(&["slow"], move |_| {
        told.lock().unwrap().recv().ok();
        Some(vec![("a".to_owned(), Column::Numbers(vec![Some(1.0)]))])
    });
    let query = |timeout| {
        let config = QueryConfig { timeout, concurrency: 1, ..QueryConfig::default() };
        let analyzer = AnalyzerConfig::default();
        let own = (Findings::in_memory(&analyzer), Forecasts::in_memory());
        Query::with_findings(config, store.reader.clone(), analyzer, own, slow.clone()).unwrap()
    };
    let patient = query(Duration::from_secs(60));
    let (rows, ()) = tokio::join!(csv(&patient, "SELECT a FROM slow"), async {
        tell.send(()).unwrap();
    });
    assert_eq!(rows.unwrap(), "a\n1.0\n");

    // It is answered in time, and keeps its turn until it really ends.
    let hasty = query(Duration::from_millis(50));
    for sql in ["SELECT a FROM slow", "SELECT 1"] {
        let error = csv(&hasty, sql).await.unwrap_err();
        assert!(matches!(error, QueryError::Timeout(_)), "{sql}: {error}");
    }
    tell.send(()).unwrap();
    while csv(&hasty, "SELECT 1").await.is_err() {}
}

/// Each of these works for minutes and more, and asks nobody by itself.
#[tokio::test(flavor = "multi_thread")]
async fn work_that_nobody_waits_for_ends_wherever_it_is() {
    let (store, _dir) = filled();
    let many = Given::new(&["many"], |_| {
        let all = 0..200_000_i64;
        let numbers = |of: fn(i64) -> f64| Column::Numbers(all.clone().map(of).map(Some).collect());
        let columns = [("n", numbers(|n| n as f64)), ("same", numbers(|_| 1.0))];
        Some(columns.map(|(name, column)| (name.to_owned(), column)).into())
    });
    let config = QueryConfig {
        timeout: Duration::from_millis(300),
        concurrency: 1,
        ..QueryConfig::default()
    };
    let analyzer = AnalyzerConfig::default();
    let own = (Findings::in_memory(&analyzer), Forecasts::in_memory());
    let query = Query::with_findings(config, store.reader.clone(), analyzer, own, many).unwrap();
    for sql in [
        "SELECT max(a.n + b.n) FROM many a CROSS JOIN many b",
        "SELECT count(*) FROM many a JOIN many b ON a.n < b.n",
        "SELECT count(*) FROM many a JOIN many b ON a.n - b.n > 1e9",
        "SELECT count(*) FROM many a JOIN many b ON a.same = b.same AND a.n + b.n < 0",
    ] {
        let error = csv(&query, sql).await.unwrap_err();
        assert!(matches!(error, QueryError::Timeout(_)), "{sql}: {error}");
        let free = async { while csv(&query, "SELECT 1").await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(60), free).await.expect(sql);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_more_rows_than_memory_holds_are_found() {
    let (store, _dir) = filled();
    let key = |n: i32| SeriesKey::new("d", Labels::from_pairs([("x", n.to_string())]));
    let series: Vec<_> = (0..50).map(|n| store.writer.series(&key(n)).unwrap()).collect();
    let start = Clock::system().now().millis() - 100_000;
    for n in 0..100_i64 {
        let values = (0..50).map(|of| (100 * of + n) as f64).collect();
        let times = Times::One(Timestamp(start + n * 1000));
        store.writer.append(Batch { series: series.clone().into(), values, times }).unwrap();
    }
    let config = QueryConfig { memory: Bytes(360 << 10), ..QueryConfig::default() };
    let query = Query::new(config, store.reader.clone()).unwrap();
    let rows = csv(&query, "SELECT value, x FROM d ORDER BY value DESC LIMIT 2").await.unwrap();
    assert_eq!(rows, "value,x\n4999.0,49\n4998.0,49\n");
    let error = csv(&query, "SELECT time, value, x FROM d ORDER BY value").await.unwrap_err();
    assert!(matches!(error, QueryError::Memory(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recursive_query_that_would_read_a_metric_again_is_told_so() {
    let (store, _dir) = filled();
    let query = Query::new(QueryConfig::default(), store.reader.clone()).unwrap();
    let sql = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT r.n + 1 FROM r JOIN c ON c.value = r.n WHERE r.n < 3 AND c.x = '1') SELECT max(n) FROM r";
    let error = csv(&query, sql).await.unwrap_err();
    assert!(error.to_string().contains("recursive query"), "{error}");
}
