//! The metric families of a process. Label sets are bounded: what comes over the bound is counted in
//! one series whose labels all read `overflow`.

use crate::histogram::{Histogram, LATENCY_SECONDS, LONG_SECONDS};
use model::exposition::{Dialect, encode};
use model::{Labels, MetricKind};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only rises.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that rises and falls.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `step`, which may be negative.
    pub fn add(&self, step: f64) {
        let add = |bits| Some((f64::from_bits(bits) + step).to_bits());
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// The value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// The series of one family, by the values of its labels.
#[derive(Clone, Debug)]
pub struct Vector<const N: usize, M>(Arc<VectorInner<N, M>>);

#[derive(Debug)]
struct VectorInner<const N: usize, M> {
    names: [&'static str; N],
    limit: usize,
    fresh: fn() -> M,
    series: RwLock<BTreeMap<[Box<str>; N], M>>,
}

/// Counters by label values.
pub type CounterVec<const N: usize> = Vector<N, Counter>;
/// Histograms by label values.
pub type HistogramVec<const N: usize> = Vector<N, Histogram>;

impl<const N: usize, M: Clone> Vector<N, M> {
    fn new(names: [&'static str; N], limit: usize, fresh: fn() -> M) -> Self {
        Self(Arc::new(VectorInner { names, limit, fresh, series: RwLock::default() }))
    }

    /// The series with these label values, or the overflow series when there are too many.
    pub fn with(&self, values: [&str; N]) -> M {
        let key = values.map(Box::<str>::from);
        if let Some(found) = self.0.series.read().get(&key) {
            return found.clone();
        }
        let mut series = self.0.series.write();
        let key = if series.len() < self.0.limit || series.contains_key(&key) {
            key
        } else {
            [(); N].map(|()| Box::from("overflow"))
        };
        series.entry(key).or_insert_with(self.0.fresh).clone()
    }

    fn each(&self, mut visit: impl FnMut(Labels, &M)) {
        for (values, metric) in self.0.series.read().iter() {
            let pairs = self.0.names.iter().zip(values).map(|(name, value)| (*name, value.clone()));
            visit(Labels::from_pairs(pairs), metric);
        }
    }
}

type Render = Box<dyn Fn(&mut String) + Send + Sync>;

/// A family: what comes before its series, and what writes them.
struct Family {
    help: String,
    kind: MetricKind,
    series: Vec<Render>,
}

/// All families of a process, in the order of their names.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<BTreeMap<String, Family>>>);

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.lock().keys()).finish()
    }
}

