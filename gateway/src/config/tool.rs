//! Tools and routes: what is called for a request, and how.

use crate::admit::queue::Priority;
use model::time::human_duration;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use std::fmt;
use std::time::Duration;

/// Something that is called for a request, over HTTP or, without `base_url`, as a mock.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ToolConfig {
    /// Its name in paths, tokens and policies.
    pub name: String,
    /// The actions that it knows, by name or as tables.
    #[serde(default)]
    pub actions: Vec<ActionConfig>,
    /// Where it is, such as `http://127.0.0.1:8000/v1`. Default none: it answers by itself, without a network.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Key in the environment file whose value is sent as `Authorization: Bearer …`. Default none.
    #[serde(default)]
    pub credential: Option<String>,
    /// Median time to the answer of a mock; single ones take half to three times as long. Default 20 ms.
    #[serde(default = "default_latency", with = "human_duration")]
    pub latency: Duration,
    /// For a call with its retries; for what is proxied, to the answer's head and then between two pieces of its body. Default 10 s.
    #[serde(default = "default_timeout", with = "human_duration")]
    pub timeout: Duration,
    /// Calls at once at most; below it the limit follows the tool. Default 256.
    #[serde(default = "default_concurrency")]
    pub max_concurrency: usize,
    /// Who goes first when calls wait: `low`, `normal` or `high`. Default `normal`.
    #[serde(default)]
    pub priority: Priority,
}

fn default_latency() -> Duration {
    Duration::from_millis(20)
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_concurrency() -> usize {
    256
}

/// What an action does to the world.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// It changes nothing, so that it may be tried again.
    Read,
    /// It may change something.
    #[default]
    Write,
}

impl Permission {
    /// As in tokens.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// An action of a tool. As text it is its name, with the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionConfig {
    /// Its name.
    pub name: String,
    /// How it is asked for. Default POST with the parameters as JSON; GET has them in the query.
    pub method: String,
    /// Behind `base_url`. Default `/{name}`.
    pub path: String,
    /// What a token must permit. Default write.
    pub permission: Permission,
    /// Parameters that must be there. Default none.
    pub required: Vec<String>,
    /// An answer is served again for so long; only of what reads. Default 0 s: never.
    pub fresh: Duration,
    /// And for so long when the tool gives none. Default 0 s: never.
    pub stale: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionTable {
    name: String,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    permission: Permission,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default, with = "human_duration")]
    fresh: Duration,
    #[serde(default, with = "human_duration")]
    stale: Duration,
}

impl ActionConfig {
    fn named(name: &str) -> Self {
        Self {
            path: format!("/{name}"),
            name: name.to_owned(),
            method: "POST".to_owned(),
            permission: Permission::Write,
            required: Vec::new(),
            fresh: Duration::ZERO,
            stale: Duration::ZERO,
        }
    }
}

impl<'de> Deserialize<'de> for ActionConfig {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = ActionConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an action or a table with it")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<ActionConfig, E> {
                Ok(ActionConfig::named(name))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ActionConfig, A::Error> {
                let table = ActionTable::deserialize(MapAccessDeserializer::new(map))?;
                let usual = ActionConfig::named(&table.name);
                Ok(ActionConfig {
                    method: table.method.unwrap_or(usual.method),
                    path: table.path.unwrap_or(usual.path),
                    permission: table.permission,
                    required: table.required,
                    fresh: table.fresh,
                    stale: table.stale,
                    name: table.name,
                })
            }
        }
        input.deserialize_any(NameOrTable)
    }
}

/// Requests that are passed on to a tool as they are, streamed both ways.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The beginning of the path, such as `/files/`. The longest that fits counts.
    pub path: String,
    /// The host that is asked for. Default any.
    #[serde(default)]
    pub host: Option<String>,
    /// The tool, which must have a `base_url`.
    pub tool: String,
    /// The action that a token and a policy must grant. Default `proxy`.
    #[serde(default = "default_action")]
    pub action: String,
    /// Whether `path` is cut off before the rest is put behind `base_url`. Default no.
    #[serde(default)]
    pub strip: bool,
    /// Whether granted requests are noted in the audit too; refused ones always are. Default no.
    #[serde(default)]
    pub audit: bool,
}

