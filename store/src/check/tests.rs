#![expect(clippy::disallowed_methods, reason = "damages files on purpose")]

use super::*;
use crate::{Batch, Times};
use model::{Labels, SeriesKey, Timestamp};
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

/// Three segments of one sample each, and one sample in the log.
fn filled(dir: &Path) {
    let config = StoreConfig { dir: dir.to_owned(), ..StoreConfig::default() };
    let store = crate::open(config, Clock::system(), &Registry::new()).unwrap();
    let key = SeriesKey::new("m", Labels::from_pairs([("a", "b")]));
    let series = store.writer.series(&key).unwrap();
    let now = Clock::system().now().millis();
    for n in 0..4 {
        let times = Times::One(Timestamp(now + n));
        let batch = Batch { series: vec![series.clone()].into(), values: vec![n as f64], times };
        store.writer.append(batch).unwrap();
        if n < 3 {
            store.upkeep.flush_now().unwrap();
        }
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn manifest_file(dir: &Path) -> PathBuf {
    dir.join(fs::read_to_string(dir.join("CURRENT")).unwrap().trim())
}

#[test]
fn a_sound_store_has_no_faults_and_a_check_changes_nothing() {
    let dir = TempDir::new().unwrap();
    filled(dir.path());
    let before = fs::read(manifest_file(dir.path())).unwrap();
    let report = check(dir.path()).unwrap();
    assert_eq!((report.segments, report.samples, report.log.samples), (3, 3, 1));
    assert!(report.faults.is_empty(), "{report}");
    assert_eq!(fs::read(manifest_file(dir.path())).unwrap(), before);
}

#[test]
fn a_damaged_segment_is_found_and_a_repair_sets_it_aside() {
    let dir = TempDir::new().unwrap();
    filled(dir.path());
    let damaged = folders(dir.path()).unwrap().remove(1);
    flip(&damaged.join("samples.parquet"));
    let report = check(dir.path()).unwrap();
    assert_eq!((report.segments, report.faults.len()), (2, 1), "{report}");
    assert_eq!(report.faults[0].place, damaged);
    let report = repair(dir.path(), Clock::system()).unwrap();
    assert_eq!((report.samples, report.faults.len()), (3, 1), "{report}");
    assert!(check(dir.path()).unwrap().faults.is_empty());
    assert!(dir.path().join("quarantine").read_dir().unwrap().next().is_some());
}

#[test]
fn what_a_lost_manifest_knew_is_taken_back() {
    for damage in ["gone", "flipped", "no CURRENT"] {
        let dir = TempDir::new().unwrap();
        filled(dir.path());
        let path = manifest_file(dir.path());
        match damage {
            "gone" => fs::remove_file(&path).unwrap(),
            "flipped" => flip(&path),
            _ => fs::remove_file(dir.path().join("CURRENT")).unwrap(),
        }
        let report = repair(dir.path(), Clock::system()).unwrap();
        assert_eq!(report.samples, 4, "{damage}: {report}");
        assert!(!report.faults.is_empty(), "{damage}");
        let report = check(dir.path()).unwrap();
        assert_eq!((report.samples, report.faults.len()), (4, 0), "{damage}: {report}");
    }
}

#[test]
fn segments_set_aside_by_a_start_with_a_damaged_manifest_are_taken_back() {
    let dir = TempDir::new().unwrap();
    filled(dir.path());
    flip(&manifest_file(dir.path()));
    let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    drop(crate::open(config, Clock::system(), &Registry::new()).unwrap());
    assert!(check(dir.path()).unwrap().samples < 3);
    assert_eq!(repair(dir.path(), Clock::system()).unwrap().samples, 4);
}

#[test]
fn a_directory_in_use_or_without_a_store_is_refused() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(check(dir.path()), Err(StoreError::NoStore(_))));
    assert!(matches!(repair(dir.path(), Clock::system()), Err(StoreError::NoStore(_))));
    assert!(!dir.path().join("LOCK").exists());
    let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    let _store = crate::open(config, Clock::system(), &Registry::new()).unwrap();
    assert!(check(dir.path()).unwrap_err().to_string().contains("in use"));
    assert!(repair(dir.path(), Clock::system()).is_err());
}

/// How long samples are kept is the monitor's to say, whose configuration a repair does not know.
#[test]
fn what_is_older_than_the_default_retention_outlives_a_repair() {
    let dir = TempDir::new().unwrap();
    let config = StoreConfig::keeping_all(dir.path());
    let opened = crate::open(config, Clock::system(), &Registry::new()).unwrap();
    let writer = opened.writer.for_history();
    let key = SeriesKey::new("old", Labels::default());
    let series = vec![writer.series(&key).unwrap()];
    for days in [400, 60, 0] {
        let time = Clock::system().now().minus(Duration::from_secs(days * 86_400));
        let (series, times) = (series.clone().into(), Times::One(time));
        writer.append(Batch { series, values: vec![1.0], times }).unwrap();
    }
    opened.upkeep.flush_now().unwrap();
    drop((opened, writer, series));
    let report = repair(dir.path(), Clock::system()).unwrap();
    assert_eq!((report.samples, report.faults.len()), (3, 0), "{report}");
    assert_eq!(check(dir.path()).unwrap().samples, 3);
}
