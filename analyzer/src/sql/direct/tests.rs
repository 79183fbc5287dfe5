use crate::sql::encode::Format;
use crate::sql::session::{Answer, Query};
use crate::sql::wanted::Wanted;
use crate::{QueryConfig, QueryError};
use datafusion::common::ScalarValue;
use model::{Labels, SeriesKey, Timestamp};
use proptest::prelude::*;
use runtime::Clock;
use std::sync::LazyLock;
use std::time::Duration;
use store::{Batch, StoreConfig, Times};
use telemetry::Registry;
use tempfile::TempDir;

const T0: i64 = 1_795_418_000_000;

/// Two metrics of three hosts, half in segments, half in memory, all values whole so that sums are exact.
struct Bench {
    query: Query,
    runtime: tokio::runtime::Runtime,
    _dir: TempDir,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let dir = TempDir::new().unwrap();
    let long = Duration::from_secs(3_600_000_000);
    let config = StoreConfig {
        dir: dir.path().to_owned(),
        late_limit: long,
        early_limit: long,
        retention: long,
        ..StoreConfig::default()
    };
    let store = store::open(config, Clock::system(), &Registry::new()).unwrap();
    for n in 0..400_i64 {
        for (at, host) in ["a", "b", "c"].into_iter().enumerate() {
            for metric in ["m", "n"] {
                let mut labels = vec![("host", host)];
                labels.extend((at == 1).then_some(("zone", "eu")));
                let series = store
                    .writer
                    .series(&SeriesKey::new(metric, Labels::from_pairs(labels)))
                    .unwrap();
                let value = match (n * 7 + at as i64 * 13) % 101 {
                    50 if metric == "n" => f64::NAN,
                    99 => f64::from_bits(model::sample::STALE_BITS),
                    value => value as f64 - 20.0,
                };
                let times = Times::Each(vec![Timestamp(T0 + n * 1000 + at as i64)]);
                let batch = Batch { series: vec![series].into(), values: vec![value], times };
                store.writer.append(batch).unwrap();
            }
        }
        if n % 90 == 89 && n < 300 {
            store.upkeep.flush_now().unwrap();
        }
    }
    let query = Query::new(QueryConfig::default(), store.reader).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    Bench { query, runtime, _dir: dir }
});

/// The answer's columns with their types, and its rows; sorted where the query does not say how.
fn shown(answer: &Answer, sorted: bool) -> (String, Vec<String>) {
    let fields = answer.schema.fields().iter();
    let columns = fields.map(|it| format!("{} {}", it.name(), it.data_type())).collect::<Vec<_>>();
    let text = String::from_utf8(answer.encode(Format::Csv).unwrap()).unwrap();
    let mut rows: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
    if !sorted {
        rows.sort();
    }
    (columns.join(", "), rows)
}

/// What both ways give; the first is `None` where the short one does not know how.
fn both(
    sql: &str,
    params: &[ScalarValue],
) -> (Option<Result<Answer, QueryError>>, Result<Answer, QueryError>) {
    let Bench { query, runtime, .. } = &*BENCH;
    runtime.block_on(async {
        let short = query.directly(&query.parse(sql).unwrap(), params).await.transpose();
        (
            short,
            query.run_planned(query.parse(sql).unwrap(), params.to_vec(), Wanted::default()).await,
        )
    })
}

fn agree(sql: &str, params: &[ScalarValue]) {
    let (short, planned) = both(sql, params);
    let short = short.unwrap_or_else(|| panic!("not taken: {sql}")).unwrap();
    let sorted = sql.contains("ORDER BY");
    assert_eq!(shown(&short, sorted), shown(&planned.unwrap(), sorted), "{sql}");
}

