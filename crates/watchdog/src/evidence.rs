//! What is written down of each event: one JSON object a line, in a journal of bounded size.

use model::Bytes;
use platform::log::RollingLog;
use platform::{PlatformError, durable};
use runtime::Clock;
use serde::Serialize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::error;

/// Size at which the journal is rolled over.
const SIZE: Bytes = Bytes::mebi(16);

/// What happened to a child.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It was started.
    Started {
        /// Its process id.
        pid: u32,
        /// Starts so far, this one included.
        starts: u64,
    },
    /// It answered its first probe.
    Healthy {
        /// Seconds since its start.
        after_seconds: f64,
    },
    /// It could not be started.
    StartFailed {
        /// Why.
        error: String,
    },
    /// It ended by itself.
    Exited {
        /// Exit status or signal, in words.
        status: String,
        /// Seconds since its start.
        after_seconds: f64,
        /// Its last output.
        last_lines: Vec<String>,
    },
    /// It did not answer its probes and was ended.
    Hung {
        /// What the last probe said.
        reason: String,
        /// Exit status or signal, in words.
        status: String,
        /// Its last output.
        last_lines: Vec<String>,
    },
    /// It was ended and started again because somebody asked for it.
    Restarted {
        /// The request's id.
        id: String,
        /// Who asked.
        by: String,
        /// Why.
        reason: String,
        /// Exit status or signal, in words.
        status: String,
        /// Its last output.
        last_lines: Vec<String>,
    },
    /// It was ended because we end.
    Stopped {
        /// Exit status or signal, in words.
        status: String,
    },
}

#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    child: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// The journal. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Journal {
    log: Arc<Mutex<RollingLog>>,
    clock: Clock,
}

impl Journal {
    /// Opens `journal.jsonl` in `dir`, creating both if needed.
    ///
    /// # Errors
    /// The folder or the file could not be created.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, PlatformError> {
        durable::create_dir(dir)?;
        let log = RollingLog::open(&dir.join("journal.jsonl"), SIZE)?;
        Ok(Self { log: Arc::new(Mutex::new(log)), clock })
    }

    /// Writes an event down. A journal that cannot be written is no reason to let a child die.
    pub fn write(&self, child: &str, event: &Event) {
        let entry = Entry { time: self.clock.now().to_string(), child, event };
        let line = serde_json::to_string(&entry).unwrap_or_default();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = log.line(&line) {
            error!(%error, line, "event could not be written to the journal");
        }
    }
}
