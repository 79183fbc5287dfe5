//! Who may import whom; an edge that is not listed here needs a decision in `docs/adr/` first.

use crate::read;
use std::path::Path;

/// Package, its manifest, and what of ours it may import.
const ROOMS: [(&str, &str, &[&str]); 17] = [
    ("model", "crates/model", &[]),
    ("runtime", "crates/runtime", &["model"]),
    ("telemetry", "crates/telemetry", &["model"]),
    ("platform", "crates/platform", &["model"]),
    ("stats", "crates/stats", &["model"]),
    ("store", "store", &["model", "platform", "runtime", "telemetry"]),
    (
        "collector",
        "collector",
        &["containers", "model", "platform", "runtime", "store", "telemetry"],
    ),
    ("alerts", "alerts", &["model", "platform", "runtime", "store", "telemetry"]),
    ("analyzer", "analyzer", &["model", "platform", "runtime", "stats", "store", "telemetry"]),
    ("gateway", "gateway", &["model", "platform", "runtime", "telemetry"]),
    ("watchdog", "crates/watchdog", &["containers", "model", "platform", "runtime", "telemetry"]),
    ("burnin", "crates/burnin", &["model", "platform", "runtime", "stats", "telemetry"]),
    ("containers", "crates/containers", &["runtime"]),
    ("chaos", "crates/chaos", &["model", "platform", "runtime"]),
    ("bench", "crates/bench", &["model", "platform", "runtime", "stats"]),
    ("tidy", "crates/tidy", &[]),
    (
        "forerunner",
        ".",
        &[
            "alerts",
            "analyzer",
            "bench",
            "burnin",
            "chaos",
            "collector",
            "gateway",
            "model",
            "platform",
            "runtime",
            "store",
            "telemetry",
            "watchdog",
        ],
    ),
];

/// What only some rooms may name.
const RESERVED: [(&str, &[&str]); 10] = [
    ("bollard", &["containers"]),
    ("axum", &["forerunner"]),
    ("clap", &["forerunner"]),
    ("anyhow", &["forerunner"]),
    ("datafusion", &["analyzer"]),
    ("hyper", &["gateway", "platform"]),
    ("lettre", &["alerts"]),
    ("arrow", &["store", "analyzer"]),
    ("parquet", &["store", "analyzer"]),
    ("procfs", &["platform"]),
];

pub(crate) fn check(root: &Path, faults: &mut Vec<String>) {
    for (room, folder, allowed) in ROOMS {
        let manifest = root.join(folder).join("Cargo.toml");
        let text = read(&manifest);
        if text.is_empty() {
            faults.push(format!("{folder}/Cargo.toml is missing"));
        }
        for name in dependencies(&text) {
            let ours = ROOMS.iter().any(|(room, _, _)| *room == name);
            if ours && !allowed.contains(&name) {
                faults.push(format!(
                    "{room} may not import {name}: see the picture in ARCHITECTURE.md"
                ));
            }
            let reserved = RESERVED.iter().find(|(reserved, _)| *reserved == name);
            if let Some((_, rooms)) = reserved.filter(|(_, rooms)| !rooms.contains(&room)) {
                faults.push(format!("{room} may not name {name}: only {} may", rooms.join(", ")));
            }
        }
        for line in
            text.lines().filter(|line| room != "forerunner" && line.contains("version = \""))
        {
            faults.push(format!(
                "{folder}/Cargo.toml: {line:?}: versions stand in the workspace's manifest only"
            ));
        }
    }
}

/// The names in every table of dependencies, those for tests left out.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut within = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            within = line.contains("dependencies]")
                && !line.contains("dev-")
                && !line.contains("workspace.");
        } else if within && let Some((name, _)) = line.split_once('=') {
            names.push(name.trim().trim_end_matches(".workspace"));
        }
    }
    names
}
