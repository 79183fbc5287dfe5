//! From metric name and labels to a handle on the series and back, within limits.
//!
//! Invariant: two handles are equal exactly when their keys are. A series that nobody holds any more,
//! neither a target's layout nor a memtable, is forgotten at the next [`SeriesIndex::forget_unused`].

use crate::{StoreConfig, StoreError};
use model::SeriesKey;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A handle on one series. Cheap to clone; holding it keeps the series known.
#[derive(Clone, Debug)]
pub struct Series(Arc<Entry>);

#[derive(Debug)]
struct Entry {
    number: u64,
    id: u64,
    key: Arc<SeriesKey>,
    /// Time and bits of the newest sample since the series became active. Changed while the live samples are
    /// locked for writing and read while they are locked for reading, so the two belong together.
    newest: AtomicI64,
    last: AtomicU64,
}

impl Series {
    /// Metric name and labels.
    pub fn key(&self) -> &SeriesKey {
        &self.0.key
    }

    /// The same, to keep.
    pub fn shared_key(&self) -> Arc<SeriesKey> {
        Arc::clone(&self.0.key)
    }

    /// The id that SQL shows: a hash of the key, the same in every process.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// A number that is this series' alone for the life of the process.
    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }

    /// Time of the newest sample since the series became active; the smallest time when there is none.
    pub(crate) fn newest(&self) -> i64 {
        self.0.newest.load(Ordering::Relaxed)
    }

    /// Notes a sample. One from after `now` is of a clock that was ahead, and gives way to what comes at the right time.
    pub(crate) fn note(&self, time: i64, value: f64, now: i64) {
        let newest = self.newest();
        if time >= newest || newest > now {
            self.0.newest.store(time, Ordering::Relaxed);
            self.0.last.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// The newest sample since the series became active.
    pub(crate) fn last(&self) -> Option<(i64, f64)> {
        let time = self.newest();
        (time > i64::MIN).then(|| (time, f64::from_bits(self.0.last.load(Ordering::Relaxed))))
    }
}

impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl Eq for Series {}

impl Hash for Series {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.number.hash(state);
    }
}

/// A map by a series' number. Numbers are ours and in sequence, so spreading them is all the hash does.
pub(crate) type ByNumber<V> = HashMap<u64, V, BuildHasherDefault<Spread>>;

/// Multiplies by 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4).
#[derive(Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The id of a series: XXH3-64 over its exposition form.
pub fn series_id(key: &SeriesKey) -> u64 {
    twox_hash::XxHash3_64::oneshot(key.to_string().as_bytes())
}

/// How many series and label values an active metric has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cardinality {
    /// The metric.
    pub metric: Arc<str>,
    /// Its active series.
    pub series: usize,
    /// One of its labels.
    pub label: Arc<str>,
    /// The values that this label has among them.
    pub values: usize,
}

/// All series that are known now.
#[derive(Debug)]
pub(crate) struct SeriesIndex {
    limits: Limits,
    next: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Limits {
    series: usize,
    per_metric: usize,
    labels: usize,
    text: usize,
}

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<Arc<SeriesKey>, Series>,
    by_metric: HashMap<Box<str>, Vec<Series>>,
}

impl SeriesIndex {
    pub(crate) fn new(config: &StoreConfig) -> Self {
        let limits = Limits {
            series: config.max_series,
            per_metric: config.max_series_per_metric,
            labels: config.max_labels,
            text: config.max_text_size.as_usize(),
        };
        Self { limits, next: AtomicU64::new(0), known: Mutex::default() }
    }

    /// The handle of `key`; a new series must be within the limits.
    pub(crate) fn admit(&self, key: &SeriesKey) -> Result<Series, StoreError> {
        let mut known = self.known.lock();
        if let Some(series) = known.by_key.get(key) {
            return Ok(series.clone());
        }
        self.limits.check(key, &known)?;
        Ok(self.insert(&mut known, key.clone()))
    }

    /// The handle of a series that was admitted before, by an earlier process.
    pub(crate) fn restore(&self, key: SeriesKey) -> Series {
        let mut known = self.known.lock();
        match known.by_key.get(&key) {
            Some(series) => series.clone(),
            None => self.insert(&mut known, key),
        }
    }

    fn insert(&self, known: &mut Known, key: SeriesKey) -> Series {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = Arc::new(key);
        let id = series_id(&key);
        let series = Series(Arc::new(Entry {
            number,
            id,
            key: Arc::clone(&key),
            newest: AtomicI64::new(i64::MIN),
            last: AtomicU64::new(0),
        }));
        known.by_metric.entry(key.metric.clone()).or_default().push(series.clone());
        known.by_key.insert(key, series.clone());
        series
    }

