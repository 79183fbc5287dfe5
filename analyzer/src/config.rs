//! What can be set about queries, and about what is watched.

use model::Bytes;
use model::time::human_duration;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The query part of the configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// For one query. Default 30 s.
    #[serde(with = "human_duration")]
    pub timeout: Duration,
    /// Memory for all queries together. Default 256 MiB.
    pub memory: Bytes,
    /// Rows of one answer; a longer one is refused, not cut. Default 1,000,000.
    pub max_rows: usize,
    /// Queries at once; those over it wait within their time. Default 4.
    pub concurrency: usize,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            memory: Bytes::mebi(256),
            max_rows: 1_000_000,
            concurrency: 4,
        }
    }
}

impl QueryConfig {
    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in [("max_rows", self.max_rows), ("concurrency", self.concurrency)] {
            if value == 0 {
                faults.push(format!("query.{name} is 0; allow at least 1"));
            }
        }
        faults
    }
}

/// The analyzer's part of the configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AnalyzerConfig {
    /// Whether series are watched at all. Default yes.
    pub enabled: bool,
    /// Between two looks at what is new. Default 10 s.
    #[serde(with = "human_duration")]
    pub interval: Duration,
    /// Series watched at once; more are left out and counted. Each takes up to 32 KiB. Default 20,000.
    pub max_series: usize,
    /// False alarms that each series may give in a day, on average; thresholds follow. Default 0.002.
    pub false_alarms_per_series_day: f64,
    /// Tickets of one service (label `job`) in a week; the weakest over it are notes. Default 20.
    pub tickets_per_service_week: usize,
    /// Findings kept; the oldest go. Default 10,000.
    pub max_findings: usize,
    /// How far back a first start reads what is stored, to know what is usual. Default 8 days.
    #[serde(with = "human_duration")]
    pub history: Duration,
    /// Whether the built-in list of metrics is watched besides `watch`. Default yes.
    pub builtin: bool,
    /// More to watch.
    pub watch: Vec<WatchConfig>,
}

/// Metrics to watch, and for what.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// Names of metrics; `*` stands for any text.
    pub metrics: Vec<String>,
    /// What to look for.
    pub detect: Detect,
    /// Only series with these labels; `*` in a value stands for any text. Default all.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The value at which the resource is exhausted. Default: that of `limit_metric`, else learned.
    #[serde(default)]
    pub limit: Option<f64>,
    /// A metric with the same labels whose value is the limit.
    #[serde(default)]
    pub limit_metric: Option<String>,
    /// The metric is what is free, not what is used; then `limit_metric`, the whole, is needed. Default no.
    #[serde(default)]
    pub free: bool,
}

/// What to look for in a metric, or what the metric says of a target's work.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Detect {
    /// Growth that does not come back, in a gauge.
    Leak,
    /// When a gauge meets its limit.
    Capacity,
    /// Values that this gauge never had.
    Novelty,
    /// A counter of requests: the load of its target, watched for falls; those with a label `code`, `status`
    /// or `status_code` of 500 to 599 are errors.
    Requests,
    /// A histogram or summary of seconds, by its name without `_sum` and `_count`: the latency of its target.
    Latency,
    /// A counter of processor seconds: what the work of its target costs.
    Cpu,
}

impl Default for AnalyzerConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            max_series: 20_000,
            false_alarms_per_series_day: 0.002,
            tickets_per_service_week: 20,
            max_findings: 10_000,
            history: Duration::from_secs(8 * 86_400),
            builtin: true,
            watch: Vec::new(),
        }
    }
}

impl AnalyzerConfig {
    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in [("max_series", self.max_series), ("max_findings", self.max_findings)]
        {
            if value == 0 {
                faults.push(format!("analyzer.{name} is 0; allow at least 1"));
            }
        }
        if self.interval < Duration::from_secs(1) {
            faults.push("analyzer.interval is under a second; use 1s or more".to_owned());
        }
        let rate = self.false_alarms_per_series_day;
        if !(rate > 0.0 && rate <= 10.0) {
            faults.push(format!(
                "analyzer.false_alarms_per_series_day is {rate}; use a number over 0 and up to 10"
            ));
        }
        for (at, rule) in self.watch.iter().enumerate() {
            faults.extend(rule.faults().map(|fault| format!("analyzer.watch {}: {fault}", at + 1)));
        }
        faults
    }
}

impl WatchConfig {
    fn faults(&self) -> impl Iterator<Item = String> {
        let texts = self.metrics.iter().chain(self.labels.values());
        let globs = texts.filter_map(|text| {
            let error = glob::Pattern::new(text).err()?;
            Some(format!("{text:?} is no pattern: {error}; only * and ? are special"))
        });
        let empty = self.metrics.is_empty().then(|| "metrics names none".to_owned());
        let whole = (self.free && self.limit_metric.is_none() && self.limit.is_none())
            .then(|| "free needs limit or limit_metric, the whole".to_owned());
        globs.chain(empty).chain(whole).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_place_and_the_remedy() {
        let config = AnalyzerConfig {
            interval: Duration::ZERO,
            max_series: 0,
            false_alarms_per_series_day: f64::NAN,
            watch: vec![WatchConfig {
                metrics: vec!["a[".to_owned()],
                detect: Detect::Capacity,
                labels: BTreeMap::new(),
                limit: None,
                limit_metric: None,
                free: true,
            }],
            ..AnalyzerConfig::default()
        };
        let faults = config.faults().join("\n");
        for told in [
            "analyzer.max_series is 0; allow at least 1",
            "analyzer.interval is under a second; use 1s or more",
            "analyzer.false_alarms_per_series_day is NaN; use a number over 0",
            "analyzer.watch 1: \"a[\" is no pattern",
            "analyzer.watch 1: free needs limit or limit_metric",
        ] {
            assert!(faults.contains(told), "{told}: {faults}");
        }
        assert_eq!(AnalyzerConfig::default().faults(), [""; 0]);
    }
}
