//! What can be set about the gateway.

mod tool;

pub use tool::{ActionConfig, Permission, RouteConfig, ToolConfig};

use model::Bytes;
use model::time::human_duration;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The gateway's part of the configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Where clients come. Default `127.0.0.1:9480`.
    pub listen: SocketAddr,
    /// Where health, metrics and administration are. Default `127.0.0.1:9491`.
    pub control: SocketAddr,
    /// Where the database, the token key and what is journaled lie. Default `gateway-data`.
    pub dir: PathBuf,
    /// Connections at once; those over it wait to be accepted. Default 1,024.
    pub max_connections: usize,
    /// Requests at once; those over it are answered 503 with Retry-After. Default 512.
    pub max_in_flight: usize,
    /// Largest request body that is read whole; a larger one is answered 413. What is proxied is streamed. Default 1 MiB.
    pub max_body_size: Bytes,
    /// Largest request head, up to 1 MiB; a larger one is answered 431. Default 16 KiB.
    pub max_head_size: Bytes,
    /// For the head and for the body of a request, each; a slower client is cut off. Default 5 s.
    #[serde(with = "human_duration")]
    pub read_timeout: Duration,
    /// A connection without a request for so long is closed. Default 60 s.
    #[serde(with = "human_duration")]
    pub idle_timeout: Duration,
    /// For open requests after the end was asked for. Default 3 s.
    #[serde(with = "human_duration")]
    pub drain_time: Duration,
    /// `tool:action` that callers without a token may ask for. Default none.
    pub anonymous: Vec<String>,
    /// A file with the secret that tokens are signed with, 32 bytes or more; made at the first start. Default `token.key` in `dir`.
    pub token_key_file: Option<PathBuf>,
    /// A file with the token that agents, tokens and policies are managed with. Needed when `listen` is not on loopback. Default none.
    pub management_token_file: Option<PathBuf>,
    /// A file with the token for `/admin` and `/api/admin`. Needed when `control` is not on loopback. Default none.
    pub admin_token_file: Option<PathBuf>,
    /// A certificate chain and its key, PEM; then `listen` speaks TLS. Default none.
    pub tls: Option<TlsConfig>,
    /// How much work is let in.
    pub admission: AdmissionConfig,
    /// Answers kept to be served again.
    pub cache: CacheConfig,
    /// Where agents, policies and the audit are kept.
    pub database: DatabaseConfig,
    /// When the gateway gets narrow.
    pub pressure: PressureConfig,
    /// The tools that requests may name.
    pub tool: Vec<ToolConfig>,
    /// Paths that are passed on as they are.
    pub route: Vec<RouteConfig>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the chain, ours first.
    pub cert_file: PathBuf,
    /// PEM file with its key.
    pub key_file: PathBuf,
}

/// How much work is let in.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionConfig {
    /// How long a request may wait for a tool while waits are short now and then. Default 100 ms.
    #[serde(with = "human_duration")]
    pub queue_time: Duration,
    /// How long when they are not, and what is short. Default 5 ms.
    #[serde(with = "human_duration")]
    pub pressed_queue_time: Duration,
    /// Requests that wait for one tool at most. Default 256.
    pub max_queue: usize,
}

/// Answers kept to be served again.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Bytes of answers. Default 16 MiB.
    pub max_size: Bytes,
    /// A Redis that several gateways share behind it, such as `redis://127.0.0.1:6379/0`. Default none.
    pub redis: Option<String>,
}

