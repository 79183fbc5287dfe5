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

/// Of which policy and action, how many calls, and in what time.
pub(crate) type Quota<'a> = ((&'a str, &'a str), u32, Duration);

/// What a call met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted<'a> {
    Within,
    /// Over this one, for so long; counted against none.
    Over(Quota<'a>, Duration),
    /// For one of them no slot was free: not counted there.
    Uncounted,
}

/// Where a quota stands in the table.
enum Found {
    Here(usize),
    Free(usize),
    Nowhere,
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
    /// Counts a call of `agent` against all of its quotas, or against none where one of them is used up.
    pub(crate) fn count<'a>(
        &self,
        agent: &str,
        quotas: &[Quota<'a>],
        now: Timestamp,
    ) -> Counted<'a> {
        let now = now.millis();
        let mut slots = self.slots.lock();
        for quota in quotas {
            let (key, ends) = self.place(agent, quota, now);
            let (count, ends) = match find(&slots, key, ends, now) {
                Found::Here(at) => slots.get(at).map_or((0, ends), |slot| (slot.count, slot.ends)),
                Found::Free(_) | Found::Nowhere => (0, ends),
            };
            if count >= quota.1 {
                let wait = Duration::from_millis(u64::try_from(ends - now).unwrap_or(0));
                return Counted::Over(*quota, wait);
            }
        }
        let mut counted = Counted::Within;
        for quota in quotas {
            let (key, ends) = self.place(agent, quota, now);
            let (at, fresh) = match find(&slots, key, ends, now) {
                Found::Here(at) => (Some(at), false),
                Found::Free(at) => (Some(at), true),
                Found::Nowhere => (None, false),
            };
            match at.and_then(|at| slots.get_mut(at)) {
                Some(slot) if fresh => *slot = Slot { key, ends, count: 1 },
                Some(slot) => slot.count += 1,
                None => counted = Counted::Uncounted,
            }
        }
        counted
    }

    /// Its key, and when its window ends.
    fn place(&self, agent: &str, (name, limit, window): &Quota<'_>, now: i64) -> (u64, i64) {
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
        let key = self.hasher.hash_one((agent, name, limit, window)) | 1;
        (key, (now.div_euclid(window) + 1).saturating_mul(window))
    }
}

/// A slot of the same key that ends with another window is of a clock that went otherwise.
fn find(slots: &[Slot], key: u64, ends: i64, now: i64) -> Found {
    let mut found = Found::Nowhere;
    for probe in 0..PROBES {
        let at = (key as usize).wrapping_add(probe) % SLOTS;
        let Some(slot) = slots.get(at) else { continue };
        if slot.key == key && slot.ends > now {
            return if slot.ends == ends { Found::Here(at) } else { Found::Free(at) };
        }
        if matches!(found, Found::Nowhere) && slot.ends <= now {
            found = Found::Free(at);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_takes_its_limit_and_the_next_begins_anew() {
        let quotas = Quotas::default();
        let minute = (("p", "*"), 2, Duration::from_secs(60));
        let count = |agent, at| quotas.count(agent, &[minute], Timestamp(at));
        assert_eq!((count("a", 0), count("a", 1_000)), (Counted::Within, Counted::Within));
        assert_eq!(count("a", 2_000), Counted::Over(minute, Duration::from_secs(58)));
        assert_eq!(count("b", 2_000), Counted::Within);
        assert_eq!(count("a", 60_000), Counted::Within);
        // A clock that ran ahead and was put right.
        assert_eq!(
            (count("c", 3_600_000), count("c", 3_600_001)),
            (Counted::Within, Counted::Within)
        );
        assert_eq!(
            (count("c", 3_600_002) == Counted::Within, count("c", 5)),
            (false, Counted::Within)
        );
    }

    #[test]
    fn what_one_quota_refuses_is_counted_against_none() {
        let quotas = Quotas::default();
        let (day, minute) = (Duration::from_secs(86_400), Duration::from_secs(60));
        let both = [(("p", "*"), 4, day), (("p", "*"), 2, minute)];
        let within = |at| {
            (0..100).filter(|_| quotas.count("a", &both, Timestamp(at)) == Counted::Within).count()
        };
        assert_eq!((within(0), within(60_000), within(120_000)), (2, 2, 0));
        assert!(
            matches!(quotas.count("a", &both, Timestamp(120_000)), Counted::Over(over, _) if over == both[0])
        );
    }

    #[test]
    fn r7_5_a_flood_of_agents_takes_no_more_memory_and_old_windows_make_room() {
        let quotas = Quotas::default();
        let flood = |at| {
            let second = (("p", "*"), 5, Duration::from_secs(1));
            let count = |n: u32| quotas.count(&n.to_string(), &[second], Timestamp(at));
            (0..100_000).filter(|n| count(*n) == Counted::Uncounted).count()
        };
        assert!(flood(0) > 80_000);
        assert!(flood(1_000) > 80_000, "the same room again, not none");
        assert_eq!(quotas.slots.lock().len(), SLOTS);
    }
}
