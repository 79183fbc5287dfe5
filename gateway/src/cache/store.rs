//! A cache bounded in bytes. What was asked for since the hand last came by stays (CLOCK: Corbató 1968); an answer that is too old even
//! to be served stale goes when it is met.

use crate::chaos::lease::Lease;
use ahash::AHashMap;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What an entry takes besides its key and body.
const OVERHEAD: usize = 192;

/// How long answers are good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ages {
    /// To be served without asking the tool.
    pub(crate) fresh: Duration,
    /// To be served because the tool gives none.
    pub(crate) stale: Duration,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) body: Bytes,
    /// How old it is.
    pub(crate) age: Duration,
    /// Whether it is fresh.
    pub(crate) fresh: bool,
    /// Said once of an answer, in the last quarter of its freshness: it is asked for, and will soon be too old.
    pub(crate) ageing: bool,
}

/// The answers.
#[derive(Debug)]
pub(crate) struct Cache {
    inner: Mutex<Inner>,
    /// Answers put out to make room.
    pub(crate) evicted: AtomicU64,
    /// A fault on purpose: it has nothing and keeps nothing.
    pub(crate) away: Arc<Lease>,
}

#[derive(Debug)]
struct Inner {
    capacity: usize,
    /// The capacity as configured; pressure lowers the other for a while.
    configured: usize,
    bytes: usize,
    index: AHashMap<Arc<str>, usize>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    hand: usize,
}

#[derive(Debug)]
struct Slot {
    key: Arc<str>,
    body: Bytes,
    stored: Instant,
    ages: Ages,
    asked: bool,
    /// Whether it was said that it is ageing.
    told: bool,
}

impl Slot {
    fn bytes(&self) -> usize {
        self.key.len() + self.body.len() + OVERHEAD
    }
}

impl Cache {
    /// Empty, with room for `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        let inner = Inner {
            capacity,
            configured: capacity,
            bytes: 0,
            index: AHashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
        };
        Self { inner: Mutex::new(inner), evicted: AtomicU64::new(0), away: Arc::default() }
    }

    /// The answer to `key`, fresh or stale.
    pub(crate) fn get(&self, key: &str) -> Option<Found> {
        if self.away.hits() {
            return None;
        }
        let mut inner = self.inner.lock();
        let at = *inner.index.get(key)?;
        let slot = inner.slots.get_mut(at)?.as_mut()?;
        let age = slot.stored.elapsed();
        if age >= slot.ages.fresh.max(slot.ages.stale) {
            inner.remove(at);
            return None;
        }
        slot.asked = true;
        let fresh = age < slot.ages.fresh;
        let ageing = fresh && age * 4 >= slot.ages.fresh * 3 && !slot.told;
        slot.told |= ageing;
        Some(Found { body: slot.body.clone(), age, fresh, ageing })
    }

    /// Keeps an answer, unless it alone would take a quarter of the room.
    pub(crate) fn put(&self, key: &str, body: Bytes, ages: Ages) {
        self.put_aged(key, body, ages, Duration::ZERO);
    }

    /// The same with one that is so old already.
    pub(crate) fn put_aged(&self, key: &str, body: Bytes, ages: Ages, age: Duration) {
        if self.away.holds() {
            return;
        }
        let now = Instant::now();
        let stored = now.checked_sub(age).unwrap_or(now);
        let slot = Slot { key: key.into(), body, stored, ages, asked: false, told: false };
        let mut inner = self.inner.lock();
        if let Some(at) = inner.index.get(key).copied() {
            inner.remove(at); // also when the new one is not kept: the old one is no answer any more
        }
        if slot.bytes() > inner.capacity / 4 {
            return;
        }
        let room = inner.capacity - slot.bytes();
        let evicted = inner.shrink(room);
        self.evicted.fetch_add(evicted, Ordering::Relaxed);
        inner.insert(slot);
    }

    /// Lets go all but `share` of what is held, and takes no more than that until [`Cache::restore`]; gives the bytes let go.
    pub(crate) fn shrink(&self, share: f64) -> usize {
        let mut inner = self.inner.lock();
        let before = inner.bytes;
        inner.capacity = (before as f64 * share.clamp(0.0, 1.0)) as usize;
        let capacity = inner.capacity;
        let evicted = inner.shrink(capacity);
        if inner.index.is_empty() {
            inner.slots = Vec::new();
            inner.free = Vec::new();
        }
        self.evicted.fetch_add(evicted, Ordering::Relaxed);
        before - inner.bytes
    }

    /// Whether what is put into it is there; also true while it has no room to keep anything.
    pub(crate) fn keeps(&self) -> bool {
        const KEY: &str = "own probe";
        const ROOM: usize = 64 << 10;
        if self.inner.lock().capacity < ROOM {
            return true;
        }
        let second = Duration::from_secs(1);
        self.put(KEY, Bytes::from_static(b"there"), Ages { fresh: second, stale: second });
        self.get(KEY).is_some()
    }

    /// Gives the configured room back.
    pub(crate) fn restore(&self) {
        let mut inner = self.inner.lock();
        inner.capacity = inner.configured;
    }

    /// Answers too old for any use go; gives how many.
    pub(crate) fn sweep(&self) -> usize {
        let mut inner = self.inner.lock();
        let old = |slot: &Slot| slot.stored.elapsed() >= slot.ages.fresh.max(slot.ages.stale);
        let gone: Vec<usize> = (0..inner.slots.len())
            .filter(|at| inner.slots.get(*at).and_then(Option::as_ref).is_some_and(old))
            .collect();
        gone.iter().for_each(|at| inner.remove(*at));
        gone.len()
    }

    /// Bytes in use, entries, and the age of the oldest.
    pub(crate) fn read(&self) -> (usize, usize, Duration) {
        let inner = self.inner.lock();
        let oldest = inner.slots.iter().flatten().map(|slot| slot.stored.elapsed()).max();
        (inner.bytes, inner.index.len(), oldest.unwrap_or_default())
    }
}

