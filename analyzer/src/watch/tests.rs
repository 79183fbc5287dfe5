use super::*;
use crate::{Forecasts, Format, Query, QueryConfig, Severity};
use runtime::Clock;
use std::time::Duration;
use store::{Batch, Opened, StoreConfig, Times};
use telemetry::Registry;
use tempfile::TempDir;

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;

/// A store with some days of one target, a sample a minute, that end now.
struct History {
    store: Opened,
    _dir: TempDir,
    start: i64,
    end: i64,
}

/// What happens, each as a factor or size at a time in days.
struct Story {
    days: i64,
    /// Bytes of memory more.
    leaked: fn(f64) -> f64,
    cost: fn(f64) -> f64,
    errors: fn(f64) -> f64,
    latency: fn(f64) -> f64,
    requests: fn(f64) -> f64,
    answered: fn(f64) -> f64,
}

const CALM: Story = Story {
    days: 3,
    leaked: |_| 0.0,
    cost: |_| 1.0,
    errors: |_| 1.0,
    latency: |_| 1.0,
    requests: |_| 1.0,
    answered: |_| 1.0,
};

/// Three days, of which the last two leak `bytes` an hour.
const LEAK: Story = Story { leaked: |day| 4e6 * 24.0 * (day - 1.0).max(0.0), ..CALM };

/// One thing after the other.
const EVENTS: Story = Story {
    days: 12,
    cost: |day| if day > 9.0 { 1.25 } else { 1.0 },
    errors: |day| if (10.3..10.35).contains(&day) { 20.0 } else { 1.0 },
    latency: |day| if (10.8..10.85).contains(&day) { 3.0 } else { 1.0 },
    requests: |day| if (11.3..11.4).contains(&day) { 0.3 } else { 1.0 },
    answered: |day| if (11.8..11.81).contains(&day) { 0.0 } else { 1.0 },
    ..CALM
};

/// Requests with a daily wave, processor time and latency that follow them, memory, a disk that fills, a rare value.
fn history(story: &Story) -> History {
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
        ("app_request_duration_seconds_sum", None),
        ("app_request_duration_seconds_count", None),
        ("up", None),
    ];
    let series = series.map(|(metric, label)| {
        let labels = [("job", "app"), ("instance", "a:1")].into_iter().chain(label);
        writer.series(&SeriesKey::new(metric, Labels::from_pairs(labels))).unwrap()
    });
    let end = Clock::system().now().millis() / MINUTE * MINUTE - MINUTE;
    let start = end - story.days * DAY;
    let (mut good, mut bad, mut cpu, mut waited, mut count) = (1e6, 10.0, 5e3, 4e3, 1e6);
    let mut seed = 7_u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as f64 / f64::from(1_u32 << 31) - 0.5
    };
    for n in 0..story.days * 1440 {
        let day = n as f64 / 1440.0;
        let wave = 1.0 + 0.4 * (day * std::f64::consts::TAU).sin();
        let rate = 50.0 * wave * (1.0 + 0.1 * noise()) * (story.requests)(day);
        let requests = (rate * 60.0).round();
        let failed = (requests * 0.001 * (story.errors)(day) * (1.0 + noise())).round();
        good += requests - failed;
        bad += failed;
        let saturated = (story.answered)(day) == 0.0;
        let burnt = (0.05 + 0.004 * rate) * (story.cost)(day) * (1.0 + 0.05 * noise());
        cpu += if saturated { 0.99 } else { burnt } * 60.0;
        waited +=
            requests * 0.02 * (1.0 + 0.3 * wave) * (1.0 + 0.1 * noise()) * (story.latency)(day);
        count += requests;
        let memory = 2e8 + 2e5 * rate + (story.leaked)(day) + 4e6 * noise();
        let times = Times::One(Timestamp(start + n * MINUTE));
        let answered = (story.answered)(day);
        let values = vec![good, bad, cpu, memory.round(), 1e9, waited, count, answered];
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
    let history = history(&LEAK);
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
    let history = history(&CALM);
    let mut watch = Watch::new(config(), history.start);
    assert_eq!(watched(&history, &mut watch, history.end), []);
    // The target, and its memory, processor, latency, errors, throughput and saturation.
    assert_eq!(watch.counts(), (7, 0));
}

