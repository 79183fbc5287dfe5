#![expect(clippy::disallowed_methods, reason = "damages files on purpose")]
//! What is set aside, and what only cannot be reached.

use super::tests::{LATER, T0, one, opened, read, segment_count, series};
use platform::durable;
use std::fs;
use tempfile::TempDir;

#[test]
fn a_damaged_segment_is_set_aside_and_the_rest_served() {
    for file in ["samples.parquet", "series.parquet"] {
        let dir = TempDir::new().unwrap();
        let store = opened(dir.path());
        let a = series(&store.writer, "m", "a");
        for n in 0..2 {
            store.writer.append(one(&a, T0 + n, n as f64)).unwrap();
            store.upkeep.flush_now().unwrap();
        }
        drop(store);
        let days = durable::list(&dir.path().join("seg/raw")).unwrap();
        let segments = durable::list(&days[0]).unwrap();
        let path = segments[0].join(file);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let store = opened(dir.path());
        assert_eq!(
            read(&store.reader).into_keys().map(|(_, time)| time).collect::<Vec<_>>(),
            [T0 + 1]
        );
        let quarantine = durable::list(&dir.path().join("quarantine")).unwrap();
        assert_eq!(quarantine.len(), 1, "{quarantine:?}");
        drop(store);
        assert_eq!(read(&opened(dir.path()).reader).len(), 1);
    }
}

#[test]
fn a_segment_that_cannot_be_reached_is_not_set_aside() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let a = series(&store.writer, "m", "a");
    store.writer.append(one(&a, T0, 1.0)).unwrap();
    store.upkeep.flush_now().unwrap();
    drop(store);
    let days = durable::list(&dir.path().join("seg/raw")).unwrap();
    let path = durable::list(&days[0]).unwrap()[0].join("samples.parquet");
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap(); // nobody can read that, and it is no other content
    let store = opened(dir.path());
    store.upkeep.verify_segments();
    let snapshot = store.reader.snapshot(None);
    let mut scan = snapshot.scan("m", &|_, _| true, i64::MIN, i64::MAX, 1);
    let told = scan.as_mut().map(|scans| scans.iter_mut().flatten().any(|chunk| chunk.is_err()));
    assert!(told.is_err() || told.is_ok_and(|told| told), "what is missing is told");
    assert_eq!(segment_count(&store), 1);
    fs::remove_dir(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    assert_eq!(read(&store.reader).len(), 1);
}

#[test]
fn a_damaged_input_of_a_merge_is_set_aside_and_the_rest_merged() {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let a = series(&store.writer, "m", "a");
    for n in 0..3 {
        store.writer.append(one(&a, T0 + n, n as f64)).unwrap();
        store.upkeep.flush_now().unwrap();
    }
    drop(store);
    let days = durable::list(&dir.path().join("seg/raw")).unwrap();
    let path = durable::list(&days[0]).unwrap()[1].join("samples.parquet");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = opened(dir.path());
    store.upkeep.compact_now(LATER).unwrap();
    assert_eq!((segment_count(&store), read(&store.reader).len()), (1, 2));
    assert_eq!(durable::list(&dir.path().join("tmp")).unwrap().len(), 0);
}
