//! Pushes samples by remote-write, as Prometheus does.

use super::page::post;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "this binary links none of the program's crates")]
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// One sample of the series `metric{n="…"}`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) series: u64,
    pub(crate) time: i64,
    pub(crate) value: f64,
}

/// Sends `rows` and returns status and text; `None` when no answer came.
pub(crate) fn push(address: &str, metric: &str, rows: &[Row]) -> Option<(u16, String)> {
    let body = snap::raw::Encoder::new().compress_vec(&encode(metric, rows)).unwrap();
    let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
    post(address, "/api/v1/write", &headers, &body)
}

fn encode(metric: &str, rows: &[Row]) -> Vec<u8> {
    let mut body = Vec::new();
    for row in rows {
        let mut part = Vec::new();
        for (name, value) in [("__name__", metric), ("n", &row.series.to_string())] {
            let mut label = Vec::new();
            put(&mut label, 0x0a, name.as_bytes());
            put(&mut label, 0x12, value.as_bytes());
            put(&mut part, 0x0a, &label);
        }
        let mut sample = vec![0x09];
        sample.extend(row.value.to_le_bytes());
        sample.push(0x10);
        put_varint(&mut sample, row.time as u64);
        put(&mut part, 0x12, &sample);
        put(&mut body, 0x0a, &part);
    }
    body
}

fn put(out: &mut Vec<u8>, tag: u8, part: &[u8]) {
    out.push(tag);
    put_varint(out, part.len() as u64);
    out.extend_from_slice(part);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
