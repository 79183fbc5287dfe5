use super::*;
use crate::target::Credentials;
use model::{Bytes, Labels};
use platform::tls::Tls;
use std::collections::BTreeMap;
use store::{Opened, StoreConfig};
use telemetry::Registry;
use tempfile::TempDir;

struct Bench {
    store: Opened,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
        let store = store::open(config, Clock::system(), &Registry::new()).unwrap();
        Self { store, _dir: dir }
    }

    fn reader(&self, labels: &[(&str, &str)], max_samples: usize) -> PageReader {
        let labels = Labels::from_pairs(labels.iter().copied());
        let manner = Arc::new(Manner { max_samples, ..manner(Duration::from_secs(1)) });
        PageReader::new(Stage::new(self.store.writer.clone(), labels), &manner)
    }

    /// All that is stored of a metric: series and their values, in order of time.
    fn stored(&self, metric: &str) -> BTreeMap<String, Vec<f64>> {
        let snapshot = self.store.reader.snapshot(None);
        let scans = snapshot.scan(metric, &|_, _| true, i64::MIN, i64::MAX, 1).unwrap();
        let chunks = scans.into_iter().flatten().map(Result::unwrap);
        chunks.map(|chunk| (chunk.key.to_string(), chunk.points.values)).collect()
    }
}

fn page(text: &str) -> Page {
    Page { body: text.to_owned().into(), dialect: Dialect::Prometheus }
}

fn now() -> Timestamp {
    Clock::system().now()
}

#[tokio::test]
async fn a_pages_series_keep_their_values_whatever_their_order() {
    let bench = Bench::new();
    let mut reader = bench.reader(&[("job", "j")], 100);
    for (n, text) in [
        "a{x=\"1\"} 1\na{x=\"2\"} 2\nb 3\n",
        "a{x=\"1\"} 10\na{x=\"2\"} 20\nb 30\n",
        "b 300\na{x=\"3\"} 4\na{x=\"1\"} 100\n",
        "a{x=\"1\"} 1000\n",
        "",
        "a{x=\"1\"} 5\na{x=\"1\"} 6\n",
    ]
    .into_iter()
    .enumerate()
    {
        reader.read(&page(text)).unwrap();
        reader.stage.append(now().plus(Duration::from_millis(n as u64))).await.unwrap();
    }
    // The empty page ends every series, each missing series is marked once, where it is first missed.
    let stored = bench.stored("a");
    let shown = |key: &str| format!("{:?}", stored[key]);
    assert_eq!(shown("a{job=\"j\",x=\"1\"}"), "[1.0, 10.0, 100.0, 1000.0, NaN, 6.0]");
    assert_eq!(shown("a{job=\"j\",x=\"2\"}"), "[2.0, 20.0, NaN]");
    assert_eq!(shown("a{job=\"j\",x=\"3\"}"), "[4.0, NaN]");
    assert_eq!(format!("{:?}", bench.stored("b")["b{job=\"j\"}"]), "[3.0, 30.0, 300.0, NaN]");
    assert!(model::sample::is_stale(stored["a{job=\"j\",x=\"2\"}"][2]));
}

#[tokio::test]
async fn a_pages_own_label_of_our_name_is_kept_aside() {
    let bench = Bench::new();
    let mut reader = bench.reader(&[("job", "ours")], 100);
    reader.read(&page("a{job=\"theirs\"} 1\nb{exported_job=\"far\",job=\"theirs\"} 2\n")).unwrap();
    reader.stage.append(now()).await.unwrap();
    let stored = bench.stored("a");
    assert_eq!(stored.keys().next().unwrap(), "a{exported_job=\"theirs\",job=\"ours\"}");
    let both = "b{exported_exported_job=\"theirs\",exported_job=\"far\",job=\"ours\"}";
    assert_eq!(bench.stored("b").keys().next().unwrap(), both);
}

#[tokio::test]
async fn with_honor_labels_a_pages_own_labels_win_and_without_honor_timestamps_its_times_do_not() {
    let bench = Bench::new();
    let mut reader = bench.reader(&[("job", "ours"), ("zone", "z")], 100);
    let kept = Manner { honor_labels: true, honor_timestamps: false, ..(*reader.manner).clone() };
    reader.manner = Arc::new(kept);
    reader.read(&page("a{job=\"theirs\"} 1 1000\n")).unwrap();
    let time = now();
    reader.stage.append(time).await.unwrap();
    let snapshot = bench.store.reader.snapshot(None);
    let scans = snapshot.scan("a", &|_, _| true, i64::MIN, i64::MAX, 1).unwrap();
    let chunk = scans.into_iter().flatten().next().unwrap().unwrap();
    assert_eq!(chunk.key.to_string(), "a{job=\"theirs\",zone=\"z\"}");
    assert_eq!(chunk.points.times, [time.millis()]);
}

