//! Faults of tools: which calls fail and how. A fault ends when its lease does, on the clock that never jumps, though nobody says so; it
//! lives in memory only, so that the end of the gateway ends it too.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Faults at once.
const MOST: usize = 32;
/// A lease when none is asked for, and the longest.
const LEASE: Duration = Duration::from_secs(300);
const LONGEST_LEASE: Duration = Duration::from_secs(3_600);

/// What happens to a call.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) enum Mode {
    /// No answer until the time is up.
    #[serde(rename = "timeout")]
    Timeout,
    /// The tool fails at once.
    #[serde(rename = "500")]
    Error,
    /// The answer comes up to `amount` seconds later, one unless given.
    #[serde(rename = "jitter")]
    Jitter,
    /// The answer comes `amount` seconds later, half of one unless given.
    #[serde(rename = "latency")]
    Latency,
    /// Nobody listens there.
    #[serde(rename = "away")]
    Away,
    /// The connection is reset before an answer.
    #[serde(rename = "reset")]
    Reset,
    /// The answer comes with `amount` bytes a second, 1000 unless given.
    #[serde(rename = "slow_body")]
    SlowBody,
    /// The answer breaks off in its middle.
    #[serde(rename = "truncated_body")]
    TruncatedBody,
}

/// What one call meets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hit {
    pub(crate) mode: Mode,
    amount: Option<f64>,
}

impl Hit {
    /// What happens before there is an answer: time passes, or there will be none, and why.
    pub(crate) async fn before(self, lot: f64) -> Result<(), Broken> {
        let longer = |usual: f64, share: f64| {
            let time = Duration::from_secs_f64(self.amount.unwrap_or(usual) * share);
            tokio::time::sleep(time)
        };
        match self.mode {
            Mode::Timeout => std::future::pending().await,
            Mode::Error => return Err(Broken::Failed("a fault on purpose")),
            Mode::Away => return Err(Broken::Unreachable("connection refused, on purpose")),
            Mode::Reset => return Err(Broken::Unreachable("connection reset, on purpose")),
            Mode::Latency => longer(0.5, 1.0).await,
            Mode::Jitter => longer(1.0, lot).await,
            Mode::SlowBody | Mode::TruncatedBody => {}
        }
        Ok(())
    }

    /// What happens to a body that is passed on: so many bytes a second, or none and it breaks off; nothing else touches it.
    pub(crate) fn body(self) -> Option<Option<f64>> {
        match self.mode {
            Mode::SlowBody => Some(Some(self.rate())),
            Mode::TruncatedBody => Some(None),
            _ => None,
        }
    }

    fn rate(self) -> f64 {
        self.amount.unwrap_or(1_000.0).max(1.0)
    }

    /// What happens to an answer of so many bytes.
    pub(crate) async fn after(self, bytes: usize) -> Result<(), Broken> {
        match self.mode {
            Mode::TruncatedBody => Err(Broken::Failed("its answer broke off, on purpose")),
            Mode::SlowBody => {
                tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / self.rate())).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Failed(&'static str),
    Unreachable(&'static str),
}

/// A fault as it is asked for and shown.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolFault {
    pub(crate) tool: String,
    pub(crate) mode: Mode,
    /// Of the calls, in hundredths.
    pub(crate) pct: f64,
    /// How much of it, where it has a measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<f64>,
    /// Seconds until it ends by itself; 300 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<f64>,
}

#[derive(Debug)]
struct Lease {
    fault: ToolFault,
    until: Instant,
    hits: u64,
}

/// The faults of now.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    leases: Mutex<Vec<Lease>>,
    any: AtomicBool,
    drawn: AtomicU64,
}

/// A fault as it is shown.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) fault: ToolFault,
    pub(crate) remaining_seconds: f64,
    pub(crate) calls_hit: u64,
}

