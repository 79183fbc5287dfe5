//! What happened to a target: restarts, deploys, new configuration, another traffic; so that a finding can name what
//! changed when it began.

use crate::detect::text::percent;
use model::SeriesKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Changes remembered.
const MOST: usize = 32;
/// Builds remembered; a target has few at a time.
const MOST_BUILDS: usize = 64;
/// A change so near to the beginning of a finding, in milliseconds, is named with it.
const NEAR: i64 = 3_600_000;
/// Traffic is kept as means of this time, in milliseconds …
const BUCKET: i64 = 900_000;
/// … for two days.
const BUCKETS: usize = 192;
/// Another traffic is one that is this much more or less, hour against hour.
const SHIFT: f64 = 1.25;

/// What happened to one target, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changes {
    seen: VecDeque<(i64, String)>,
    /// By series: of several processes each has its own.
    starts: BTreeMap<u64, f64>,
    configured: BTreeMap<u64, f64>,
    builds: BTreeSet<String>,
    /// Number of the bucket after the last of `traffic`.
    next: i64,
    traffic: VecDeque<f32>,
    sum: f64,
    count: u32,
}

impl Changes {
    /// Takes the start time of the process. Returns whether it is another process than before.
    pub(crate) fn started(&mut self, time: i64, series: u64, start: f64) -> bool {
        let known = self.starts.get(&series);
        if !start.is_finite() || (known.is_none() && self.starts.len() >= MOST_BUILDS) {
            return false;
        }
        // Start times that are computed from an age waver by a second.
        let other = known.is_some_and(|before| (start - before).abs() > 2.0);
        if other || known.is_none() {
            self.starts.insert(series, start);
        }
        if other {
            self.note(time, "the process was restarted".to_owned());
        }
        other
    }

    /// Takes the time at which the configuration was taken last.
    pub(crate) fn configured(&mut self, time: i64, series: u64, at: f64) {
        let known = self.configured.contains_key(&series);
        if !at.is_finite() || (!known && self.configured.len() >= MOST_BUILDS) {
            return;
        }
        if self.configured.insert(series, at).is_some_and(|before| at > before) {
            self.note(time, "its configuration was loaded anew".to_owned());
        }
    }

    /// Takes what the target says of its build.
    pub(crate) fn build(&mut self, time: i64, key: &SeriesKey) {
        let own = key.labels.iter().filter(|(name, _)| !matches!(*name, "job" | "instance"));
        let pairs: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
        let build = pairs.join(", ");
        let first = self.builds.is_empty();
        if self.builds.contains(&build) {
            return;
        }
        if self.builds.len() >= MOST_BUILDS {
            self.builds.clear();
        }
        if !first {
            self.note(time, format!("another build was deployed: {build}"));
        }
        self.builds.insert(build);
    }

    /// Takes the load of a scrape.
    pub(crate) fn traffic(&mut self, time: i64, load: f64) {
        let bucket = time.div_euclid(BUCKET);
        if bucket >= self.next {
            if self.next > 0 {
                // Of no load known, 0 / 0 is NaN, as it should be.
                self.traffic.push_back((self.sum / f64::from(self.count)) as f32);
                let gap = (bucket - self.next).clamp(0, BUCKETS as i64);
                self.traffic.extend((0..gap).map(|_| f32::NAN));
            }
            while self.traffic.len() > BUCKETS {
                self.traffic.pop_front();
            }
            (self.sum, self.count, self.next) = (0.0, 0, bucket + 1);
        }
        if load.is_finite() {
            self.sum += load;
            self.count += 1;
        }
    }

    fn note(&mut self, time: i64, what: String) {
        // Told from outside and from inside it is one.
        if self.seen.iter().any(|(at, told)| (time - at).abs() < 60_000 && *told == what) {
            return;
        }
        if self.seen.len() >= MOST {
            self.seen.pop_front();
        }
        self.seen.push_back((time, what));
    }

    /// What changed about `since`.
    pub(crate) fn about(&self, since: i64) -> Vec<(i64, String)> {
        let near = self.seen.iter().filter(|(time, _)| (time - since).abs() <= NEAR);
        near.cloned().chain(self.shift(since).map(|what| (since, what))).collect()
    }

    /// The traffic of the hour after `since` against the hour before.
    fn shift(&self, since: i64) -> Option<String> {
        let first = self.next - 1 - self.traffic.len() as i64;
        let at = since.div_euclid(BUCKET) - first;
        let mean = |from: i64, to: i64| {
            let known = (from.max(0)..to.max(0))
                .filter_map(|at| self.traffic.get(at as usize))
                .filter(|load| load.is_finite());
            let (sum, count) =
                known.fold((0.0, 0), |(sum, count), load| (sum + f64::from(*load), count + 1));
            (count > 1).then(|| sum / f64::from(count))
        };
        let (before, after) = (mean(at - 4, at)?, mean(at, at + 4)?);
        let ratio = after / before;
        let shifted = before > 0.0 && !(1.0 / SHIFT..=SHIFT).contains(&ratio);
        let word = if ratio > 1.0 { "rose" } else { "fell" };
        shifted.then(|| format!("the traffic {word} by {}", percent((ratio - 1.0).abs())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    #[test]
    fn restarts_deploys_and_configuration_are_named_near_their_time() {
        let mut changes = Changes::default();
        let build = |version: &str| {
            SeriesKey::new(
                "app_build_info",
                Labels::from_pairs([("version", version), ("job", "a")]),
            )
        };
        changes.build(0, &build("1"));
        assert!(!changes.started(0, 1, 100.0));
        assert!(!changes.started(1_000, 1, 100.4));
        assert!(changes.started(2_000, 1, 200.0));
        changes.build(3_000, &build("2"));
        changes.configured(3_000, 9, 1.0);
        changes.configured(9 * NEAR, 9, 2.0);
        let about: Vec<String> = changes.about(1_000).into_iter().map(|(_, what)| what).collect();
        assert_eq!(about, ["the process was restarted", "another build was deployed: version=2"]);
        assert_eq!(changes.about(9 * NEAR).len(), 1);
    }

    #[test]
    fn a_step_of_the_traffic_is_named_and_its_noise_is_not() {
        let mut changes = Changes::default();
        for minute in 0..600_i64 {
            let load = if minute < 300 { 100.0 } else { 180.0 } + (minute % 7) as f64;
            changes.traffic(minute * 60_000, load);
        }
        let at = |minute: i64| changes.about(minute * 60_000);
        assert_eq!(at(300).len(), 1, "{:?}", at(300));
        assert!(at(300)[0].1.contains("rose by 7"), "{:?}", at(300));
        assert_eq!(at(120), []);
    }
}
