//! What is scraped, and what is known of its health.

use crate::config::{BasicAuth, CollectorConfig, Scheme, ScrapeConfig};
use crate::relabel::{Pairs, RelabelConfig, relabel};
use crate::scrape::fetch::FetchError;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use model::exposition::parse::Malformed;
use model::{Bytes, Labels, Timestamp};
use parking_lot::Mutex;
use platform::http::percent;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One page to scrape.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) url: String,
    /// What is added to every series of the page.
    pub(crate) labels: Labels,
    pub(crate) manner: Arc<Manner>,
}

/// What a target is within its job: its page and its labels.
pub(crate) type Identity = (String, Labels);

/// How the targets of a job are scraped.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) max_body_size: Bytes,
    pub(crate) max_samples: usize,
    pub(crate) max_attempts: u32,
    pub(crate) honor_labels: bool,
    pub(crate) honor_timestamps: bool,
    pub(crate) metric_relabel: Vec<RelabelConfig>,
    pub(crate) credentials: Credentials,
}

/// What a target wants to see before it answers.
#[derive(Clone, Debug, Default)]
pub(crate) enum Credentials {
    #[default]
    None,
    /// A file with a token.
    Bearer(PathBuf),
    Basic(BasicAuth),
}

impl Credentials {
    /// The value of the header `Authorization`, with what the file holds now.
    pub(crate) fn header(&self) -> Result<Option<String>, FetchError> {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            text.map(|text| text.trim().to_owned())
                .map_err(|error| FetchError::Credentials(format!("{}: {error}", path.display())))
        };
        Ok(match self {
            Self::None => None,
            Self::Bearer(file) => Some(format!("Bearer {}", read(file)?)),
            Self::Basic(auth) => {
                let pair = format!("{}:{}", auth.username, read(&auth.password_file)?);
                Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
            }
        })
    }
}

/// The targets of a job among what was `found`, relabelled; none twice.
pub(crate) fn targets(
    scrape: &ScrapeConfig,
    config: &CollectorConfig,
    found: BTreeSet<Pairs>,
) -> HashMap<Identity, Arc<Target>> {
    let manner = Arc::new(Manner {
        interval: scrape.interval(config.interval),
        timeout: scrape.timeout(config.interval),
        max_body_size: scrape.max_body_size,
        max_samples: scrape.max_samples,
        max_attempts: scrape.max_attempts,
        honor_labels: scrape.honor_labels,
        honor_timestamps: scrape.honor_timestamps,
        metric_relabel: scrape.metric_relabel_configs.clone(),
        credentials: match (&scrape.bearer_token_file, &scrape.basic_auth) {
            (Some(file), _) => Credentials::Bearer(file.clone()),
            (None, Some(auth)) => Credentials::Basic(auth.clone()),
            (None, None) => Credentials::None,
        },
    });
    let scheme = match scrape.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let build = |found: Pairs| {
        let mut labels = config.labels.clone();
        labels.extend(scrape.labels.clone());
        let defaults = [
            ("job", scrape.job.as_str()),
            ("__scheme__", scheme),
            ("__metrics_path__", &scrape.path),
        ];
        labels.extend(defaults.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let params = scrape.params.iter();
        labels.extend(params.map(|(name, value)| (format!("__param_{name}"), value.clone())));
        labels.extend(found);
        target(labels, &scrape.relabel_configs, &manner)
    };
    let named = |target: Target| ((target.url.clone(), target.labels.clone()), Arc::new(target));
    found.into_iter().filter_map(build).map(named).collect()
}

/// The target that labels of discovery stand for, unless rules drop it.
fn target(mut labels: Pairs, rules: &[RelabelConfig], manner: &Arc<Manner>) -> Option<Target> {
    if !relabel(rules, &mut labels) {
        return None;
    }
    let of = |name: &str| labels.get(name).map_or("", String::as_str);
    let (scheme, mut address) = (of("__scheme__"), of("__address__").to_owned());
    if address.is_empty() {
        return None;
    }
    let bare = address.rsplit_once(':').is_none_or(|(_, port)| port.contains(']'));
    if bare {
        address.push_str(if scheme == "https" { ":443" } else { ":80" });
    }
    let mut url = format!("{scheme}://{address}{}", of("__metrics_path__"));
    let params =
        labels.iter().filter_map(|(name, value)| Some((name.strip_prefix("__param_")?, value)));
    for (at, (name, value)) in params.enumerate() {
        url.push(if at == 0 && !url.contains('?') { '?' } else { '&' });
        url.push_str(&format!("{}={}", percent(name), percent(value)));
    }
    labels.entry("instance".to_owned()).or_insert(address);
    labels.retain(|name, _| !name.starts_with("__"));
    Some(Target { url, labels: Labels::from_pairs(labels), manner: Arc::clone(manner) })
}

/// What is known of a target, for people.
#[derive(Clone, Debug, Default)]
pub struct TargetStatus {
    /// Where its page is.
    pub url: String,
    /// The labels of its series.
    pub labels: Labels,
    /// Whether the last scrape succeeded; unknown before the first.
    pub up: Option<bool>,
    /// When the last scrape was due.
    pub last_scrape: Option<Timestamp>,
    /// How long it took, attempts and waits included.
    pub duration: Duration,
    /// Attempts that it took.
    pub attempts: u32,
    /// Samples on the page.
    pub samples: usize,
    /// Why the last attempt that failed did.
    pub last_error: Option<String>,
    /// Lines of the last page that were not understood.
    pub malformed_lines: usize,
    /// The first of them.
    pub malformed: Vec<Malformed>,
}

/// The health of all targets. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct TargetBoard(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    next: u64,
    targets: BTreeMap<u64, Arc<Mutex<TargetStatus>>>,
}