#[test]
fn the_same_is_known_after_a_restart_in_the_middle() {
    let history = history(&LEAK);
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
    let history = history(&CALM);
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

/// Whether the query of each finding gives its numbers.
async fn assert_reproduced(history: &History, new: &[Finding], findings: Findings) -> Query {
    let reader = history.store.reader.clone();
    let kept = Forecasts::in_memory();
    let query = Query::with_findings(
        QueryConfig::default(),
        reader,
        config(),
        (findings, kept),
        crate::Given::none(),
    );
    let query = query.unwrap();
    for finding in new {
        let answer = query.run(&finding.sql, &[]).await.unwrap();
        let json = answer.encode(Format::Json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["rows"].as_array().map(Vec::len), Some(1), "{}: {json}", finding.sql);
        let columns = json["columns"].as_array().unwrap().iter();
        let at = |name: &str| columns.clone().position(|it| it["name"] == name);
        for (name, estimate) in &finding.numbers {
            // The score is of longer memory, and of the decision.
            if name == "score" && finding.kind != Kind::Leak && finding.kind != Kind::CpuDrift {
                continue;
            }
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
    query
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_of_a_leak_gives_its_numbers_again() {
    let history = history(&LEAK);
    let mut watch = Watch::new(config(), history.start);
    let findings = Findings::in_memory(&config());
    let new = keep(watched(&history, &mut watch, history.end), &findings);
    let query = assert_reproduced(&history, &new, findings).await;
    let sql = "SELECT kind, severity, belongs_to FROM findings";
    let rows = query.run(sql, &[]).await.unwrap().encode(Format::Csv).unwrap();
    assert_eq!(String::from_utf8(rows).unwrap(), "kind,severity,belongs_to\nleak,ticket,\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_found_by_its_name_and_its_sql_gives_its_numbers_again() {
    let history = history(&EVENTS);
    let mut watch = Watch::new(config(), history.start);
    let findings = Findings::in_memory(&config());
    let new = keep(watched(&history, &mut watch, history.end), &findings);
    let told: Vec<String> = new
        .iter()
        .map(|it| {
            let day = (it.at.millis() - history.start) as f64 / DAY as f64;
            format!("{:.1} {} {}", day, it.kind.name(), it.summary())
        })
        .collect();
    let when = |kind: Kind| {
        let first = new.iter().find(|it| it.kind == kind);
        first.map(|it| (it.since.millis() - history.start) as f64 / DAY as f64)
    };
    for (kind, from) in [
        (Kind::CpuDrift, 9.0),
        (Kind::Errors, 10.3),
        (Kind::Latency, 10.8),
        (Kind::Throughput, 11.3),
        (Kind::Saturation, 11.8),
    ] {
        let since = when(kind);
        let near = since.is_some_and(|since| (since - from).abs() < 0.25);
        assert!(near, "{kind:?} began on day {since:?} and not on {from}: {told:#?}");
    }
    assert!(!new.iter().any(|it| it.kind == Kind::Leak), "{told:#?}");
    let ended = |kind: Kind| findings.list().iter().any(|it| it.kind == kind && it.until.is_some());
    for kind in [Kind::Errors, Kind::Latency, Kind::Throughput, Kind::Saturation] {
        assert!(ended(kind), "{kind:?} goes on");
    }
    assert_reproduced(&history, &new, findings).await;
}

/// A store that takes what a test gives it.
struct Given {
    store: Opened,
    _dir: TempDir,
    start: i64,
}

impl Given {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
        let store = store::open(config, Clock::system(), &Registry::new()).unwrap();
        let start = Clock::system().now().millis() / MINUTE * MINUTE - 60 * MINUTE;
        Self { store, _dir: dir, start }
    }

    fn put(&self, second: i64, metric: &str, labels: &[(&str, &str)], value: f64) {
        let writer = self.store.writer.for_history();
        let key = SeriesKey::new(metric, Labels::from_pairs(labels.iter().copied()));
        let series = vec![writer.series(&key).unwrap()].into();
        let times = Times::One(Timestamp(self.start + second * 1000));
        writer.append(Batch { series, values: vec![value], times }).unwrap();
    }

    fn look(&self, watch: &mut Watch, second: i64) -> Vec<Said> {
        let snapshot = self.store.reader.snapshot(None);
        watch.advance(&snapshot, &|_| true, self.start + second * 1000).unwrap()
    }
}

const APP: [(&str, &str); 2] = [("job", "app"), ("instance", "a:1")];

#[test]
fn a_process_read_from_outside_is_the_target_of_its_name_and_its_end_of_speed_is_seen() {
    let given = Given::new();
    let mut watch = Watch::new(config(), given.start);
    let process = [("job", "process"), ("instance", "host"), ("process", "app")];
    let mut said = Vec::new();
    let mut cpu = 100.0;
    for second in 0..300 {
        let hung = second >= 200;
        cpu += if hung { 0.98 } else { 0.2 };
        given.put(second, "process_cpu_seconds_total", &process, cpu);
        given.put(second, "process_start_time_seconds", &process, 1e9);
        given.put(second, "up", &process, 1.0);
        if second % 5 == 0 && !hung {
            given.put(second, "up", &APP, 1.0);
            given.put(second, "app_requests_total", &APP, 50.0 * second as f64);
        }
        // What failed is told ten seconds later.
        if second % 5 == 0 && second >= 210 {
            given.put(second - 10, "up", &APP, 0.0);
        }
        if second % 10 == 9 {
            said.extend(given.look(&mut watch, second - 2));
        }
    }
    assert_eq!(watch.targets.len(), 1, "{:?}", watch.targets.keys());
    let [Said::Found(found)] = &said[..] else { panic!("{said:#?}") };
    assert_eq!(found.draft.kind, Kind::Saturation);
    let after = (found.draft.at - given.start) / 1000 - 200;
    assert!((0..=30).contains(&after), "{after} s after it hung");
    // Another process: what the old one did not answer is over.
    given.look(&mut watch, 300);
    given.put(301, "process_start_time_seconds", &process, 1.1e9);
    let [Said::Ended { kind: Kind::Saturation, subject, .. }] = &given.look(&mut watch, 320)[..]
    else {
        panic!("it did not end")
    };
    assert_eq!(*subject, found.subject);
}

#[test]
fn a_leak_that_is_read_from_outside_is_told_of_the_target() {
    let given = Given::new();
    let mut watch = Watch::new(config(), given.start);
    let process = [("job", "process"), ("instance", "host"), ("process", "app")];
    let mut said = Vec::new();
    for second in 0..120 {
        given.put(second, "up", &APP, 1.0);
        given.put(second, "process_resident_memory_bytes", &process, 2e7 + 3e6 * second as f64);
        given.put(second, "process_start_time_seconds", &process, 1e9);
        if second % 10 == 9 {
            said.extend(given.look(&mut watch, second - 2));
        }
    }
    let Some(Said::Found(found)) = said.into_iter().next() else { panic!("no leak") };
    // Another process leaks no more.
    given.look(&mut watch, 120);
    given.put(121, "process_start_time_seconds", &process, 1.1e9);
    let ended = given.look(&mut watch, 140);
    assert!(
        matches!(&ended[..], [Said::Ended { kind: Kind::Leak, subject, .. }] if *subject == found.subject),
        "{ended:?}"
    );
    let leak = finding(*found);
    assert_eq!((leak.kind, leak.subject.labels["job"].as_str()), (Kind::Leak, "process"));
    let target: Vec<_> = leak.target.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(target, [("instance", "a:1"), ("job", "app")]);
}

#[test]
fn the_first_error_is_counted_as_one_and_not_as_all() {
    let given = Given::new();
    let mut watch = Watch::new(config(), given.start);
    let with = |code: &'static str| [("job", "app"), ("instance", "a:1"), ("code", code)];
    for n in 0..20_i64 {
        given.put(n * 10, "app_requests_total", &with("200"), 1000.0 * n as f64);
        if n >= 15 {
            given.put(n * 10, "app_requests_total", &with("500"), 5.0 * (n - 14) as f64);
        }
    }
    given.look(&mut watch, 400);
    let target = watch.targets.values().next().unwrap();
    let (errors, expected) = target.error_ratios();
    assert!((errors - 0.5 / 100.5).abs() < 1e-9, "{errors}");
    assert!(expected < 0.01, "{expected}");
}

#[test]
fn a_scrape_that_is_pushed_in_parts_is_taken_whole() {
    let run = |parts: bool| {
        let given = Given::new();
        let mut watch = Watch::new(config(), given.start);
        let with = |code: &'static str| [("job", "app"), ("instance", "a:1"), ("code", code)];
        for n in 0..61_i64 {
            let second = n * 10;
            given.put(second, "app_requests_total", &with("200"), 900.0 * n as f64);
            if parts && n % 3 == 2 {
                // The look comes between the two halves, and the other half after the next scrape.
                given.look(&mut watch, second + 1);
            } else {
                given.put(second, "app_requests_total", &with("500"), 100.0 * n as f64);
            }
            if parts && n % 3 == 0 && n > 0 {
                given.look(&mut watch, second + 1);
                let before = 100.0 * (n - 1) as f64;
                given.put(second - 10, "app_requests_total", &with("500"), before);
            }
            if !parts {
                given.look(&mut watch, second + 8);
            }
        }
        given.look(&mut watch, 700);
        let target = watch.targets.values().next().unwrap().clone();
        postcard::to_allocvec(&target).unwrap()
    };
    assert!(run(true) == run(false));
}

#[test]
fn a_disk_of_which_room_was_made_fills_no_longer() {
    let given = Given::new();
    let (first, step) = (-7 * DAY / 1000, 300);
    let mut watch = Watch::new(config(), given.start + first * 1000);
    let disk = [("job", "node"), ("instance", "host"), ("mountpoint", "/")];
    let (mut said, mut freed) = (Vec::new(), 0.0);
    for second in (first..0).step_by(step) {
        let day = (second - first) as f64 / 86_400.0;
        if day > 5.0 {
            freed = 70e9;
        }
        given.put(second, "node_filesystem_size_bytes", &disk, 100e9);
        given.put(second, "node_filesystem_avail_bytes", &disk, 40e9 - 6e9 * day + freed);
        if second % (6 * 3600) == 0 {
            said.extend(given.look(&mut watch, second));
        }
    }
    let [Said::Found(found), Said::Ended { kind: Kind::Capacity, subject, at }] = &said[..] else {
        panic!("{said:#?}")
    };
    assert_eq!((found.draft.kind, found.draft.severity), (Kind::Capacity, Severity::Ticket));
    assert_eq!(*subject, found.subject);
    let after = (at - given.start - first * 1000) as f64 / DAY as f64 - 5.0;
    assert!((0.0..0.4).contains(&after), "{after} days after");
}
