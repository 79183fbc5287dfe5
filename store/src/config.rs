//! What can be set about the store.

use model::Bytes;
use model::time::human_duration;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// The store's part of the configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Where the data lies. One running monitor per directory. Default `forerunner-data`.
    pub dir: PathBuf,
    /// How long a scraped sample may be lost to power failure; a crash of the program loses none.
    /// `0s` syncs every batch. Default 200 ms: a sync costs under 5 ms.
    #[serde(with = "human_duration")]
    pub sync_interval: Duration,
    /// Size of the WAL file at which recent samples are written to a segment and the next file begun; up to
    /// six times this while there are fewer than 128 samples of each series. Default 16 MiB, 4 to 5 million
    /// samples.
    pub wal_file_size: Bytes,
    /// Memory for samples not yet in a segment, besides half a KiB for each active series. Default 128 MiB,
    /// about 40 million samples.
    pub memory_budget: Bytes,
    /// Age at which recent samples are written to a segment. Default 10 min.
    #[serde(with = "human_duration")]
    pub flush_interval: Duration,
    /// How far back a sample's own time may lie. Default 1 h.
    #[serde(with = "human_duration")]
    pub late_limit: Duration,
    /// How far ahead of our clock a sample's own time may lie. Default 10 min.
    #[serde(with = "human_duration")]
    pub early_limit: Duration,
    /// Age at which raw samples are deleted. Default 15 days.
    #[serde(with = "human_duration")]
    pub retention: Duration,
    /// Age at which figures of five minutes are deleted. Default 90 days.
    #[serde(with = "human_duration")]
    pub retention_5m: Duration,
    /// Age at which figures of one hour are deleted. Default 730 days.
    #[serde(with = "human_duration")]
    pub retention_1h: Duration,
    /// Size of all segments at which the oldest are deleted. Default 32 GiB.
    pub retention_size: Bytes,
    /// Series that may be active at once. Default 1,000,000.
    pub max_series: usize,
    /// Series of one metric that may be active at once. Default 100,000.
    pub max_series_per_metric: usize,
    /// Labels of one series. Default 64.
    pub max_labels: usize,
    /// Bytes of a metric name, label name or label value. Default 4 KiB.
    pub max_text_size: Bytes,
    /// Memory for the indexes of segments that queries use. Default 64 MiB.
    pub index_cache_size: Bytes,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("forerunner-data"),
            sync_interval: Duration::from_millis(200),
            wal_file_size: Bytes::mebi(16),
            memory_budget: Bytes::mebi(128),
            flush_interval: Duration::from_secs(600),
            late_limit: Duration::from_secs(3600),
            early_limit: Duration::from_secs(600),
            retention: Duration::from_secs(15 * 86_400),
            retention_5m: Duration::from_secs(90 * 86_400),
            retention_1h: Duration::from_secs(730 * 86_400),
            retention_size: Bytes(32 << 30),
            max_series: 1_000_000,
            max_series_per_metric: 100_000,
            max_labels: 64,
            max_text_size: Bytes(4 << 10),
            index_cache_size: Bytes::mebi(64),
        }
    }
}
