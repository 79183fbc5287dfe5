//! Recent samples in memory, by metric and series, until they are in a segment.
//!
//! Each series has an open head of at most [`HEAD`] points, a block that they are compressed into, and
//! blocks of [`BLOCK`] points that never change: a snapshot shares those and copies the rest.

use crate::batch::Batch;
use crate::block::Block;
use crate::points::{Points, Run};
use crate::segment::Window;
use crate::series::{ByNumber, Series};
use model::SeriesKey;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Points in an open head before they are compressed.
const HEAD: usize = 8;
/// Points in a block before it is sealed.
const BLOCK: usize = 128;

/// Rough bytes that one series takes besides its compressed points, and a sealed block besides its.
const SERIES_BYTES: usize = 500;
const BLOCK_BYTES: usize = 96;

/// Samples by series.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    /// Boxed, so that the table itself stays small when it grows.
    held: ByNumber<Box<Held>>,
    /// The numbers of each metric's series.
    metrics: HashMap<Box<str>, Vec<u64>>,
    bytes: usize,
    samples: u64,
    first_sequence: u64,
    last_sequence: u64,
    /// Windows with a sample in them.
    windows: BTreeSet<Window>,
    window: Option<Window>,
}

#[derive(Debug)]
struct Held {
    series: Series,
    sealed: Vec<Arc<Block>>,
    open: Block,
    head: Points,
    sorted: bool,
    /// The decimal scale of the last points compressed.
    scale: i8,
}

/// The points of one series, as they were at the instant of a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    pub(crate) series: Series,
    pub(crate) runs: Vec<Run>,
}

impl Runs {
    /// First and last time over all runs.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        let spans = self.runs.iter().filter_map(Run::span);
        spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// The points with `from <= time <= to`, in order.
    pub(crate) fn merged(&self, from: i64, to: i64) -> Points {
        let mut points = Points::merge(self.runs.iter().filter(|run| run.touches(from, to)));
        points.clip(from, to);
        points
    }
}

impl Memtable {
    /// Takes in `batch`, logged under `sequence`, at `now`.
    pub(crate) fn insert(&mut self, sequence: u64, batch: &Batch, now: i64) {
        for (series, time, value) in batch.rows() {
            let time = time.millis();
            let Self { held, metrics, bytes, .. } = self;
            let held = held.entry(series.number()).or_insert_with(|| {
                let metric = &series.key().metric;
                match metrics.get_mut(metric) {
                    Some(numbers) => numbers.push(series.number()),
                    None => drop(metrics.insert(metric.clone(), vec![series.number()])),
                }
                Box::new(Held::new(series.clone()))
            });
            *bytes += held.push(time, value);
            series.note(time, value, now);
            self.samples += 1;
            if self.window.is_none_or(|window| !window.holds(time)) {
                let window = Window::of(time);
                self.windows.insert(window);
                self.window = Some(window);
            }
        }
        if self.first_sequence == 0 {
            self.first_sequence = sequence;
        }
        self.last_sequence = sequence;
    }

    fn of_metric(&self, metric: &str) -> impl Iterator<Item = &Held> {
        let numbers = self.metrics.get(metric).into_iter().flatten();
        numbers.filter_map(|number| self.held.get(number).map(Box::as_ref))
    }

    /// The runs of the series of `metric` that `keep` wants; the open heads are copied.
    pub(crate) fn runs(&self, metric: &str, keep: &dyn Fn(&SeriesKey) -> bool) -> Vec<Runs> {
        let kept = self.of_metric(metric).filter(|held| keep(held.series.key()));
        kept.map(Held::runs).collect()
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
        for held in self.of_metric(metric) {
            held.series.key().labels.iter().for_each(|(name, _)| visit(name));
        }
    }

    /// Every series with its points of `from..=to`, in the order of (metric, labels).
    pub(crate) fn sorted(&self, from: i64, to: i64) -> impl Iterator<Item = (Series, Points)> + '_ {
        let ordered: BTreeMap<_, &Held> =
            self.held.values().map(|held| (held.series.key(), held.as_ref())).collect();
        ordered.into_values().map(move |held| (held.series.clone(), held.runs().merged(from, to)))
    }

    /// The windows that have a sample, ascending.
    pub(crate) fn windows(&self) -> impl Iterator<Item = Window> + '_ {
        self.windows.iter().copied()
    }

    /// Rough bytes that samples take; what the memory budget counts.
    pub(crate) fn sample_bytes(&self) -> usize {
        self.bytes
    }

    /// Rough bytes that series take besides; bounded by the limits on series.
    pub(crate) fn series_bytes(&self) -> usize {
        self.held.len() * SERIES_BYTES
    }

    /// Whether there are enough samples of each series for a segment to be worth its index.
    pub(crate) fn is_dense(&self) -> bool {
        self.samples >= BLOCK as u64 * self.held.len() as u64
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
        let (sealed, open, head) = (Vec::new(), Block::default(), Points::default());
        Self { series, sealed, open, head, sorted: true, scale: 0 }
    }

    /// Takes a point in and returns the bytes that this takes.
    fn push(&mut self, time: i64, value: f64) -> usize {
        if self.head.times.last() == Some(&time)
            && let Some(last) = self.head.values.last_mut()
        {
            *last = value; // same series and time: the later one wins
            return 0;
        }
        self.sorted &= self.head.push(time, value);
        if self.head.len() < HEAD {
            return 0;
        }
        if !self.sorted {
            self.head.settle();
        }
        let mut bytes = 0;
        let follows = self.head.span().is_none_or(|(first, _)| self.open.ends_before(first));
        if !follows || self.open.len() >= BLOCK {
            let mut block = std::mem::take(&mut self.open);
            block.shrink();
            self.sealed.push(Arc::new(block));
            bytes += BLOCK_BYTES;
        }
        let before = self.open.bytes();
        self.open.add(&self.head, &mut self.scale);
        self.head.clear();
        self.sorted = true;
        bytes + self.open.bytes() - before
    }

    fn runs(&self) -> Runs {
        let mut runs: Vec<Run> =
            self.sealed.iter().map(|block| Run::Sealed(Arc::clone(block))).collect();
        if self.open.span().is_some() {
            runs.push(Run::Sealed(Arc::new(self.open.clone())));
        }
        if !self.head.is_empty() {
            let mut head = self.head.clone();
            if !self.sorted {
                head.settle();
            }
            runs.push(Run::Open(Arc::new(head)));
        }
        Runs { series: self.series.clone(), runs }
    }
}
