//! How narrow it gets, and what is done about it: at 60, 80, 90 and 95 % of memory, handles, connections, disk or patience the gateway
//! does ever more to get by; when it is five points lower again it takes that back. What an action freed is measured, and an action that
//! freed nothing twice is called useless: that is the sign of a leak, not of a full cache.

use crate::admit::overload::Overload;
use crate::cache::store::Cache;
use crate::config::PressureConfig;
use crate::database::directory::Directory;
use crate::health::board::{Board, Of, State};
use parking_lot::Mutex;
use platform::{cgroup, host, process};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use telemetry::{Counter, Gauge, Registry};
use tokio::time::Instant;
use tracing::{info, warn};

/// Between two readings.
pub(crate) const EVERY: Duration = Duration::from_millis(250);
/// A level is left this far below its line.
const HYSTERESIS: f64 = 0.05;
/// An action that freed less of the resident memory did not help.
const USELESS: f64 = 0.05;
/// All handles in use.
const ALL_HANDLES: f64 = 0.94;
/// The same action is not taken again before this, unless it gets narrower.
const PAUSE: Duration = Duration::from_secs(10);

/// How narrow it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub(crate) enum Level {
    #[default]
    Calm,
    /// 60 %: idle connections are closed.
    Elevated,
    /// 80 %: caches shrink, memory goes back to the system, nothing is tried again.
    High,
    /// 90 %: the low priority is served from the cache only.
    Critical,
    /// 95 %: no request is let in.
    Emergency,
}

const LEVELS: [(Level, f64); 4] = [
    (Level::Emergency, 0.95),
    (Level::Critical, 0.90),
    (Level::High, 0.80),
    (Level::Elevated, 0.60),
];

/// What is measured, each as a share of its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Readings {
    pub(crate) memory: f64,
    pub(crate) stalls: f64,
    pub(crate) handles: f64,
    pub(crate) connections: f64,
    pub(crate) disk: f64,
    pub(crate) delay: f64,
}

impl Readings {
    fn worst(&self) -> (&'static str, f64) {
        let all = [
            ("memory", self.memory),
            ("memory stalls", self.stalls),
            ("handles", self.handles),
            ("connections", self.connections),
            ("disk", self.disk),
            ("queue delay", self.delay),
        ];
        all.into_iter()
            .fold(("nothing", 0.0), |worst, one| if one.1 > worst.1 { one } else { worst })
    }
}

/// The level, from the last and the readings.
fn level(last: Level, worst: f64) -> Level {
    let entered = LEVELS.iter().find(|(_, line)| worst >= *line);
    let entered = entered.map_or(Level::Calm, |(level, _)| *level);
    let kept = LEVELS.iter().find(|(_, line)| worst >= line - HYSTERESIS);
    let kept = kept.map_or(Level::Calm, |(level, _)| *level);
    entered.max(kept.min(last))
}

/// What a cleanup freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Freed {
    pub(crate) resident_before_bytes: u64,
    pub(crate) resident_after_bytes: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) helped: bool,
}

/// The level for all to read, and what is needed to act on it.
#[derive(Debug)]
pub(crate) struct Pressure {
    level: AtomicU8,
    forced: Mutex<Option<(Level, Instant, String)>>,
    limit: u64,
    min_free: u64,
    dir: PathBuf,
    max_connections: usize,
    useless: AtomicU64,
    /// The last reading of memory, in thousandths of its limit.
    memory: AtomicU64,
    meters: Meters,
    turn: Mutex<Turn>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) directory: Arc<Directory>,
}

#[derive(Debug)]
struct Turn {
    /// The process as it was last read: without a free handle it cannot be.
    own: Option<process::Process>,
    stalled: Option<(Instant, f64)>,
    last_action: Option<Instant>,
    useless_in_a_row: u32,
}

#[derive(Debug)]
struct Meters {
    ratio: Gauge,
    cleanups: Counter,
    freed: Counter,
}