#[tokio::test]
async fn a_series_with_times_of_its_own_is_never_marked_and_a_failed_scrape_marks_the_rest() {
    let bench = Bench::new();
    let mut reader = bench.reader(&[], 100);
    let start = now();
    let own = start.minus(Duration::from_secs(5)).millis();
    reader.read(&page(&format!("timed 1 {own}\nplain 2\nplain 3\n"))).unwrap();
    reader.stage.append(start).await.unwrap();
    reader.mark_all_gone();
    assert_eq!(reader.stage.len(), 1);
    reader.stage.append(start.plus(Duration::from_millis(1))).await.unwrap();
    reader.mark_all_gone();
    assert_eq!(reader.stage.len(), 0, "once is enough");
    assert_eq!(bench.stored("timed")["timed"], [1.0]);
    assert_eq!(format!("{:?}", bench.stored("plain")["plain"]), "[3.0, NaN]");
}

#[tokio::test]
async fn credentials_are_read_from_their_files_each_time() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("secret");
    let write = |text: &str| platform::durable::replace(&file, text.as_bytes()).unwrap();
    write("first\n");
    let bearer = Credentials::Bearer(file.clone());
    assert_eq!(bearer.header().unwrap().unwrap(), "Bearer first");
    write("second");
    assert_eq!(bearer.header().unwrap().unwrap(), "Bearer second");
    let auth = crate::BasicAuth { username: "Aladdin".to_owned(), password_file: file.clone() };
    write("open sesame");
    // The example of RFC 7617.
    let header = Credentials::Basic(auth).header().unwrap().unwrap();
    assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    platform::durable::remove_file(&file).unwrap();
    assert_eq!(bearer.header().unwrap_err().reason(), "credentials");
}

#[tokio::test]
async fn a_page_over_the_sample_limit_is_refused_whole() {
    let bench = Bench::new();
    let mut reader = bench.reader(&[], 2);
    assert_eq!(reader.read(&page("a 1\nb 2\nc 3\n")).unwrap_err().reason(), "too_many_samples");
    assert_eq!(reader.stage.len(), 0);
    assert_eq!(reader.read(&page("a 1\nb 2\n")).unwrap().samples, 2);
    reader.stage.append(now()).await.unwrap();
    reader.read(&page("a 1\nc 2\nd 3\n")).unwrap_err();
    reader.mark_all_gone();
    assert_eq!(reader.stage.len(), 2, "what was stored before is marked, and nothing else");
}

#[tokio::test]
async fn a_page_cut_within_a_value_does_not_give_a_wrong_value() {
    let bench = Bench::new();
    let mut reader = bench.reader(&[], 100);
    reader.read(&page("a 1234\nb 5678\n")).unwrap();
    reader.stage.truncate(0);
    let found = reader.read(&page("a 1234\nb 56")).unwrap();
    assert_eq!((found.samples, found.malformed_lines), (1, 1));
    assert_eq!(
        found.malformed[0].to_string(),
        "line 2: page ends within this line, its value may be cut: \"b\""
    );
    reader.stage.truncate(0);
    assert_eq!(reader.read(&page("a 1234\nb{x=\"")).unwrap().samples, 1);
    reader.stage.truncate(0);
    assert_eq!(reader.read(&page("a 1234\nb 5")).unwrap().samples, 1, "and the next one neither");
    for _ in 0..OPEN {
        reader.stage.truncate(0);
        reader.read(&page("a 1234\nb 7")).unwrap();
    }
    reader.stage.truncate(0);
    assert_eq!(reader.read(&page("a 1234\nb 7")).unwrap().samples, 2, "its pages end so by now");
    let open = Page { dialect: Dialect::OpenMetrics, ..page("a 1234\nb 56") };
    assert_eq!(bench.reader(&[], 100).read(&open).unwrap().samples, 1, "`# EOF` is missing");
    let mut never_ended = bench.reader(&[], 100);
    for _ in 0..2 {
        assert_eq!(
            never_ended.read(&page("a 1234\nb 56")).unwrap().samples,
            2,
            "some programs print none"
        );
    }
}

