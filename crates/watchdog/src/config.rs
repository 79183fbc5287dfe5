//! What the watchdog keeps alive, and when it gives up.

use model::Bytes;
use model::time::human_duration;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The watchdog's part of the configuration file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogConfig {
    /// Where journal, evidence and the children's output go. Default `forerunner-watchdog`.
    pub dir: PathBuf,
    /// Where `/live` and `/metrics` are served; none unless set.
    pub listen: Option<SocketAddr>,
    /// Between two probes. Default 1 s.
    #[serde(with = "human_duration")]
    pub interval: Duration,
    /// For one probe. Default 2 s.
    #[serde(with = "human_duration")]
    pub timeout: Duration,
    /// Probes missed in a row before a restart. Default 2.
    pub misses: u32,
    /// For a child to answer its first probe. Default 30 s.
    #[serde(with = "human_duration")]
    pub start_grace: Duration,
    /// For a child to end after the polite signal. Default 4 s.
    #[serde(with = "human_duration")]
    pub stop_grace: Duration,
    /// Longest wait before a restart; waits double from 100 ms while a child keeps dying. Default 10 s.
    #[serde(with = "human_duration")]
    pub max_restart_wait: Duration,
    /// A child that has been well for so long after a restart is cured. Default 60 s.
    #[serde(with = "human_duration")]
    pub cured_after: Duration,
    /// Restarts in a row that did not cure, after which a person is told. Default 3.
    pub page_after: u32,
    /// Restarts in a row that did not cure, after which the last good files come back, once, and if that does not cure either, nothing
    /// is tried for the time of `hold`. Default 6.
    pub hold_after: u32,
    /// How long nothing is tried, unless somebody asks. Default 10 min.
    #[serde(with = "human_duration")]
    pub hold: Duration,
    /// Webhooks that are told, in the form of Alertmanager's.
    pub page: Vec<String>,
    /// Size at which a child's log file is rolled over; one older file is kept. Default 8 MiB.
    pub log_size: Bytes,
    /// The children.
    pub child: Vec<ChildConfig>,
    /// Containers that are restarted by their engine.
    pub container: Vec<ContainerConfig>,
}

/// A container to keep alive. Somebody else has started it, and it goes on when the watchdog ends.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ContainerConfig {
    /// Its name.
    pub name: String,
    /// The engine's address, such as `unix:///run/podman/podman.sock`. Default: Docker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// A URL that answers 200 while it is well; without it its state and its own health check count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
}

/// One command to keep alive.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ChildConfig {
    /// Its name in journal and log files.
    pub name: String,
    /// The program and its arguments; no shell.
    pub command: Vec<String>,
    /// A URL that answers 200 while the child is well; without it only its end is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// A URL whose page is kept as evidence before the child is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Where it serves. The watchdog opens the socket and hands it over (`LISTEN_FDS`), so that clients wait while it restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Resident memory over which it is eased, and if that does not help restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Bytes>,
    /// What is called, in this order, while it is over its memory limit and before it is restarted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ease: Vec<EaseConfig>,
    /// A URL that is called before a planned end, so that nothing new is sent to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<String>,
    /// A file with the token that `ease` and `drain` are called with, such as the gateway's `admin_token_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Files that are kept whenever it is cured, and come back when restarts do not help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
}

/// A call that may help without a restart.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct EaseConfig {
    /// Its name in the journal.
    pub name: String,
    /// The URL; POST.
    pub call: String,
    /// What is sent, as JSON. Default `{}`.
    #[serde(default = "empty")]
    pub body: String,
    /// How long its effect may take. Default 5 s.
    #[serde(default = "within", with = "human_duration")]
    pub within: Duration,
}

fn empty() -> String {
    "{}".to_owned()
}

fn within() -> Duration {
    Duration::from_secs(5)
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("forerunner-watchdog"),
            listen: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            misses: 2,
            start_grace: Duration::from_secs(30),
            stop_grace: Duration::from_secs(4),
            max_restart_wait: Duration::from_secs(10),
            cured_after: Duration::from_secs(60),
            page_after: 3,
            hold_after: 6,
            hold: Duration::from_secs(600),
            page: Vec::new(),
            log_size: Bytes::mebi(8),
            child: Vec::new(),
            container: Vec::new(),
        }
    }
}

impl WatchdogConfig {
    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for child in &self.child {
            let name = &child.name;
            if child.command.is_empty() {
                faults.push(format!(
                    "watchdog.child {name:?}: command is empty; give program and arguments"
                ));
            }
            let plain = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
            if !plain {
                faults.push(format!(
                    "watchdog.child {name:?}: name must be of letters, digits, _ and -"
                ));
            }
            if self.child.iter().filter(|other| other.name == *name).count() > 1 {
                faults
                    .push(format!("watchdog.child {name:?} stands twice; give each its own name"));
            }
            if !child.ease.is_empty() && child.memory_limit.is_none() {
                faults.push(format!(
                    "watchdog.child {name:?}: ease does nothing without memory_limit; set one"
                ));
            }
            let urls = child.ease.iter().map(|it| &it.call);
            let urls = urls.chain(&child.probe).chain(&child.metrics).chain(&child.drain);
            for url in urls.filter(|url| !url.starts_with("http://")) {
                faults.push(format!(
                    "watchdog.child {name:?}: {url:?} must be of the form http://host:port/path"
                ));
            }
        }
        for container in &self.container {
            let name = &container.name;
            if let Some(url) = container.probe.as_ref().filter(|url| !url.starts_with("http://")) {
                faults.push(format!(
                    "watchdog.container {name:?}: {url:?} must be of the form http://host:port/path"
                ));
            }
            let children = self.child.iter().map(|it| &it.name);
            let names = children.chain(self.container.iter().map(|it| &it.name));
            if name.is_empty() || names.filter(|it| *it == name).count() > 1 {
                faults.push(format!(
                    "watchdog.container {name:?}: give each container and child a name of its own"
                ));
            }
        }
        for url in &self.page {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                faults.push(format!("watchdog.page: {url:?} must begin with http:// or https://"));
            }
        }
        if self.misses == 0 {
            faults.push("watchdog.misses is 0; allow at least 1".to_owned());
        }
        if self.page_after == 0 || self.hold_after < self.page_after {
            faults.push(
                "watchdog.page_after must be at least 1 and at most watchdog.hold_after".to_owned(),
            );
        }
        faults
    }
}
