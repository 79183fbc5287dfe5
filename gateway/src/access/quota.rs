//! Quotas: calls counted in fixed windows, in a table of fixed size. What does not fit is told, and not refused: a full table must not
//! become an outage.

use ahash::RandomState;
use model::Timestamp;
use parking_lot::Mutex;
use std::time::Duration;

/// Windows that are counted at once.
const SLOTS: usize = 1 << 14;
/// Slots looked at for one key.
const PROBES: usize = 8;

/// One window of one agent.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    ends: i64,
    count: u32,
}

/// What a call met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Within,
    /// Over the limit, for so long.
    Over(Duration),
    /// No slot was free: not counted.
    Uncounted,
}

/// The table. It is 384 KiB, whatever comes.
#[derive(Debug)]
pub(crate) struct Quotas {
    slots: Mutex<Vec<Slot>>,
    hasher: RandomState,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { slots: Mutex::new(vec![Slot::default(); SLOTS]), hasher: RandomState::new() }
    }
}

impl Quotas {
    /// Counts a call of `agent` against the quota of that policy and action.
    pub(crate) fn count(
        &self,
        agent: &str,
        (name, limit, window): ((&str, &str), u32, Duration),
        now: Timestamp,
    ) -> Counted {
        let now = now.millis();
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
        let key = self.hasher.hash_one((agent, name, limit, window)) | 1;
        let ends = (now.div_euclid(window) + 1).saturating_mul(window);
        let mut slots = self.slots.lock();
        let mut free = None;
        for probe in 0..PROBES {
            let at = (key as usize).wrapping_add(probe) % SLOTS;
            let Some(slot) = slots.get_mut(at) else { continue };
            if slot.key == key && slot.ends > now {
                if slot.count >= limit {
                    let wait = u64::try_from(slot.ends - now).unwrap_or(0);
                    return Counted::Over(Duration::from_millis(wait));
                }
                slot.count += 1;
                return Counted::Within;
            }
            if free.is_none() && slot.ends <= now {
                free = Some(at);
            }
        }
        if limit == 0 {
            return Counted::Over(Duration::from_millis(u64::try_from(ends - now).unwrap_or(0)));
        }
        match free.and_then(|at| slots.get_mut(at)) {
            Some(slot) => {
                *slot = Slot { key, ends, count: 1 };
                Counted::Within
            }
            None => Counted::Uncounted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_takes_its_limit_and_the_next_begins_anew() {
        let quotas = Quotas::default();
        let count = |agent, at| {
            quotas.count(agent, (("p", "*"), 2, Duration::from_secs(60)), Timestamp(at))
        };
        assert_eq!((count("a", 0), count("a", 1_000)), (Counted::Within, Counted::Within));
        assert_eq!(count("a", 2_000), Counted::Over(Duration::from_secs(58)));
        assert_eq!(count("b", 2_000), Counted::Within);
        assert_eq!(count("a", 60_000), Counted::Within);
    }

    #[test]
    fn r7_5_a_flood_of_agents_takes_no_more_memory_and_old_windows_make_room() {
        let quotas = Quotas::default();
        let flood = |at| {
            let count = |n: u32| {
                quotas.count(&n.to_string(), (("p", "*"), 5, Duration::from_secs(1)), Timestamp(at))
            };
            (0..100_000).filter(|n| count(*n) == Counted::Uncounted).count()
        };
        assert!(flood(0) > 80_000);
        assert!(flood(1_000) > 80_000, "the same room again, not none");
        assert_eq!(quotas.slots.lock().len(), SLOTS);
    }
}