#[tokio::test]
async fn the_failed_gateways_page_gives_413_samples_and_names_27_lines() {
    let bench = Bench::new();
    let mut reader = bench.reader(&[("job", "gateway")], 1000);
    let text = include_str!("../../../../crates/model/tests/data/real-malformed-buckets.prom");
    let found = reader.read(&page(text)).unwrap();
    assert_eq!((found.samples, found.malformed_lines, found.malformed.len()), (413, 27, SHOWN));
}

fn manner(interval: Duration) -> Manner {
    Manner {
        interval,
        timeout: interval / 2,
        max_body_size: Bytes(1 << 20),
        max_samples: 100,
        max_attempts: 5,
        honor_labels: false,
        honor_timestamps: true,
        metric_relabel: Vec::new(),
        credentials: Credentials::None,
    }
}

/// A server that answers each request with the next of `answers`, closing the connection; then it is gone.
async fn server(answers: Vec<&'static str>) -> (String, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, task)
}

#[tokio::test]
async fn r3_2_a_server_that_fails_n_times_is_scraped_with_attempts_and_causes_as_series() {
    let bad = "HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let cut = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 99\r\n\r\na 1";
    let good = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\na 7\n";
    let bench = Bench::new();
    let (url, task) = server(vec![bad, bad, cut, good]).await;
    let interval = Duration::from_secs(20);
    let board = crate::TargetBoard::new();
    let labels = Labels::from_pairs([("job", "j")]);
    let target = Arc::new(Target { url, labels, manner: Arc::new(manner(interval)) });
    let tools = Tools {
        writer: bench.store.writer.clone(),
        clock: Clock::system(),
        board: board.clone(),
        meters: Meters::new(&Registry::new()),
    };
    let mut cycle = Cycle::new(target, &tools, Arc::new(JobClient::new(Tls::default())));
    let due = now();
    cycle.run(due, due.plus(interval)).await;
    task.await.unwrap();
    let value = |metric: &str, series: &str| bench.stored(metric)[series].clone();
    assert_eq!(value("a", "a{job=\"j\"}"), [7.0]);
    assert_eq!(value("up", "up{job=\"j\"}"), [1.0]);
    assert_eq!(value("scrape_attempts", "scrape_attempts{job=\"j\"}"), [4.0]);
    let failures = bench.stored("scrape_failures_total");
    assert_eq!(failures["scrape_failures_total{job=\"j\",reason=\"status\"}"], [2.0]);
    assert_eq!(failures["scrape_failures_total{job=\"j\",reason=\"closed\"}"], [1.0]);

    // The server is gone now: five attempts, all refused, within the interval.
    let due = due.plus(Duration::from_millis(1));
    cycle.run(due, due.plus(interval)).await;
    assert_eq!(value("up", "up{job=\"j\"}"), [1.0, 0.0]);
    let status = board.read().pop().unwrap();
    assert_eq!((status.attempts, status.last_error.as_deref()), (5, Some("connection refused")));

    // When the target goes, its series end, those about the scrape too, and it leaves the board.
    cycle.end().await;
    let ended = |metric: &str, series: &str| {
        model::sample::is_stale(*bench.stored(metric)[series].last().unwrap())
    };
    assert!(ended("a", "a{job=\"j\"}") && ended("up", "up{job=\"j\"}"));
    assert!(board.read().is_empty());
}

#[tokio::test]
async fn what_a_page_says_of_its_metrics_is_kept_and_series_are_relabelled() {
    let bench = Bench::new();
    let mut reader = bench.reader(&[], 100);
    let rules = "source_labels = [\"__name__\"]\nregex = \"drop.*\"\naction = \"drop\"";
    let metric_relabel = vec![toml::from_str(rules).unwrap()];
    reader.manner = Arc::new(Manner { metric_relabel, ..(*reader.manner).clone() });
    let text = "# HELP a One \\\\ two\\nthree.\n# TYPE a counter\na 1\ndrop_me 2\n";
    reader.read(&page(text)).unwrap();
    reader.stage.append(now()).await.unwrap();
    let info = &bench.store.reader.infos()["a"];
    assert_eq!((info.kind, &*info.help), (MetricKind::Counter, "One \\ two\nthree."));
    assert!(bench.stored("drop_me").is_empty());
    reader.read(&page(text)).unwrap();
    assert!(reader.stage.said_nothing(), "nothing new is said");
    let text = "# TYPE a counter\n# UNIT a seconds\na_total 1\n# EOF\n";
    reader.read(&Page { body: text.into(), dialect: Dialect::OpenMetrics }).unwrap();
    reader.stage.append(now()).await.unwrap();
    let infos = bench.store.reader.infos();
    assert_eq!((&*infos["a"].unit, infos["a_total"].kind), ("seconds", MetricKind::Counter));
}
