//! Recent points, compressed: two to four bytes a point instead of sixteen.
//!
//! A block is a row of chunks. Within a chunk times are kept as second differences, values as differences of
//! integers at one decimal scale where all of them are exact so, else as the bits that changed since the
//! value before, as in Gorilla (Pelkonen et al., VLDB 2015) but in whole bytes. Cost: linear both ways.

use crate::codec::{put_i64, put_u64, take_i64, take_u64};
use crate::points::Points;
use crate::segment::scaled;

/// Marks values kept by their bits; other values of that byte are a scale.
const BITS: u8 = 0xff;
/// Marks times that all lie one step apart; that go on in the steps of the chunk before; all others.
const EVEN: u8 = 0;
const ONWARD: u8 = 1;
const UNEVEN: u8 = 2;

/// Points of one series, times ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    span: Option<(i64, i64)>,
    len: usize,
    /// Of the last chunk; 0 where its times are not even.
    step: i64,
}

impl Block {
    /// Compresses `points`, which are in order and after all that is here. `scale` is tried first.
    pub(crate) fn add(&mut self, points: &Points, scale: &mut i8) {
        let Some((first, last)) = points.span() else { return };
        put_u64(&mut self.bytes, points.len() as u64);
        let before = self.span.map_or(0, |span| span.1);
        self.step = put_times(&mut self.bytes, &points.times, before, self.step);
        put_values(&mut self.bytes, &points.values, scale);
        self.span = Some((self.span.map_or(first, |span| span.0), last));
        self.len += points.len();
    }

    /// Whether points from `time` on may be added.
    pub(crate) fn ends_before(&self, time: i64) -> bool {
        self.span.is_none_or(|(_, last)| last < time)
    }

    /// First and last time; `None` without a point.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        self.span
    }

    /// Points in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Gives back room that it does not need; it grows no more.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Bytes of the compressed points.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the points to `out`.
    pub(crate) fn append_to(&self, out: &mut Points) {
        let mut input = self.bytes.as_slice();
        let (mut last, mut step) = (0, 0);
        // Only what `add` wrote is ever read here; the `Option` is the codec's.
        while !input.is_empty() && take_chunk(&mut input, &mut last, &mut step, out).is_some() {}
    }
}

fn take_chunk(input: &mut &[u8], last: &mut i64, step: &mut i64, out: &mut Points) -> Option<()> {
    let len = usize::try_from(take_u64(input)?).ok()?;
    *step = take_times(input, *last, *step, len, &mut out.times)?;
    take_values(input, len, &mut out.values)?;
    *last = out.times.last().copied()?;
    Some(())
}

/// Writes times that come after `before`, in steps of `step` so far. Returns their step, 0 where it is not one.
fn put_times(out: &mut Vec<u8>, times: &[i64], before: i64, step: i64) -> i64 {
    let steps = || times.iter().zip(times.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    let first = times.first().map_or(0, |first| first.wrapping_sub(before));
    let even = steps().next().unwrap_or(first);
    if step != 0 && first == step && steps().all(|other| other == step) {
        out.push(ONWARD);
        return step;
    }
    if steps().all(|other| other == even) {
        out.push(EVEN);
        put_i64(out, first);
        put_i64(out, even);
        return even;
    }
    out.push(UNEVEN);
    put_i64(out, first);
    let mut last = 0_i64;
    for step in steps() {
        put_i64(out, step.wrapping_sub(last));
        last = step;
    }
    0
}

fn take_times(
    input: &mut &[u8],
    before: i64,
    step: i64,
    len: usize,
    times: &mut Vec<i64>,
) -> Option<i64> {
    let (form, rest) = input.split_first()?;
    *input = rest;
    let first = if *form == ONWARD { step } else { take_i64(input)? };
    let mut time = before.wrapping_add(first);
    times.push(time);
    if *form == UNEVEN {
        let mut step = 0_i64;
        for _ in 1..len {
            step = step.wrapping_add(take_i64(input)?);
            time = time.wrapping_add(step);
            times.push(time);
        }
        return Some(0);
    }
    let step = if *form == ONWARD { step } else { take_i64(input)? };
    times.extend((1..len).map(|_| {
        time = time.wrapping_add(step);
        time
    }));
    Some(step)
}

fn put_values(out: &mut Vec<u8>, values: &[f64], scale: &mut i8) {
    let start = out.len();
    if put_integers(out, values, *scale) {
        return;
    }
    out.truncate(start);
    if let Some(other) = scaled::choose(values).filter(|other| other != scale) {
        *scale = other;
        if put_integers(out, values, other) {
            return;
        }
        out.truncate(start);
    }
    out.push(BITS);
    let mut last = 0_u64;
    for value in values {
        // Swapped, so that the bytes that a small change leaves alone are the high ones.
        put_u64(out, (value.to_bits() ^ last).swap_bytes());
        last = value.to_bits();
    }
}

/// Whether every value is an integer at `scale`; if not, what was put is to be taken back.
fn put_integers(out: &mut Vec<u8>, values: &[f64], scale: i8) -> bool {
    out.push(scale as u8);
    let mut last = 0_i64;
    for value in values {
        let Some(integer) = scaled::to_integer(*value, scale) else { return false };
        put_i64(out, integer.wrapping_sub(last));
        last = integer;
    }
    true
}

fn take_values(input: &mut &[u8], len: usize, values: &mut Vec<f64>) -> Option<()> {
    let (form, rest) = input.split_first()?;
    *input = rest;
    if *form == BITS {
        let mut bits = 0_u64;
        for _ in 0..len {
            bits ^= take_u64(input)?.swap_bytes();
            values.push(f64::from_bits(bits));
        }
        return Some(());
    }
    let mut integer = 0_i64;
    for _ in 0..len {
        integer = integer.wrapping_add(take_i64(input)?);
        values.push(scaled::from_integer(integer, *form as i8));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_added_comes_back_bit_for_bit(
            steps in prop::collection::vec((1_i64..5, any::<u64>(), -1000_i32..1000), 1..200),
            decimal in any::<bool>(), even in any::<bool>(), mut scale in 0_i8..=9, chunk in 1_usize..70,
        ) {
            let mut points = Points::default();
            let mut time = -7;
            for (step, bits, short) in steps {
                time += if even { 10 } else { step };
                let value = if decimal { f64::from(short) / 100.0 } else { f64::from_bits(bits) };
                points.push(time, value);
            }
            let mut block = Block::default();
            for (times, values) in points.times.chunks(chunk).zip(points.values.chunks(chunk)) {
                prop_assert!(block.ends_before(times[0]));
                block.add(&Points { times: times.to_vec(), values: values.to_vec() }, &mut scale);
            }
            let mut read = Points::default();
            block.append_to(&mut read);
            let bits = |points: &Points| points.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(&read.times, &points.times);
            prop_assert_eq!(bits(&read), bits(&points));
            prop_assert_eq!((block.span(), block.len()), (points.span(), points.len()));
        }
    }

    #[test]
    fn a_steady_series_of_short_decimals_takes_two_bytes_a_point() {
        let (mut block, mut scale) = (Block::default(), 0);
        for chunk in 0..8_i64 {
            let times = (0..16).map(|n| 1_795_418_000_000 + (16 * chunk + n) * 10_000).collect();
            let values = (0..16).map(|n| 40.0 + f64::from(n % 7) / 10.0).collect();
            block.add(&Points { times, values }, &mut scale);
        }
        assert!(block.bytes() <= 2 * 128, "{} bytes", block.bytes());
    }
}
