//! Which segments to merge next: a function of what is live and of the time, without side effects.

use crate::StoreConfig;
use crate::manifest::Live;
use crate::retention::outlived;
use crate::segment::{Resolution, SegmentMeta, Window};
use model::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Fresh segments of one window that are merged even while it is open.
const MANY: usize = 8;
/// Milliseconds without a new segment after which a closed window is merged, and a closed day.
const WINDOW_SETTLE: i64 = 10_000;
const DAY_SETTLE: i64 = 300_000;
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
    /// Whether rollups are computed on the way.
    pub(crate) roll_up: bool,
    /// What the inputs have and the output not.
    pub(crate) without: Vec<Arc<str>>,
}

impl Job {
    fn merge<'a>(inputs: impl Iterator<Item = &'a SegmentMeta>, level: u8) -> Self {
        let (rollups, without) = (Vec::new(), Vec::new());
        Self { inputs: ids(inputs), rollups, level, roll_up: false, without }
    }
}

/// The next merge that is due at `now`, the oldest range first; then the next segment to write anew without
/// metrics that are past their age at `steady`, the time that retention goes by. `None` when all is as it will be.
///
/// Segments that are left out of a merge are all older, by sequence, or all newer than those in it: so a
/// later sample stays later.
pub(crate) fn next(
    live: &Live,
    config: &StoreConfig,
    now: Timestamp,
    steady: Timestamp,
) -> Option<Job> {
    merge(live, config, now).or_else(|| outlive(live, config, steady))
}

/// A segment with metrics past their own age.
fn outlive(live: &Live, config: &StoreConfig, now: Timestamp) -> Option<Job> {
    // Raw samples leave once their day is merged, so that its figures are of the whole day.
    let whole = |meta: &&SegmentMeta| meta.resolution != Resolution::Raw || meta.level == 2;
    live.segments.values().filter(whole).find_map(|meta| {
        let without = outlived(meta, config, now);
        (!without.is_empty()).then(|| Job { without, ..Job::merge([meta].into_iter(), meta.level) })
    })
}

fn merge(live: &Live, config: &StoreConfig, now: Timestamp) -> Option<Job> {
    let raw = || live.segments.values().filter(|meta| meta.resolution == Resolution::Raw);
    // What is still in memory reaches a segment within one flush interval.
    let flush = i64::try_from(config.flush_interval.as_millis()).unwrap_or(i64::MAX);
    let over = |end: i64| end < now.millis().saturating_sub(flush).saturating_sub(WINDOW_SETTLE);
    // One from a time to come was written before the clock was put back.
    let settled = |metas: &[&SegmentMeta], wait: i64| {
        let waited = now.millis().saturating_sub(wait);
        metas.iter().all(|meta| meta.created() <= waited || meta.created() > now.millis())
    };
    let mut windows: BTreeMap<Window, Vec<&SegmentMeta>> = BTreeMap::new();
    for meta in raw().filter(|meta| meta.level < 2) {
        windows.entry(Window::of(meta.span.0)).or_default().push(meta);
    }
    for (window, metas) in &windows {
        let fresh = metas.iter().filter(|meta| meta.level == 0);
        if fresh.clone().count() >= MANY {
            return Some(Job::merge(fresh.copied(), 1));
        }
        let mergeable = metas.len() > 1 || metas.iter().any(|meta| meta.level == 0);
        if mergeable && over(window.span().1) && settled(metas, WINDOW_SETTLE) {
            return Some(Job::merge(metas.iter().copied(), 1));
        }
    }
    let mut days: BTreeMap<i64, Vec<&SegmentMeta>> = BTreeMap::new();
    for meta in raw() {
        days.entry(meta.span.0.div_euclid(DAY)).or_default().push(meta);
    }
    for (day, metas) in &days {
        let first = day.saturating_mul(DAY);
        let last = first.saturating_add(DAY - 1);
        let merged = metas.iter().all(|meta| meta.level > 0);
        let apart = metas.iter().any(|meta| meta.level < 2);
        if apart && merged && over(last) && settled(metas, DAY_SETTLE) {
            let rollups = live.segments.values().filter(|meta| {
                meta.resolution != Resolution::Raw && meta.span.0 >= first && meta.span.1 <= last
            });
            // Where raw samples have gone, of the day or by a rule of some metrics, the figures made of them could
            // not be made anew: they stay as they are, and what came late stays beside.
            let mut ages = config.retention_rules.iter().filter_map(|rule| rule.retention);
            let thinned = ages.any(|age| last < now.minus(age).millis())
                || metas.iter().all(|meta| meta.level < 2);
            if thinned && rollups.clone().next().is_some() {
                continue;
            }
            let job = Job::merge(metas.iter().copied(), 2);
            return Some(Job { rollups: ids(rollups), roll_up: true, ..job });
        }
    }
    None
}