fn default_action() -> String {
    "proxy".to_owned()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

impl ToolConfig {
    pub(super) fn faults(&self) -> Vec<String> {
        let name = &self.name;
        let mut faults = Vec::new();
        if !is_name(name) || !self.actions.iter().all(|action| is_name(&action.name)) {
            faults.push(format!(
                "gateway.tool {name:?}: name and actions must be of letters, digits, _ - and ., and not be empty"
            ));
        }
        for action in &self.actions {
            let place = format!("gateway.tool {name:?} action {:?}", action.name);
            if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&action.method.as_str()) {
                faults.push(format!("{place}: method must be GET, POST, PUT, PATCH or DELETE"));
            }
            if !action.path.starts_with('/') {
                faults.push(format!("{place}: path must begin with /"));
            }
            let kept = action.fresh.max(action.stale);
            if kept > Duration::ZERO && action.permission != Permission::Read {
                faults.push(format!("{place}: only answers of what reads may be kept; set permission = \"read\", or no fresh and stale"));
            }
        }
        if let Some(url) = &self.base_url {
            let parsed = url.parse::<http::Uri>();
            let fits = parsed.is_ok_and(|url| {
                let plain = url.authority().is_some_and(|it| !it.as_str().contains('@'));
                plain && matches!(url.scheme_str(), Some("http" | "https"))
            });
            if !fits || url.ends_with('/') {
                faults.push(format!("gateway.tool {name:?}: base_url {url:?} is not of the form http://host:port/path without a / at its end"));
            }
        }
        if self.max_concurrency == 0 || self.timeout.is_zero() {
            faults
                .push(format!("gateway.tool {name:?}: max_concurrency and timeout must not be 0"));
        }
        faults
    }
}

impl RouteConfig {
    pub(super) fn faults(&self, tools: &[ToolConfig]) -> Vec<String> {
        let place = format!("gateway.route {:?}", self.path);
        let mut faults = Vec::new();
        if !self.path.starts_with('/') {
            faults.push(format!("{place}: path must begin with /"));
        }
        if ["/api/", "/t/"].iter().any(|ours| self.path.starts_with(ours)) {
            faults.push(format!("{place}: /api/ and /t/ are the gateway's own"));
        }
        match tools.iter().find(|tool| tool.name == self.tool) {
            None => faults.push(format!("{place}: there is no tool {:?}", self.tool)),
            Some(tool) if tool.base_url.is_none() => {
                faults.push(format!("{place}: tool {:?} has no base_url to pass on to", self.tool));
            }
            Some(_) => {}
        }
        faults
    }
}

/// The tools of the gateway of the failed burn-in, as mocks.
pub(super) fn built_in() -> Vec<ToolConfig> {
    let tool = |name: &str, millis, action: &str, permission, required: &[&str], fresh| {
        let action = ActionConfig {
            permission,
            required: required.iter().map(|it| (*it).to_owned()).collect(),
            fresh: Duration::from_secs(fresh),
            stale: Duration::from_secs(fresh * 10),
            ..ActionConfig::named(action)
        };
        ToolConfig {
            name: name.to_owned(),
            actions: vec![action],
            base_url: None,
            credential: None,
            latency: Duration::from_millis(millis),
            timeout: default_timeout(),
            max_concurrency: default_concurrency(),
            priority: Priority::Normal,
        }
    };
    vec![
        tool("serpapi", 30, "search", Permission::Read, &["query"], 60),
        tool("http_fetch", 15, "get", Permission::Read, &["url"], 30),
        tool("openai", 80, "chat", Permission::Read, &["messages"], 0),
        tool("gmail_send", 20, "send", Permission::Write, &["to", "subject"], 0),
    ]
}
