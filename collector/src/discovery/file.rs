//! Targets from files, in Prometheus' `file_sd` form: JSON or YAML lists of `{targets, labels}`.

use super::{Found, found};
use crate::config::FileSdConfig;
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// Largest file.
const LARGEST: u64 = 16 << 20;

/// Files that are looked at again and again; a changed one is read anew.
#[derive(Debug)]
pub(super) struct FileSource {
    patterns: Vec<String>,
    refresh: Duration,
    files: BTreeMap<PathBuf, Read>,
    all: Vec<Found>,
}

/// A file as it was read last.
#[derive(Debug)]
struct Read {
    stamp: Option<(SystemTime, u64)>,
    found: Vec<Found>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl FileSource {
    pub(super) fn new(config: &FileSdConfig) -> Self {
        let (patterns, refresh) = (config.files.clone(), config.refresh_interval);
        Self { patterns, refresh, files: BTreeMap::new(), all: Vec::new() }
    }

    pub(super) fn refresh(&self) -> Duration {
        self.refresh
    }

    /// What the files say now. One that cannot be read keeps what it said.
    pub(super) fn look(&mut self) -> &[Found] {
        let paths: Vec<PathBuf> = self
            .patterns
            .iter()
            .flat_map(|pattern| glob::glob(pattern).into_iter().flatten().flatten())
            .collect();
        self.files.retain(|path, _| paths.contains(path));
        for path in paths {
            let stamp = stamp(&path);
            if self.files.get(&path).is_some_and(|read| read.stamp == stamp && stamp.is_some()) {
                continue;
            }
            match read(&path) {
                Ok(found) => {
                    info!(file = %path.display(), targets = found.len(), "targets read");
                    self.files.insert(path, Read { stamp, found });
                }
                Err(cause) => {
                    warn!(file = %path.display(), cause, "targets could not be read; those read before stay");
                    // Looked at again next time: leave to read it may come without a change.
                    let read = self.files.entry(path);
                    read.or_insert_with(|| Read { stamp: None, found: Vec::new() }).stamp = None;
                }
            }
        }
        self.all = self.files.values().flat_map(|read| read.found.iter().cloned()).collect();
        &self.all
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn read(path: &Path) -> Result<Vec<Found>, String> {
    let words = |error: std::io::Error| error.to_string();
    if std::fs::metadata(path).map_err(words)?.len() > LARGEST {
        return Err(format!("over {LARGEST} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(words)?;
    let groups = parse(&text, path.extension().is_some_and(|kind| kind == "json"))?;
    let file = path.display().to_string();
    let mut all = Vec::new();
    for Group { targets, labels } in groups {
        for target in targets {
            let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            all.push(found(&target, labels.chain([("__meta_filepath", file.as_str())])));
        }
    }
    Ok(all)
}

fn parse(text: &str, json: bool) -> Result<Vec<Group>, String> {
    if json {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
    let Some(document) = documents.first() else { return Ok(Vec::new()) };
    serde_json::from_value(to_json(document)?).map_err(|error| error.to_string())
}

fn to_json(yaml: &Yaml<'_>) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::from(*value),
        Yaml::Value(Scalar::Integer(value)) => Value::from(*value),
        Yaml::Value(Scalar::FloatingPoint(value)) => Value::from(value.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Sequence(items) => items.iter().map(to_json).collect::<Result<Vec<_>, _>>()?.into(),
        Yaml::Mapping(pairs) => {
            let pair = |(key, value): (&Yaml<'_>, &Yaml<'_>)| match key {
                Yaml::Value(Scalar::String(key)) => Ok((key.to_string(), to_json(value)?)),
                _ => Err("a key that is no text".to_owned()),
            };
            Value::Object(pairs.iter().map(pair).collect::<Result<_, _>>()?)
        }
        _ => return Err("tags, aliases and invalid values are not taken".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: &[Found]) -> Vec<String> {
        let pair = |(name, value): (&String, &String)| format!("{name}={value}");
        found
            .iter()
            .map(|it| {
                let shown = it.iter().filter(|(name, _)| *name != "__meta_filepath");
                shown.map(pair).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    #[test]
    fn files_are_read_anew_when_they_change_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            platform::durable::replace(&dir.path().join(name), text.as_bytes()).unwrap();
        };
        write("a.json", r#"[{"targets": ["h1:1", "h2:2"], "labels": {"env": "prod"}}]"#);
        write("b.yml", "- targets: ['h3:3']\n  labels:\n    zone: eu\n- targets: []\n");
        let pattern = |kind: &str| dir.path().join(kind).display().to_string();
        let files = vec![pattern("*.json"), pattern("*.yml")];
        let refresh_interval = Duration::from_secs(1);
        let mut source = FileSource::new(&FileSdConfig { files, refresh_interval });
        let all =
            ["__address__=h1:1 env=prod", "__address__=h2:2 env=prod", "__address__=h3:3 zone=eu"];
        assert_eq!(shown(source.look()), all);
        write("a.json", r#"[{"targets": ["#);
        assert_eq!(shown(source.look()), all);
        write("a.json", "[]");
        assert_eq!(shown(source.look()), all[2..]);
        platform::durable::remove_file(&dir.path().join("b.yml")).unwrap();
        assert!(source.look().is_empty());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told() {
        for (text, json, cause) in [
            (r#"[{"targets": "h:1"}]"#, true, "expected a sequence"),
            (r#"[{"target": ["h:1"]}]"#, true, "unknown field `target`"),
            ("- targets: [", false, "line 2"),
            ("- labels: {a: b}", false, "missing field `targets`"),
            ("- targets: [1]", false, "expected a string"),
        ] {
            let error = parse(text, json).err().unwrap();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }
}
