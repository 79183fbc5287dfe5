//! What to collect, from where and how often.

use crate::relabel::RelabelConfig;
use model::Bytes;
use model::label::is_plain_label_name;
use model::time::{human_duration, optional_duration};
use platform::tls::Tls;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The collector's part of the configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct CollectorConfig {
    /// Between two scrapes of one target, where its job says nothing else. Default 1 s, so that a failure
    /// is seen within seconds.
    #[serde(with = "human_duration")]
    pub interval: Duration,
    /// Labels added to every series.
    pub labels: BTreeMap<String, String>,
    /// The machine that we run on.
    pub host: HostConfig,
    /// Targets that expose metrics over HTTP.
    pub scrape: Vec<ScrapeConfig>,
    /// Processes on this machine.
    pub process: Vec<ProcessConfig>,
    /// Containers, by engine.
    pub containers: Vec<ContainersConfig>,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            labels: BTreeMap::new(),
            host: HostConfig::default(),
            scrape: Vec::new(),
            process: Vec::new(),
            containers: Vec::new(),
        }
    }
}

/// Readings of the machine.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// Whether to take them. Default yes.
    pub enabled: bool,
    /// Between two readings. Default: the collector's interval.
    #[serde(with = "optional_duration")]
    pub interval: Option<Duration>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { enabled: true, interval: None }
    }
}

/// A job: targets that are scraped alike.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ScrapeConfig {
    /// The label `job` of every series from here.
    pub job: String,
    /// `host:port` of each target; it becomes the label `instance`.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Files that list targets.
    #[serde(default)]
    pub file_sd_configs: Vec<FileSdConfig>,
    /// Names that stand for targets.
    #[serde(default)]
    pub dns_sd_configs: Vec<DnsSdConfig>,
    /// Rules for the labels of targets, `__address__`, `__scheme__`, `__metrics_path__`, `__param_<name>` and
    /// `__meta_…` of discovery among them.
    #[serde(default)]
    pub relabel_configs: Vec<RelabelConfig>,
    /// Rules for the labels of each series, its metric as `__name__`.
    #[serde(default)]
    pub metric_relabel_configs: Vec<RelabelConfig>,
    /// `http` or `https`. Default `http`.
    #[serde(default)]
    pub scheme: Scheme,
    /// Whom to trust over TLS, and who we are.
    #[serde(default)]
    pub tls_config: Option<TlsConfig>,
    /// The path of the metrics page. Default `/metrics`.
    #[serde(default = "default_path")]
    pub path: String,
    /// Parameters of the URL.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Between two scrapes. Default: the collector's interval.
    #[serde(default, with = "optional_duration")]
    pub interval: Option<Duration>,
    /// For one attempt. Default: half the interval, at most 10 s, so that a retry still fits.
    #[serde(default, with = "optional_duration")]
    pub timeout: Option<Duration>,
    /// Labels added to every series of the job.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether a page's own labels win over ours of the same name; if not, which is the default, they are kept
    /// as `exported_<name>`.
    #[serde(default)]
    pub honor_labels: bool,
    /// Whether times that a page gives count; if not, all samples have the time of the scrape. Default yes.
    #[serde(default = "yes")]
    pub honor_timestamps: bool,
    /// A file with a token that is sent as `Authorization: Bearer …`; read at each scrape.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// A name and password that are sent with each request.
    #[serde(default)]
    pub basic_auth: Option<BasicAuth>,
    /// Largest page, uncompressed. Default 64 MiB.
    #[serde(default = "default_body")]
    pub max_body_size: Bytes,
    /// Most samples on a page; a page with more is refused whole. Default 200,000.
    #[serde(default = "default_samples")]
    pub max_samples: usize,
    /// Attempts at one scrape, 1 to 5. Default 5.
    #[serde(default = "default_attempts")]
    pub max_attempts: u32,
}

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// In the clear.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

/// Files that list targets, in Prometheus' form: JSON or YAML lists of `{targets, labels}`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct FileSdConfig {
    /// Paths, with `*` for any name.
    pub files: Vec<String>,
    /// Between two looks at them. Default 5 s.
    #[serde(default = "five_seconds", with = "human_duration")]
    pub refresh_interval: Duration,
}