#[test]
fn the_short_way_gives_what_the_engine_gives() {
    for sql in [
        "SELECT time, host, value FROM m",
        "SELECT value, time AS t, zone FROM public.m WHERE host = 'b'",
        "SELECT host, time, value FROM last.m",
        "SELECT host, count(value) AS n FROM last.m GROUP BY host",
        "SELECT time, value FROM m WHERE value > 60 AND host IN ('a', 'c') ORDER BY value DESC, time LIMIT 7",
        "SELECT time, value FROM n WHERE value >= 79.5 OR value < -19 ORDER BY time",
        "SELECT value FROM m WHERE zone IS NULL AND host <> 'a' AND value = 10",
        "SELECT value FROM m WHERE zone IS NOT NULL AND host NOT IN ('a')",
        "SELECT value FROM m WHERE zone <> 'eu'",
        "SELECT count(value) AS n, sum(value) AS s, avg(value) AS a, min(value) AS l, max(value) AS g FROM m",
        "SELECT count(value) AS n, sum(value) AS s FROM m WHERE host = 'nobody'",
        "SELECT count(value) AS n, max(value) AS g FROM m WHERE time < TIMESTAMP '2020-01-01T00:00:00'",
        "SELECT host, date_bin(INTERVAL '1 minute', time) AS minute, avg(value) AS value FROM m GROUP BY host, minute",
        "SELECT time_bucket(INTERVAL '90 seconds', time) AS t, max(value) AS v FROM m WHERE host = 'a' GROUP BY 1 ORDER BY t DESC",
        "SELECT date_bin(INTERVAL '1 minute', time) AS t, last(time, value) AS v FROM m WHERE host = 'a' GROUP BY t ORDER BY 1 LIMIT 3",
        "SELECT zone, min(value) AS v FROM m GROUP BY zone ORDER BY zone",
        "SELECT zone, min(value) AS v FROM m GROUP BY zone ORDER BY zone DESC",
        "SELECT max(value) AS v FROM m GROUP BY host ORDER BY v",
        "SELECT 'm' AS metric, host, sum(value) AS v FROM m GROUP BY host UNION ALL SELECT 'n' AS metric, host, count(value) * 1.0 AS v FROM n GROUP BY host",
        "SELECT 'm' AS what, max(value) AS v FROM m UNION ALL SELECT 'n' AS what, min(value) AS v FROM m ORDER BY v",
        "SELECT time, value FROM m WHERE time BETWEEN '2026-11-23T03:13:20.500Z' AND '2026-11-23T03:13:24Z' ORDER BY time, value",
        "SELECT time, value FROM m WHERE time > to_timestamp_millis(1795418003001) AND to_timestamp_seconds(1795418010) >= time ORDER BY time",
        "SELECT time FROM m WHERE time = to_timestamp_seconds(1795418010)",
        "SELECT count(value) AS n FROM m WHERE time > now() - INTERVAL '3650 days' AND time < now() + INTERVAL '3650 days'",
        "SELECT time, value FROM m WHERE (host = 'a') AND value = -20",
        "SELECT time, value FROM m WHERE value != 3 AND value <= -10 ORDER BY time ASC, value",
        "SELECT host FROM m WHERE value > 75 ORDER BY host",
        "SELECT time, value FROM n WHERE value > 79",
        "SELECT count(*) FROM m",
        "SELECT host, COUNT(*), max(value) AS v FROM m WHERE value > 3 GROUP BY host",
        "SELECT count(*) AS n FROM last.m",
        "SELECT value AS v FROM m WHERE value > 78 UNION ALL SELECT max(value) AS v FROM m WHERE host = 'nobody'",
    ] {
        if both(sql, &[]).0.is_none() {
            // Sums, products and alternatives are the engine's; they stand here to see that they go there.
            assert!(sql.contains(" OR ") || sql.contains(" * "), "not taken: {sql}");
            continue;
        }
        agree(sql, &[]);
    }
    let params = [ScalarValue::Utf8(Some("a".to_owned())), ScalarValue::Int64(Some(70))];
    agree("SELECT time, value FROM m WHERE host = $1 AND value > $2", &params);
    let limited = both("SELECT time, value FROM m LIMIT 5", &[]);
    assert_eq!((limited.0.unwrap().unwrap().rows(), limited.1.unwrap().rows()), (5, 5));
}

#[test]
fn what_is_not_known_goes_to_the_engine() {
    for sql in [
        "SELECT * FROM m",
        "SELECT avg(value) FROM m",
        "SELECT DISTINCT host FROM m",
        "SELECT host, max(value) AS v FROM m GROUP BY host HAVING max(value) > 3",
        "SELECT m.host FROM m",
        "SELECT host FROM m AS x",
        "SELECT host FROM m, n",
        "SELECT x.host FROM m x JOIN n ON x.host = n.host",
        "WITH m AS (SELECT 1 AS value) SELECT value FROM m",
        "SELECT value FROM (SELECT value FROM m)",
        "SELECT value FROM m LIMIT 1 OFFSET 2",
        "SELECT value FROM m ORDER BY host",
        "SELECT max(value) FILTER (WHERE value < 3) AS v FROM m",
        "SELECT max(DISTINCT value) AS v FROM m",
        "SELECT count(*) FILTER (WHERE value < 3) AS n FROM m",
        "SELECT count(*) FROM samples",
        "SELECT max(value) OVER () AS v FROM m",
        "SELECT value FROM m WHERE host LIKE 'a%'",
        "SELECT value FROM m WHERE host = 'a' OR host = 'b'",
        "SELECT value + 1 AS v FROM m",
        "SELECT no_such_label FROM m",
        "SELECT value FROM no_such_metric",
        "SELECT max(value) AS v FROM n",
        "SELECT time AS host, value FROM m GROUP BY host, time, value",
        "SELECT date_bin(INTERVAL '1 minute', time) AS host, max(value) AS v FROM m GROUP BY host",
        "SELECT max(value) AS v FROM m UNION SELECT min(value) AS v FROM m",
        "SELECT max(value) AS v FROM m UNION ALL SELECT count(value) AS v FROM m",
        "SELECT metric FROM samples",
        "SELECT date_bin(INTERVAL '1 month', time) AS t, max(value) AS v FROM m GROUP BY t",
        "SELECT rate(time, value) AS v FROM m WHERE host = 'a'",
        "EXPLAIN SELECT value FROM m",
        "SELECT date_bin(INTERVAL '1 minute', time) AS time, max(value) AS v FROM m GROUP BY time",
        "SELECT value FROM samples",
        "SELECT host, host FROM m",
    ] {
        assert!(both(sql, &[]).0.is_none(), "{sql}");
    }
}

