//! From samples to figures of a step: for each series and bucket the count, the first and last value, the
//! least and greatest, the sum, and how much a counter rose.
//!
//! Each figure is a series of its own with the label `stat`, its time the start of the bucket, so that
//! rollups have the format of samples. Values that are no number, staleness marks included, do not count.

use crate::points::Points;
use model::{Labels, SeriesKey};

/// The label that names the figure.
const STAT: &str = "stat";

/// The figures of `points` in buckets of `step` milliseconds. O(n).
pub(super) fn rollup(points: &Points, step: i64) -> [(&'static str, Points); 7] {
    let mut figures = ["count", "first", "increase", "last", "max", "min", "sum"]
        .map(|stat| (stat, Points::default()));
    let mut open: Option<(i64, Bucket)> = None;
    for (time, value) in points.times.iter().zip(&points.values) {
        if value.is_nan() {
            continue;
        }
        let start = time.div_euclid(step).saturating_mul(step);
        match &mut open {
            Some((at, bucket)) if *at == start => bucket.add(*value),
            _ => {
                let before = open.as_ref().map(|(_, bucket)| bucket.last);
                close(open.replace((start, Bucket::new(*value, before))), &mut figures);
            }
        }
    }
    close(open, &mut figures);
    figures
}

fn close(bucket: Option<(i64, Bucket)>, figures: &mut [(&'static str, Points); 7]) {
    let Some((start, bucket)) = bucket else { return };
    for ((_, points), value) in figures.iter_mut().zip(bucket.figures()) {
        points.push(start, value);
    }
}

/// The series of one figure. A label of the same name goes out of the way, as it does in a scrape.
pub(super) fn key(key: &SeriesKey, stat: &str) -> SeriesKey {
    let own = key
        .labels
        .iter()
        .map(|(name, value)| (if name == STAT { "exported_stat" } else { name }, value));
    SeriesKey::new(key.metric.clone(), Labels::from_pairs(own.chain([(STAT, stat)])))
}

struct Bucket {
    count: f64,
    first: f64,
    increase: f64,
    last: f64,
    max: f64,
    min: f64,
    sum: f64,
}

impl Bucket {
    /// `before` is the last value of the bucket before: what a counter rose since then is this one's.
    fn new(value: f64, before: Option<f64>) -> Self {
        let [first, last, max, min, sum] = [value; 5];
        let increase = before.map_or(0.0, |before| rise(before, value));
        Self { count: 1.0, first, increase, last, max, min, sum }
    }

    fn add(&mut self, value: f64) {
        self.increase += rise(self.last, value);
        self.count += 1.0;
        self.last = value;
        self.max = self.max.max(value);
        self.min = self.min.min(value);
        self.sum += value;
    }

    fn figures(&self) -> [f64; 7] {
        [self.count, self.first, self.increase, self.last, self.max, self.min, self.sum]
    }
}

/// A counter that fell was reset, and has risen from zero since.
fn rise(before: f64, value: f64) -> f64 {
    match value.partial_cmp(&before) {
        Some(std::cmp::Ordering::Greater) => value - before,
        Some(std::cmp::Ordering::Equal) => 0.0, // infinity less itself is no number
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_computed_by_hand() {
        let times = vec![-1, 0, 10, 99, 100, 250];
        let values = vec![7.0, 3.0, 5.0, f64::NAN, 2.0, 4.0];
        let figures = rollup(&Points { times, values }, 100);
        let of = |stat: &str| {
            let (_, points) = figures.iter().find(|(name, _)| *name == stat).unwrap();
            assert_eq!(points.times, [-100, 0, 100, 200]);
            points.values.clone()
        };
        assert_eq!(of("count"), [1.0, 2.0, 1.0, 1.0]);
        assert_eq!(of("first"), [7.0, 3.0, 2.0, 4.0]);
        assert_eq!(of("last"), [7.0, 5.0, 2.0, 4.0]);
        assert_eq!(of("sum"), [7.0, 8.0, 2.0, 4.0]);
        assert_eq!(of("max"), [7.0, 5.0, 2.0, 4.0]);
        assert_eq!(of("min"), [7.0, 3.0, 2.0, 4.0]);
        assert_eq!(
            of("increase"),
            [0.0, 5.0, 2.0, 2.0],
            "steps between buckets are of the later one"
        );
        let reset = rollup(&Points { times: vec![0, 1, 2], values: vec![5.0, 9.0, 3.0] }, 100);
        assert_eq!(reset[2].1.values, [7.0], "4 before the reset, 3 after");
    }

    #[test]
    fn a_label_named_stat_is_kept_under_another_name() {
        let own = SeriesKey::new("m", Labels::from_pairs([("stat", "x"), ("a", "b")]));
        assert_eq!(key(&own, "max").to_string(), r#"m{a="b",exported_stat="x",stat="max"}"#);
    }
}