/// Names that stand for targets.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DnsSdConfig {
    /// The names; one that ends with a dot is whole.
    pub names: Vec<String>,
    /// `SRV`, `A` or `AAAA`. Default `SRV`.
    #[serde(default, rename = "type")]
    pub kind: DnsKind,
    /// The port of each address; `SRV` brings its own.
    #[serde(default)]
    pub port: Option<u16>,
    /// Between two look-ups. Default 30 s.
    #[serde(default = "half_a_minute", with = "human_duration")]
    pub refresh_interval: Duration,
    /// The name server to ask, `ip:port`. Default: those of the system.
    #[serde(default)]
    pub nameserver: Option<SocketAddr>,
}

/// What a name is looked up for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum DnsKind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Services with their ports.
    #[default]
    Srv,
}

/// Whom to trust over TLS, and who we are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the authorities to trust. Default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// The name that a target's certificate must have. Default: the host in its address.
    pub server_name: Option<String>,
    /// Whether any certificate will do. Default no.
    pub insecure_skip_verify: bool,
}

impl From<&TlsConfig> for Tls {
    fn from(config: &TlsConfig) -> Self {
        let TlsConfig { ca_file, cert_file, key_file, server_name, insecure_skip_verify } =
            config.clone();
        Self {
            ca_file,
            identity: cert_file.zip(key_file),
            server_name,
            insecure: insecure_skip_verify,
        }
    }
}

/// A name, and a file with the password, which is read at each scrape.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The name.
    pub username: String,
    /// The file with the password.
    pub password_file: PathBuf,
}

/// Containers, asked of their engine.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ContainersConfig {
    /// The engine's address, such as `unix:///run/podman/podman.sock` or `tcp://127.0.0.1:2375`. Default: Docker's.
    pub engine: Option<String>,
    /// Names of containers. Default: all.
    pub names: Vec<String>,
}

/// A process, or all that a name matches, read as one.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ProcessConfig {
    /// The label `process` of its series.
    pub name: String,
    /// Its id.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Its short name, or a part of its command line (words joined by one space).
    #[serde(default)]
    pub command: Option<String>,
}

fn yes() -> bool {
    true
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn default_path() -> String {
    "/metrics".to_owned()
}

fn default_body() -> Bytes {
    Bytes::mebi(64)
}

fn default_samples() -> usize {
    200_000
}

fn default_attempts() -> u32 {
    5
}

/// Labels that we set ourselves.
const OURS: [&str; 3] = ["job", "instance", "process"];

impl CollectorConfig {
    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        check_interval("collector.interval", self.interval, &mut faults);
        if let Some(interval) = self.host.interval {
            check_interval("collector.host.interval", interval, &mut faults);
        }
        check_labels("collector.labels", &self.labels, &mut faults);
        for scrape in &self.scrape {
            scrape.check(self.interval, &mut faults);
        }
        let mut jobs: Vec<&str> = self.scrape.iter().map(|scrape| scrape.job.as_str()).collect();
        jobs.sort_unstable();
        for (one, next) in jobs.iter().zip(jobs.iter().skip(1)) {
            if one == next {
                faults.push(format!(
                    "collector.scrape: job {one:?} stands twice; give each its own name"
                ));
            }
        }
        for process in &self.process {
            if process.pid.is_some() == process.command.is_some() {
                let name = &process.name;
                faults.push(format!("collector.process {name:?}: set either pid or command"));
            }
        }
        faults
    }
}

impl ScrapeConfig {
    /// Between two scrapes.
    pub fn interval(&self, default: Duration) -> Duration {
        self.interval.unwrap_or(default)
    }

    /// For one attempt.
    pub fn timeout(&self, default: Duration) -> Duration {
        let half = self.interval(default) / 2;
        self.timeout.unwrap_or(half.min(Duration::from_secs(10)))
    }