fn choice(all: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]
    #[test]
    fn any_question_of_ours_has_one_answer(
        table in choice(&["m", "n", "last.m", "last.n"]),
        tests in prop::collection::vec(choice(&[
            "host = 'a'", "host != 'b'", "zone IS NULL", "host IN ('a', 'b')", "value > 50", "value <= 0",
            "time > to_timestamp_seconds(1795418100)", "time <= to_timestamp_millis(1795418300500)",
            "time BETWEEN to_timestamp_seconds(1795418050) AND to_timestamp_seconds(1795418350)",
        ]), 0..3),
        grouped in any::<bool>(),
        keys in prop::sample::subsequence(vec!["host", "zone", "date_bin(INTERVAL '40 seconds', time)"], 0..=3),
        figures in prop::sample::subsequence(vec!["count", "sum", "avg", "min", "max"], 1..=3),
    ) {
        let filter = if tests.is_empty() { String::new() } else { format!(" WHERE {}", tests.join(" AND ")) };
        let sql = if grouped {
            let mut columns: Vec<String> = keys.iter().enumerate().map(|(n, key)| format!("{key} AS k{n}")).collect();
            columns.extend(figures.iter().map(|figure| format!("{figure}(value) AS {figure}_of")));
            let group = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
            format!("SELECT {} FROM {table}{filter}{group}", columns.join(", "))
        } else {
            format!("SELECT time, host, zone, value FROM {table}{filter}")
        };
        let (short, planned) = both(&sql, &[]);
        // With NaN among the values the engine decides what the least is, and a label that no wanted series has
        // is known to the engine alone.
        let nan = grouped && table.ends_with('n');
        prop_assert!(short.is_some() || nan || !tests.is_empty(), "not taken: {}", sql);
        if let Some(short) = short {
            prop_assert_eq!(shown(&short.unwrap(), false), shown(&planned.unwrap(), false), "{}", sql);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn days_whose_raw_samples_are_gone_are_answered_from_their_rollups() {
    let dir = TempDir::new().unwrap();
    let config = |days: u64| StoreConfig {
        dir: dir.path().to_owned(),
        late_limit: Duration::from_secs(30 * 86_400),
        retention: Duration::from_secs(days * 86_400),
        ..StoreConfig::default()
    };
    let (now, day) = (Clock::system().now(), 86_400_000);
    let start = (now.day() - 4) * day;
    let store = store::open(config(15), Clock::system(), &Registry::new()).unwrap();
    // Every ten minutes of a day four days ago, and of today.
    for (n, time) in (0..144).map(|n| start + n * 600_000).chain([now.millis()]).enumerate() {
        for host in ["a", "b"] {
            let labels = Labels::from_pairs([("host", host), ("stat", "own")]);
            let series = store.writer.series(&SeriesKey::new("m", labels)).unwrap();
            let times = Times::One(Timestamp(time));
            let value = ((n * 7) % 50) as f64;
            store
                .writer
                .append(Batch { series: vec![series].into(), values: vec![value], times })
                .unwrap();
        }
    }
    store.upkeep.flush_now().unwrap();
    store.upkeep.compact_now(now.plus(Duration::from_secs(3600))).unwrap();
    let sql = |from: i64| {
        format!(
            "SELECT host, date_bin(INTERVAL '2 hours', time) AS hour, count(*) AS n, sum(value) AS s, avg(value) AS a, \
             min(value) AS l, max(value) AS g, last(time, value) AS z FROM m \
             WHERE time >= to_timestamp_millis({from}) GROUP BY host, hour ORDER BY host, hour"
        )
    };
    let rows = async |reader: &store::Reader, from: i64| {
        let query = Query::new(QueryConfig::default(), reader.clone()).unwrap();
        shown(&query.run(&sql(from), &[]).await.unwrap(), true).1
    };
    let before = rows(&store.reader, start).await;
    assert_eq!(before.len(), 26, "{before:?}");
    drop(store);
    let store = store::open(config(2), Clock::system(), &Registry::new()).unwrap();
    let stop = runtime::Stop::new();
    let upkeep = store.upkeep;
    let (ended, reader) = (stop.clone(), store.reader);
    let expiring = tokio::spawn(async move { upkeep.run_flush(ended).await });
    let expired = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while reader.snapshot(None).first_stored("m").is_none_or(|first| first < start + day) {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), expired).await.expect("raw samples never go");
    assert_eq!(rows(&reader, start).await, before);
    // A bucket of the rollups that begins before the range is left out; the rest of its two hours is there.
    let later = rows(&reader, start + 1).await;
    assert_eq!(later[1..13], before[1..13]);
    assert!(later[0].contains(",6,") && before[0].contains(",12,"), "{} {}", later[0], before[0]);
    stop.request();
    expiring.await.unwrap().unwrap();
}
