//! `Cargo.lock`: one version of what must be one, and only licences that we may ship.

use crate::read;
use std::path::{Path, PathBuf};

/// Two versions of these would not fit together, or double the build.
const SINGLE: [&str; 10] = [
    "arrow",
    "arrow-array",
    "arrow-schema",
    "axum",
    "datafusion",
    "http",
    "hyper",
    "hyper-util",
    "parquet",
    "tokio",
];

/// Each package must offer one of these.
const LICENCES: [&str; 13] = [
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MPL-2.0",
    "Unicode-3.0",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
];

pub(crate) fn check(root: &Path, faults: &mut Vec<String>) {
    let packages = packages(&read(&root.join("Cargo.lock")));
    if packages.is_empty() {
        faults.push("Cargo.lock is missing or empty".to_owned());
    }
    for single in SINGLE {
        let versions: Vec<&str> = packages
            .iter()
            .filter(|(name, _)| name == single)
            .map(|(_, version)| version.as_str())
            .collect();
        if versions.len() > 1 {
            faults.push(format!(
                "{single} is there {} times: {}",
                versions.len(),
                versions.join(", ")
            ));
        }
    }
    for (name, version) in &packages {
        // Sources of other systems' packages are not here; what is not built is not shipped.
        let Some(manifest) = source(name, version) else { continue };
        let text = read(&manifest);
        let licence =
            text.lines().find_map(|line| line.strip_prefix("license = ")).unwrap_or_default();
        let offered = licence.split(['"', '/', ' ', '(', ')']).any(|word| LICENCES.contains(&word));
        if !offered {
            faults.push(format!(
                "{name} {version} has licence {licence:?}, which is none that we ship"
            ));
        }
    }
}

/// Names and versions of the packages that come from a registry.
fn packages(lock: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for block in lock.split("[[package]]") {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim_matches(['=', ' ', '"']).to_owned())
        };
        if let (Some(name), Some(version), true) =
            (value("name"), value("version"), block.contains("source ="))
        {
            found.push((name, version));
        }
    }
    found
}

fn source(name: &str, version: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let registries = std::fs::read_dir(home.join("registry").join("src")).ok()?;
    let folder = format!("{name}-{version}");
    registries
        .flatten()
        .map(|entry| entry.path().join(&folder).join("Cargo.toml"))
        .find(|path| path.exists())
}
