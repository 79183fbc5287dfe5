//! Frames: how a record lies in a WAL or manifest file so that damage is seen and stepped over.
//!
//! `marker[4] length[4] crc32c[4] sequence[8] kind[1] flags[1] payload[length]`, little endian; the
//! checksum covers everything after it and the length. Payloads from 256 bytes on are zstd-compressed when
//! that helps; flag 1 says so, and the payload then starts with its length before compression.

use crate::codec::take_array;

/// Starts every frame; chosen so that it is no valid UTF-8 and rare in numbers.
pub(crate) const MARKER: [u8; 4] = [0xf5, 0x0e, 0xd7, 0xc1];
/// Bytes before the payload.
pub(crate) const HEADER: usize = 22;
/// Longest payload, before and after compression; a length over it is damage.
pub(crate) const LONGEST: usize = 64 << 20;

const COMPRESSED: u8 = 1;
const COMPRESS_FROM: usize = 256;

/// One record as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

/// Appends a frame to `out`.
pub(crate) fn put(out: &mut Vec<u8>, sequence: u64, kind: u8, payload: &[u8]) {
    let compressed = (payload.len() >= COMPRESS_FROM)
        .then(|| compress(payload))
        .flatten()
        .filter(|small| small.len() < payload.len());
    let (body, flags) = match &compressed {
        Some(small) => (small.as_slice(), COMPRESSED),
        None => (payload, 0),
    };
    let length = (body.len() as u32).to_le_bytes();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&length);
    let crc_at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(body);
    let covered = out.get(crc_at + 4..).unwrap_or_default();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), covered).to_le_bytes();
    if let Some(place) = out.get_mut(crc_at..crc_at + 4) {
        place.copy_from_slice(&crc);
    }
}

/// The length before compression, then the compressed bytes.
fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    let mut small = (payload.len() as u32).to_le_bytes().to_vec();
    small.extend(zstd::bulk::compress(payload, 1).ok()?);
    Some(small)
}

/// The frame at the start of `input` and its length in bytes, if a whole and sound one is there.
pub(crate) fn take(input: &[u8]) -> Option<(Frame, usize)> {
    let mut rest = input.strip_prefix(&MARKER)?;
    let length = take_array::<4>(&mut rest)?;
    let crc = u32::from_le_bytes(take_array::<4>(&mut rest)?);
    let len = usize::try_from(u32::from_le_bytes(length)).ok().filter(|len| *len <= LONGEST)?;
    let covered = rest.get(..HEADER - 12 + len)?;
    if crc32c::crc32c_append(crc32c::crc32c(&length), covered) != crc {
        return None;
    }
    let sequence = u64::from_le_bytes(take_array::<8>(&mut rest)?);
    let [kind, flags] = take_array::<2>(&mut rest)?;
    let body = rest.get(..len)?;
    let payload = if flags & COMPRESSED == 0 {
        body.to_vec()
    } else {
        let mut body = body;
        let len = u32::from_le_bytes(take_array::<4>(&mut body)?) as usize;
        let payload = zstd::bulk::decompress(body, len.min(LONGEST)).ok()?;
        (payload.len() == len).then_some(payload)?
    };
    Some((Frame { sequence, kind, payload }, HEADER + len))
}

/// What reading a file of frames came upon.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Byte ranges with sound frames after them.
    pub(crate) middle: Vec<std::ops::Range<usize>>,
    /// Where a tail without any sound frame begins.
    pub(crate) torn_at: Option<usize>,
}

/// Hands every sound frame of `input`, from byte `from` on, to `visit`.
///
/// Cost: linear, also where damage is: each marker found after it is tried once.
pub(crate) fn scan<E>(
    input: &[u8],
    from: usize,
    mut visit: impl FnMut(Frame) -> Result<(), E>,
) -> Result<Damage, E> {
    let mut damage = Damage::default();
    let mut at = from;
    while at < input.len() {
        let rest = input.get(at..).unwrap_or_default();
        if let Some((frame, len)) = take(rest) {
            visit(frame)?;
            at += len;
            continue;
        }
        let next = memchr_markers(rest)
            .skip_while(|offset| *offset == 0)
            .find(|offset| rest.get(*offset..).is_some_and(|candidate| take(candidate).is_some()));
        match next {
            Some(offset) => {
                damage.middle.push(at..at + offset);
                at += offset;
            }
            None => {
                damage.torn_at = Some(at);
                break;
            }
        }
    }
    Ok(damage)
}

fn memchr_markers(input: &[u8]) -> impl Iterator<Item = usize> + '_ {
    input.windows(MARKER.len()).enumerate().filter(|(_, w)| *w == MARKER).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for n in 0..4_u64 {
            starts.push(bytes.len());
            put(&mut bytes, n, 7, &vec![n as u8; 200 * n as usize + 3]);
        }
        (bytes, starts)
    }

    fn read(bytes: &[u8]) -> (Vec<u64>, Damage) {
        let mut seen = Vec::new();
        let damage = scan(bytes, 0, |frame| {
            assert_eq!(
                frame.payload,
                vec![frame.sequence as u8; 200 * frame.sequence as usize + 3]
            );
            seen.push(frame.sequence);
            Ok::<_, ()>(())
        });
        (seen, damage.unwrap())
    }

    #[test]
    fn a_file_cut_at_any_byte_gives_the_frames_before_it() {
        let (bytes, starts) = file();
        for end in 0..bytes.len() {
            let (seen, damage) = read(&bytes[..end]);
            let whole = starts.iter().skip(1).filter(|start| **start <= end).count();
            assert_eq!(seen.len(), whole, "cut at {end}");
            assert_eq!(damage.torn_at, (!starts.contains(&end)).then(|| starts[whole]));
            assert!(damage.middle.is_empty());
        }
    }

    #[test]
    fn a_flipped_byte_costs_only_its_own_frame() {
        let (bytes, starts) = file();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            let hit = starts.iter().rposition(|start| *start <= at).unwrap();
            let (seen, damage) = read(&bad);
            let expected: Vec<u64> = (0..4).filter(|n| *n != hit as u64).collect();
            assert_eq!(seen, expected, "flip at {at}");
            assert_eq!(damage.middle.len() + usize::from(damage.torn_at.is_some()), 1);
        }
    }

    #[test]
    fn rubbish_is_no_frame() {
        assert_eq!(read(&[0xf5; 100]), (vec![], Damage { middle: vec![], torn_at: Some(0) }));
        let mut huge = MARKER.to_vec();
        huge.extend_from_slice(&[0xff; 40]);
        assert!(take(&huge).is_none());
    }
}
