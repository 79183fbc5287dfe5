//! Restarts that somebody asks for, by a file `requests/CHILD.json` in the watchdog's folder: whoever may write there may ask,
//! a request outlives neither its use nor a minute, and no port is open for it.

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

/// A restart that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) by: String,
    pub(crate) reason: String,
}

#[derive(Deserialize)]
struct File {
    id: String,
    by: String,
    reason: String,
    at: Timestamp,
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

    /// Waits for the next request for the child that was started at `started`.
    pub(crate) async fn wait(&self, started: Timestamp) -> Request {
        loop {
            if let Some(request) = self.take(started) {
                return request;
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Takes the file away before it is heeded: a request is heeded once at most.
    fn take(&self, started: Timestamp) -> Option<Request> {
        let size = std::fs::metadata(&self.path).ok()?.len();
        let text = if size <= LARGEST { std::fs::read_to_string(&self.path).ok() } else { None };
        if let Err(error) = platform::durable::remove_file(&self.path) {
            warn!(%error, "a request for a restart could not be taken away, so it is not heeded");
            return None;
        }
        let file = text.and_then(|text| serde_json::from_str::<File>(&text).ok());
        let Some(File { id, by, reason, at }) = file else {
            warn!(path = %self.path.display(), "a request for a restart is not understood");
            return None;
        };
        let now = self.clock.now();
        if at < started || now.since(at) > OLDEST || at > now.plus(SKEW) {
            warn!(by, reason, %at, "a request for a restart is not of this child's time and is not heeded");
            return None;
        }
        Some(Request { id, by, reason })
    }
}
