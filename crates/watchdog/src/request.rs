//! What somebody asks for, by a file `requests/CHILD.json` in the watchdog's folder: whoever may write there may ask, a request outlives
//! neither its use nor a minute, and no port is open for it.

use model::Timestamp;
use runtime::Clock;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::warn;

/// A request older than this is of somebody who has gone.
const OLDEST: Duration = Duration::from_secs(60);
/// Clocks may differ by so much.
const SKEW: Duration = Duration::from_secs(5);
/// Largest request.
const LARGEST: u64 = 64 << 10;
/// A child is paused no longer than this.
const LONGEST_PAUSE: f64 = 600.0;

/// What is to be done with a child.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wish {
    /// End it in order and start it again; also ends a hold.
    #[default]
    Restart,
    /// Stop it as it is for some seconds.
    Pause,
    /// Kill it.
    Kill,
}

/// What is asked for.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) by: String,
    pub(crate) reason: String,
    at: Timestamp,
    #[serde(default)]
    pub(crate) action: Wish,
    /// Of a pause.
    #[serde(default)]
    seconds: f64,
}

impl Request {
    /// How long a pause lasts.
    pub(crate) fn pause(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds.clamp(0.0, LONGEST_PAUSE)).unwrap_or_default()
    }
}

/// Where requests for one child come.
#[derive(Debug)]
pub(crate) struct Requests {
    path: PathBuf,
    pause: Duration,
    clock: Clock,
}

impl Requests {
    pub(crate) fn new(dir: &Path, child: &str, interval: Duration, clock: Clock) -> Self {
        let path = dir.join("requests").join(format!("{child}.json"));
        Self { path, pause: interval.min(Duration::from_millis(500)), clock }
    }

    /// Waits for the next request that is not older than `since`.
    pub(crate) async fn wait(&self, since: Timestamp) -> Request {
        loop {
            if let Some(request) = self.take(since) {
                return request;
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Takes the file away before it is heeded: a request is heeded once at most.
    fn take(&self, since: Timestamp) -> Option<Request> {
        let size = std::fs::metadata(&self.path).ok()?.len();
        let text = if size <= LARGEST { std::fs::read_to_string(&self.path).ok() } else { None };
        if let Err(error) = platform::durable::remove_file(&self.path) {
            warn!(%error, "a request could not be taken away, so it is not heeded");
            return None;
        }
        let Some(request) = text.and_then(|text| serde_json::from_str::<Request>(&text).ok())
        else {
            warn!(path = %self.path.display(), "a request is not understood");
            return None;
        };
        let (now, at) = (self.clock.now(), request.at);
        // After a clock that went back everything is of before the child's start, and nothing need be: its age alone counts then.
        let earlier = since <= now && at < since;
        if earlier || now.since(at) > OLDEST || at > now.plus(SKEW) {
            let Request { by, reason, .. } = request;
            warn!(by, reason, %at, "a request is not of this child's time and is not heeded");
            return None;
        }
        Some(request)
    }
}