    /// Forgets every series that nobody else holds.
    pub(crate) fn forget_unused(&self) {
        let mut known = self.known.lock();
        let Known { by_key, by_metric } = &mut *known;
        by_metric.retain(|_, all| {
            all.retain(|series| {
                let used = Arc::strong_count(&series.0) > 2; // the two that are here
                if !used {
                    by_key.remove(series.key());
                }
                used
            });
            !all.is_empty()
        });
    }

    /// The active series of `metric`.
    pub(crate) fn of_metric(&self, metric: &str) -> Vec<Series> {
        self.known.lock().by_metric.get(metric).cloned().unwrap_or_default()
    }

    /// The metrics that have active series.
    pub(crate) fn metrics(&self) -> Vec<Box<str>> {
        self.known.lock().by_metric.keys().cloned().collect()
    }

    /// Every label of every active metric with the number of its values. O(labels of all series).
    pub(crate) fn cardinality(&self) -> Vec<Cardinality> {
        let mut found = Vec::new();
        for metric in self.metrics() {
            let all = self.of_metric(&metric);
            let mut values: HashMap<&str, HashSet<&str>> = HashMap::new();
            for (name, value) in all.iter().flat_map(|series| series.key().labels.iter()) {
                values.entry(name).or_default().insert(value);
            }
            let metric: Arc<str> = Arc::from(metric);
            found.extend(values.into_iter().map(|(label, values)| Cardinality {
                metric: Arc::clone(&metric),
                series: all.len(),
                label: Arc::from(label),
                values: values.len(),
            }));
        }
        found.sort_by(|a, b| b.values.cmp(&a.values).then_with(|| a.metric.cmp(&b.metric)));
        found
    }

    pub(crate) fn len(&self) -> usize {
        self.known.lock().by_key.len()
    }
}

impl Limits {
    fn check(&self, key: &SeriesKey, known: &Known) -> Result<(), StoreError> {
        let refuse = |what: String, limit: usize| Err(StoreError::Limit { what, limit });
        let metric = &key.metric;
        let too_long = |text: &str| text.len() > self.text;
        if too_long(metric) {
            return refuse("the length of a metric name".to_owned(), self.text);
        }
        if let Some((name, _)) = key.labels.iter().find(|(n, v)| too_long(n) || too_long(v)) {
            let shown: String = name.chars().take(80).collect();
            return refuse(format!("the length of label {shown:?} of {metric}"), self.text);
        }
        if key.labels.len() > self.labels {
            return refuse(format!("the number of labels of {metric}"), self.labels);
        }
        if known.by_metric.get(metric).is_some_and(|all| all.len() >= self.per_metric) {
            let what = format!(
                "the number of series of {metric} (the table cardinality names its labels)"
            );
            return refuse(what, self.per_metric);
        }
        if known.by_key.len() >= self.series {
            return refuse("the number of series".to_owned(), self.series);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    fn key(metric: &str, value: &str) -> SeriesKey {
        SeriesKey::new(metric, Labels::from_pairs([("x", value)]))
    }

    #[test]
    fn a_series_over_a_limit_is_refused_and_known_ones_stay() {
        let config = StoreConfig { max_series: 3, max_series_per_metric: 2, ..Default::default() };
        let index = SeriesIndex::new(&config);
        let first = index.admit(&key("a", "1")).unwrap();
        let _second = index.admit(&key("a", "2")).unwrap();
        let refused = index.admit(&key("a", "3")).unwrap_err().to_string();
        assert_eq!(
            refused,
            "series refused: the number of series of a (the table cardinality names its labels) is over the limit of 2"
        );
        let _third = index.admit(&key("b", "1")).unwrap();
        assert!(index.admit(&key("c", "1")).is_err());
        assert_eq!(index.admit(&key("a", "1")).unwrap(), first);
        let long = index.admit(&key("a", &"v".repeat(5000))).unwrap_err().to_string();
        assert!(long.contains("label \"x\" of a"), "{long}");
    }

    #[test]
    fn a_series_that_nobody_holds_makes_room() {
        let config = StoreConfig { max_series: 1, ..Default::default() };
        let index = SeriesIndex::new(&config);
        let held = index.admit(&key("a", "1")).unwrap();
        index.forget_unused();
        assert!(index.admit(&key("a", "2")).is_err());
        drop(held);
        index.forget_unused();
        assert!(index.admit(&key("a", "2")).is_ok());
    }
}