    fn check(&self, default: Duration, faults: &mut Vec<String>) {
        let place = format!("collector.scrape {:?}", self.job);
        if self.job.is_empty() {
            faults.push("collector.scrape: job is empty; give it a name".to_owned());
        }
        if self.targets.is_empty()
            && self.file_sd_configs.is_empty()
            && self.dns_sd_configs.is_empty()
        {
            faults.push(format!(
                "{place}: no targets; list them as \"host:port\", or name file_sd_configs or dns_sd_configs"
            ));
        }
        self.check_discovery(&place, faults);
        for target in &self.targets {
            let port = target.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
            if !matches!(port, Some((host, Ok(_))) if !host.is_empty() && !host.contains('/')) {
                faults.push(format!("{place}: target {target:?} is not of the form \"host:port\""));
            }
        }
        if !self.path.starts_with('/') {
            faults.push(format!("{place}: path {:?} must start with /", self.path));
        }
        let interval = self.interval(default);
        check_interval(&place, interval, faults);
        if self.timeout(default) > interval || self.timeout(default).is_zero() {
            faults.push(format!(
                "{place}: timeout must be over 0 and at most the interval, {interval:?}"
            ));
        }
        if !(1..=5).contains(&self.max_attempts) {
            faults.push(format!("{place}: max_attempts is {}, must be 1 to 5", self.max_attempts));
        }
        if self.bearer_token_file.is_some() && self.basic_auth.is_some() {
            faults.push(format!("{place}: set either bearer_token_file or basic_auth"));
        }
        let files =
            [&self.bearer_token_file, &self.basic_auth.as_ref().map(|it| it.password_file.clone())];
        for file in files.into_iter().flatten() {
            if let Err(error) = std::fs::File::open(file) {
                faults.push(format!("{place}: {} cannot be read: {error}", file.display()));
            }
        }
        check_labels(&place, &self.labels, faults);
    }
}

impl ScrapeConfig {
    fn check_discovery(&self, place: &str, faults: &mut Vec<String>) {
        for (at, config) in self.file_sd_configs.iter().enumerate() {
            let place = format!("{place}: file_sd_configs[{at}]");
            check_interval(&place, config.refresh_interval, faults);
            for pattern in &config.files {
                if let Err(error) = glob::Pattern::new(pattern) {
                    faults.push(format!("{place}: {pattern:?} is no pattern: {error}"));
                }
            }
        }
        for (at, config) in self.dns_sd_configs.iter().enumerate() {
            let place = format!("{place}: dns_sd_configs[{at}]");
            check_interval(&place, config.refresh_interval, faults);
            if config.kind != DnsKind::Srv && config.port.is_none() {
                faults.push(format!("{place}: addresses need a port"));
            }
        }
        for (name, rules) in [
            ("relabel_configs", &self.relabel_configs),
            ("metric_relabel_configs", &self.metric_relabel_configs),
        ] {
            for (at, rule) in rules.iter().enumerate() {
                rule.faults(&format!("{place}: {name}[{at}]"), faults);
            }
        }
        if let Some(tls) = &self.tls_config {
            if tls.cert_file.is_some() != tls.key_file.is_some() {
                faults.push(format!(
                    "{place}: tls_config needs both cert_file and key_file, or neither"
                ));
            } else if let Err(error) = Tls::from(tls).client_config() {
                faults.push(format!("{place}: tls_config: {error}"));
            }
        }
    }
}

fn check_interval(place: &str, interval: Duration, faults: &mut Vec<String>) {
    if interval < Duration::from_millis(100) || interval > Duration::from_secs(86_400) {
        faults.push(format!("{place}: interval {interval:?} must be between 100ms and 1day"));
    }
}

fn check_labels(place: &str, labels: &BTreeMap<String, String>, faults: &mut Vec<String>) {
    for name in labels.keys() {
        if !is_plain_label_name(name) {
            faults.push(format!("{place}: label {name:?} must match [a-zA-Z_][a-zA-Z0-9_]*"));
        }
        if OURS.contains(&name.as_str()) {
            faults.push(format!(
                "{place}: label {name:?} is set by the collector; choose another name"
            ));
        }
    }
}
