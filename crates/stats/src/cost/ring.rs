//! Samples to blocks: a bounded ring of 30-minute means that spikes cannot move.
//!
//! Samples go into slots of a minute, slots into a block; a block is the mean of the middle half of
//! its slots by cost, so that collections, cron jobs and bursts of a few minutes fall out. Cost:
//! O(1) a sample, one sort of 30 a block. Bytes: 8 a block, 14 days in 5.4 KB.

use super::scan::{DAY, Row};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Length of a block. Long enough that noise of minutes averages out, short against 6 h of delay.
pub(super) const BLOCK_MS: i64 = 30 * 60_000;
/// Sub-slot of a block: bounds the buffer at any sampling step.
const SLOT_MS: i64 = 60_000;
/// Blocks kept: 14 days, so that a week can be compared with the week before.
pub(super) const RING: usize = 14 * DAY;
/// Greatest value taken: beyond it an f32 is infinite.
const GREATEST: f64 = 1e30;

/// Cpu and load of one block; `UNKNOWN` where not known (snapshots in JSON cannot hold NaN).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Block {
    pub(super) cpu: f32,
    pub(super) load: f32,
}

const UNKNOWN: f32 = -1.0;

/// Running sums of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    cpu: f64,
    load: f64,
    paired: u32,
    raw: f64,
    count: u32,
}

/// The ring of one series and the block being filled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Blocks {
    /// Number of the block after the ring's last one, counted from the epoch.
    next: i64,
    ring: VecDeque<Block>,
    slot: Slot,
    slot_at: i64,
    slots: Vec<Block>,
    last_ms: i64,
}

impl Blocks {
    /// An empty ring.
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            ring: VecDeque::new(),
            slot: Slot::default(),
            slot_at: i64::MIN,
            slots: Vec::new(),
            last_ms: i64::MIN,
        }
    }

    /// Takes a sample; true if it closed a block.
    pub(super) fn push(&mut self, time_ms: i64, cpu: f64, load: f64) -> bool {
        if time_ms <= self.last_ms || !(0.0..GREATEST).contains(&cpu) {
            return false;
        }
        self.last_ms = time_ms;
        let slot_at = time_ms.div_euclid(SLOT_MS);
        let mut closed = false;
        if slot_at != self.slot_at {
            self.close_slot();
            let block = time_ms.div_euclid(BLOCK_MS);
            if self.slot_at == i64::MIN {
                self.next = block;
            } else if block != self.block_of_slot() {
                self.close_block(block);
                closed = true;
            }
            self.slot_at = slot_at;
        }
        self.slot.raw += cpu;
        self.slot.count += 1;
        if (0.0..GREATEST).contains(&load) {
            self.slot.cpu += cpu;
            self.slot.load += load;
            self.slot.paired += 1;
        }
        closed
    }

    /// End of the ring: number of the block being filled.
    pub(super) fn end(&self) -> i64 {
        self.next
    }

    /// The latest blocks first.
    pub(super) fn latest(&self) -> impl Iterator<Item = &Block> {
        self.ring.iter().rev()
    }

    fn block_of_slot(&self) -> i64 {
        self.slot_at.saturating_mul(SLOT_MS).div_euclid(BLOCK_MS)
    }

    fn close_slot(&mut self) {
        let slot = std::mem::take(&mut self.slot);
        if slot.count == 0 {
            return;
        }
        let n = f64::from(slot.paired);
        // A slot whose load is mostly unknown counts as unknown.
        self.slots.push(if slot.paired * 2 >= slot.count {
            Block { cpu: (slot.cpu / n) as f32, load: (slot.load / n) as f32 }
        } else {
            Block { cpu: (slot.raw / f64::from(slot.count)) as f32, load: UNKNOWN }
        });
    }

    /// Moves the slots to the ring, and fills the gap up to `block` with unknown blocks.
    fn close_block(&mut self, block: i64) {
        let closed = summarise(&mut self.slots);
        self.slots.clear();
        self.append(closed);
        let gap = block.saturating_sub(self.next);
        if gap as u64 >= RING as u64 {
            self.ring.clear();
            self.next = block;
        }
        while self.next < block {
            self.append(Block { cpu: UNKNOWN, load: UNKNOWN });
        }
    }

    fn append(&mut self, block: Block) {
        if self.ring.len() >= RING {
            self.ring.pop_front();
        }
        self.ring.push_back(block);
        self.next = self.next.saturating_add(1);
    }

    /// Forgets the blocks before number `block`.
    pub(super) fn drop_before(&mut self, block: i64) {
        let drop = block.saturating_sub(self.first()).clamp(0, self.ring.len() as i64);
        self.ring.drain(..drop as usize);
    }

    /// Number of the ring's oldest block, counted from the epoch.
    pub(super) fn first(&self) -> i64 {
        self.next.saturating_sub(self.ring.len() as i64)
    }

    /// Means of the ring; None while there is no load or no cpu to compare with.
    pub(super) fn scale(&self) -> Option<Scale> {
        let known = self.ring.iter().filter(|b| b.cpu >= 0.0);
        let loads = known.clone().filter(|b| b.load >= 0.0).count();
        let normalised = loads * 2 >= known.count();
        let (mut n, mut cpu, mut load) = (0.0, 0.0, 0.0);
        for b in self.ring.iter().filter(|b| b.is_valid(normalised)) {
            n += 1.0;
            cpu += f64::from(b.cpu);
            load += f64::from(b.load);
        }
        let (cpu, load) = (cpu / n, if normalised { load / n } else { 1.0 });
        (cpu > 0.0 && load > 0.0).then_some(Scale { cpu, load, normalised })
    }

    /// The ring relative to `scale`.
    pub(super) fn rows(&self, scale: &Scale) -> Vec<Option<Row>> {
        let row = |(i, b): (i64, &Block)| {
            b.is_valid(scale.normalised).then(|| Row {
                u: if scale.normalised { f64::from(b.load) / scale.load } else { 1.0 },
                v: f64::from(b.cpu) / scale.cpu,
                slot: i.rem_euclid(DAY as i64) as usize,
            })
        };
        (self.first()..).zip(&self.ring).map(row).collect()
    }
}

/// Means that make a ring relative.
pub(super) struct Scale {
    pub(super) cpu: f64,
    pub(super) load: f64,
    /// Whether most blocks know their load.
    pub(super) normalised: bool,
}

impl Block {
    fn is_valid(&self, normalised: bool) -> bool {
        self.cpu >= 0.0 && (self.load >= 0.0 || !normalised)
    }
}

/// Mean cpu and load of the middle half of the slots, ordered by cost.
fn summarise(slots: &mut Vec<Block>) -> Block {
    let paired = slots.iter().filter(|s| s.load >= 0.0).count();
    if paired * 2 >= slots.len() {
        slots.retain(|s| s.load >= 0.0);
        slots.sort_unstable_by(|a, b| cost(a).total_cmp(&cost(b)));
    } else {
        slots.sort_unstable_by(|a, b| a.cpu.total_cmp(&b.cpu));
    }
    if slots.is_empty() {
        return Block { cpu: UNKNOWN, load: UNKNOWN };
    }
    let cut = slots.len() / 4;
    let (mut cpu, mut load, mut n) = (0.0, 0.0, 0.0);
    for s in slots.iter().take(slots.len() - cut).skip(cut) {
        cpu += s.cpu;
        load += s.load;
        n += 1.0;
    }
    Block { cpu: cpu / n, load: load / n }
}

fn cost(block: &Block) -> f32 {
    block.cpu / block.load.max(f32::MIN_POSITIVE)
}
