//! What to delete: segments past their age, then the oldest while all are too large.

use crate::StoreConfig;
use crate::manifest::Live;
use crate::segment::{Resolution, SegmentMeta};
use model::Timestamp;

/// The ids of the segments that should go. When space is short, raw samples go before their rollups.
pub(crate) fn expired(live: &Live, config: &StoreConfig, now: Timestamp) -> Vec<String> {
    let horizon = |resolution| {
        let age = match resolution {
            Resolution::Raw => config.retention,
            Resolution::FiveMinutes => config.retention_5m,
            Resolution::Hour => config.retention_1h,
        };
        now.minus(age).millis()
    };
    let mut by_age: Vec<&SegmentMeta> = live.segments.values().collect();
    by_age.sort_by_key(|meta| (meta.resolution, meta.span.1));
    let mut bytes: u64 = by_age.iter().map(|meta| meta.bytes()).sum();
    let mut gone = Vec::new();
    for meta in by_age {
        if meta.span.1 < horizon(meta.resolution) || bytes > config.retention_size.get() {
            bytes -= meta.bytes();
            gone.push(meta.id.clone());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Bytes;
    use std::time::Duration;

    fn live() -> Live {
        let meta = |id: &str, end: i64| SegmentMeta {
            id: id.to_owned(),
            folder: id.into(),
            resolution: if id == "a5" { Resolution::FiveMinutes } else { Resolution::Raw },
            level: 1,
            span: (end - 10, end),
            rows: 1,
            series: 1,
            sequences: (1, 1),
            files: [(60, 0), (40, 0)],
            metrics: [].into(),
        };
        let metas = [meta("c", 3_000), meta("a", 1_000), meta("b", 2_000), meta("a5", 1_000)];
        Live { segments: metas.map(|meta| (meta.id.clone(), meta)).into(), flushed: 0 }
    }

    fn gone(seconds: u64, bytes: u64) -> String {
        let retention = Duration::from_secs(seconds);
        let config =
            StoreConfig { retention, retention_size: Bytes(bytes), ..StoreConfig::default() };
        expired(&live(), &config, Timestamp(4_000)).join(" ")
    }

    #[test]
    fn old_segments_go_and_then_the_oldest_until_the_rest_fits() {
        assert_eq!(gone(100, 1000), "");
        assert_eq!(gone(2, 1000), "a");
        assert_eq!(gone(100, 350), "a");
        assert_eq!(gone(2, 250), "a b");
        assert_eq!(gone(0, 1000), "a b c", "rollups have an age of their own");
        assert_eq!(gone(100, 50), "a b c a5", "rollups go last");
    }
}
