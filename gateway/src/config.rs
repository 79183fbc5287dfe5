//! What can be set about the gateway.

use model::Bytes;
use model::time::human_duration;
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

/// The gateway's part of the configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Where clients come. Default `127.0.0.1:9480`.
    pub listen: SocketAddr,
    /// Where health, metrics and administration are. Default `127.0.0.1:9491`.
    pub control: SocketAddr,
    /// Connections at once; those over it wait to be accepted. Default 1,024.
    pub max_connections: usize,
    /// Requests at once; those over it are answered 503 with Retry-After. Default 256.
    pub max_in_flight: usize,
    /// Largest request body; a larger one is answered 413. Default 1 MiB.
    pub max_body_size: Bytes,
    /// For the head and for the body of a request, each; a slower client is cut off. Default 5 s.
    #[serde(with = "human_duration")]
    pub read_timeout: Duration,
    /// The tools that requests may name, all of them mocks so far.
    pub tool: Vec<ToolConfig>,
}

/// A tool that answers by itself, without a network.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ToolConfig {
    /// Its name in the path.
    pub name: String,
    /// The actions that it knows.
    pub actions: Vec<String>,
    /// Median time to an answer; single ones take half to three times as long. Default 20 ms.
    #[serde(default = "default_latency", with = "human_duration")]
    pub latency: Duration,
}

fn default_latency() -> Duration {
    Duration::from_millis(20)
}

impl Default for GatewayConfig {
    fn default() -> Self {
        let tool = |name: &str, action: &str, millis| ToolConfig {
            name: name.to_owned(),
            actions: vec![action.to_owned()],
            latency: Duration::from_millis(millis),
        };
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9480)),
            control: SocketAddr::from(([127, 0, 0, 1], 9491)),
            max_connections: 1_024,
            max_in_flight: 256,
            max_body_size: Bytes::mebi(1),
            read_timeout: Duration::from_secs(5),
            tool: vec![
                tool("serpapi", "search", 30),
                tool("http_fetch", "get", 15),
                tool("openai", "chat", 80),
                tool("gmail_send", "send", 20),
            ],
        }
    }
}

impl GatewayConfig {
    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in
            [("max_connections", self.max_connections), ("max_in_flight", self.max_in_flight)]
        {
            if value == 0 {
                faults.push(format!("gateway.{name} is 0; allow at least 1"));
            }
        }
        for tool in &self.tool {
            let plain = |text: &String| {
                !text.is_empty()
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            };
            if !plain(&tool.name) || !tool.actions.iter().all(plain) || tool.actions.is_empty() {
                let name = &tool.name;
                faults.push(format!(
                    "gateway.tool {name:?}: name and actions must be of letters, digits, _ - and ., and not be missing"
                ));
            }
        }
        faults
    }
}
