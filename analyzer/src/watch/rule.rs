//! Which metrics are watched for what: the built-in list, and that of the configuration before it.

use crate::{AnalyzerConfig, Detect, WatchConfig};
use glob::Pattern;
use model::{Labels, SeriesKey};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Metrics that the field's exporters have in common, and what to look for in them: pattern, what, limit, free.
pub(super) const BUILTIN: [(&str, Detect, Option<&str>, bool); 24] = [
    ("process_resident_memory_bytes", Detect::Leak, None, false),
    ("process_open_fds", Detect::Leak, Some("process_max_fds"), false),
    ("process_threads", Detect::Leak, None, false),
    ("go_goroutines", Detect::Leak, None, false),
    ("go_memstats_heap_inuse_bytes", Detect::Leak, None, false),
    ("jvm_memory_used_bytes", Detect::Leak, Some("jvm_memory_max_bytes"), false),
    ("nodejs_heap_size_used_bytes", Detect::Leak, None, false),
    ("nodejs_active_handles_total", Detect::Leak, None, false),
    (
        "container_memory_working_set_bytes",
        Detect::Leak,
        Some("container_spec_memory_limit_bytes"),
        false,
    ),
    ("*_connections_active", Detect::Leak, None, false),
    ("*_queue_length", Detect::Leak, None, false),
    ("*_queue_depth", Detect::Leak, None, false),
    ("node_filesystem_avail_bytes", Detect::Capacity, Some("node_filesystem_size_bytes"), true),
    ("node_memory_MemAvailable_bytes", Detect::Capacity, Some("node_memory_MemTotal_bytes"), true),
    (
        "kubelet_volume_stats_used_bytes",
        Detect::Capacity,
        Some("kubelet_volume_stats_capacity_bytes"),
        false,
    ),
    ("*_requests_total", Detect::Requests, None, false),
    ("*_request_duration_seconds", Detect::Latency, None, false),
    ("http_server_requests_seconds", Detect::Latency, None, false),
    ("*_http_duration_seconds", Detect::Latency, None, false),
    ("http_response_time_seconds", Detect::Latency, None, false),
    ("process_cpu_seconds_total", Detect::Cpu, None, false),
    ("container_cpu_usage_seconds_total", Detect::Cpu, None, false),
    ("pg_stat_activity_count", Detect::Leak, Some("pg_settings_max_connections"), false),
    ("redis_connected_clients", Detect::Leak, Some("redis_config_maxclients"), false),
];

/// A line of the list as it would stand in a configuration file.
pub(super) fn builtin(
    (metric, detect, limit, free): &(&str, Detect, Option<&str>, bool),
) -> WatchConfig {
    WatchConfig {
        metrics: vec![(*metric).to_owned()],
        detect: *detect,
        labels: BTreeMap::new(),
        limit: None,
        limit_metric: limit.map(str::to_owned),
        free: *free,
    }
}

/// One rule, ready to match.
#[derive(Debug)]
pub(crate) struct Rule {
    place: usize,
    metrics: Vec<Pattern>,
    labels: Vec<(String, Pattern)>,
    pub(crate) detect: Detect,
    pub(crate) limit: Option<f64>,
    pub(crate) limit_metric: Option<String>,
    pub(crate) free: bool,
}

/// What a metric is to the analyzer; it may be several things.
#[derive(Debug, Default)]
pub(crate) struct Role {
    /// Watched by these rules; the first whose labels fit counts for each kind of detector.
    pub(crate) rules: Vec<Arc<Rule>>,
    /// The seconds of a latency, by these rules.
    pub(crate) latency_sum: Vec<Arc<Rule>>,
    /// The requests behind it.
    pub(crate) latency_count: Vec<Arc<Rule>>,
    /// The limit of other series.
    pub(crate) limit: bool,
    /// What it tells of its target.
    pub(crate) tells: Option<Tells>,
}

/// What a metric tells of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// When a process started.
    Start,
    /// Whether it answers.
    Up,
    /// Its build: another value of a label is a deploy.
    Build,
    /// When a configuration was taken.
    ConfigReload,
}

impl Role {
    /// Whether it is nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.rules.is_empty()
            && self.latency_sum.is_empty()
            && self.latency_count.is_empty()
            && !self.limit
            && self.tells.is_none()
    }
}

/// All rules, with what each metric seen so far is.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Arc<Rule>>,
    known: HashMap<Box<str>, Arc<Role>>,
}