impl Pressure {
    pub(crate) fn new(
        (config, dir, max_connections): (&PressureConfig, PathBuf, usize),
        cache: Arc<Cache>,
        directory: Arc<Directory>,
        registry: &Registry,
    ) -> Self {
        let limit = config.max_memory.map_or_else(memory_limit, |limit| limit.get());
        let meters = Meters {
            ratio: registry
                .gauge("gateway_pressure_ratio", "The narrowest resource's use of its limit."),
            cleanups: registry
                .counter("gateway_cleanups_total", "Cleanups, asked for or by pressure."),
            freed: registry.counter(
                "gateway_cleanup_freed_bytes_total",
                "Resident memory that cleanups gave back.",
            ),
        };
        registry
            .gauge("gateway_memory_limit_bytes", "Memory that the process may take.")
            .set(limit as f64);
        Self {
            level: AtomicU8::new(0),
            forced: Mutex::new(None),
            limit,
            min_free: config.min_free_disk.get(),
            dir,
            max_connections,
            useless: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            meters,
            turn: Mutex::new(Turn {
                own: None,
                stalled: None,
                last_action: None,
                useless_in_a_row: 0,
            }),
            cache,
            directory,
        }
    }

    /// The level that counts: the measured, or a higher one that somebody asked for.
    pub(crate) fn level(&self) -> Level {
        from_u8(self.level.load(Ordering::Relaxed))
    }

    /// Cleanups that freed nothing.
    pub(crate) fn useless(&self) -> u64 {
        self.useless.load(Ordering::Relaxed)
    }

    /// Whether memory is short and the last cleanups freed nothing: a leak.
    pub(crate) fn is_leak(&self) -> bool {
        self.memory.load(Ordering::Relaxed) >= 800 && self.turn.lock().useless_in_a_row >= 2
    }

    /// Asks for at least this level for a while; a caller that dies leaves nothing behind.
    pub(crate) fn force(&self, level: Level, time: Duration, reason: &str) {
        let until = Instant::now() + time;
        *self.forced.lock() = (level > Level::Calm).then(|| (level, until, reason.to_owned()));
    }

    /// What was asked for and is not over: the level, for how long, and why.
    pub(crate) fn forced(&self) -> Option<(Level, Duration, String)> {
        let mut forced = self.forced.lock();
        let left = |until: Instant| until.checked_duration_since(Instant::now());
        if forced.as_ref().is_some_and(|(_, until, _)| left(*until).is_none()) {
            *forced = None;
        }
        forced.clone().and_then(|(level, until, reason)| Some((level, left(until)?, reason)))
    }

    /// Measures, decides and acts.
    pub(crate) fn look(&self, board: &Board, overload: &[Overload]) {
        let readings = self.measure(board, overload);
        self.act(readings, board);
    }

    fn act(&self, readings: Readings, board: &Board) {
        let (what, worst) = readings.worst();
        self.memory.store((readings.memory * 1_000.0) as u64, Ordering::Relaxed);
        self.meters.ratio.set(worst);
        let last = self.level();
        let forced = self.forced().map_or(Level::Calm, |(level, ..)| level);
        let now = level(last, worst).max(forced);
        self.level.store(now as u8, Ordering::Relaxed);
        board.shut(now >= Level::Emergency);
        if now != last {
            let percent = format!("{:.0} %", worst * 100.0);
            info!(from = ?last, to = ?now, narrowest = what, used = percent, "pressure");
        }
        if now < Level::High && last >= Level::High {
            self.cache.restore();
            self.turn.lock().useless_in_a_row = 0;
        }
        let memory = readings.memory.max(readings.stalls) >= 0.80 - HYSTERESIS;
        if now >= Level::High && (memory || forced >= Level::High) {
            let due = self.turn.lock().last_action.is_none_or(|at| at.elapsed() >= PAUSE);
            if due || now > last {
                let share = if now >= Level::Critical { 0.1 } else { 0.5 };
                self.clean(share, "pressure");
            }
        }
        let used = format!("{:.0} % of {} MiB", readings.memory * 100.0, self.limit >> 20);
        let (state, reason) = match now {
            Level::Calm | Level::Elevated => (State::Healthy, used),
            _ if self.is_leak() => {
                (State::Failed, format!("{used}, and cleanups free nothing: a leak; restart"))
            }
            Level::High => (State::Degraded, format!("{what} is narrow; memory {used}")),
            _ => (State::Failed, format!("{what} is used up; memory {used}")),
        };
        board.tell(Of::Memory, state, Duration::ZERO, reason);
    }