/// A target's place on the board; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    board: TargetBoard,
    number: u64,
    pub(crate) status: Arc<Mutex<TargetStatus>>,
}

impl TargetBoard {
    /// No target yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn register(&self, target: &Target) -> Place {
        let status = TargetStatus {
            url: target.url.clone(),
            labels: target.labels.clone(),
            ..TargetStatus::default()
        };
        let status = Arc::new(Mutex::new(status));
        let mut shown = self.0.lock();
        let number = shown.next;
        shown.next += 1;
        shown.targets.insert(number, Arc::clone(&status));
        Place { board: self.clone(), number, status }
    }

    /// The health of each target as of now, by job and address.
    pub fn read(&self) -> Vec<TargetStatus> {
        let shown = self.0.lock();
        let mut all: Vec<TargetStatus> =
            shown.targets.values().map(|status| status.lock().clone()).collect();
        drop(shown);
        all.sort_by(|a, b| (a.labels.get("job"), &a.url).cmp(&(b.labels.get("job"), &b.url)));
        all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.board.0.lock().targets.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(toml: &str, found: &[&[(&str, &str)]]) -> Vec<String> {
        let scrape: ScrapeConfig = toml::from_str(toml).unwrap();
        let own = |pairs: &&[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let found: BTreeSet<Pairs> = found.iter().map(own).collect();
        let all = targets(&scrape, &CollectorConfig::default(), found);
        let shown = |target: &Arc<Target>| {
            let labels: Vec<String> =
                target.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {}", target.url, labels.join(","))
        };
        let mut all: Vec<String> = all.values().map(shown).collect();
        all.sort();
        all
    }

    #[test]
    fn targets_are_built_from_labels_and_rules() {
        let found: &[&[(&str, &str)]] = &[
            &[("__address__", "h1:1"), ("__meta_zone", "eu")],
            &[("__address__", "h2"), ("__meta_zone", "us")],
            &[("__address__", "h3:3"), ("__meta_zone", "drop")],
        ];
        let toml = r#"
            job = "j"
            scheme = "https"
            params = { module = "a b" }
            relabel_configs = [
                { source_labels = ["__meta_zone"], regex = "drop", action = "drop" },
                { source_labels = ["__meta_zone"], target_label = "zone" },
                { source_labels = ["zone"], regex = "us", target_label = "__metrics_path__", replacement = "/us" },
            ]
        "#;
        assert_eq!(
            urls(toml, found),
            [
                "https://h1:1/metrics?module=a%20b instance=h1:1,job=j,zone=eu",
                "https://h2:443/us?module=a%20b instance=h2:443,job=j,zone=us",
            ]
        );
        // As with a blackbox exporter: the target becomes a parameter, the exporter is asked.
        let toml = r#"
            job = "b"
            relabel_configs = [
                { source_labels = ["__address__"], target_label = "__param_target" },
                { source_labels = ["__param_target"], target_label = "instance" },
                { target_label = "__address__", replacement = "exporter:9115" },
            ]
        "#;
        assert_eq!(
            urls(toml, &found[..1]),
            ["http://exporter:9115/metrics?target=h1%3A1 instance=h1:1,job=b"]
        );
    }
}
