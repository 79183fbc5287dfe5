//! Faults of the gateway itself: what it needs is away, slow or full, or something takes what it lives on. Each has a lease; what holds
//! something for it is a thread of its own, which lets go when the lease runs out and needs nobody for that.

use super::lease::Lease;
use crate::cache::store::Cache;
use crate::database::Database;
use crate::database::audit::Audit;
use crate::env::{EnvError, EnvFile};
use parking_lot::Mutex;
use platform::durable;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A lease when none is asked for, and the longest.
const LEASE: f64 = 60.0;
const LONGEST_LEASE: f64 = 3_600.0;
/// Between two looks of a thread at its lease.
const LOOK: Duration = Duration::from_millis(50);
/// What the operators' shell left in the environment file of the gateway that died.
const BAD_LINE: &[u8] = b"'FF_CHAOS=on'  \r\n";
/// There while such a line is in the file, so that a gateway that ended meanwhile takes it away at its next start.
const MARK: &str = "chaos-env.mark";

/// What ails it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The database gives no answer.
    DatabaseAway,
    /// Each question to it takes `amount` seconds longer.
    DatabaseSlow,
    /// Another holds its lock: what writes waits.
    DatabaseLocked,
    /// The cache has nothing and keeps nothing.
    CacheAway,
    /// `amount` threads run without pause.
    CpuBurn,
    /// `amount` MiB of memory are taken.
    MemoryBalloon,
    /// `amount` MiB more each second.
    MemoryLeak,
    /// `amount` handles are open.
    HandleHog,
    /// The disk takes no more of the audit's journal.
    DiskFull,
    /// A line that nobody can read is written to the environment file, past the editor.
    CorruptConfig,
    /// Wall time is off by `amount` seconds.
    ClockJump,
}

/// A fault as it is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    fault: Kind,
    #[serde(default)]
    amount: Option<f64>,
    /// Seconds until it ends by itself; 60 unless given.
    #[serde(default)]
    ttl: Option<f64>,
}

/// A fault as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    fault: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<f64>,
    remaining_seconds: f64,
    hits: u64,
}

/// The faults of now, and what they need.
#[derive(Debug)]
pub(crate) struct OwnFaults {
    pub(crate) database: Arc<Database>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) audit: Audit,
    pub(crate) env: Option<EnvFile>,
    pub(crate) dir: PathBuf,
    pub(crate) running: Mutex<Vec<Running>>,
}

/// One that runs: its kind, its amount and its lease.
type Running = (Kind, Option<f64>, Arc<Lease>);

impl OwnFaults {
    /// Begins a fault, or gives one of the same kind and amount a new lease; says what was done.
    pub(crate) fn begin(&self, wish: &Wish) -> Result<String, String> {
        let ttl = wish.ttl.unwrap_or(LEASE);
        if !(ttl > 0.0 && ttl <= LONGEST_LEASE) {
            return Err("ttl must be over 0 and at most 3600 seconds".to_owned());
        }
        let time = Duration::from_secs_f64(ttl);
        let amount = limits(wish.fault, wish.amount)?;
        let mut running = self.running.lock();
        running.retain(|(_, _, lease)| lease.holds());
        if let Some((_, had, lease)) = running.iter().find(|(kind, ..)| *kind == wish.fault) {
            if *had != amount {
                return Err("this fault is there with another amount; end it first".to_owned());
            }
            lease.grant(time);
            return Ok(format!("{:?} for another {time:?}", wish.fault));
        }
        let lease = self.lease(wish.fault);
        lease.grant(time);
        if let Err(error) = self.apply(wish.fault, amount.unwrap_or(0.0), &lease) {
            lease.end();
            return Err(error);
        }
        running.push((wish.fault, amount, lease));
        Ok(format!("{:?} ({amount:?}) for {time:?}", wish.fault))
    }

    /// Ends it; false if it is not there.
    pub(crate) fn end(&self, kind: Kind) -> bool {
        let mut running = self.running.lock();
        let there = running.iter().any(|(it, _, lease)| *it == kind && lease.holds());
        running.iter().filter(|(it, ..)| *it == kind).for_each(|(_, _, lease)| lease.end());
        running.retain(|(it, ..)| *it != kind);
        there
    }

    pub(crate) fn list(&self) -> Vec<Shown> {
        let running = self.running.lock();
        let show = |(fault, amount, lease): &Running| Shown {
            fault: *fault,
            amount: *amount,
            remaining_seconds: lease.left().as_secs_f64(),
            hits: lease.met(),
        };
        running.iter().filter(|(_, _, lease)| lease.holds()).map(show).collect()
    }

    /// What looks at the lease: the part that the fault is of, or a thread.
    fn lease(&self, kind: Kind) -> Arc<Lease> {
        match kind {
            Kind::DatabaseAway => Arc::clone(&self.database.away),
            Kind::DatabaseSlow => Arc::clone(&self.database.slow.0),
            Kind::CacheAway => Arc::clone(&self.cache.away),
            Kind::DiskFull => self.audit.disk_full(),
            _ => Arc::default(),
        }
    }

