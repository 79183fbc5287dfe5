//! Rings of time buckets at nine resolutions, each four times coarser than the one before.
//!
//! A bucket holds the lowest and highest value and the load at the lowest value. The lowest value
//! of a bucket that is longer than a collection cycle is the live size after collection, so the
//! ladder of resolutions takes the place of a search for the period. Cost: one comparison per
//! level and sample; 20 bytes a bucket, at most 64 buckets a level.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Buckets kept per level.
pub(crate) const RING: usize = 64;
/// Levels: 1 s, 4 s, 16 s, 64 s, 256 s, 17 min, 68 min, 4.6 h, 18 h. The last spans 48 days.
pub(crate) const LEVELS: usize = 9;

/// Load of a bucket without known load; not NaN, so that states compare and serialise.
const UNKNOWN: f32 = f32::MIN;

/// One closed or open bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    /// Start divided by the width, aligned to the epoch.
    pub(crate) index: u32,
    /// Life of the process (counts restarts, wraps).
    pub(crate) life: u16,
    /// Lowest value.
    pub(crate) lo: f32,
    /// Load when the value was lowest, or `UNKNOWN`.
    pub(crate) load: f32,
    /// Highest value.
    pub(crate) hi: f32,
    /// Mean load of the samples whose load is known, or `UNKNOWN`.
    pub(crate) flow: f32,
    /// Number of those, saturating.
    pub(crate) count: u16,
}

/// Ring of buckets of one width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Level {
    /// Bucket width in seconds, a power of two.
    pub(crate) width_s: u32,
    /// Closed buckets, oldest first.
    pub(crate) closed: VecDeque<Bucket>,
    /// The bucket that takes samples now.
    pub(crate) open: Option<Bucket>,
}

impl Level {
    /// An empty ring of buckets of `width_s` seconds.
    pub(crate) fn new(width_s: u32) -> Self {
        Level { width_s, closed: VecDeque::new(), open: None }
    }

    /// Takes a sample in; the index of the bucket that it closed.
    pub(crate) fn push(&mut self, time_ms: i64, value: f32, load: f32, life: u16) -> Option<u32> {
        let shifted = time_ms.div_euclid(1000) >> self.width_s.trailing_zeros();
        let index = u32::try_from(shifted).unwrap_or(0);
        let known = load.is_finite();
        let (load, count) = if known { (load, 1) } else { (UNKNOWN, 0) };
        let fresh = Bucket { index, life, lo: value, load, hi: value, flow: load, count };
        let closing = match &mut self.open {
            Some(open) if open.index == index && open.life == life => {
                if value < open.lo {
                    open.lo = value;
                    open.load = load;
                }
                open.hi = open.hi.max(value);
                if known {
                    open.count = open.count.saturating_add(1);
                    let before = if open.count == 1 { load } else { open.flow };
                    open.flow = before + (load - before) / f32::from(open.count);
                }
                None
            }
            Some(open) => Some(std::mem::replace(open, fresh)),
            None => {
                self.open = Some(fresh);
                None
            }
        };
        let bucket = closing?;
        if self.closed.len() >= RING {
            self.closed.pop_front();
        }
        self.closed.push_back(bucket);
        Some(bucket.index)
    }

    /// Mean time between falls in seconds, where the ring holds three to sixteen of them: falls of
    /// at least a third of the greatest one, which is at least a twentieth of the value.
    pub(crate) fn cycle_s(&self) -> Option<f64> {
        let life = self.closed.back()?.life;
        let values = || self.closed.iter().filter(|b| b.life == life).map(|b| b.lo);
        let (mut top, mut greatest) = (f32::MIN, 0.0);
        for value in values() {
            top = value.max(top);
            greatest = f32::max(greatest, top - value);
        }
        if greatest < 0.05 * top {
            return None;
        }
        let (mut top, mut low, mut falls, mut falling) = (f32::MIN, f32::MAX, 0u32, false);
        for value in values() {
            top = if falling { top } else { value.max(top) };
            low = if falling { value.min(low) } else { low };
            if !falling && top - value > 0.35 * greatest {
                (falling, low, falls) = (true, value, falls + 1);
            } else if falling && value - low > 0.2 * greatest {
                (falling, top) = (false, value);
            }
        }
        let span = f64::from(values().count() as u32) * f64::from(self.width_s);
        (3..=16).contains(&falls).then(|| span / f64::from(falls))
    }

