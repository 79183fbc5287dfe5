use super::*;
use model::{Labels, SeriesKey};
use runtime::Stop;
use std::path::Path;
use store::{Opened, StoreConfig};

/// A request in protobuf; the tests of `wire` use it too.
pub(super) fn encode(series: &[(SeriesKey, Vec<(i64, f64)>)]) -> Vec<u8> {
    let rows = |rows: &[(i64, f64)]| rows.iter().map(|row| (Timestamp(row.0), row.1)).collect();
    let all: Vec<(&SeriesKey, Vec<(Timestamp, f64)>)> =
        series.iter().map(|(key, own)| (key, rows(own))).collect();
    super::encode::message(all.iter().map(|(key, rows)| (*key, rows.as_slice())))
}

fn key(host: &str) -> SeriesKey {
    SeriesKey::new("cpu", Labels::from_pairs([("host", host)]))
}

fn snappy(body: &[u8]) -> bytes::Bytes {
    snap::raw::Encoder::new().compress_vec(body).unwrap().into()
}

fn opened(dir: &Path, config: StoreConfig) -> Opened {
    store::open(StoreConfig { dir: dir.to_owned(), ..config }, Clock::system(), &Registry::new())
        .unwrap()
}

fn receiver(store: &Opened) -> RemoteWrite {
    RemoteWrite::new(store.writer.clone(), Clock::system(), 1 << 20, &Registry::new())
}

async fn take(receiver: &RemoteWrite, body: bytes::Bytes) -> Result<(), PushError> {
    receiver.take(receiver.turn().await, body).await
}

fn count(store: &Opened) -> usize {
    let snapshot = store.reader.snapshot(None);
    let scans = snapshot.scan("cpu", &|_, _| true, i64::MIN, i64::MAX, 1).unwrap();
    scans.into_iter().flatten().map(|chunk| chunk.unwrap().points.len()).sum()
}

#[tokio::test]
async fn a_push_is_seen_and_confirmed_after_a_sync_and_twice_the_same_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path(), StoreConfig::default());
    let receiver = receiver(&store);
    let now = Clock::system().now().millis();
    let rows = (0..50).map(|n| (now - 50_000 + n * 1000, n as f64)).collect::<Vec<_>>();
    let body = snappy(&encode(&[(key("a"), rows.clone()), (key("b"), rows)]));
    let mut push = std::pin::pin!(take(&receiver, body.clone()));
    let unsynced = tokio::time::timeout(Duration::from_millis(200), &mut push).await;
    assert!(unsynced.is_err(), "nothing syncs yet, so nothing may be confirmed");
    assert_eq!(count(&store), 100);
    let stop = Stop::new();
    let syncing = store.upkeep.run_sync(stop.clone());
    tokio::pin!(syncing);
    tokio::select! {
        outcome = &mut push => outcome.unwrap(),
        _ = &mut syncing => panic!("sync ended"),
    }
    tokio::select! {
        outcome = take(&receiver, body) => outcome.unwrap(),
        _ = &mut syncing => panic!("sync ended"),
    }
    assert_eq!(count(&store), 100);
}

#[tokio::test]
async fn what_is_refused_is_told_and_the_rest_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        StoreConfig { max_series: 2, sync_interval: Duration::ZERO, ..StoreConfig::default() };
    let store = opened(dir.path(), config);
    let receiver = receiver(&store);
    let now = Clock::system().now().millis();
    let series = [
        (key("a"), vec![(now, 1.0)]),
        (key("b"), vec![(now, 1.0), (now - 2 * 3_600_000, 0.5), (now + 3_600_000, 2.0)]),
    ];
    // Late is measured against what the series already has.
    take(&receiver, snappy(&encode(&[(key("b"), vec![(now - 1, 1.0)])]))).await.unwrap();
    let told = take(&receiver, snappy(&encode(&series))).await.unwrap_err().to_string();
    assert!(
        told.starts_with("2 of 4 samples refused, the rest is stored: time too far off"),
        "{told}"
    );
    let told = take(&receiver, snappy(&encode(&[(key("c"), vec![(now, 1.0)])]))).await.unwrap_err();
    assert!(told.to_string().contains("the number of series is over the limit of 2"), "{told}");
    assert_eq!(count(&store), 3);
}

#[tokio::test]
async fn bodies_that_are_no_request_or_too_large_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path(), StoreConfig::default());
    let receiver = receiver(&store);
    for (body, expected) in [
        (bytes::Bytes::from_static(b"hello"), "not snappy-compressed"),
        (snappy(b"hello"), "no protobuf field at byte 2"),
        (snappy(&vec![0; 2 << 20]), "over the limit of 1048576"),
    ] {
        let told = take(&receiver, body).await.unwrap_err();
        assert!(matches!(&told, PushError::Malformed(text) if text.contains(expected)), "{told}");
    }
}