    fn apply(&self, kind: Kind, amount: f64, lease: &Arc<Lease>) -> Result<(), String> {
        let lease = Arc::clone(lease);
        match kind {
            Kind::DatabaseAway | Kind::CacheAway | Kind::DiskFull => Ok(()),
            Kind::DatabaseSlow => {
                self.database.slow.1.store(amount.to_bits(), std::sync::atomic::Ordering::Release);
                Ok(())
            }
            Kind::DatabaseLocked => {
                let hold = self.database.lock_holder()?;
                thread(move || hold(&|| lease.holds()))
            }
            Kind::CpuBurn => (0..amount as usize).try_for_each(|_| {
                let lease = Arc::clone(&lease);
                thread(move || {
                    while lease.holds() {
                        std::hint::black_box((0..10_000_u64).fold(0, |sum, n| sum ^ n));
                    }
                })
            }),
            Kind::MemoryBalloon => thread(move || {
                let held = filled((amount * 1_048_576.0) as usize);
                wait(&lease);
                drop(held);
            }),
            Kind::MemoryLeak => thread(move || {
                let mut held = Vec::new();
                while lease.holds() {
                    held.push(filled((amount * 1_048_576.0 / 20.0) as usize));
                    std::thread::park_timeout(LOOK);
                }
            }),
            Kind::HandleHog => thread(move || {
                let open = || std::fs::File::open("/dev/null").ok();
                let held: Vec<_> = (0..amount as usize).map_while(|_| open()).collect();
                wait(&lease);
                drop(held);
            }),
            Kind::ClockJump => {
                let by = (amount * 1_000.0) as i64;
                thread(move || {
                    runtime::jump(by);
                    wait(&lease);
                    runtime::jump(-by);
                })
            }
            Kind::CorruptConfig => {
                let env = self.env.clone().ok_or("there is no environment file")?;
                let mark = self.dir.join(MARK);
                corrupt(&env, &mark).map_err(|error| error.to_string())?;
                thread(move || {
                    wait(&lease);
                    if let Err(error) = mend(&env, &mark) {
                        tracing::error!(%error, "the environment file could not be put back");
                    }
                })
            }
        }
    }
}

/// The amount that counts, if the fault has one.
fn limits(kind: Kind, amount: Option<f64>) -> Result<Option<f64>, String> {
    let (usual, least, most) = match kind {
        Kind::DatabaseSlow => (0.5, 0.001, 60.0),
        Kind::CpuBurn => (1.0, 1.0, 64.0),
        Kind::MemoryBalloon => (64.0, 1.0, 4_096.0),
        Kind::MemoryLeak => (1.0, 0.001, 64.0),
        Kind::HandleHog => (1_000.0, 1.0, 1_000_000.0),
        Kind::ClockJump => (3_600.0, -86_400.0, 86_400.0),
        _ if amount.is_some() => return Err("this fault has no amount".to_owned()),
        _ => return Ok(None),
    };
    let amount = amount.unwrap_or(usual);
    if (least..=most).contains(&amount) {
        return Ok(Some(amount));
    }
    Err(format!("amount must be {least} to {most}"))
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name("chaos".to_owned()).spawn(work);
    thread.map(drop).map_err(|error| format!("no thread for it: {error}"))
}

fn wait(lease: &Lease) {
    while lease.holds() {
        std::thread::park_timeout(LOOK);
    }
}

/// Memory that is really taken: a page that was never written is none.
fn filled(bytes: usize) -> Vec<u8> {
    let mut held = vec![0_u8; bytes];
    held.iter_mut().step_by(4_096).for_each(|byte| *byte = 1);
    std::hint::black_box(held)
}

fn corrupt(env: &EnvFile, mark: &Path) -> Result<(), EnvError> {
    durable::replace(mark, b"a line on purpose is in the environment file\n")?;
    env.rewrite(|now| Some([now, BAD_LINE].concat()))
}

/// Takes the line away, wherever it stands by now; what others changed meanwhile stays.
fn mend(env: &EnvFile, mark: &Path) -> Result<(), EnvError> {
    if !mark.exists() {
        return Ok(());
    }
    env.rewrite(|now| {
        let mut left = Vec::with_capacity(now.len());
        let mut rest = now;
        while let Some(at) = rest.windows(BAD_LINE.len()).position(|some| some == BAD_LINE) {
            left.extend_from_slice(rest.get(..at).unwrap_or_default());
            rest = rest.get(at + BAD_LINE.len()..).unwrap_or_default();
        }
        left.extend_from_slice(rest);
        (left.len() < now.len()).then_some(left)
    })?;
    Ok(durable::remove_file(mark)?)
}

/// At a start, after an end in the middle of the fault; `dir` is the gateway's.
pub(crate) fn mend_left(env: &EnvFile, dir: &Path) -> Result<(), EnvError> {
    mend(env, &dir.join(MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_taken_back_and_what_others_changed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mark) = (dir.path().join(".env"), dir.path().join(MARK));
        durable::replace(&path, b"A=1\n").unwrap();
        let env = EnvFile::new(&path, runtime::Clock::system());
        corrupt(&env, &mark).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"A=1\n'FF_CHAOS=on'  \r\n");
        // Somebody adds a key after it, and it is begun once more.
        durable::replace(&path, b"A=2\n'FF_CHAOS=on'  \r\nB=3\n").unwrap();
        corrupt(&env, &mark).unwrap();
        mend_left(&env, dir.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"A=2\nB=3\n");
        assert!(!mark.exists());
        mend(&env, &mark).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"A=2\nB=3\n");
    }

    #[test]
    fn amounts_have_limits_and_some_faults_have_none() {
        assert_eq!(limits(Kind::CpuBurn, None), Ok(Some(1.0)));
        assert_eq!(limits(Kind::CacheAway, None), Ok(None));
        for (kind, amount) in [
            (Kind::CacheAway, 1.0),
            (Kind::CpuBurn, 65.0),
            (Kind::MemoryBalloon, f64::NAN),
            (Kind::ClockJump, 1e9),
        ] {
            assert!(limits(kind, Some(amount)).is_err(), "{kind:?} {amount}");
        }
    }
}
