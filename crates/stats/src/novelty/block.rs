//! Mean of consecutive samples, so that a shift too small for one sample is seen in twelve.
//!
//! Blocks do not overlap: a sliding mean would make its own last value known, and never be new.
//! A block says nothing until it is full, so a shift is noted up to `LENGTH` samples late.

use serde::{Deserialize, Serialize};

/// Samples to a block: an hour at five minutes. 12, 16 and 24 score alike.
const LENGTH: u32 = 12;

/// The block being filled, and how many were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Block {
    filled: u32,
    sum: f64,
    complete: u64,
}

impl Block {
    /// Takes in one sample; the mean of the block and the number of blocks so far, when full.
    pub(crate) fn update(&mut self, x: f64) -> Option<(f64, u64)> {
        self.filled += 1;
        self.sum += x;
        if self.filled < LENGTH {
            return None;
        }
        let mean = self.sum / f64::from(self.filled);
        self.complete = self.complete.saturating_add(1);
        (self.filled, self.sum) = (0, 0.0);
        Some((mean, self.complete))
    }
}