    /// True when the newest group of `size` buckets, freed of `per_load`, is no higher than the
    /// group `apart` before it, or stands less than `needed` above all buckets; false when a
    /// restart lies between or too little is known to tell.
    pub(crate) fn is_level(&self, size: usize, apart: usize, per_load: f32, needed: f32) -> bool {
        let Some(life) = self.closed.back().map(|b| b.life) else { return false };
        let freed = |b: &Bucket| match per_load {
            0.0 => b.lo,
            _ if b.load == UNKNOWN => f32::NAN,
            _ => b.lo - per_load * b.load,
        };
        let mut newest = self.closed.iter().rev();
        let floor = |buckets: &mut dyn Iterator<Item = &Bucket>| {
            let least = buckets.reduce(|least, b| if b.lo < least.lo { b } else { least })?;
            (least.life == life).then_some(freed(least))
        };
        let now = floor(&mut newest.by_ref().take(size));
        let before = floor(&mut newest.by_ref().skip(size * (apart - 1)).take(size));
        let (Some(now), Some(before)) = (now, before) else { return false };
        // One older bucket must be there, since the first of a life is left out.
        if newest.next().is_none_or(|b| b.life != life) {
            return false;
        }
        // Written so that an unknown load (NaN) is never level.
        let near = |b: &Bucket| b.life == life && now - freed(b) < needed;
        now <= before || needed > 0.0 && self.closed.iter().all(near)
    }

    /// Start of the oldest bucket in ms since the epoch.
    pub(crate) fn start_ms(&self) -> Option<i64> {
        let first = self.closed.front().or(self.open.as_ref())?;
        Some(i64::from(first.index) * i64::from(self.width_s) * 1000)
    }
}

/// Floors of successive blocks of buckets, oldest first; arrays are valid up to `len`.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    /// Number of blocks.
    pub(crate) len: usize,
    /// Length of a block in seconds.
    pub(crate) block_s: f64,
    /// Middle of the block, seconds since the epoch.
    pub(crate) time: [f64; RING],
    /// Lowest value, later freed of load.
    pub(crate) lo: [f64; RING],
    /// Highest value.
    pub(crate) hi: [f64; RING],
    /// Load at the lowest value; NaN when unknown.
    pub(crate) load: [f64; RING],
    /// Mean load; NaN when unknown.
    pub(crate) flow: [f64; RING],
    /// Life of the process.
    pub(crate) life: [u16; RING],
}

impl Blocks {
    /// No blocks, room for `RING`.
    pub(crate) fn empty() -> Self {
        Blocks {
            len: 0,
            block_s: 0.0,
            time: [0.0; RING],
            lo: [0.0; RING],
            hi: [0.0; RING],
            load: [0.0; RING],
            flow: [0.0; RING],
            life: [0; RING],
        }
    }

    /// Groups the newest closed buckets by `size`; a group never spans a restart, and the first
    /// bucket of a life (start-up) is left out.
    pub(crate) fn fill(&mut self, level: &Level, size: usize) {
        self.len = 0;
        self.block_s = f64::from(level.width_s) * size as f64;
        let width = f64::from(level.width_s);
        let mut newest = level.closed.iter().rev();
        let mut next = newest.next();
        let mut count = 0;
        let mut middle = 0.0;
        let mut sum = None;
        while let Some(bucket) = next {
            next = newest.next();
            if next.is_none_or(|older| older.life != bucket.life) {
                (sum, count, middle) = (None, 0, 0.0);
                continue;
            }
            middle += (f64::from(bucket.index) + 0.5) * width;
            count += 1;
            let group = match sum {
                None => *bucket,
                Some(group) => join(group, bucket, count),
            };
            if count == size {
                self.add(&group, middle / size as f64);
                (sum, count, middle) = (None, 0, 0.0);
            } else {
                sum = Some(group);
            }
        }
        self.reverse();
    }

    fn add(&mut self, bucket: &Bucket, time: f64) {
        let i = self.len;
        if i >= RING {
            return;
        }
        self.time[i] = time;
        self.lo[i] = f64::from(bucket.lo);
        self.hi[i] = f64::from(bucket.hi);
        self.load[i] = known(bucket.load);
        self.flow[i] = known(bucket.flow);
        self.life[i] = bucket.life;
        self.len = i + 1;
    }

    fn reverse(&mut self) {
        let n = self.len;
        self.time[..n].reverse();
        self.lo[..n].reverse();
        self.hi[..n].reverse();
        self.load[..n].reverse();
        self.flow[..n].reverse();
        self.life[..n].reverse();
    }

    /// Takes the load's part out of the floors, relative to the mean load of the blocks.
    pub(crate) fn remove_load(&mut self, per_load: f64) {
        let n = self.len;
        let known = self.load[..n].iter().filter(|l| l.is_finite());
        let (sum, count) = known.fold((0.0, 0.0), |(s, c), l| (s + l, c + 1.0));
        if count < 1.0 || per_load == 0.0 {
            return;
        }
        let mean = sum / count;
        for i in 0..n {
            if self.load[i].is_finite() {
                self.lo[i] -= per_load * (self.load[i] - mean);
            }
        }
    }
}

fn join(mut group: Bucket, bucket: &Bucket, count: usize) -> Bucket {
    if bucket.lo < group.lo {
        group.lo = bucket.lo;
        group.load = bucket.load;
    }
    group.hi = group.hi.max(bucket.hi);
    group.flow = match (group.flow == UNKNOWN, bucket.flow == UNKNOWN) {
        (_, true) => group.flow,
        (true, false) => bucket.flow,
        _ => group.flow + (bucket.flow - group.flow) / count as f32,
    };
    group
}

fn known(load: f32) -> f64 {
    if load == UNKNOWN { f64::NAN } else { f64::from(load) }
}