    fn measure(&self, board: &Board, overload: &[Overload]) -> Readings {
        let read = process::read(std::process::id()).ok();
        let full = read.as_ref().is_none_or(|it| it.open_fds.is_none()) && no_handle_is_free();
        let own = {
            let mut turn = self.turn.lock();
            turn.own = read.or(turn.own.take());
            turn.own.clone()
        };
        let share = |used: f64, limit: f64| if limit > 0.0 { used / limit } else { 0.0 };
        let handles = own.as_ref().and_then(|own| Some((own.open_fds?, own.max_fds?)));
        let handles = handles.map_or(0.0, |(open, most)| share(open as f64, most as f64));
        // Others in the same group take from the same limit.
        let group = cgroup::memory().map_or(0.0, |it| share(it.used as f64, it.limit as f64));
        let free = host::free_bytes(&self.dir).unwrap_or(u64::MAX);
        Readings {
            memory: own
                .as_ref()
                .map_or(0.0, |own| share(own.resident as f64, self.limit as f64))
                .max(group),
            stalls: self.stalls(),
            // Whoever is connected can be served without another handle: that is no emergency.
            handles: if full { ALL_HANDLES } else { handles.min(ALL_HANDLES) },
            connections: share(
                board.connections.load(Ordering::Relaxed) as f64,
                // Those over the limit only wait to be accepted, so that all in use is no emergency.
                self.max_connections as f64 / 0.89,
            ),
            disk: share(self.min_free as f64, (free as f64).max(1.0)).min(1.0),
            // A refused half of the requests is what the line of 80 % stands for.
            delay: (overload.iter().map(Overload::share).fold(0.0, f64::max) * 1.6).min(0.89),
        }
    }

    /// Time in which all tasks of the machine waited for memory, as a share; a tenth of the time is all that can be borne.
    fn stalls(&self) -> f64 {
        let Ok(all) = host::pressure() else { return 0.0 };
        let Some(memory) = all.iter().find(|one| one.resource == "memory") else { return 0.0 };
        let mut turn = self.turn.lock();
        let now = Instant::now();
        let last = turn.stalled.replace((now, memory.stalled_seconds));
        let Some((at, stalled)) = last else { return 0.0 };
        let time = (now - at).as_secs_f64();
        if time <= 0.0 { 0.0 } else { ((memory.stalled_seconds - stalled) / time * 10.0).min(0.94) }
    }

    /// Lets caches go to `share` of what they hold and has the allocator give memory back; measures what that freed.
    pub(crate) fn clean(&self, share: f64, asked_by: &str) -> Freed {
        let resident = || process::read(std::process::id()).map_or(0, |own| own.resident);
        let before = resident();
        let cache = self.cache.shrink(share) + self.directory.shrink(share);
        if self.level() < Level::High {
            self.cache.restore();
        }
        give_back();
        let after = resident();
        let freed = before.saturating_sub(after);
        let helped = freed as f64 >= USELESS * before as f64;
        {
            let mut turn = self.turn.lock();
            turn.last_action = Some(Instant::now());
            // What an administrator asks for on a calm gateway says nothing of a leak.
            turn.useless_in_a_row = match helped {
                true => 0,
                false => turn.useless_in_a_row + u32::from(asked_by == "pressure"),
            };
        }
        self.meters.cleanups.inc();
        self.meters.freed.add(freed);
        if helped {
            info!(asked_by, before, after, cache, "cleanup");
        } else {
            self.useless.fetch_add(1, Ordering::Relaxed);
            warn!(asked_by, before, after, cache, "cleanup freed less than 5 % of the memory");
        }
        Freed {
            resident_before_bytes: before,
            resident_after_bytes: after,
            cache_bytes: cache as u64,
            helped,
        }
    }
}

/// Whether the process, or the system, has none left.
fn no_handle_is_free() -> bool {
    const OF_PROCESS_AND_SYSTEM: [i32; 2] = [24, 23];
    let error = std::fs::File::open("/dev/null").err().and_then(|it| it.raw_os_error());
    cfg!(unix) && error.is_some_and(|it| OF_PROCESS_AND_SYSTEM.contains(&it))
}

fn from_u8(level: u8) -> Level {
    [Level::Calm, Level::Elevated, Level::High, Level::Critical, Level::Emergency]
        .into_iter()
        .find(|it| *it as u8 == level)
        .unwrap_or_default()
}

/// That of the control group, or half of the machine's.
fn memory_limit() -> u64 {
    let total = host::memory().unwrap_or_default();
    let total = total.iter().find(|(name, _)| name == "MemTotal").map_or(1 << 33, |(_, n)| *n);
    let group = cgroup::memory().map(|group| group.limit);
    group.filter(|limit| *limit < total).unwrap_or(total / 2)
}

