//! Requests for others: rows as a remote-write 1.0 message, snappy-compressed.

use model::{SeriesKey, Timestamp};

/// The body of a request with these series and their samples.
pub fn encode<'a>(
    series: impl IntoIterator<Item = (&'a SeriesKey, &'a [(Timestamp, f64)])>,
) -> Vec<u8> {
    let body = message(series);
    // Only a body over 4 GiB cannot be compressed; a sender cuts its rows far below.
    snap::raw::Encoder::new().compress_vec(&body).unwrap_or_default()
}

/// The same, not compressed.
pub(super) fn message<'a>(
    series: impl IntoIterator<Item = (&'a SeriesKey, &'a [(Timestamp, f64)])>,
) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, rows) in series {
        let mut part = Vec::new();
        for (name, value) in [("__name__", &*key.metric)].into_iter().chain(key.labels.iter()) {
            let mut label = Vec::new();
            bytes(&mut label, 0x0a, name.as_bytes());
            bytes(&mut label, 0x12, value.as_bytes());
            bytes(&mut part, 0x0a, &label);
        }
        for (time, value) in rows {
            let mut sample = vec![0x09];
            sample.extend(value.to_le_bytes());
            sample.push(0x10);
            varint(&mut sample, time.millis() as u64);
            bytes(&mut part, 0x12, &sample);
        }
        bytes(&mut body, 0x0a, &part);
    }
    body
}

fn bytes(out: &mut Vec<u8>, tag: u8, part: &[u8]) {
    out.push(tag);
    varint(out, part.len() as u64);
    out.extend_from_slice(part);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
