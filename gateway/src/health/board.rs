//! One verdict a check: state, since when, how long the asking took, and why. All atomics and swapped pointers, so that an overloaded or
//! hung data plane cannot keep its health from being told.

use arc_swap::ArcSwap;
use model::Timestamp;
use runtime::Clock;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A heartbeat of the data plane older than this means that it hangs.
const STALE: Duration = Duration::from_secs(2);
/// A verdict older than this is none.
const OLD: Duration = Duration::from_secs(15);

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub(crate) enum State {
    Healthy,
    Degraded,
    Failed,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Application,
    Admission,
    Database,
    Policies,
    Cache,
    Disk,
    Clock,
    Configuration,
    Memory,
    Components,
}

const ALL: [(Of, &str); 10] = [
    (Of::Application, "application"),
    (Of::Admission, "admission"),
    (Of::Database, "database"),
    (Of::Policies, "policies"),
    (Of::Cache, "cache"),
    (Of::Disk, "disk"),
    (Of::Clock, "clock"),
    (Of::Configuration, "configuration"),
    (Of::Memory, "memory"),
    (Of::Components, "components"),
];

/// Without these no request is answered well; without the others some are.
const VITAL: [Of; 2] = [Of::Application, Of::Policies];

#[derive(Debug)]
struct Check {
    state: AtomicU8,
    since: AtomicI64,
    seen: AtomicI64,
    latency: AtomicU64,
    reason: ArcSwap<String>,
}

/// What all sides share.
#[derive(Debug)]
pub(crate) struct Board {
    clock: Clock,
    started: Timestamp,
    /// Of each of the data plane's threads.
    beats: Vec<AtomicI64>,
    checks: [Check; ALL.len()],
    pub(crate) in_flight: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    draining: AtomicBool,
    /// Nothing is let in, for want of resources.
    shut: AtomicBool,
    /// The page and when it was made.
    page: ArcSwap<(i64, Report)>,
}

/// The answer of `/health`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) status: State,
    uptime_seconds: f64,
    draining: bool,
    pub(crate) checks: Vec<Shown>,
}

/// A check as it is shown.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct Shown {
    pub(crate) name: &'static str,
    pub(crate) state: State,
    pub(crate) since: Timestamp,
    latency_seconds: f64,
    pub(crate) reason: String,
}

impl Board {
    pub(crate) fn new(clock: Clock, threads: usize) -> Self {
        let started = clock.now();
        let check = |_| Check {
            state: AtomicU8::new(State::Healthy as u8),
            since: AtomicI64::new(started.millis()),
            seen: AtomicI64::new(started.millis()),
            latency: AtomicU64::new(0),
            reason: ArcSwap::from_pointee("not asked yet".to_owned()),
        };
        let empty =
            Report { status: State::Healthy, uptime_seconds: 0.0, draining: false, checks: vec![] };
        Self {
            clock,
            started,
            beats: (0..threads).map(|_| AtomicI64::new(started.millis())).collect(),
            checks: std::array::from_fn(check),
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            page: ArcSwap::from_pointee((i64::MIN, empty)),
        }
    }

    /// All checks and their names.
    pub(crate) fn checks() -> impl Iterator<Item = (Of, &'static str)> {
        ALL.into_iter()
    }

    /// A thread of the data plane lives.
    pub(crate) fn beat(&self, thread: usize) {
        if let Some(beat) = self.beats.get(thread) {
            beat.store(self.clock.now().millis(), Ordering::Relaxed);
        }
    }

    /// How long ago that of the data plane's threads that is silent for longest gave a sign of life.
    pub(crate) fn beat_age(&self) -> Duration {
        let oldest = self.beats.iter().map(|beat| beat.load(Ordering::Relaxed)).min();
        oldest.map_or(Duration::ZERO, |at| self.clock.now().since(Timestamp(at)))
    }

    /// No new work from here on, or again.
    pub(crate) fn drain(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
        self.forget_page();
    }

    /// Whether nothing is let in.
    pub(crate) fn shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn forget_page(&self) {
        let report = self.page.load().1.clone();
        self.page.store(Arc::new((i64::MIN, report)));
    }

    /// A verdict.
    pub(crate) fn tell(&self, of: Of, state: State, latency: Duration, reason: impl Into<String>) {
        let Some(check) = self.checks.get(of as usize) else { return };
        let now = self.clock.now().millis();
        check.seen.store(now, Ordering::Relaxed);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        check.latency.store(micros, Ordering::Relaxed);
        let reason = reason.into();
        if **check.reason.load() != reason {
            check.reason.store(Arc::new(reason));
        }
        if check.state.swap(state as u8, Ordering::Relaxed) != state as u8 {
            check.since.store(now, Ordering::Relaxed);
            self.forget_page();
        }
    }

