//! What the watchdog keeps alive.

use model::Bytes;
use model::time::human_duration;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The watchdog's part of the configuration file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogConfig {
    /// Where the journal and the children's output go. Default `forerunner-watchdog`.
    pub dir: PathBuf,
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
    /// Size at which a child's log file is rolled over; one older file is kept. Default 8 MiB.
    pub log_size: Bytes,
    /// The children.
    pub child: Vec<ChildConfig>,
}

/// One command to keep alive.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ChildConfig {
    /// Its name in journal and log files.
    pub name: String,
    /// The program and its arguments; no shell.
    pub command: Vec<String>,
    /// A URL that answers 200 while the child is well; without it only its end is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("forerunner-watchdog"),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            misses: 2,
            start_grace: Duration::from_secs(30),
            stop_grace: Duration::from_secs(4),
            max_restart_wait: Duration::from_secs(10),
            log_size: Bytes::mebi(8),
            child: Vec::new(),
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
        }
        if self.misses == 0 {
            faults.push("watchdog.misses is 0; allow at least 1".to_owned());
        }
        faults
    }
}
