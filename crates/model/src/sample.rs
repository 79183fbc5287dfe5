//! A sample: one value at one time.

use crate::Timestamp;

/// One value of a series at one time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was measured.
    pub time: Timestamp,
    /// What was measured; any bit pattern, NaN payloads included, is kept.
    pub value: f64,
}

/// Equal when the bits are: a NaN equals itself, 0.0 does not equal -0.0.
impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.time == other.time && self.value.to_bits() == other.value.to_bits()
    }
}

/// The NaN that says "this series ended here", with the bits that Prometheus uses.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether `value` is the staleness mark.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}
