//! What can be set about the store.

use crate::Resolution;
use model::Bytes;
use model::time::{human_duration, optional_duration};
use serde::Deserialize;
use std::path::{Path, PathBuf};
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
    /// Free space on the disk under which the oldest days of raw samples are deleted, but never the newest day.
    /// Default 0: none is, and a full disk stops taking in samples until there is room.
    pub min_free: Bytes,
    /// Other ages for some metrics; of rules that match one, the first counts.
    pub retention_rules: Vec<RetentionRule>,
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

/// Ages at which samples of some metrics are deleted, shorter than those of all. A segment is written anew
/// without them once all of theirs in it are past their age; raw samples stay until their day is over and merged.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// The metrics' names; `*` stands for any text.
    pub metrics: Vec<String>,
    /// Of raw samples. Default: `store.retention`.
    #[serde(default, with = "optional_duration")]
    pub retention: Option<Duration>,
    /// Of figures of five minutes. Default: `store.retention_5m`.
    #[serde(default, with = "optional_duration")]
    pub retention_5m: Option<Duration>,
    /// Of figures of one hour. Default: `store.retention_1h`.
    #[serde(default, with = "optional_duration")]
    pub retention_1h: Option<Duration>,
}

impl StoreConfig {
    /// Age at which samples of a resolution are deleted, where no rule says another.
    pub(crate) fn age(&self, resolution: Resolution) -> Duration {
        match resolution {
            Resolution::Raw => self.retention,
            Resolution::FiveMinutes => self.retention_5m,
            Resolution::Hour => self.retention_1h,
        }
    }

    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (at, rule) in self.retention_rules.iter().enumerate() {
            let place = format!("store.retention_rules[{at}]");
            if rule.metrics.is_empty() {
                faults.push(format!("{place}: no metrics; name them, * stands for any text"));
            }
            let resolutions = [Resolution::Raw].into_iter().chain(Resolution::ROLLUPS);
            let longer = |it: &Resolution| rule.age(*it).is_some_and(|age| age > self.age(*it));
            if let Some(resolution) = resolutions.into_iter().find(longer) {
                let name = resolution.name();
                faults.push(format!(
                    "{place}: keeps {name} longer than all others; raise store.retention and shorten the others"
                ));
            }
        }
        faults
    }
}

impl RetentionRule {
    /// Its age for a resolution, if it has one.
    pub(crate) fn age(&self, resolution: Resolution) -> Option<Duration> {
        match resolution {
            Resolution::Raw => self.retention,
            Resolution::FiveMinutes => self.retention_5m,
            Resolution::Hour => self.retention_1h,
        }
    }

    /// Whether it is for `metric`.
    pub(crate) fn holds_for(&self, metric: &str) -> bool {
        self.metrics.iter().any(|pattern| matches(pattern, metric))
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any text. O(pattern x text).
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.into_iter().any(|at| rest.get(at..).is_some_and(|rest| matches(tail, rest)))
}

impl StoreConfig {
    /// For tools that open a store for a moment: nothing is too old or too much, for what the store's own monitor keeps is not known.
    pub fn keeping_all(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            retention: Duration::MAX,
            retention_5m: Duration::MAX,
            retention_1h: Duration::MAX,
            retention_size: Bytes(u64::MAX),
            min_free: Bytes(0),
            ..Self::default()
        }
    }
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
            min_free: Bytes(0),
            retention_rules: Vec::new(),
            max_series: 1_000_000,
            max_series_per_metric: 100_000,
            max_labels: 64,
            max_text_size: Bytes(4 << 10),
            index_cache_size: Bytes::mebi(64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("*", "", true),
            ("*ä*", "xäy", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_rule_may_only_shorten() {
        let rule = RetentionRule {
            metrics: vec!["a*".to_owned()],
            retention: Some(Duration::from_secs(20 * 86_400)),
            retention_5m: None,
            retention_1h: None,
        };
        let config = StoreConfig { retention_rules: vec![rule], ..StoreConfig::default() };
        assert!(config.faults()[0].contains("keeps raw longer"), "{:?}", config.faults());
    }
}
