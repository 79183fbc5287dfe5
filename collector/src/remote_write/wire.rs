//! The protobuf message of remote-write 1.0, read without copying: `WriteRequest` of Prometheus'
//! `prompb/remote.proto`. Only what we store is looked at; unknown fields are stepped over.

use model::{Labels, SeriesKey, Timestamp};
use std::borrow::Cow;

/// A request, its samples in one list.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    pub(super) series: Vec<SeriesRead<'a>>,
    pub(super) times: Vec<Timestamp>,
    pub(super) values: Vec<f64>,
    /// Native histograms, which are not stored.
    pub(super) histograms: u64,
}

/// One series of a request: the bytes of its labels, and how many of the samples are its own.
#[derive(Debug)]
pub(super) struct SeriesRead<'a> {
    pub(super) labels: Cow<'a, [u8]>,
    pub(super) samples: usize,
}

/// What does not fit the message, and at which byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause} at byte {at} of the uncompressed body")]
pub(super) struct WireError {
    cause: &'static str,
    at: usize,
}

/// Most samples of one request.
pub(super) const MAX_SAMPLES: usize = 4 << 20;

/// Reads a request.
pub(super) fn decode(body: &[u8]) -> Result<Request<'_>, WireError> {
    let mut request = Request::default();
    let fault = |cause, rest: &[u8]| WireError { cause, at: body.len() - rest.len() };
    let mut input = body;
    while !input.is_empty() {
        let before = input;
        match take_field(&mut input) {
            Some((1, Field::Bytes(series))) => {
                // Positions within a part count from the body's start.
                let tail = input.len();
                take_series(series, &mut request)
                    .map_err(|(cause, left)| WireError { cause, at: body.len() - tail - left })?;
                if request.values.len() > MAX_SAMPLES {
                    return Err(fault("more than 4 Mi samples", before));
                }
            }
            Some(_) => {} // metadata, or what later versions add
            None => return Err(fault("no protobuf field", before)),
        }
    }
    Ok(request)
}

/// What is wrong, and how many bytes of the part were left there.
type Fault = (&'static str, usize);

fn take_series<'a>(whole: &'a [u8], request: &mut Request<'a>) -> Result<(), Fault> {
    let mut input = whole;
    let mut labels: Cow<'a, [u8]> = Cow::Borrowed(&[]);
    let mut leading = true; // labels commonly come first and together
    let before = request.values.len();
    while !input.is_empty() {
        let start = input;
        let (number, field) = take_field(&mut input).ok_or(("no protobuf field", start.len()))?;
        match (number, field) {
            (1, Field::Bytes(_)) if leading => {
                let end = whole.len() - input.len();
                labels = Cow::Borrowed(whole.get(..end).unwrap_or_default());
                continue;
            }
            (1, Field::Bytes(_)) => {
                let len = start.len() - input.len();
                labels.to_mut().extend_from_slice(start.get(..len).unwrap_or_default());
            }
            (2, Field::Bytes(sample)) => {
                let (time, value) = take_sample(sample).ok_or(("no sample", start.len()))?;
                request.times.push(time);
                request.values.push(value);
            }
            (4, Field::Bytes(_)) => request.histograms += 1,
            _ => {}
        }
        leading = false;
    }
    let samples = request.values.len() - before;
    if samples > 0 {
        request.series.push(SeriesRead { labels, samples });
    }
    Ok(())
}

fn take_sample(mut input: &[u8]) -> Option<(Timestamp, f64)> {
    let (mut time, mut value) = (0, 0.0);
    while !input.is_empty() {
        match take_field(&mut input)? {
            (1, Field::Fixed64(bits)) => value = f64::from_bits(bits),
            (2, Field::Varint(number)) => time = number as i64,
            _ => {}
        }
    }
    Some((Timestamp(time), value))
}

/// The series that label bytes of a request name.
pub(super) fn series_key(mut labels: &[u8]) -> Result<SeriesKey, &'static str> {
    let mut metric = None;
    let mut pairs = Vec::new();
    while !labels.is_empty() {
        let Some((1, Field::Bytes(label))) = take_field(&mut labels) else {
            return Err("no label");
        };
        let (name, value) = take_label(label).ok_or("a label that is no UTF-8")?;
        match name {
            "" => return Err("a label without a name"),
            "__name__" => metric = Some(value),
            _ => pairs.push((name, value)),
        }
    }
    match metric {
        Some(metric) if !metric.is_empty() => Ok(SeriesKey::new(metric, Labels::from_pairs(pairs))),
        _ => Err("no label __name__"),
    }
}

fn take_label(mut input: &[u8]) -> Option<(&str, &str)> {
    let (mut name, mut value) = ("", "");
    while !input.is_empty() {
        match take_field(&mut input)? {
            (1, Field::Bytes(text)) => name = std::str::from_utf8(text).ok()?,
            (2, Field::Bytes(text)) => value = std::str::from_utf8(text).ok()?,
            _ => {}
        }
    }
    Some((name, value))
}

enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// One field with its number; `None` when there is no whole one.
fn take_field<'a>(input: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = take_varint(input)?;
    let field = match tag & 7 {
        0 => Field::Varint(take_varint(input)?),
        1 => {
            let (bytes, rest) = input.split_first_chunk::<8>()?;
            *input = rest;
            Field::Fixed64(u64::from_le_bytes(*bytes))
        }
        2 => {
            let len = usize::try_from(take_varint(input)?).ok()?;
            let (bytes, rest) = input.split_at_checked(len)?;
            *input = rest;
            Field::Bytes(bytes)
        }
        5 => {
            *input = input.get(4..)?;
            Field::Fixed32
        }
        _ => return None,
    };
    (tag >> 3 != 0).then_some((tag >> 3, field))
}

fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
