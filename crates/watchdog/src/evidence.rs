//! What is written down of each event: one JSON object a line, in a journal of bounded size, synced.

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

/// What is left of a child that has ended.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Remains {
    /// Exit status or signal, in words.
    pub status: String,
    /// Its last output.
    pub last_lines: Vec<String>,
    /// Its memory, threads and handles when last looked at, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reading: Option<String>,
    /// Whether the kernel killed it because memory ran out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// The file with its threads and its last metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

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
        /// Seconds since the first sign that its predecessor was not well.
        #[serde(skip_serializing_if = "Option::is_none")]
        recovery_seconds: Option<f64>,
    },
    /// It has been well for so long that its last restart has helped.
    Cured,
    /// It could not be started.
    StartFailed {
        /// Why.
        error: String,
    },
    /// It ended by itself.
    Exited {
        /// Seconds since its start.
        after_seconds: f64,
        /// What is left of it.
        #[serde(flatten)]
        remains: Box<Remains>,
    },
    /// It did not answer its probes and was ended.
    Hung {
        /// What the last probe said.
        reason: String,
        /// What is left of it.
        #[serde(flatten)]
        remains: Box<Remains>,
    },
    /// A call brought it under its memory limit.
    Eased {
        /// The call's name.
        step: String,
        /// Resident bytes before.
        before: u64,
        /// And after.
        after: u64,
    },
    /// A call did not bring it under its memory limit.
    EaseUseless {
        /// The call's name.
        step: String,
        /// What was seen.
        detail: String,
    },
    /// It was over its memory limit, nothing eased it, and it was ended.
    OverMemory {
        /// Resident bytes.
        resident: u64,
        /// The limit.
        limit: u64,
        /// What is left of it.
        #[serde(flatten)]
        remains: Box<Remains>,
    },
    /// It was ended and started again because somebody asked for it.
    Restarted {
        /// The request's id.
        id: String,
        /// Who asked.
        by: String,
        /// Why.
        reason: String,
        /// What is left of it.
        #[serde(flatten)]
        remains: Box<Remains>,
    },
    /// It was stopped as it is, on purpose, and goes on by itself after so many seconds.
    Paused {
        /// The request's id.
        id: String,
        /// Who asked.
        by: String,
        /// Seconds.
        seconds: f64,
    },
    /// It goes on.
    Resumed,
    /// It was killed on purpose.
    Killed {
        /// The request's id.
        id: String,
        /// Who asked.
        by: String,
    },
    /// Restarts have not cured it.
    NotCured {
        /// So many in a row.
        restarts: u32,
    },
    /// Files of it were put back to what they were when it was last well.
    FilesPutBack {
        /// Which; what they were is beside them.
        files: Vec<String>,
    },
    /// Nothing more is tried for a while.
    Held {
        /// Seconds.
        seconds: f64,
        /// Why.
        reason: String,
    },
    /// It is tried again.
    Released {
        /// By whom.
        by: String,
        /// The request's id, where one was made: who asked looks for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// What an earlier watchdog left running was ended.
    OrphansEnded {
        /// Process ids.
        pids: Vec<u32>,
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
        if let Err(error) = log.line(&line).and_then(|()| log.sync()) {
            error!(%error, line, "event could not be written to the journal");
        }
    }
}
