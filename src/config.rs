//! The one configuration file: each room's part under its own name. Strict, and every fault is reported
//! at once.

use crate::exit::{self, Failure};
#[cfg(feature = "monitor")]
use model::Bytes;
use serde::Deserialize;
#[cfg(feature = "monitor")]
use std::net::SocketAddr;
use std::path::Path;
#[cfg(feature = "monitor")]
use std::path::PathBuf;

/// The whole file. A part that is missing has its defaults.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The monitor's HTTP interface.
    #[cfg(feature = "monitor")]
    pub(crate) api: ApiConfig,
    /// What is collected.
    #[cfg(feature = "monitor")]
    pub(crate) collector: collector::CollectorConfig,
    /// Where it is kept.
    #[cfg(feature = "monitor")]
    pub(crate) store: store::StoreConfig,
    /// What is watched for leaks, drift and anomalies.
    #[cfg(feature = "monitor")]
    pub(crate) analyzer: analyzer::AnalyzerConfig,
    /// Who is told of what, and what is done about it.
    #[cfg(feature = "monitor")]
    pub(crate) alerts: alerts::AlertsConfig,
    /// Faults on purpose.
    #[cfg(feature = "monitor")]
    pub(crate) chaos: chaos::ChaosConfig,
    /// Limits of queries.
    #[cfg(feature = "monitor")]
    pub(crate) query: analyzer::QueryConfig,
    /// The gateway.
    #[cfg(feature = "gateway")]
    pub(crate) gateway: gateway::GatewayConfig,
    /// The watchdog and its children.
    #[cfg(feature = "watchdog")]
    pub(crate) watchdog: watchdog::WatchdogConfig,
}

/// The monitor's HTTP interface.
#[cfg(feature = "monitor")]
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ApiConfig {
    /// Where it listens. Default `127.0.0.1:9490`. Elsewhere than on loopback, `token_file` is needed.
    pub(crate) listen: SocketAddr,
    /// A file with the token that clients must send as `Authorization: Bearer …`. Default none.
    pub(crate) token_file: Option<PathBuf>,
    /// More tokens, each with a name for the audit and a role.
    pub(crate) token: Vec<TokenConfig>,
    /// Whether the monitor scrapes itself, unless a scrape job is named `monitor`. Default yes.
    pub(crate) scrape_self: bool,
    /// Largest request body. Default 1 MiB.
    pub(crate) max_body_size: Bytes,
    /// Largest remote-write request, uncompressed. Default 32 MiB.
    pub(crate) max_push_size: Bytes,
}

/// What a token allows.
#[cfg(feature = "monitor")]
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// To ask.
    Read,
    /// To ask, to send samples, to silence, to acknowledge, to switch.
    Operate,
}

/// A token.
#[cfg(feature = "monitor")]
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenConfig {
    /// Whose it is.
    pub(crate) name: String,
    /// A file with the token.
    pub(crate) file: PathBuf,
    /// `read` or `operate`.
    pub(crate) role: Role,
}

#[cfg(feature = "monitor")]
impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9490)),
            token_file: None,
            token: Vec::new(),
            scrape_self: true,
            max_body_size: Bytes::mebi(1),
            max_push_size: Bytes::mebi(32),
        }
    }
}

impl Config {
    /// Reads a file and checks all of it.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::text(exit::CONFIG, format!("could not read {}: {error}", path.display()))
        })?;
        let config: Self = toml::from_str(&text).map_err(|error| {
            Failure::text(
                exit::CONFIG,
                format!("{}: {}", path.display(), error.to_string().trim_end()),
            )
        })?;
        let faults = config.faults();
        if faults.is_empty() {
            return Ok(config);
        }
        let list: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
        Err(Failure::text(exit::CONFIG, format!("{}:{list}", path.display())))
    }

    /// The file if one is given, else the defaults.
    pub(crate) fn load_or_default(path: Option<&Path>) -> Result<Self, Failure> {
        path.map_or_else(|| Ok(Self::default()), Self::load)
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        #[cfg(feature = "monitor")]
        {
            let tokens = self.api.token_file.is_some() || !self.api.token.is_empty();
            if !self.api.listen.ip().is_loopback() && !tokens {
                let listen = self.api.listen;
                faults.push(format!("api.listen {listen} is open to others: set api.token_file, or listen on 127.0.0.1"));
            }
            faults.extend(self.collector.faults());
            faults.extend(self.store.faults());
            faults.extend(self.query.faults());
            faults.extend(self.analyzer.faults());
            faults.extend(self.alerts.faults());
            faults.extend(self.chaos.faults());
        }
        #[cfg(feature = "gateway")]
        faults.extend(self.gateway.faults());
        #[cfg(feature = "watchdog")]
        faults.extend(self.watchdog.faults());
        faults
    }
}

#[cfg(all(feature = "gateway", feature = "monitor", feature = "watchdog"))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_states_the_true_defaults() {
        let text = include_str!("../examples/forerunner.toml");
        let mut example: Config = toml::from_str(text).unwrap();
        assert_eq!(example.faults(), [""; 0]);
        let mut defaults = Config::default();
        assert_eq!((example.gateway.tool.len(), example.gateway.route.len()), (2, 1));
        example.collector.scrape.clear();
        example.collector.process.clear();
        example.analyzer.watch.clear();
        example.watchdog.child.clear();
        example.collector.containers.clear();
        example.api.token.clear();
        example.alerts = alerts::AlertsConfig {
            receiver: Vec::new(),
            route: Vec::new(),
            inhibit: Vec::new(),
            maintenance: Vec::new(),
            heartbeat: None,
            runbook: Vec::new(),
            ..example.alerts
        };
        example.gateway.tool.clear();
        example.gateway.route.clear();
        defaults.gateway.tool.clear();
        assert_eq!(example, defaults);
    }

    #[test]
    fn the_example_has_every_key() {
        let text = include_str!("../examples/forerunner.toml");
        // An unknown key makes serde list the known ones of its table.
        for (table, key) in [
            ("api", "api"),
            ("collector", "collector"),
            ("collector.host", "collector.host"),
            ("store", "store"),
            ("query", "query"),
            ("analyzer", "analyzer"),
            ("alerts", "alerts"),
            ("alerts.remediation", "alerts.remediation"),
            ("gateway", "gateway"),
            ("gateway.admission", "gateway.admission"),
            ("gateway.cache", "gateway.cache"),
            ("gateway.database", "gateway.database"),
            ("gateway.pressure", "gateway.pressure"),
            ("watchdog", "watchdog"),
            ("chaos", "chaos"),
        ] {
            let error =
                toml::from_str::<Config>(&format!("[{table}]\nno_such_key = 1\n")).unwrap_err();
            let known = error.message().split("expected").nth(1).unwrap().to_owned();
            let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "{known}");
            for name in names {
                let nested =
                    [format!("[{key}.{name}]"), format!("[[{key}.{name}]]"), format!("{name} = ")];
                assert!(
                    nested.iter().any(|form| text.contains(form)),
                    "{table}.{name} is not in the example"
                );
            }
        }
    }
}
