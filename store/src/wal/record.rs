//! The records of the log as bytes. The layout is in `docs/format/wal.md`.

use crate::codec::{
    put_i64, put_planes, put_str, put_u64, take_count, take_i64, take_planes, take_str, take_u64,
};
use crate::info::Infos;
use model::{Labels, MetricInfo, MetricKind, SeriesKey, Timestamp};

/// First record of a file: the format's version.
pub(crate) const START: u8 = 0;
/// References to series, with their keys.
pub(crate) const SERIES: u8 = 1;
/// A numbered list of references.
pub(crate) const LAYOUT: u8 = 2;
/// Values in the order of a layout, of one time.
pub(crate) const SCRAPE: u8 = 3;
/// References, times and values, one each.
pub(crate) const BATCH: u8 = 4;
/// Type, unit and help of metrics.
pub(crate) const INFO: u8 = 5;

/// The version that this program writes and reads.
pub(crate) const VERSION: u32 = 2;

/// One record, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Start { version: u32 },
    Series(Vec<(u64, SeriesKey)>),
    Layout { number: u64, refs: Vec<u64> },
    Scrape { layout: u64, time: Timestamp, values: Vec<f64> },
    Batch { refs: Vec<u64>, times: Vec<Timestamp>, values: Vec<f64> },
    Info(Infos),
}

pub(crate) fn put_start(out: &mut Vec<u8>) {
    put_u64(out, u64::from(VERSION));
}

pub(crate) fn put_series<'a>(
    out: &mut Vec<u8>,
    series: impl ExactSizeIterator<Item = (u64, &'a SeriesKey)>,
) {
    put_u64(out, series.len() as u64);
    for (reference, key) in series {
        put_u64(out, reference);
        put_str(out, &key.metric);
        put_u64(out, key.labels.len() as u64);
        for (name, value) in key.labels.iter() {
            put_str(out, name);
            put_str(out, value);
        }
    }
}

pub(crate) fn put_layout(out: &mut Vec<u8>, number: u64, refs: impl ExactSizeIterator<Item = u64>) {
    put_u64(out, number);
    put_u64(out, refs.len() as u64);
    let mut last = 0_u64;
    for reference in refs {
        put_i64(out, reference.wrapping_sub(last) as i64);
        last = reference;
    }
}

pub(crate) fn put_scrape(out: &mut Vec<u8>, layout: u64, time: Timestamp, values: &[f64]) {
    put_u64(out, layout);
    put_i64(out, time.millis());
    put_u64(out, values.len() as u64);
    put_planes(out, values);
}

/// References as runs of one series, times as differences, values as planes.
pub(crate) fn put_batch(
    out: &mut Vec<u8>,
    refs: impl Iterator<Item = u64>,
    times: &[Timestamp],
    values: &[f64],
) {
    put_u64(out, values.len() as u64);
    let mut refs = refs.peekable();
    let mut last = 0_u64;
    while let Some(reference) = refs.next() {
        let mut run = 1_u64;
        while refs.next_if_eq(&reference).is_some() {
            run += 1;
        }
        put_i64(out, reference.wrapping_sub(last) as i64);
        put_u64(out, run);
        last = reference;
    }
    let mut last = 0_i64;
    for time in times {
        put_i64(out, time.millis().wrapping_sub(last));
        last = time.millis();
    }
    put_planes(out, values);
}

pub(crate) fn put_info(out: &mut Vec<u8>, infos: &Infos) {
    put_u64(out, infos.len() as u64);
    for (metric, info) in infos {
        put_str(out, metric);
        put_str(out, info.kind.as_str());
        put_str(out, &info.unit);
        put_str(out, &info.help);
    }
}

pub(crate) fn take_info(input: &mut &[u8]) -> Option<Infos> {
    let count = take_count(input, 4)?;
    let one = |_| {
        let metric = Box::from(take_str(input)?);
        // A later version may know more kinds.
        let kind = MetricKind::from_word(take_str(input)?).unwrap_or_default();
        let (unit, help) = (take_str(input)?.into(), take_str(input)?.into());
        Some((metric, MetricInfo { kind, unit, help }))
    };
    (0..count).map(one).collect()
}

/// Reads a record. `None` when the payload is none of ours; later kinds are for later versions.
pub(crate) fn take(kind: u8, payload: &[u8]) -> Option<Record> {
    let input = &mut &*payload;
    match kind {
        START => Some(Record::Start { version: u32::try_from(take_u64(input)?).ok()? }),
        SERIES => {
            let count = take_count(input, 3)?;
            (0..count).map(|_| take_series(input)).collect::<Option<_>>().map(Record::Series)
        }
        LAYOUT => {
            let number = take_u64(input)?;
            let count = take_count(input, 1)?;
            let mut last = 0_u64;
            let mut refs = Vec::with_capacity(count);
            for _ in 0..count {
                last = last.wrapping_add(take_i64(input)? as u64);
                refs.push(last);
            }
            Some(Record::Layout { number, refs })
        }
        SCRAPE => {
            let layout = take_u64(input)?;
            let time = Timestamp(take_i64(input)?);
            let count = take_count(input, 8)?;
            Some(Record::Scrape { layout, time, values: take_planes(input, count)? })
        }
        BATCH => {
            let count = take_count(input, 9)?;
            let refs = take_runs(input, count)?;
            let times = take_times(input, count)?;
            Some(Record::Batch { refs, times, values: take_planes(input, count)? })
        }
        INFO => take_info(input).map(Record::Info),
        _ => None,
    }
}

fn take_series(input: &mut &[u8]) -> Option<(u64, SeriesKey)> {
    let reference = take_u64(input)?;
    let metric = take_str(input)?;
    let count = take_count(input, 2)?;
    let pairs: Option<Vec<(&str, &str)>> =
        (0..count).map(|_| Some((take_str(input)?, take_str(input)?))).collect();
    Some((reference, SeriesKey::new(metric, Labels::from_pairs(pairs?))))
}

fn take_runs(input: &mut &[u8], count: usize) -> Option<Vec<u64>> {
    let mut refs = Vec::with_capacity(count);
    let mut last = 0_u64;
    while refs.len() < count {
        last = last.wrapping_add(take_i64(input)? as u64);
        let run = usize::try_from(take_u64(input)?).ok()?;
        if run == 0 || run > count - refs.len() {
            return None;
        }
        refs.resize(refs.len() + run, last);
    }
    Some(refs)
}

fn take_times(input: &mut &[u8], count: usize) -> Option<Vec<Timestamp>> {
    let mut last = 0_i64;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        last = last.wrapping_add(take_i64(input)?);
        times.push(Timestamp(last));
    }
    Some(times)
}