/// Names of metrics remembered; they are bounded by the store as well.
const MOST_KNOWN: usize = 100_000;

impl Rules {
    pub(crate) fn new(config: &AnalyzerConfig) -> Self {
        let builtin = BUILTIN.iter().filter(|_| config.builtin).map(builtin);
        let all = config.watch.iter().cloned().chain(builtin);
        let rules = all.enumerate().map(|(place, it)| Arc::new(Rule::new(place, it)));
        Self { rules: rules.collect(), known: HashMap::new() }
    }

    /// What `metric` is.
    pub(crate) fn role(&mut self, metric: &str) -> Arc<Role> {
        if let Some(role) = self.known.get(metric) {
            return Arc::clone(role);
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        let role = Arc::new(self.find(metric));
        self.known.insert(metric.into(), Arc::clone(&role));
        role
    }

    /// Whether a rule looks for this in `metric`.
    pub(crate) fn detects(&mut self, metric: &str, detect: Detect) -> bool {
        self.role(metric).rules.iter().any(|rule| rule.detect == detect)
    }

    /// Whether `metric` is what is free of a resource, not what is used.
    pub(crate) fn is_free(&mut self, metric: &str) -> bool {
        self.role(metric).rules.iter().any(|rule| rule.free)
    }

    fn find(&self, metric: &str) -> Role {
        let of = |name: &str, latency: bool| -> Vec<Arc<Rule>> {
            let fit = self
                .rules
                .iter()
                .filter(|rule| (rule.detect == Detect::Latency) == latency && rule.names(name));
            fit.cloned().collect()
        };
        let base = |end: &str| metric.strip_suffix(end).map(|base| of(base, true));
        let is_limit = |rule: &Arc<Rule>| rule.limit_metric.as_deref() == Some(metric);
        Role {
            rules: of(metric, false),
            latency_sum: base("_sum").unwrap_or_default(),
            latency_count: base("_count").unwrap_or_default(),
            limit: self.rules.iter().any(is_limit),
            tells: match metric {
                "up" => Some(Tells::Up),
                _ if metric.ends_with("process_start_time_seconds") => Some(Tells::Start),
                _ if metric.ends_with("_build_info") => Some(Tells::Build),
                _ if metric.ends_with("config_last_reload_success_timestamp_seconds") => {
                    Some(Tells::ConfigReload)
                }
                _ => None,
            },
        }
    }
}

/// Ends of names that no gauge has; a pattern with `*` does not mean them where it looks for gauges.
const NO_GAUGE: [&str; 6] =
    ["_total", "_sum", "_count", "_bucket", "_timestamp_seconds", "_start_time_seconds"];

impl Rule {
    fn new(place: usize, config: WatchConfig) -> Self {
        // Patterns were checked with the configuration; one that is none matches nothing.
        let pattern = |text: &String| Pattern::new(text).unwrap_or_default();
        Self {
            place,
            metrics: config.metrics.iter().map(pattern).collect(),
            labels: config
                .labels
                .iter()
                .map(|(name, text)| (name.clone(), pattern(text)))
                .collect(),
            detect: config.detect,
            limit: config.limit,
            limit_metric: config.limit_metric,
            free: config.free,
        }
    }

    /// Whether it is about a metric of that name.
    fn names(&self, metric: &str) -> bool {
        let gauge = matches!(self.detect, Detect::Leak | Detect::Capacity | Detect::Novelty);
        let counter = gauge && NO_GAUGE.iter().any(|end| metric.ends_with(end));
        self.metrics.iter().any(|pattern| {
            pattern.matches(metric) && !(counter && pattern.as_str().contains(['*', '?']))
        })
    }

    /// Its place in the list, and whether `metric` counts what a client library does for the monitor: of several metrics
    /// of one meaning the least is taken.
    pub(crate) fn rank(&self, metric: &str) -> (bool, usize) {
        let own = ["promhttp_", "prometheus_http_", "scrape_"];
        (own.iter().any(|start| metric.starts_with(start)), self.place)
    }

    /// Whether the labels of a series are wanted.
    pub(crate) fn wants(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(name, pattern)| pattern.matches(labels.get(name).unwrap_or("")))
    }
}

/// Whether a series of requests counts errors.
pub(crate) fn counts_errors(key: &SeriesKey) -> bool {
    ["code", "status", "status_code"].iter().filter_map(|name| key.labels.get(name)).any(|code| {
        code.len() == 3
            && code.starts_with('5')
            && code.bytes().all(|it| it.is_ascii_alphanumeric())
    })
}
