//! Recent samples in memory, by metric and series, until they are in a segment.
//!
//! Each series has an open head of at most [`HEAD`] points and sealed blocks that never change, so that a
//! snapshot shares the blocks and copies only the heads.

use crate::batch::Batch;
use crate::points::Points;
use crate::series::Series;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Points in an open head before it is sealed.
pub(crate) const HEAD: usize = 120;

/// Rough bytes that one series takes besides its points.
const SERIES_BYTES: usize = 400;

/// Samples by metric and series.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    metrics: HashMap<Box<str>, HashMap<u64, Held>>,
    bytes: usize,
    samples: u64,
    first_sequence: u64,
    last_sequence: u64,
}

#[derive(Debug)]
struct Held {
    series: Series,
    sealed: Vec<Arc<Points>>,
    head: Points,
    sorted: bool,
}

/// The points of one series, as they were at the instant of a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    pub(crate) series: Series,
    pub(crate) runs: Vec<Arc<Points>>,
}

impl Runs {
    /// First and last time over all runs.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        let spans = self.runs.iter().filter_map(|run| run.span());
        spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// All points in order.
    pub(crate) fn merged(&self) -> Points {
        Points::merge(self.runs.iter().map(Arc::as_ref))
    }
}

impl Memtable {
    /// Takes in `batch`, logged under `sequence`.
    pub(crate) fn insert(&mut self, sequence: u64, batch: &Batch) {
        for (series, time, value) in batch.rows() {
            let metric = match self.metrics.get_mut(&series.key().metric) {
                Some(metric) => metric,
                None => self.metrics.entry(series.key().metric.clone()).or_default(),
            };
            let held = metric.entry(series.number()).or_insert_with(|| {
                self.bytes += SERIES_BYTES + series.key().text_len();
                Held::new(series.clone())
            });
            self.bytes += held.push(time.millis(), value);
            self.samples += 1;
        }
        if self.first_sequence == 0 {
            self.first_sequence = sequence;
        }
        self.last_sequence = sequence;
    }

    /// The runs of every series of `metric`; the open heads are copied.
    pub(crate) fn runs(&self, metric: &str) -> Vec<Runs> {
        self.metrics
            .get(metric)
            .map(|held| held.values().map(Held::runs).collect())
            .unwrap_or_default()
    }

    /// The metrics held.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = &str> {
        self.metrics.keys().map(AsRef::as_ref)
    }

    pub(crate) fn has_metric(&self, metric: &str) -> bool {
        self.metrics.contains_key(metric)
    }

    /// Hands over every label name of every series of `metric`.
    pub(crate) fn each_label(&self, metric: &str, mut visit: impl FnMut(&str)) {
        for held in self.metrics.get(metric).into_iter().flat_map(HashMap::values) {
            held.series.key().labels.iter().for_each(|(name, _)| visit(name));
        }
    }

    /// Every series with all its points, in the order of (metric, labels).
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (Series, Points)> + '_ {
        let ordered: BTreeMap<_, &Held> = self
            .metrics
            .values()
            .flat_map(HashMap::values)
            .map(|held| (held.series.key(), held))
            .collect();
        ordered.into_values().map(|held| (held.series.clone(), held.runs().merged()))
    }

    /// Rough bytes taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Samples taken in, repeated times included.
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// The sequences of the first and the last batch.
    pub(crate) fn sequences(&self) -> (u64, u64) {
        (self.first_sequence, self.last_sequence)
    }
}

impl Held {
    fn new(series: Series) -> Self {
        Self { series, sealed: Vec::new(), head: Points::default(), sorted: true }
    }

    /// Takes a point in and returns the bytes that it added.
    fn push(&mut self, time: i64, value: f64) -> usize {
        if self.head.times.last() == Some(&time)
            && let Some(last) = self.head.values.last_mut()
        {
            *last = value; // same series and time: the later one wins
            return 0;
        }
        self.sorted &= self.head.push(time, value);
        if self.head.len() == HEAD {
            let head = self.settled_head();
            self.sealed.push(Arc::new(head));
            self.head = Points::default();
            self.sorted = true;
        }
        16
    }

    fn settled_head(&self) -> Points {
        let mut head = self.head.clone();
        if !self.sorted {
            head.settle();
        }
        head
    }

    fn runs(&self) -> Runs {
        let mut runs = self.sealed.clone();
        if !self.head.is_empty() {
            runs.push(Arc::new(self.settled_head()));
        }
        Runs { series: self.series.clone(), runs }
    }
}