impl Registry {
    /// No family yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter without labels. `name` ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        let read = counter.clone();
        self.single(name, help, MetricKind::Counter, move || read.get() as f64);
        counter
    }

    /// A gauge without labels.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        let read = gauge.clone();
        self.single(name, help, MetricKind::Gauge, move || read.get());
        gauge
    }

    /// A value that is computed when the page is asked for; `read` must not block.
    pub fn computed(
        &self,
        name: &str,
        help: &str,
        kind: MetricKind,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.single(name, help, kind, read);
    }

    /// The same for one series of several, each added by a call of its own with its label; for what is known at the start.
    pub fn computed_for(
        &self,
        (name, help): (&str, &str),
        kind: MetricKind,
        (label, value): (&'static str, &str),
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let (owned, value) = (name.to_owned(), value.to_owned());
        let render: Render = Box::new(move |out| {
            let labels = [(label, value.as_str())];
            encode::sample(out, TEXT, &owned, labels.into_iter(), read(), None);
        });
        let fresh = || Family { help: help.to_owned(), kind, series: Vec::new() };
        self.0.lock().entry(name.to_owned()).or_insert_with(fresh).series.push(render);
    }

    /// A gauge that is one series of several, each added by a call of its own with its label; for what is known at the start.
    pub fn gauge_for(&self, name: (&str, &str), label: (&'static str, &str)) -> Gauge {
        let gauge = Gauge::default();
        let read = gauge.clone();
        self.computed_for(name, MetricKind::Gauge, label, move || read.get());
        gauge
    }

    /// What does not change, as the labels of a gauge that is 1.
    pub fn info<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [(&'static str, &'static str); N],
    ) {
        let owned = name.to_owned();
        self.family(name, help, MetricKind::Gauge, move |out| {
            encode::sample(out, TEXT, &owned, labels.into_iter(), 1.0, None);
        });
    }

    /// Counters by `labels`, at most `limit` series.
    pub fn counters<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        limit: usize,
    ) -> CounterVec<N> {
        let vector = Vector::new(labels, limit, Counter::default);
        let (read, owned) = (vector.clone(), name.to_owned());
        self.family(name, help, MetricKind::Counter, move |out| {
            read.each(|labels, counter| {
                encode::sample(out, TEXT, &owned, labels.iter(), counter.get() as f64, None);
            });
        });
        vector
    }

    /// Latency histograms in seconds by `labels`, at most `limit` series.
    pub fn latencies<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        limit: usize,
    ) -> HistogramVec<N> {
        self.histograms(name, help, Vector::new(labels, limit, || Histogram::new(&LATENCY_SECONDS)))
    }

    /// The same for what takes from moments to minutes.
    pub fn long_latencies<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        limit: usize,
    ) -> HistogramVec<N> {
        self.histograms(name, help, Vector::new(labels, limit, || Histogram::new(&LONG_SECONDS)))
    }

    fn histograms<const N: usize>(
        &self,
        name: &str,
        help: &str,
        vector: HistogramVec<N>,
    ) -> HistogramVec<N> {
        let (read, owned) = (vector.clone(), name.to_owned());
        self.family(name, help, MetricKind::Histogram, move |out| {
            read.each(|labels, histogram| render_histogram(out, &owned, &labels, histogram));
        });
        vector
    }

    /// The page in Prometheus text 0.0.4.
    pub fn page(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        for (name, family) in self.0.lock().iter() {
            encode::family(&mut out, name, &family.help, family.kind);
            family.series.iter().for_each(|render| render(&mut out));
        }
        out
    }

    fn single(
        &self,
        name: &str,
        help: &str,
        kind: MetricKind,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let owned = name.to_owned();
        self.family(name, help, kind, move |out| {
            encode::sample(out, TEXT, &owned, std::iter::empty(), read(), None);
        });
    }

    fn family(
        &self,
        name: &str,
        help: &str,
        kind: MetricKind,
        render: impl Fn(&mut String) + Send + Sync + 'static,
    ) {
        let family = Family { help: help.to_owned(), kind, series: vec![Box::new(render)] };
        self.0.lock().insert(name.to_owned(), family);
    }
}

const TEXT: Dialect = Dialect::Prometheus;

fn render_histogram(out: &mut String, name: &str, labels: &Labels, histogram: &Histogram) {
    let (buckets, sum) = histogram.read();
    let mut total = 0;
    for (bound, count) in buckets {
        total = count;
        let mut le = String::new();
        encode::number(&mut le, bound);
        let with_bound = labels.iter().chain([("le", le.as_str())]);
        encode::sample(out, TEXT, &format!("{name}_bucket"), with_bound, count as f64, None);
    }
    encode::sample(out, TEXT, &format!("{name}_sum"), labels.iter(), sum, None);
    encode::sample(out, TEXT, &format!("{name}_count"), labels.iter(), total as f64, None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::exposition::parse::Parser;

    #[test]
    fn the_page_is_read_without_a_malformed_line() {
        let registry = Registry::new();
        registry.counter("a_total", "Counts\nthings.").add(3);
        registry.gauge("b", "A \"gauge\".").set(f64::NAN);
        registry.latencies("c_seconds", "Time.", ["route"], 4).with(["/x\"y\\"]).observe(0.003);
        let page = registry.page();
        let mut parser = Parser::new(page.as_bytes(), Dialect::Prometheus);
        let mut lines = 0;
        while let Some(line) = parser.next_line() {
            assert!(line.is_ok(), "{line:?}\n{page}");
            lines += 1;
        }
        assert_eq!(lines, 6 + 1 + 1 + 15 + 2);
        assert!(
            page.contains("c_seconds_bucket{route=\"/x\\\"y\\\\\",le=\"0.005\"} 1\n"),
            "{page}"
        );
        assert!(page.contains("le=\"+Inf\"} 1\n"));
    }

    #[test]
    fn label_sets_over_the_limit_share_one_series() {
        let registry = Registry::new();
        let counters = registry.counters("a_total", "Counts.", ["who"], 3);
        for n in 0..1000 {
            counters.with([&n.to_string()]).inc();
        }
        let page = registry.page();
        assert!(page.contains("a_total{who=\"overflow\"} 997\n"), "{page}");
        assert_eq!(page.lines().count(), 2 + 4);
    }
}
