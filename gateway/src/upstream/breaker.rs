//! Leaves a tool alone that fails: closed → open when half of the last ten seconds' calls failed → half open after a pause, with three
//! probes → closed when all were good.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

const SECONDS: usize = 10;
/// Calls that a judgement rests on.
const LEAST: u32 = 20;
/// The share of failed calls that opens it.
const FAILED: f64 = 0.5;
/// How long it stays open the first time; twice as long each further time, to a minute.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Calls let through to see whether it works again.
const PROBES: u32 = 3;

/// The breaker of one tool.
#[derive(Debug)]
pub(crate) struct Breaker(Mutex<Inner>);

/// Of a call that was allowed; it tells when that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u32);

#[derive(Debug)]
struct Inner {
    state: State,
    /// Calls and failures by second, in a ring.
    ring: [(u64, u32, u32); SECONDS],
    start: Instant,
    opened: u32,
    /// Changes with the state: what began before tells nothing of now.
    generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { sent: u32, good: u32, until: Instant },
}

impl Default for Breaker {
    fn default() -> Self {
        let ring = [(0, 0, 0); SECONDS];
        let (start, opened, generation) = (Instant::now(), 0, 0);
        let inner = Inner { state: State::Closed, ring, start, opened, generation };
        Self(Mutex::new(inner))
    }
}

impl Breaker {
    /// Whether a call may be made, and with which ticket; if not, for how long.
    pub(crate) fn allows(&self) -> Result<Ticket, Duration> {
        let mut inner = self.0.lock();
        if inner.state == State::Closed {
            return Ok(Ticket(inner.generation));
        }
        let now = Instant::now();
        match inner.state {
            State::Closed => {}
            State::Open { until } if until > now => return Err(until - now),
            State::HalfOpen { sent, good, until } if sent < PROBES => {
                inner.state = State::HalfOpen { sent: sent + 1, good, until };
            }
            State::HalfOpen { until, .. } if until > now => return Err(until - now),
            // The probes take long, or their clients went away. What they may still tell counts.
            State::HalfOpen { good, .. } => {
                inner.state = State::HalfOpen { sent: 1, good, until: now + PAUSE };
            }
            State::Open { .. } => {
                inner.state = State::HalfOpen { sent: 1, good: 0, until: now + PAUSE };
                inner.generation = inner.generation.wrapping_add(1);
            }
        }
        Ok(Ticket(inner.generation))
    }

    /// A call ended. True if that opened it.
    pub(crate) fn ended(&self, Ticket(generation): Ticket, good: bool) -> bool {
        let mut inner = self.0.lock();
        if generation != inner.generation {
            return false;
        }
        let now = Instant::now();
        match inner.state {
            State::Closed => {
                let second = (now - inner.start).as_secs();
                let (calls, failed) = inner.count(second, good);
                let open = calls >= LEAST && f64::from(failed) >= FAILED * f64::from(calls);
                if open {
                    inner.open(now);
                }
                open
            }
            State::HalfOpen { .. } if !good => {
                inner.open(now);
                true
            }
            State::HalfOpen { sent, good, until } => {
                inner.state = State::HalfOpen { sent, good: good + 1, until };
                if good + 1 >= PROBES {
                    inner.state = State::Closed;
                    inner.generation = inner.generation.wrapping_add(1);
                    inner.ring = [(0, 0, 0); SECONDS];
                    inner.opened = 0;
                }
                false
            }
            State::Open { .. } => false,
        }
    }

    /// 0 closed, 0.5 half open, 1 open.
    pub(crate) fn read(&self) -> f64 {
        match self.0.lock().state {
            State::Closed => 0.0,
            State::HalfOpen { .. } => 0.5,
            State::Open { .. } => 1.0,
        }
    }
}