impl Faults {
    /// Begins a fault, in place of an earlier one of the same tool; says for how long.
    pub(crate) fn begin(&self, fault: ToolFault) -> Result<Duration, String> {
        if !(fault.pct > 0.0 && fault.pct <= 100.0) {
            return Err("pct must be over 0 and at most 100".to_owned());
        }
        if fault.amount.is_some_and(|amount| !(amount > 0.0 && amount <= 1e6)) {
            return Err("amount must be over 0 and at most 1000000".to_owned());
        }
        let lease = match fault.ttl {
            None => LEASE,
            Some(ttl) if ttl > 0.0 && ttl <= LONGEST_LEASE.as_secs_f64() => {
                Duration::from_secs_f64(ttl)
            }
            Some(_) => return Err("ttl must be over 0 and at most 3600 seconds".to_owned()),
        };
        let mut leases = self.leases.lock();
        let now = Instant::now();
        // The same fault once more is a new lease of it: what it has met still counts.
        let same =
            |it: &ToolFault| (it.mode, it.pct, it.amount) == (fault.mode, fault.pct, fault.amount);
        let hits = leases
            .iter()
            .find(|it| it.until > now && it.fault.tool == fault.tool && same(&it.fault));
        let hits = hits.map_or(0, |it| it.hits);
        leases.retain(|lease| lease.until > now && lease.fault.tool != fault.tool);
        if leases.len() >= MOST {
            return Err(format!("{MOST} faults at once are enough; end some"));
        }
        leases.push(Lease { fault, until: now + lease, hits });
        self.any.store(true, Ordering::Relaxed);
        Ok(lease)
    }

    /// Ends the fault of a tool; false if there was none.
    pub(crate) fn end(&self, tool: &str) -> bool {
        let mut leases = self.leases.lock();
        let before = leases.len();
        leases.retain(|lease| lease.fault.tool != tool);
        self.any.store(!leases.is_empty(), Ordering::Relaxed);
        leases.len() < before
    }

    /// What happens to this call of `tool`.
    pub(crate) fn draw(&self, tool: &str) -> Option<Hit> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut leases = self.leases.lock();
        let now = Instant::now();
        let lease = leases.iter_mut().find(|it| it.fault.tool == tool && it.until > now)?;
        // Evenly over the calls: a golden-ratio sequence meets every share closely.
        let n = self.drawn.fetch_add(1, Ordering::Relaxed);
        let lot = (n as f64 * 0.618_033_988_749_894_9).fract() * 100.0;
        if lot >= lease.fault.pct {
            return None;
        }
        lease.hits += 1;
        Some(Hit { mode: lease.fault.mode, amount: lease.fault.amount })
    }

    /// The faults that are not over.
    pub(crate) fn list(&self) -> Vec<Shown> {
        let now = Instant::now();
        let mut leases = self.leases.lock();
        leases.retain(|lease| lease.until > now);
        self.any.store(!leases.is_empty(), Ordering::Relaxed);
        let show = |lease: &Lease| Shown {
            fault: lease.fault.clone(),
            remaining_seconds: (lease.until - now).as_secs_f64(),
            calls_hit: lease.hits,
        };
        leases.iter().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn r6_4_a_fault_hits_its_share_and_ends_by_itself() {
        let faults = Faults::default();
        let fault = |pct, ttl| ToolFault {
            tool: "a".to_owned(),
            mode: Mode::Error,
            pct,
            amount: None,
            ttl,
        };
        assert_eq!(faults.begin(fault(20.0, Some(5.0))), Ok(Duration::from_secs(5)));
        let hit = |tool: &str| (0..1_000).filter(|_| faults.draw(tool).is_some()).count();
        assert!((195..=205).contains(&hit("a")));
        assert_eq!(hit("b"), 0);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((hit("a"), faults.list()), (0, Vec::new()));
        for (pct, ttl) in [(0.0, None), (f64::NAN, None), (101.0, None), (5.0, Some(1e9))] {
            assert!(faults.begin(fault(pct, ttl)).is_err());
        }
        faults.begin(fault(100.0, None)).unwrap();
        assert!(faults.end("a") && !faults.end("a") && hit("a") == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn each_mode_does_what_it_says() {
        let hit = |mode, amount| Hit { mode, amount };
        let start = Instant::now();
        assert_eq!(hit(Mode::Latency, Some(2.0)).before(0.5).await, Ok(()));
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        assert_eq!(hit(Mode::Jitter, Some(2.0)).before(0.5).await, Ok(()));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert_eq!(hit(Mode::SlowBody, Some(10.0)).after(50).await, Ok(()));
        assert_eq!(start.elapsed(), Duration::from_secs(8));
        for (mode, unreachable) in [(Mode::Error, false), (Mode::Away, true), (Mode::Reset, true)] {
            let broken = hit(mode, None).before(0.5).await.unwrap_err();
            assert_eq!(matches!(broken, Broken::Unreachable(_)), unreachable, "{mode:?}");
        }
        assert!(hit(Mode::TruncatedBody, None).after(5).await.is_err());
        let wait = hit(Mode::Timeout, None).before(0.5);
        assert!(tokio::time::timeout(Duration::from_secs(3_600), wait).await.is_err());
    }
}
