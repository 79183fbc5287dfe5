use super::*;
use crate::TargetStatus;
use rcgen::{CertifiedKey, KeyPair};
use std::path::Path;
use store::{Opened, StoreConfig};
use telemetry::Registry;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A target that serves one series over TLS until the runtime ends.
async fn target(certificate: &CertifiedKey<KeyPair>) -> u16 {
    let key =
        rustls::pki_types::PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(platform::tls::provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nsaw 1\n";
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

/// The newest value of `up` of each target, by its label `zone`, staleness marks as `gone`.
fn up(store: &Opened) -> Vec<String> {
    let snapshot = store.reader.snapshot(Some(&["up"]));
    let mut all: Vec<String> = snapshot
        .scan("up", &|_, _| true, i64::MIN, i64::MAX, 1)
        .unwrap()
        .into_iter()
        .flatten()
        .map(|chunk| {
            let chunk = chunk.unwrap();
            let value = chunk.points.values.last().copied().unwrap();
            let zone = chunk.key.labels.get("zone").unwrap_or("none").to_owned();
            let gone = model::sample::is_stale(value);
            if gone { format!("{zone} gone") } else { format!("{zone} {value}") }
        })
        .collect();
    all.sort();
    all
}

async fn until(what: &str, mut fits: impl FnMut() -> bool) {
    let fact = async {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        while !fits() {
            look.tick().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), fact).await;
    assert!(waited.is_ok(), "waited in vain for {what}");
}

fn list(path: &Path, targets: &[(u16, &str)]) {
    let group = |(port, zone): &(u16, &str)| {
        format!("- targets: ['127.0.0.1:{port}']\n  labels: {{zone: {zone}}}\n")
    };
    let text: String = targets.iter().map(group).collect();
    platform::durable::replace(path, text.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_of_a_file_come_and_go_and_are_scraped_over_tls() {
    let dir = TempDir::new().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["target.test".to_owned()]).unwrap();
    let ca = dir.path().join("ca.pem");
    platform::durable::replace(&ca, certificate.cert.pem().as_bytes()).unwrap();
    let (one, two) = (target(&certificate).await, target(&certificate).await);
    let file = dir.path().join("targets.yml");
    list(&file, &[(one, "one"), (two, "two")]);
    let scrape: ScrapeConfig = toml::from_str(&format!(
        r#"
        job = "j"
        interval = "100ms"
        scheme = "https"
        tls_config = {{ ca_file = {ca:?}, server_name = "target.test" }}
        file_sd_configs = [{{ files = [{file:?}], refresh_interval = "100ms" }}]
        "#
    ))
    .unwrap();
    let config = StoreConfig { dir: dir.path().join("data"), ..StoreConfig::default() };
    let store = store::open(config, Clock::system(), &Registry::new()).unwrap();
    let board = TargetBoard::new();
    let tools = Tools {
        writer: store.writer.clone(),
        clock: Clock::system(),
        board: board.clone(),
        meters: scrape::Meters::new(&Registry::new()),
    };
    let config = Arc::new(CollectorConfig::default());
    let job = Job::new(&scrape, &config, tools);
    let stop = Stop::new();
    let running = tokio::spawn(job.run(stop.clone()));
    until("both targets", || up(&store) == ["one 1", "two 1"]).await;
    let zones = |board: &TargetBoard| -> Vec<String> {
        let zone = |status: &TargetStatus| status.labels.get("zone").map(str::to_owned);
        board.read().iter().filter_map(zone).collect()
    };
    list(&file, &[(two, "two")]);
    until("the end of one", || up(&store) == ["one gone", "two 1"]).await;
    until("the board without it", || zones(&board) == ["two"]).await;
    // A target with other labels is another one: the series of the first end.
    list(&file, &[(two, "three")]);
    until("a new name", || up(&store) == ["one gone", "three 1", "two gone"]).await;
    stop.request();
    running.await.unwrap();
    assert_eq!(up(&store), ["one gone", "three 1", "two gone"], "a stop ends no series");
}

#[tokio::test(start_paused = true)]
async fn a_scrape_that_ended_badly_begins_anew_though_nobody_looks_for_targets() {
    let dir = TempDir::new().unwrap();
    let scrape = toml::from_str("job = \"j\"\ntargets = [\"127.0.0.1:9\"]").unwrap();
    let config = StoreConfig { dir: dir.path().join("data"), ..StoreConfig::default() };
    let store = store::open(config, Clock::system(), &Registry::new()).unwrap();
    let tools = Tools {
        writer: store.writer.clone(),
        clock: Clock::system(),
        board: TargetBoard::new(),
        meters: scrape::Meters::new(&Registry::new()),
    };
    let mut job = Job::new(&scrape, &Arc::new(CollectorConfig::default()), tools);
    let found = job.discovery.look().await;
    job.follow(found.clone());
    assert_eq!((job.running.len(), job.discovery.refresh()), (1, None));
    job.tasks.abort_all();
    assert_eq!(job.watch(Duration::MAX, &Stop::new()).await, Tick::Elapsed);
    assert_eq!(job.running.len(), 0);
    job.follow(found);
    assert_eq!((job.running.len(), job.tasks.len()), (1, 1));
}