impl Inner {
    /// Counts a call in its second; gives calls and failures of the window.
    fn count(&mut self, second: u64, good: bool) -> (u32, u32) {
        let at = usize::try_from(second % SECONDS as u64).unwrap_or(0);
        if let Some(slot) = self.ring.get_mut(at) {
            if slot.0 != second {
                *slot = (second, 0, 0);
            }
            slot.1 += 1;
            slot.2 += u32::from(!good);
        }
        let recent = self.ring.iter().filter(|(of, ..)| second - of < SECONDS as u64);
        recent.fold((0, 0), |(calls, failed), slot| (calls + slot.1, failed + slot.2))
    }

    fn open(&mut self, now: Instant) {
        let pause = PAUSE.saturating_mul(1 << self.opened.min(8)).min(LONGEST_PAUSE);
        self.opened += 1;
        self.generation = self.generation.wrapping_add(1);
        self.state = State::Open { until: now + pause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(seconds: f64) {
        tokio::time::advance(Duration::from_secs_f64(seconds)).await;
    }

    fn call(breaker: &Breaker, good: bool) -> bool {
        let ticket = breaker.allows();
        if let Ok(ticket) = ticket {
            breaker.ended(ticket, good);
        }
        ticket.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_on_half_failed_and_closes_after_three_good_probes() {
        let breaker = Breaker::default();
        let old = breaker.allows().unwrap();
        assert!((0..19).all(|_| call(&breaker, false)), "too few to judge by");
        assert!(call(&breaker, false) && !call(&breaker, true));
        assert_eq!(breaker.allows(), Err(PAUSE));
        after(5.0).await;
        let probes: Vec<Ticket> = (0..3).map(|_| breaker.allows().unwrap()).collect();
        assert!(breaker.allows().is_err(), "three probes and no more");
        assert!(!breaker.ended(old, false), "what began before it opened says nothing of now");
        assert!(probes.into_iter().all(|probe| !breaker.ended(probe, true)));
        assert_eq!(breaker.read(), 0.0);
        assert!((0..19).all(|_| call(&breaker, false)), "what was before is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_opens_it_for_longer_and_lost_ones_do_not_lock_it() {
        let breaker = Breaker::default();
        assert!((0..20).all(|_| call(&breaker, false)));
        after(5.0).await;
        assert!(call(&breaker, false));
        after(9.9).await;
        assert!(breaker.allows().is_err());
        after(0.1).await;
        assert!((0..3).all(|_| breaker.allows().is_ok()), "their clients went away");
        assert!(breaker.allows().is_err());
        after(5.0).await;
        assert!(breaker.allows().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn probes_that_take_longer_than_a_pause_close_it_and_open_it_all_the_same() {
        let open = || {
            let breaker = Breaker::default();
            assert!((0..20).all(|_| call(&breaker, false)));
            breaker
        };
        let breaker = open();
        after(5.0).await;
        let slow: Vec<Ticket> = (0..3).map(|_| breaker.allows().unwrap()).collect();
        after(6.0).await;
        let more = breaker.allows().unwrap();
        after(2.0).await;
        assert!(slow.into_iter().all(|probe| !breaker.ended(probe, true)));
        assert_eq!(breaker.read(), 0.0);
        assert!(!breaker.ended(more, false), "it is of before it closed");

        let breaker = open();
        after(5.0).await;
        let late = breaker.allows().unwrap();
        after(10.0).await;
        assert!(breaker.allows().is_ok());
        assert!(breaker.ended(late, false), "a tool that hangs opens it again");
        assert_eq!(breaker.allows(), Err(PAUSE * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_older_than_the_window_do_not_count_nor_does_a_minority() {
        let breaker = Breaker::default();
        assert!((0..15).all(|_| call(&breaker, false)));
        after(10.0).await;
        assert!((0..15).all(|_| call(&breaker, false)));
        assert!(breaker.allows().is_ok());
        after(10.0).await;
        assert!((0..100).all(|n| call(&breaker, n % 5 > 1)));
        assert!(breaker.allows().is_ok(), "40 % fail");
    }
}
