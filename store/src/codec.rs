//! Integers and strings as bytes, for the WAL and the manifest. Reading trusts nothing: each take
//! returns `None` where the bytes do not hold what is asked.

/// Appends an unsigned integer in LEB128, 1 to 10 bytes.
pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer, small absolute values short (zigzag, then LEB128).
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a string with its length.
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    put_u64(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends doubles as eight planes of bytes, which compress better than doubles in a row.
pub(crate) fn put_planes(out: &mut Vec<u8>, values: &[f64]) {
    out.reserve(values.len() * 8);
    for plane in 0..8 {
        out.extend(values.iter().map(|value| (value.to_bits() >> (8 * plane)) as u8));
    }
}

pub(crate) fn take_u64(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn take_i64(input: &mut &[u8]) -> Option<i64> {
    let zigzag = take_u64(input)?;
    Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

pub(crate) fn take_str<'a>(input: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::try_from(take_u64(input)?).ok()?;
    let (text, rest) = input.split_at_checked(len)?;
    *input = rest;
    std::str::from_utf8(text).ok()
}

/// A count of things that take at least `least` bytes each; never more than the input can hold, so it
/// is safe to reserve room for.
pub(crate) fn take_count(input: &mut &[u8], least: usize) -> Option<usize> {
    let count = usize::try_from(take_u64(input)?).ok()?;
    (count.checked_mul(least.max(1))? <= input.len()).then_some(count)
}

pub(crate) fn take_planes(input: &mut &[u8], count: usize) -> Option<Vec<f64>> {
    let (bytes, rest) = input.split_at_checked(count.checked_mul(8)?)?;
    *input = rest;
    let mut bits = vec![0_u64; count];
    for (plane, bytes) in bytes.chunks_exact(count.max(1)).enumerate() {
        for (bits, byte) in bits.iter_mut().zip(bytes) {
            *bits |= u64::from(*byte) << (8 * plane);
        }
    }
    Some(bits.into_iter().map(f64::from_bits).collect())
}

pub(crate) fn take_array<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_taken(a in any::<u64>(), b in any::<i64>(), c in any::<String>(), d in prop::collection::vec(any::<u64>(), 0..20)) {
            let values: Vec<f64> = d.iter().map(|bits| f64::from_bits(*bits)).collect();
            let mut bytes = Vec::new();
            put_u64(&mut bytes, a);
            put_i64(&mut bytes, b);
            put_str(&mut bytes, &c);
            put_planes(&mut bytes, &values);
            let mut input = bytes.as_slice();
            prop_assert_eq!(take_u64(&mut input), Some(a));
            prop_assert_eq!(take_i64(&mut input), Some(b));
            prop_assert_eq!(take_str(&mut input), Some(c.as_str()));
            let read: Vec<u64> = take_planes(&mut input, d.len()).unwrap().iter().map(|v| v.to_bits()).collect();
            prop_assert_eq!(read, d);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            take_u64(&mut bytes.as_slice());
            take_i64(&mut bytes.as_slice());
            take_str(&mut bytes.as_slice());
            take_count(&mut bytes.as_slice(), 3);
            take_planes(&mut bytes.as_slice(), 3);
        }
    }
}