    /// The state of one check, as last told.
    pub(crate) fn state(&self, of: Of) -> State {
        self.checks.get(of as usize).map_or(State::Healthy, |check| {
            match check.state.load(Ordering::Relaxed) {
                0 => State::Healthy,
                1 => State::Degraded,
                _ => State::Failed,
            }
        })
    }

    /// Whether traffic should be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_sound() && !self.shut.load(Ordering::Relaxed)
    }

    /// The same, though nothing may be let in for want of resources: a new start would not help that.
    pub(crate) fn is_sound(&self) -> bool {
        self.beat_age() < STALE && !self.is_draining() && self.state(Of::Policies) != State::Failed
    }

    /// How the gateway is; made anew at most once a second, and at each change.
    pub(crate) fn report(&self) -> Report {
        let now = self.clock.now().millis();
        let page = self.page.load();
        if page.0 <= now && now - page.0.max(0) < 1_000 && page.0 > i64::MIN {
            return page.1.clone();
        }
        let report = self.make_report();
        self.page.store(Arc::new((now, report.clone())));
        report
    }

    fn make_report(&self) -> Report {
        let now = self.clock.now();
        let age = self.beat_age();
        let alive = if age < STALE { State::Healthy } else { State::Failed };
        let words = format!("last heartbeat {} ms ago", age.as_millis());
        self.tell(Of::Application, alive, Duration::ZERO, words);
        let checks: Vec<Shown> = ALL.iter().map(|(of, name)| self.show(*of, name, now)).collect();
        let vital = |shown: &Shown| VITAL.iter().any(|of| ALL[*of as usize].1 == shown.name);
        let failed = checks.iter().any(|shown| shown.state == State::Failed && vital(shown));
        let worst = checks.iter().map(|shown| shown.state).max().unwrap_or(State::Healthy);
        let draining = self.is_draining();
        let status = match worst {
            _ if failed => State::Failed,
            State::Healthy if !draining => State::Healthy,
            _ => State::Degraded,
        };
        let uptime_seconds = now.since(self.started).as_secs_f64();
        Report { status, uptime_seconds, draining, checks }
    }

    fn show(&self, of: Of, name: &'static str, now: Timestamp) -> Shown {
        let check = &self.checks[of as usize];
        let mut state = self.state(of);
        let mut reason = check.reason.load().to_string();
        let silent = now.since(Timestamp(check.seen.load(Ordering::Relaxed)));
        if silent > OLD {
            state = state.max(State::Degraded);
            reason = format!("not checked for {} s; before that: {reason}", silent.as_secs());
        }
        Shown {
            name,
            state,
            since: Timestamp(check.since.load(Ordering::Relaxed)),
            latency_seconds: check.latency.load(Ordering::Relaxed) as f64 / 1e6,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn r8_1_a_hung_data_plane_is_not_ready_and_says_why() {
        let board = Board::new(Clock::paused_at(Timestamp(0)), 1);
        after(1).await;
        assert!(board.is_ready());
        assert_eq!(board.report().status, State::Healthy);
        after(2).await;
        assert!(!board.is_ready());
        let report = board.report();
        assert_eq!(
            (report.status, report.checks[0].reason.as_str()),
            (State::Failed, "last heartbeat 3000 ms ago")
        );
        board.beat(0);
        after(1).await;
        assert_eq!((board.is_ready(), board.report().status), (true, State::Healthy));
        board.drain(true);
        assert_eq!((board.is_ready(), board.report().status), (false, State::Degraded));
    }

    #[tokio::test(start_paused = true)]
    async fn r8_1_each_check_tells_state_reason_and_since_when_and_one_that_is_not_made_is_told() {
        let board = Board::new(Clock::paused_at(Timestamp(0)), 1);
        after(10).await;
        board.beat(0);
        board.tell(Of::Database, State::Failed, Duration::from_millis(7), "connection refused");
        let find = |name| board.report().checks.into_iter().find(|it| it.name == name).unwrap();
        let shown = find("database");
        assert_eq!((shown.state, shown.since), (State::Failed, Timestamp(10_000)));
        assert_eq!((shown.latency_seconds, shown.reason.as_str()), (0.007, "connection refused"));
        // Without its database it serves what it knows.
        assert_eq!((board.report().status, board.is_ready()), (State::Degraded, true));
        board.tell(Of::Policies, State::Failed, Duration::ZERO, "too old");
        assert_eq!((board.report().status, board.is_ready()), (State::Failed, false));
        after(20).await;
        board.beat(0);
        assert!(find("disk").reason.starts_with("not checked for 30 s"), "{:?}", find("disk"));
    }
}
