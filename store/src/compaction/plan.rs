//! Which segments to merge next: a function of what is live and of the time, without side effects.

use crate::StoreConfig;
use crate::manifest::Live;
use crate::segment::{Resolution, SegmentMeta, Window};
use model::Timestamp;
use std::collections::BTreeMap;

/// Fresh segments of one window that are merged even while it is open.
const MANY: usize = 8;
/// Milliseconds without a new segment after which a closed range is merged.
const SETTLE: i64 = 10_000;
/// Bytes over which a day stays in segments of a window each.
const LARGEST: u64 = 512 << 20;
const DAY: i64 = 86_400_000;

/// What to merge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Segments of raw samples.
    pub(crate) inputs: Vec<String>,
    /// Rollups of the same range, which are computed anew.
    pub(crate) rollups: Vec<String>,
    /// The level of what comes out.
    pub(crate) level: u8,
    /// Whether no more samples are expected in the range, late ones aside.
    pub(crate) closed: bool,
}

/// The next merge that is due, the oldest range first. `None` when all is as merged as it will be.
pub(crate) fn next(live: &Live, config: &StoreConfig, now: Timestamp) -> Option<Job> {
    let raw = || live.segments.values().filter(|meta| meta.resolution == Resolution::Raw);
    // What is still in memory reaches a segment within one flush interval.
    let flush = i64::try_from(config.flush_interval.as_millis()).unwrap_or(i64::MAX);
    let horizon = now.millis().saturating_sub(flush).saturating_sub(SETTLE);
    let settled = |metas: &[&SegmentMeta]| {
        metas.iter().all(|meta| meta.created() <= now.millis().saturating_sub(SETTLE))
    };
    let mut windows: BTreeMap<Window, Vec<&SegmentMeta>> = BTreeMap::new();
    for meta in raw().filter(|meta| meta.level < 2) {
        windows.entry(Window::of(meta.span.0)).or_default().push(meta);
    }
    for (window, metas) in &windows {
        let fresh = metas.iter().filter(|meta| meta.level == 0).count();
        let closed = window.span().1 < horizon;
        if fresh >= MANY || fresh > 0 && closed && settled(metas) {
            return Some(job(live, metas, window.span(), 1, closed));
        }
    }
    let mut days: BTreeMap<i64, Vec<&SegmentMeta>> = BTreeMap::new();
    for meta in raw() {
        days.entry(meta.span.0.div_euclid(DAY)).or_default().push(meta);
    }
    for (day, metas) in &days {
        let first = day.saturating_mul(DAY);
        let span = (first, first.saturating_add(DAY - 1));
        let bytes: u64 = metas.iter().map(|meta| meta.bytes()).sum();
        let merged = metas.iter().all(|meta| meta.level > 0);
        if metas.len() > 1 && merged && span.1 < horizon && bytes <= LARGEST && settled(metas) {
            return Some(job(live, metas, span, 2, true));
        }
    }
    None
}

fn job(live: &Live, metas: &[&SegmentMeta], span: (i64, i64), level: u8, closed: bool) -> Job {
    let within = |meta: &&SegmentMeta| {
        meta.resolution != Resolution::Raw && meta.span.0 >= span.0 && meta.span.1 <= span.1
    };
    let covered = live.segments.values().filter(within).filter(|_| closed);
    Job {
        inputs: metas.iter().map(|meta| meta.id.clone()).collect(),
        rollups: covered.map(|meta| meta.id.clone()).collect(),
        level,
        closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_435_200_000; // 2026-11-23T12:00:00Z

    fn meta(created: i64, resolution: Resolution, level: u8, start: i64) -> SegmentMeta {
        let id = ulid::Ulid::from_parts(created as u64, (start as u128) << 8 | u128::from(level));
        SegmentMeta {
            folder: id.to_string().into(),
            id: id.to_string(),
            resolution,
            level,
            span: (start, start + 1000),
            rows: 1,
            series: 1,
            sequences: (1, 1),
            files: [(60, 0), (40, 0)],
            metrics: [].into(),
        }
    }

    fn planned(metas: &[SegmentMeta], now: i64) -> Option<(usize, usize, u8, bool)> {
        let segments = metas.iter().map(|meta| (meta.id.clone(), meta.clone())).collect();
        let live = Live { segments, flushed: 0 };
        next(&live, &StoreConfig::default(), Timestamp(now))
            .map(|job| (job.inputs.len(), job.rollups.len(), job.level, job.closed))
    }

    #[test]
    fn an_open_window_is_left_alone_until_it_has_many_fresh_segments() {
        let few: Vec<SegmentMeta> =
            (0..7).map(|n| meta(NOON + n, Resolution::Raw, 0, NOON + n)).collect();
        assert_eq!(planned(&few, NOON + 600_000), None);
        let many: Vec<SegmentMeta> =
            (0..8).map(|n| meta(NOON + n, Resolution::Raw, 0, NOON + n)).collect();
        assert_eq!(planned(&many, NOON + 600_000), Some((8, 0, 1, false)));
    }

    #[test]
    fn a_closed_window_converges_to_one_segment_and_its_rollups_are_computed_anew() {
        let closed = NOON + Window::LEN + 600_000 + SETTLE;
        let fresh = meta(NOON + 5, Resolution::Raw, 0, NOON);
        assert_eq!(planned(std::slice::from_ref(&fresh), closed - 1), None, "not over yet");
        assert_eq!(planned(std::slice::from_ref(&fresh), closed), Some((1, 0, 1, true)));
        let done = [
            meta(NOON + 6, Resolution::Raw, 1, NOON),
            meta(NOON + 6, Resolution::FiveMinutes, 1, NOON),
        ];
        assert_eq!(planned(&done, closed + 1), None);
        let late = meta(closed, Resolution::Raw, 0, NOON + 9);
        let with_late = [done[0].clone(), done[1].clone(), late];
        assert_eq!(planned(&with_late, closed + 1), None, "more late ones may follow at once");
        assert_eq!(planned(&with_late, closed + SETTLE), Some((2, 1, 1, true)));
    }

    #[test]
    fn a_closed_day_converges_to_one_segment_unless_it_is_too_large() {
        let next_day = NOON + DAY;
        let mut windows: Vec<SegmentMeta> =
            (0..6).map(|n| meta(NOON + n, Resolution::Raw, 1, NOON + n * Window::LEN)).collect();
        assert_eq!(planned(&windows, NOON + DAY / 2), None, "the day is not over");
        assert_eq!(planned(&windows, next_day), Some((6, 0, 2, true)));
        windows[0].files[0].0 = LARGEST;
        assert_eq!(planned(&windows, next_day), None);
        assert_eq!(planned(&[meta(NOON, Resolution::Raw, 2, NOON)], next_day), None);
        let late = [
            meta(NOON, Resolution::Raw, 2, NOON),
            meta(next_day - SETTLE, Resolution::Raw, 0, NOON + 5),
        ];
        assert_eq!(planned(&late, next_day), Some((1, 0, 1, true)), "late samples first by window");
    }
}
