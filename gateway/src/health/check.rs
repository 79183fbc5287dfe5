//! Asks database, cache, disk and clock how they are, each within its time, and tells the board.

use super::board::{Board, Of, State};
use crate::access::policy::MOST;
use crate::cache::second::Second;
use crate::cache::store::Cache;
use crate::component::Components;
use crate::database::Database;
use crate::database::audit::{Audit, Counts};
use crate::database::directory::Directory;
use crate::upstream::tool::Tool;
use model::Timestamp;
use parking_lot::Mutex;
use platform::host;
use runtime::Clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Between two rounds.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// A database that takes longer to read and write is slow.
const SLOW: Duration = Duration::from_millis(250);
/// A jump of the clock is shown for so long.
const SHOWN: Duration = Duration::from_secs(30);
/// A wall clock that moved so far apart from the other has been set, or the machine stood still.
const JUMP: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) clock: Clock,
    pub(crate) board: Arc<Board>,
    pub(crate) database: Arc<Database>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) audit: Audit,
    pub(crate) cache: Arc<Cache>,
    pub(crate) second: Option<Arc<Second>>,
    pub(crate) tools: Vec<Arc<Tool>>,
    pub(crate) dir: PathBuf,
    pub(crate) min_free: u64,
    pub(crate) clocks: Mutex<Option<(Timestamp, Instant)>>,
    /// When wall time last jumped, and by how many milliseconds.
    pub(crate) jumped: Mutex<Option<(Instant, i64)>>,
}

impl Checks {
    /// One round of all but the database, which may take longer.
    pub(crate) async fn look(&self) {
        self.policies();
        self.cache().await;
        self.disk();
        self.clock();
        self.admission();
    }

    /// Reads and writes.
    pub(crate) async fn database(&self) {
        let counts = self.audit.counts();
        match self.database.probe(self.clock.now()).await {
            Ok(took) if counts.journal_bytes.load(Ordering::Relaxed) > 0 => {
                self.board.tell(Of::Database, State::Degraded, took, journal(&counts));
            }
            Ok(took) if took > SLOW => {
                self.board.tell(
                    Of::Database,
                    State::Degraded,
                    took,
                    "slow: it takes long to read and write",
                );
            }
            Ok(took) => self.board.tell(Of::Database, State::Healthy, took, "reads and writes"),
            Err(error) => {
                let words = format!("{error}; {}", journal(&counts));
                self.board.tell(Of::Database, State::Failed, Duration::ZERO, words);
            }
        }
    }

    fn policies(&self) {
        let known = self.directory.known();
        let number = known.policies.all().len();
        let (state, words) = match self.directory.age(&known) {
            Err(why) => (State::Failed, why),
            Ok(age) if age > Duration::from_secs(15) => {
                (State::Degraded, format!("{number} as of {} s ago", age.as_secs()))
            }
            Ok(_) => (State::Healthy, format!("{number} of at most {MOST}")),
        };
        self.board.tell(Of::Policies, state, Duration::ZERO, words);
    }

    async fn cache(&self) {
        let (bytes, entries, _) = self.cache.read();
        let own = format!("{entries} answers in {} KiB", bytes >> 10);
        if !self.cache.keeps() {
            let words = "what is put into it is not there a moment later";
            return self.board.tell(Of::Cache, State::Degraded, Duration::ZERO, words);
        }
        let Some(second) = &self.second else {
            return self.board.tell(Of::Cache, State::Healthy, Duration::ZERO, own);
        };
        match second.probe().await {
            Ok(took) => {
                self.board.tell(Of::Cache, State::Healthy, took, format!("{own}; Redis answers"))
            }
            Err(why) => {
                let words = format!("{own}; Redis is away: {why}");
                self.board.tell(Of::Cache, State::Degraded, Duration::ZERO, words);
            }
        }
    }

    fn disk(&self) {
        let start = Instant::now();
        let free = host::free_bytes(&self.dir);
        let (state, words) = match free {
            Ok(free) if free <= self.min_free => {
                (State::Failed, format!("{} MiB free, {} must be", free >> 20, self.min_free >> 20))
            }
            Ok(free) if free <= self.min_free * 2 => {
                (State::Degraded, format!("{} MiB free", free >> 20))
            }
            Ok(free) => (State::Healthy, format!("{} MiB free", free >> 20)),
            Err(error) => (State::Degraded, error.to_string()),
        };
        self.board.tell(Of::Disk, state, start.elapsed(), words);
    }

    /// Whether wall time went on as the other did since the last round.
    fn clock(&self) {
        let now = (self.clock.now(), self.clock.monotonic());
        let last = self.clocks.lock().replace(now);
        let Some((wall, other)) = last else { return };
        let (by_wall, by_other) = (now.0.millis() - wall.millis(), (now.1 - other).as_millis());
        let apart = by_wall.saturating_sub(i64::try_from(by_other).unwrap_or(i64::MAX));
        let mut jumped = self.jumped.lock();
        if apart.unsigned_abs() > u64::try_from(JUMP.as_millis()).unwrap_or(u64::MAX) {
            *jumped = Some((now.1, apart));
        }
        // Long enough to be seen by whoever looks now and then.
        let (state, words) = match jumped.filter(|(at, _)| at.elapsed() < SHOWN) {
            Some((_, by)) => (
                State::Degraded,
                format!("wall time jumped by {by} ms: tokens, quotas and schedules go by it"),
            ),
            None => (State::Healthy, "goes on evenly".to_owned()),
        };
        self.board.tell(Of::Clock, state, Duration::ZERO, words);
    }

    fn admission(&self) {
        let pressed: Vec<&str> = self
            .tools
            .iter()
            .filter(|tool| tool.door.read().pressed)
            .map(|tool| tool.config.name.as_str())
            .collect();
        let open: Vec<&str> = self
            .tools
            .iter()
            .filter(|tool| tool.breaker.read() > 0.0)
            .map(|tool| tool.config.name.as_str())
            .collect();
        let (state, words) = match (pressed.is_empty(), open.is_empty()) {
            (true, true) => (State::Healthy, "room for all".to_owned()),
            (false, true) => {
                (State::Degraded, format!("more is asked of {} than it can do", pressed.join(", ")))
            }
            (_, false) => {
                (State::Degraded, format!("{} failed too often and is left alone", open.join(", ")))
            }
        };
        self.board.tell(Of::Admission, state, Duration::ZERO, words);
    }

    /// Whether all components live.
    pub(crate) fn components(&self, components: &Components) {
        let ill: Vec<String> = components.list().iter().filter_map(|it| it.illness()).collect();
        let (state, words) = match ill.is_empty() {
            true => (State::Healthy, format!("{} live", components.list().len())),
            false => (State::Degraded, ill.join(", ")),
        };
        self.board.tell(Of::Components, state, Duration::ZERO, words);
    }
}

fn journal(counts: &Counts) -> String {
    let bytes = counts.journal_bytes.load(Ordering::Relaxed);
    format!("{} KiB of audit records wait on disk", bytes.div_ceil(1 << 10))
}
