use super::*;
use crate::{Forecasts, Format, Query, QueryConfig, Severity};
use runtime::Clock;
use std::time::Duration;
use store::{Batch, Opened, StoreConfig, Times};
use telemetry::Registry;
use tempfile::TempDir;

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;

/// A store with three days of one target, a sample a minute: requests with a daily wave, processor time that follows
/// them, and memory that grows by `leak` bytes an hour from the second day on.
struct History {
    store: Opened,
    _dir: TempDir,
    start: i64,
    end: i64,
}

fn history(leak: f64) -> History {
    let dir = TempDir::new().unwrap();
    let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    let store = store::open(config, Clock::system(), &Registry::new()).unwrap();
    let writer = store.writer.for_history();
    let series = [
        ("app_requests_total", Some(("code", "200"))),
        ("app_requests_total", Some(("code", "500"))),
        ("process_cpu_seconds_total", None),
        ("process_resident_memory_bytes", None),
        ("process_start_time_seconds", None),
    ];
    let series = series.map(|(metric, label)| {
        let labels = [("job", "app"), ("instance", "a:1")].into_iter().chain(label);
        writer.series(&SeriesKey::new(metric, Labels::from_pairs(labels))).unwrap()
    });
    let end = Clock::system().now().millis() / MINUTE * MINUTE - MINUTE;
    let start = end - 3 * DAY;
    let (mut good, mut bad, mut cpu) = (1e6, 10.0, 5e3);
    let mut seed = 7_u64;
    for n in 0..3 * 1440_i64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = (seed >> 33) as f64 / f64::from(1_u32 << 31) - 0.5;
        let day = n as f64 / 1440.0;
        let rate = 50.0 * (1.0 + 0.4 * (day * std::f64::consts::TAU).sin()) * (1.0 + 0.1 * noise);
        good += rate * 60.0;
        bad += (rate * 60.0 * 0.001).round();
        cpu += (0.05 + 0.004 * rate) * 60.0;
        let grown = leak * ((n - 1440).max(0) as f64 / 60.0);
        let memory = 2e8 + 2e5 * rate + grown + 4e6 * noise;
        let times = Times::One(Timestamp(start + n * MINUTE));
        let values = vec![good, bad, cpu, memory.round(), 1e9];
        writer.append(Batch { series: series.to_vec().into(), values, times }).unwrap();
        if n % 700 == 699 {
            store.upkeep.flush_now().unwrap();
        }
    }
    History { store, _dir: dir, start, end }
}

fn config() -> AnalyzerConfig {
    AnalyzerConfig { history: Duration::from_secs(30 * 86_400), ..AnalyzerConfig::default() }
}

fn watched(history: &History, watch: &mut Watch, to: i64) -> Vec<Said> {
    let snapshot = history.store.reader.snapshot(None);
    let mut said = Vec::new();
    while watch.until < to {
        let next = to.min(watch.until + 17 * MINUTE);
        said.extend(watch.advance(&snapshot, &|_| true, next).unwrap());
    }
    said
}

#[test]
fn a_leak_is_found_with_its_words_and_nothing_else_is() {
    let history = history(4e6);
    let mut watch = Watch::new(config(), history.start);
    let findings = Findings::in_memory(&config());
    let new = keep(watched(&history, &mut watch, history.end), &findings);
    let told: Vec<String> =
        new.iter().map(|it| format!("{} {}: {}", it.at, it.subject, it.words.join("; "))).collect();
    let [leak] = &new[..] else { panic!("{told:#?}") };
    assert_eq!((leak.kind, leak.severity), (Kind::Leak, Severity::Ticket));
    assert_eq!(leak.subject.metric, "process_resident_memory_bytes");
    let slope = leak.numbers["slope_per_hour"];
    assert!((slope.value / 4e6 - 1.0).abs() < 0.2, "{slope:?}");
    assert!(slope.low.unwrap() < 4e6 && slope.high.unwrap() > 4e6, "{slope:?}");
    let began = (leak.since.millis() - history.start - DAY) / 3_600_000;
    assert!(began.abs() <= 12, "{began} h: {}", leak.summary());
    assert!(leak.summary().contains("MiB an hour since"), "{}", leak.summary());
}