impl Inner {
    fn insert(&mut self, slot: Slot) {
        self.bytes += slot.bytes();
        let key = Arc::clone(&slot.key);
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(slot);
        }
        self.index.insert(key, at);
    }

    fn remove(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at).and_then(Option::take) {
            self.bytes -= slot.bytes();
            self.index.remove(&slot.key);
            self.free.push(at);
        }
    }

    /// Puts out what was not asked for until at most `room` bytes are in use.
    fn shrink(&mut self, room: usize) -> u64 {
        let mut evicted = 0;
        while self.bytes > room {
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            match self.slots.get_mut(self.hand) {
                Some(Some(slot)) if slot.asked => slot.asked = false,
                Some(Some(_)) => {
                    self.remove(self.hand);
                    evicted += 1;
                }
                _ if self.index.is_empty() => return evicted,
                _ => {}
            }
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AGES: Ages = Ages { fresh: Duration::from_secs(10), stale: Duration::from_secs(60) };

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_its_last_quarter_is_said_to_age_once() {
        let cache = Cache::new(1 << 20);
        let mut ageing = Vec::new();
        cache.put("k", Bytes::new(), AGES);
        for second in 0..20 {
            if cache.get("k").unwrap().ageing {
                ageing.push(second);
                if ageing.len() == 1 {
                    cache.put("k", Bytes::new(), AGES);
                }
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // Anew at 8, and not told again of the one that is stale since 18.
        assert_eq!(ageing, [8, 16]);
    }

    #[tokio::test(start_paused = true)]
    async fn r4_2_an_answer_is_fresh_then_stale_then_gone() {
        let cache = Cache::new(1 << 20);
        cache.put("k", Bytes::from_static(b"v"), AGES);
        let found = |after| {
            let cache = &cache;
            async move {
                tokio::time::advance(Duration::from_secs(after)).await;
                cache.get("k").map(|found| (found.fresh, found.age.as_secs()))
            }
        };
        assert_eq!(found(9).await, Some((true, 9)));
        assert_eq!(found(1).await, Some((false, 10)));
        assert_eq!(found(49).await, Some((false, 59)));
        assert_eq!(found(1).await, None);
        assert_eq!(cache.read().0, 0);
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_makes_room() {
        let cache = Cache::new(100 * (OVERHEAD + 1_010));
        let put = |n: usize| {
            cache.put(&format!("key-{n:06}"), Bytes::from(vec![0; 1_000]), AGES);
        };
        put(0);
        for n in 1..10_000 {
            put(n);
            assert!(cache.get("key-000000").is_some(), "{n}");
        }
        let (bytes, entries, _) = cache.read();
        assert!((95..=100).contains(&entries) && bytes <= 100 * (OVERHEAD + 1_010), "{entries}");
        assert!(cache.evicted.load(Ordering::Relaxed) > 9_000);
        cache.put("large", Bytes::from(vec![0; 50_000]), AGES);
        assert!(cache.get("large").is_none());
    }

    #[test]
    fn r4_3_pressure_lets_go_and_gives_the_room_back() {
        let cache = Cache::new(1 << 20);
        for n in 0..900 {
            cache.put(&n.to_string(), Bytes::from(vec![0; 800]), AGES);
        }
        let before = cache.read().0;
        let freed = cache.shrink(0.25);
        assert_eq!(cache.read().0 + freed, before);
        assert!(cache.read().0 <= before / 4 && freed > 1 << 19);
        // It does not grow back while it is narrow.
        (0..900).for_each(|n| cache.put(&n.to_string(), Bytes::from(vec![0; 800]), AGES));
        assert!(cache.read().0 <= before / 4);
        cache.restore();
        cache.put("again", Bytes::from(vec![0; 1 << 17]), AGES);
        assert!(cache.get("again").is_some() && cache.shrink(0.0) > 1 << 17 && cache.read().0 == 0);
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_it_may_nor_another_answer(
            steps in prop::collection::vec((0..40_u32, 0..2_000_usize, 0..4_u8), 1..300),
        ) {
            let cache = Cache::new(16 << 10);
            let mut last = std::collections::HashMap::new();
            for (key, size, step) in steps {
                let name = key.to_string();
                match step {
                    0 => if let Some(found) = cache.get(&name) {
                        prop_assert_eq!(Some(&found.body.len()), last.get(&key));
                    },
                    1 if size < 1_000 => { cache.shrink(size as f64 / 1_000.0); }
                    1 => cache.restore(),
                    _ => {
                        cache.put(&name, Bytes::from(vec![0; size]), AGES);
                        last.insert(key, size);
                    }
                }
                let inner = cache.inner.lock();
                let counted: usize = inner.slots.iter().flatten().map(Slot::bytes).sum();
                prop_assert_eq!(counted, inner.bytes);
                prop_assert!(inner.bytes <= inner.capacity);
                prop_assert_eq!(inner.index.len() + inner.free.len(), inner.slots.len());
            }
        }
    }
}
