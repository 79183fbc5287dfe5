//! What the gateway reads from the environment file: switches and the mode of the tools.

use super::document::Document;

/// The switches. Each is on or off whole; a change is seen by the next request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    /// Whether answers are kept and served again: `FF_CACHE`, on unless switched off.
    pub(crate) cache: bool,
    /// Whether failed calls are tried again: `FF_RETRY`, on unless switched off.
    pub(crate) retry: bool,
    /// Whether a failing tool is left alone for a while: `FF_BREAKERS`, on unless switched off.
    pub(crate) breakers: bool,
    /// Whether a fifth of the calls of mock tools fail or take up to 1.5 s more: `FF_CHAOS`, off unless switched on.
    pub(crate) chaos: bool,
    /// Whether no tool is called over the network: `UPSTREAM_MODE=mock`.
    pub(crate) mock: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Self { cache: true, retry: true, breakers: true, chaos: false, mock: false }
    }
}

/// Known, and without effect: this gateway always checks policies and never blocks.
const WITHOUT_EFFECT: [&str; 2] = ["FF_ASYNC", "FF_POLICY"];
const SWITCHES: [&str; 6] =
    ["FF_CACHE", "FF_RETRY", "FF_BREAKERS", "FF_CHAOS", WITHOUT_EFFECT[0], WITHOUT_EFFECT[1]];

impl Flags {
    /// What `document` says; where it says nothing that can be read, the default.
    pub(crate) fn of(document: &Document) -> Self {
        let usual = Self::default();
        let read = |key: &str, usual: bool| document.get(key).and_then(switch).unwrap_or(usual);
        Self {
            cache: read("FF_CACHE", usual.cache),
            retry: read("FF_RETRY", usual.retry),
            breakers: read("FF_BREAKERS", usual.breakers),
            chaos: read("FF_CHAOS", usual.chaos),
            mock: document.get("UPSTREAM_MODE") == Some("mock"),
        }
    }

    /// Keys of which the value cannot be read, each with the remedy.
    pub(crate) fn faults(document: &Document) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (key, value) in document.values() {
            let mut fault = |words| faults.push((key.to_owned(), words));
            if SWITCHES.contains(&key) && switch(value).is_none() {
                fault(format!("{key}={value} is neither on nor off"));
            } else if key.starts_with("FF_") && !SWITCHES.contains(&key) {
                fault(format!("{key} is no switch; there are {}", SWITCHES.join(", ")));
            } else if key == "UPSTREAM_MODE" && !["live", "mock"].contains(&value) {
                fault(format!("UPSTREAM_MODE={value} is neither live nor mock"));
            }
        }
        faults
    }
}

fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" | "yes" => Some(true),
        "off" | "false" | "0" | "no" | "" => Some(false),
        _ => None,
    }
}