/// Has the allocator give what is unused back to the system.
#[cfg(unix)]
fn give_back() {
    use tikv_jemalloc_ctl::{Access, AsName, arenas};
    let Ok(count) = arenas::narenas::read() else { return };
    for arena in 0..count {
        let name = format!("arena.{arena}.dirty_decay_ms\0");
        let name = name.as_str().name();
        // Without a decay time all is given back at once; then it decays as before.
        let Ok(usual) = Access::<isize>::read(name) else { continue };
        if name.write(0_isize).is_ok() {
            let _ = name.write(usual);
        }
    }
}

#[cfg(not(unix))]
fn give_back() {}

/// Lets the allocator give memory back by itself while nothing is asked of it.
pub(crate) fn give_back_by_itself() {
    #[cfg(unix)]
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        info!(%error, "the allocator has no thread of its own; memory goes back when it is used next");
    }
}

/// Bytes that the program has asked for, and that the allocator holds for it.
pub(crate) fn allocated() -> (u64, u64) {
    #[cfg(unix)]
    {
        use tikv_jemalloc_ctl::{epoch, stats};
        let _ = epoch::advance();
        let read = |value: Result<usize, _>| value.map_or(0, |bytes| bytes as u64);
        (read(stats::allocated::read()), read(stats::resident::read()))
    }
    #[cfg(not(unix))]
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r7_5_levels_are_entered_at_their_lines_and_left_five_points_below() {
        let mut at = Level::Calm;
        let mut next = |worst| {
            at = level(at, worst);
            at
        };
        assert_eq!(next(0.59), Level::Calm);
        assert_eq!(next(0.60), Level::Elevated);
        assert_eq!(next(0.81), Level::High);
        assert_eq!(next(0.76), Level::High);
        assert_eq!(next(0.74), Level::Elevated);
        assert_eq!(next(0.96), Level::Emergency);
        assert_eq!(next(0.91), Level::Emergency);
        assert_eq!(next(0.86), Level::Critical);
        assert_eq!(next(0.10), Level::Calm);
    }

    fn pressure() -> (tempfile::TempDir, Pressure, Board) {
        let dir = tempfile::tempdir().unwrap();
        let clock = runtime::Clock::system();
        let cache = Arc::new(Cache::new(1 << 20));
        let directory = Arc::new(Directory::open(dir.path(), Duration::from_secs(60), clock));
        let config = PressureConfig::default();
        let pressure =
            Pressure::new((&config, dir.path().to_owned(), 10), cache, directory, &Registry::new());
        (dir, pressure, Board::new(clock, 1))
    }

    #[tokio::test(start_paused = true)]
    async fn r4_3_over_eighty_percent_the_cache_shrinks_and_a_cleanup_that_frees_nothing_is_a_leak()
    {
        let (_dir, pressure, board) = pressure();
        let ages = crate::cache::store::Ages { fresh: PAUSE * 100, stale: PAUSE * 100 };
        for n in 0..100 {
            pressure.cache.put(&n.to_string(), bytes::Bytes::from(vec![1; 9_000]), ages);
        }
        let memory = |memory| Readings { memory, ..Readings::default() };
        pressure.act(memory(0.79), &board);
        assert!(pressure.cache.read().0 > 900_000);
        pressure.act(memory(0.82), &board);
        assert_eq!((pressure.level(), board.state(Of::Memory)), (Level::High, State::Degraded));
        assert!(pressure.cache.read().0 <= 460_000);
        // What a test's memory does is chance; a leak is one that no cleanup helps.
        pressure.turn.lock().useless_in_a_row = 2;
        pressure.act(memory(0.83), &board);
        assert_eq!(board.state(Of::Memory), State::Failed);
        pressure.act(memory(0.3), &board);
        assert_eq!((pressure.level(), board.state(Of::Memory)), (Level::Calm, State::Healthy));
        pressure.cache.put("again", bytes::Bytes::from(vec![1; 200_000]), ages);
        assert!(pressure.cache.get("again").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_caller_asked_for_ends_though_the_caller_died() {
        let (_dir, pressure, board) = pressure();
        pressure.force(Level::Critical, Duration::from_secs(30), "deploy");
        pressure.act(Readings::default(), &board);
        assert_eq!(pressure.level(), Level::Critical);
        tokio::time::advance(Duration::from_secs(31)).await;
        pressure.act(Readings::default(), &board);
        assert_eq!((pressure.level(), pressure.forced()), (Level::Calm, None));
    }
}
