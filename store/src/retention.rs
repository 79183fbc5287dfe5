//! What to delete: segments past their age, then the oldest while all are too large.

use crate::StoreConfig;
use crate::manifest::Live;
use crate::segment::{Resolution, SegmentMeta};
use model::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How far the wall clock may run ahead of the monotonic one between two looks.
const LEAP: Duration = Duration::from_secs(60);
/// A clock that has leapt ahead is believed after this long.
const BELIEVE: Duration = Duration::from_secs(3600);

/// The time that retention goes by: the wall clock, but not at once when it leaps ahead. A clock that is
/// wrong by a month for some minutes must not delete a month of samples.
#[derive(Debug)]
pub(crate) struct SteadyTime {
    wall: Timestamp,
    monotonic: Instant,
    leapt: Option<Instant>,
}

impl SteadyTime {
    pub(crate) fn new(wall: Timestamp, monotonic: Instant) -> Self {
        Self { wall, monotonic, leapt: None }
    }

    /// The time to go by when the two clocks say this.
    pub(crate) fn at(&mut self, wall: Timestamp, monotonic: Instant) -> Timestamp {
        let expected = self.wall.plus(monotonic.saturating_duration_since(self.monotonic));
        if wall.since(expected) > LEAP {
            let leapt = *self.leapt.get_or_insert(monotonic);
            if monotonic.saturating_duration_since(leapt) < BELIEVE {
                return expected;
            }
        }
        *self = Self::new(wall, monotonic);
        wall
    }
}

/// The ids of the segments that should go; those of one day and resolution go together. When all are too large,
/// raw samples go before their rollups. For `missing` bytes of room only raw samples go, and never the newest day.
pub(crate) fn expired(
    live: &Live,
    config: &StoreConfig,
    now: Timestamp,
    missing: u64,
) -> Vec<String> {
    let horizon = |resolution| now.minus(config.age(resolution)).millis();
    let mut days: BTreeMap<(Resolution, i64), Vec<&SegmentMeta>> = BTreeMap::new();
    for meta in live.segments.values() {
        days.entry((meta.resolution, Timestamp(meta.span.0).day())).or_default().push(meta);
    }
    let raw = days.keys().filter(|(resolution, _)| *resolution == Resolution::Raw);
    let newest = raw.map(|(_, day)| *day).max();
    let mut bytes: u64 = live.segments.values().map(SegmentMeta::bytes).sum();
    let roomy = bytes.saturating_sub(missing);
    let mut gone = Vec::new();
    for ((resolution, day), metas) in days {
        let past = metas.iter().all(|meta| meta.span.1 < horizon(resolution));
        let makes_room = resolution == Resolution::Raw && newest != Some(day) && bytes > roomy;
        if past || makes_room || bytes > config.retention_size.get() {
            bytes -= metas.iter().map(|meta| meta.bytes()).sum::<u64>();
            gone.extend(metas.iter().map(|meta| meta.id.clone()));
        }
    }
    gone
}

/// The metrics of a segment that a rule lets go although the segment stays.
pub(crate) fn outlived(meta: &SegmentMeta, config: &StoreConfig, now: Timestamp) -> Vec<Arc<str>> {
    let past = |metric: &str| {
        let rule = config.retention_rules.iter().find(|rule| rule.holds_for(metric));
        let age = rule.and_then(|rule| rule.age(meta.resolution));
        age.is_some_and(|age| meta.span.1 < now.minus(age).millis())
    };
    if config.retention_rules.is_empty() {
        return Vec::new();
    }
    let past = meta.metrics.iter().filter(|metric| past(&metric.name));
    past.map(|metric| Arc::clone(&metric.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Bytes;

    const DAY: i64 = 86_400_000;

    fn live() -> Live {
        let meta = |id: &str, day: i64| SegmentMeta {
            id: id.to_owned(),
            folder: id.into(),
            resolution: if id == "a5" { Resolution::FiveMinutes } else { Resolution::Raw },
            level: 1,
            span: (day * DAY, day * DAY + 1_000),
            rows: 1,
            series: 1,
            sequences: (1, 1),
            files: [(60, 0), (40, 0)],
            metrics: [].into(),
        };
        let metas = [meta("c", 3), meta("a", 1), meta("b", 2), meta("a5", 1)];
        Live { segments: metas.map(|meta| (meta.id.clone(), meta)).into(), ..Live::default() }
    }

    fn gone(days: u64, bytes: u64, missing: u64) -> String {
        let retention = Duration::from_secs(days * 86_400);
        let config =
            StoreConfig { retention, retention_size: Bytes(bytes), ..StoreConfig::default() };
        expired(&live(), &config, Timestamp(4 * DAY + 1), missing).join(" ")
    }

    #[test]
    fn old_days_go_and_then_the_oldest_until_the_rest_fits() {
        assert_eq!(gone(100, 1000, 0), "");
        assert_eq!(gone(2, 1000, 0), "a");
        assert_eq!(gone(100, 350, 0), "a");
        assert_eq!(gone(2, 250, 0), "a b");
        assert_eq!(gone(0, 1000, 0), "a b c", "rollups have an age of their own");
        assert_eq!(gone(100, 50, 0), "a b c a5", "rollups go last");
    }

    #[test]
    fn room_is_made_of_the_oldest_raw_days_but_never_of_the_newest() {
        assert_eq!((gone(100, 1000, 1).as_str(), gone(100, 1000, 150).as_str()), ("a", "a b"));
        assert_eq!(gone(100, 1000, 1_000_000), "a b");
    }

    #[test]
    fn a_clock_that_leaps_ahead_is_believed_only_when_it_stays_there() {
        let start = Instant::now();
        let second = |n: u64| start + Duration::from_secs(n);
        let wall = |n: i64| Timestamp(1_000_000 + n * 1000);
        let mut steady = SteadyTime::new(wall(0), start);
        assert_eq!(steady.at(wall(10), second(10)), wall(10));
        let month = 30 * 86_400;
        assert_eq!(steady.at(wall(11 + month), second(11)), wall(11), "not at once");
        assert_eq!(steady.at(wall(600 + month), second(600)), wall(600));
        assert_eq!(steady.at(wall(700), second(700)), wall(700), "it was put right");
        assert_eq!(steady.at(wall(500), second(701)), wall(500), "back is believed at once");
        assert_eq!(steady.at(wall(502 + month), second(702)), wall(501));
        let late = second(702) + BELIEVE;
        assert_eq!(steady.at(wall(4102 + month), late), wall(4102 + month), "it stays there");
    }
}