#[test]
fn memory_that_does_not_leak_gives_no_finding() {
    let history = history(0.0);
    let mut watch = Watch::new(config(), history.start);
    assert_eq!(watched(&history, &mut watch, history.end), []);
    // Memory, processor, errors, throughput and saturation; latency has no metric here.
    assert_eq!(watch.counts(), (5, 0));
}

#[test]
fn the_same_is_known_after_a_restart_in_the_middle() {
    let history = history(4e6);
    let middle = history.start + 5 * DAY / 2 + 12_345;
    let mut whole = Watch::new(config(), history.start);
    let mut expected = watched(&history, &mut whole, middle);
    expected.extend(watched(&history, &mut whole, history.end));
    let mut first = Watch::new(config(), history.start);
    let mut said = watched(&history, &mut first, middle);
    let dir = TempDir::new().unwrap();
    state::save(&first, dir.path()).unwrap();
    drop(first);
    let mut second = state::load(dir.path(), &config()).unwrap();
    said.extend(watched(&history, &mut second, history.end));
    assert_eq!(said, expected);
    // Numbers that are not known are NaN, which equals nothing; their bytes do.
    let bytes = |watch: &Watch| {
        let targets: Vec<&Target> = watch.targets.values().collect();
        postcard::to_allocvec(&targets).unwrap()
    };
    assert!(bytes(&second) == bytes(&whole));
    let other = AnalyzerConfig { false_alarms_per_series_day: 0.5, ..config() };
    assert!(state::load(dir.path(), &other).is_none());
}

#[test]
fn a_damaged_state_is_learned_anew() {
    let history = history(0.0);
    let mut watch = Watch::new(config(), history.start);
    watched(&history, &mut watch, history.start + DAY);
    let dir = TempDir::new().unwrap();
    state::save(&watch, dir.path()).unwrap();
    let path = dir.path().join("detectors.state");
    let mut bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).filter(|at| *at < 40 || at % 997 == 0) {
        bytes[at] ^= 0x40;
        platform::durable::replace(&path, &bytes).unwrap();
        assert!(state::load(dir.path(), &config()).is_none(), "byte {at}");
        bytes[at] ^= 0x40;
        platform::durable::replace(&path, &bytes[..at]).unwrap();
        assert!(state::load(dir.path(), &config()).is_none(), "cut at {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_of_a_finding_gives_its_numbers_again() {
    let history = history(4e6);
    let mut watch = Watch::new(config(), history.start);
    let findings = Findings::in_memory(&config());
    let new = keep(watched(&history, &mut watch, history.end), &findings);
    let reader = history.store.reader.clone();
    let kept = Forecasts::in_memory();
    let query = Query::with_findings(QueryConfig::default(), reader, config(), findings, kept);
    let query = query.unwrap();
    for finding in new {
        let answer = query.run(&finding.sql, &[]).await.unwrap();
        let json = answer.encode(Format::Json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["rows"].as_array().map(Vec::len), Some(1), "{}: {json}", finding.sql);
        let columns = json["columns"].as_array().unwrap().iter();
        let at = |name: &str| columns.clone().position(|it| it["name"] == name);
        for (name, estimate) in &finding.numbers {
            let value = Some(estimate.value).filter(|it| it.is_finite());
            for (end, expected) in [("", value), ("_low", estimate.low), ("_high", estimate.high)] {
                let column = at(&format!("{name}{end}")).unwrap();
                let got = json["rows"][0][column].as_f64();
                // The last digit is lost on the way through JSON.
                let same = match (got, expected) {
                    (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * b.abs(),
                    (got, expected) => got == expected,
                };
                assert!(same, "{name}{end}: {got:?} and {expected:?}: {}", finding.sql);
            }
        }
    }
    let sql = "SELECT kind, severity, belongs_to FROM findings";
    let rows = query.run(sql, &[]).await.unwrap().encode(Format::Csv).unwrap();
    assert_eq!(String::from_utf8(rows).unwrap(), "kind,severity,belongs_to\nleak,ticket,\n");
}
