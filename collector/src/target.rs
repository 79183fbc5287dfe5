//! What is scraped, and what is known of its health.

use crate::config::{BasicAuth, CollectorConfig, ScrapeConfig};
use crate::scrape::fetch::FetchError;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use model::exposition::parse::Malformed;
use model::{Bytes, Labels, Timestamp};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One page to scrape.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) url: String,
    /// What is added to every series of the page.
    pub(crate) labels: Labels,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) max_body_size: Bytes,
    pub(crate) max_samples: usize,
    pub(crate) max_attempts: u32,
    pub(crate) honor_labels: bool,
    pub(crate) honor_timestamps: bool,
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

/// The targets of a job.
pub(crate) fn targets(scrape: &ScrapeConfig, config: &CollectorConfig) -> Vec<Target> {
    let build = |instance: &String| {
        let ours = [("job", scrape.job.as_str()), ("instance", instance)];
        let pairs = config.labels.iter().chain(&scrape.labels);
        let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
        Target {
            url: format!("http://{instance}{}", scrape.path),
            labels: Labels::from_pairs(pairs.chain(ours)),
            interval: scrape.interval(config.interval),
            timeout: scrape.timeout(config.interval),
            max_body_size: scrape.max_body_size,
            max_samples: scrape.max_samples,
            max_attempts: scrape.max_attempts,
            honor_labels: scrape.honor_labels,
            honor_timestamps: scrape.honor_timestamps,
            credentials: match (&scrape.bearer_token_file, &scrape.basic_auth) {
                (Some(file), _) => Credentials::Bearer(file.clone()),
                (None, Some(auth)) => Credentials::Basic(auth.clone()),
                (None, None) => Credentials::None,
            },
        }
    };
    scrape.targets.iter().map(build).collect()
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
pub struct TargetBoard(Arc<Mutex<Vec<Arc<Mutex<TargetStatus>>>>>);

impl TargetBoard {
    /// No target yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn register(&self, target: &Target) -> Arc<Mutex<TargetStatus>> {
        let status = TargetStatus {
            url: target.url.clone(),
            labels: target.labels.clone(),
            ..TargetStatus::default()
        };
        let status = Arc::new(Mutex::new(status));
        self.0.lock().push(Arc::clone(&status));
        status
    }

    /// The health of each target as of now, in the order of the configuration.
    pub fn read(&self) -> Vec<TargetStatus> {
        self.0.lock().iter().map(|status| status.lock().clone()).collect()
    }
}