fn ids<'a>(metas: impl Iterator<Item = &'a SegmentMeta>) -> Vec<String> {
    metas.map(|meta| meta.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_435_200_000; // 2026-11-23T12:00:00Z

    fn meta(created: i64, resolution: Resolution, level: u8, start: i64) -> SegmentMeta {
        let id = ulid::Ulid::from_parts(
            created as u64,
            (start as u128) << 8 | u128::from(resolution.number()) << 4 | u128::from(level),
        );
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

    fn planned(metas: &[SegmentMeta], now: i64) -> Option<(usize, usize, u8)> {
        let segments = metas.iter().map(|meta| (meta.id.clone(), meta.clone())).collect();
        let live = Live { segments, ..Live::default() };
        next(&live, &StoreConfig::default(), Timestamp(now), Timestamp(now))
            .map(|job| (job.inputs.len(), job.rollups.len(), job.level))
    }

    #[test]
    fn an_open_window_is_left_alone_until_it_has_many_fresh_segments() {
        let fresh = |n: i64| meta(NOON + n, Resolution::Raw, 0, NOON + n);
        let mut metas: Vec<SegmentMeta> = (0..7).map(fresh).collect();
        metas.push(meta(NOON, Resolution::Raw, 1, NOON + 50));
        assert_eq!(planned(&metas, NOON + 600_000), None);
        metas.push(fresh(7));
        assert_eq!(
            planned(&metas, NOON + 600_000),
            Some((8, 0, 1)),
            "what was merged is left alone"
        );
    }

    #[test]
    fn a_closed_window_converges_to_one_segment() {
        let closed = NOON + Window::LEN + 600_000 + WINDOW_SETTLE;
        let fresh = meta(NOON + 5, Resolution::Raw, 0, NOON);
        assert_eq!(planned(std::slice::from_ref(&fresh), closed - 1), None, "not over yet");
        assert_eq!(planned(std::slice::from_ref(&fresh), closed), Some((1, 0, 1)));
        let done = meta(NOON + 6, Resolution::Raw, 1, NOON);
        assert_eq!(planned(std::slice::from_ref(&done), closed), None);
        let with_late = [done, meta(closed, Resolution::Raw, 0, NOON + 9)];
        assert_eq!(planned(&with_late, closed + 1), None, "more late ones may follow at once");
        assert_eq!(planned(&with_late, closed + WINDOW_SETTLE), Some((2, 0, 1)));
        let ahead = meta(closed + DAY, Resolution::Raw, 0, NOON);
        assert_eq!(
            planned(&[ahead], closed),
            Some((1, 0, 1)),
            "written before the clock was put back"
        );
    }

    #[test]
    fn a_closed_day_converges_and_its_rollups_are_computed_anew() {
        let next_day = NOON + DAY;
        let windows: Vec<SegmentMeta> =
            (0..6).map(|n| meta(NOON + n, Resolution::Raw, 1, NOON + n * Window::LEN)).collect();
        assert_eq!(planned(&windows, NOON + DAY / 2), None, "the day is not over");
        assert_eq!(planned(&windows, next_day), Some((6, 0, 2)));
        let done = [
            meta(NOON, Resolution::Raw, 2, NOON),
            meta(NOON + 1, Resolution::Raw, 2, NOON),
            meta(NOON, Resolution::Hour, 2, NOON),
        ];
        assert_eq!(planned(&done, next_day), None, "a day may have several files");
        let mut late = done.to_vec();
        late.push(meta(next_day - DAY_SETTLE, Resolution::Raw, 0, NOON + 5));
        assert_eq!(planned(&late, next_day), Some((1, 0, 1)), "late samples first by window");
        late[3].level = 1;
        let mut alone = late[2..].to_vec();
        assert_eq!(planned(&alone, next_day), None, "its raw samples are gone, its figures stay");
        alone.remove(0);
        assert_eq!(planned(&alone, next_day), Some((1, 0, 2)));
        assert_eq!(planned(&late, next_day - 1), None, "more late ones may follow");
        assert_eq!(planned(&late, next_day), Some((3, 1, 2)));
    }
}