/// Where agents, policies and the audit are kept.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// A PostgreSQL, such as `host=127.0.0.1 user=gateway dbname=gateway`; in the words of libpq. Default none: `gateway.sqlite` in `dir`.
    pub postgres: Option<String>,
    /// A file with the password for it. Default none.
    pub password_file: Option<PathBuf>,
    /// Connections to it at most. Default 4.
    pub max_connections: usize,
    /// A connection is replaced after so long. Default 30 min.
    #[serde(with = "human_duration")]
    pub max_lifetime: Duration,
    /// For one question. Default 2 s.
    #[serde(with = "human_duration")]
    pub timeout: Duration,
    /// How old policies may be while the database is away; older, requests are answered 503. Default 1 h.
    #[serde(with = "human_duration")]
    pub max_policy_age: Duration,
    /// Bytes of audit records kept on disk while the database is away; more are counted and lost. Default 64 MiB.
    pub max_journal_size: Bytes,
    /// Audit records are kept so long. Default 30 days.
    #[serde(with = "human_duration")]
    pub audit_retention: Duration,
    /// So many of them at most, the newest. Default 20 million: 3 GB of the embedded database.
    pub max_audit_records: u64,
}

/// When the gateway gets narrow: at 60, 80, 90 and 95 % of these it does ever more to get by.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PressureConfig {
    /// Memory that the process may take. Default: that of its control group, or else half of the machine's.
    pub max_memory: Option<Bytes>,
    /// Space that must stay free on the disk of `dir`: at that, the disk is full. Default 256 MiB.
    pub min_free_disk: Bytes,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9480)),
            control: SocketAddr::from(([127, 0, 0, 1], 9491)),
            dir: PathBuf::from("gateway-data"),
            max_connections: 1_024,
            max_in_flight: 512,
            max_body_size: Bytes::mebi(1),
            max_head_size: Bytes(16 << 10),
            read_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            drain_time: Duration::from_secs(3),
            anonymous: Vec::new(),
            token_key_file: None,
            management_token_file: None,
            admin_token_file: None,
            tls: None,
            admission: AdmissionConfig::default(),
            cache: CacheConfig::default(),
            database: DatabaseConfig::default(),
            pressure: PressureConfig::default(),
            tool: tool::built_in(),
            route: Vec::new(),
        }
    }
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            queue_time: Duration::from_millis(100),
            pressed_queue_time: Duration::from_millis(5),
            max_queue: 256,
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { max_size: Bytes::mebi(16), redis: None }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            postgres: None,
            password_file: None,
            max_connections: 4,
            max_lifetime: Duration::from_secs(30 * 60),
            timeout: Duration::from_secs(2),
            max_policy_age: Duration::from_secs(3_600),
            max_journal_size: Bytes::mebi(64),
            audit_retention: Duration::from_secs(30 * 86_400),
            max_audit_records: 20_000_000,
        }
    }
}

impl Default for PressureConfig {
    fn default() -> Self {
        Self { max_memory: None, min_free_disk: Bytes::mebi(256) }
    }
}

impl GatewayConfig {
    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in [
            ("max_connections", self.max_connections),
            ("max_in_flight", self.max_in_flight),
            ("admission.max_queue", self.admission.max_queue),
            ("database.max_connections", self.database.max_connections),
        ] {
            if value == 0 {
                faults.push(format!("gateway.{name} is 0; allow at least 1"));
            }
        }
        if !(8_192..=1 << 20).contains(&self.max_head_size.as_usize()) {
            faults.push("gateway.max_head_size must be 8 KiB to 1 MiB".to_owned());
        }
        let open = |name: &str, address: SocketAddr, key: &str, file: &Option<PathBuf>| {
            (!address.ip().is_loopback() && file.is_none()).then(|| {
                format!("gateway.{name} {address} is open to others: set gateway.{key}, or listen on 127.0.0.1")
            })
        };
        let management = &self.management_token_file;
        faults.extend(open("listen", self.listen, "management_token_file", management));
        faults.extend(open("control", self.control, "admin_token_file", &self.admin_token_file));
        for scope in &self.anonymous {
            if scope != "*" && !scope.contains(':') {
                faults.push(format!("gateway.anonymous: {scope:?} is not of the form tool:action"));
            }
        }
        for (n, tool) in self.tool.iter().enumerate() {
            if self.tool.iter().take(n).any(|other| other.name == tool.name) {
                faults.push(format!("gateway.tool {:?} is there twice", tool.name));
            }
            faults.extend(tool.faults());
        }
        for route in &self.route {
            faults.extend(route.faults(&self.tool));
        }
        faults
    }
}
