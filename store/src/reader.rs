//! Reading: a snapshot is one consistent cut through memtable and segments; a scan reads from it the
//! series and times that are asked for, and nothing else.

use crate::StoreError;
use crate::info::Infos;
use crate::memtable::{Memtable, Runs};
use crate::points::{Points, Run};
use crate::segment::read::{IndexEntry, SeriesReader};
use crate::segment::{Resolution, Segment};
use crate::series::Cardinality;
use crate::state::{Live, State};
use model::SeriesKey;
use model::sample::is_stale;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// The capability to read samples of one resolution. Clones read the same store.
#[derive(Clone, Debug)]
pub struct Reader {
    state: Arc<State>,
    resolution: Resolution,
}

/// One consistent cut through the store. Holding it keeps its segments on disk.
#[derive(Debug)]
pub struct Snapshot {
    state: Arc<State>,
    /// By metric; only of the metrics that the snapshot was taken for.
    memory: HashMap<Box<str>, Vec<Runs>>,
    segments: Arc<Vec<Arc<Segment>>>,
    /// Those of every resolution, at the same instant.
    all: Arc<Vec<Arc<Segment>>>,
}

/// One series, with the span of its samples in the snapshot.
#[derive(Clone, Debug)]
pub struct SeriesSummary {
    /// Its id.
    pub id: u64,
    /// Metric name and labels.
    pub key: Arc<SeriesKey>,
    /// First and last time, in milliseconds since the epoch.
    pub span: (i64, i64),
}

/// Points of one series. A series may come in several chunks; together they hold each of its times once.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The series' id.
    pub id: u64,
    /// Its metric name and labels.
    pub key: Arc<SeriesKey>,
    /// The points, times ascending.
    pub points: Points,
}

impl Reader {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state, resolution: Resolution::Raw }
    }

    /// The same for another resolution.
    pub fn at(&self, resolution: Resolution) -> Self {
        Self { state: Arc::clone(&self.state), resolution }
    }

    fn segments<'a>(&self, live: &'a Live) -> impl Iterator<Item = &'a Arc<Segment>> + use<'a> {
        let resolution = self.resolution;
        live.segments.iter().filter(move |segment| segment.meta.resolution == resolution)
    }

    /// The memtables, the oldest first; they hold raw samples only.
    fn tables<'a>(&self, live: &'a Live) -> impl Iterator<Item = &'a Memtable> + use<'a> {
        let raw = self.resolution == Resolution::Raw;
        live.frozen.iter().map(Arc::as_ref).chain([&live.active]).filter(move |_| raw)
    }

    /// Takes a snapshot for reading `metrics`, or every metric without.
    pub fn snapshot(&self, metrics: Option<&[&str]>) -> Snapshot {
        self.snapshot_of(metrics, &|_| true)
    }

    /// The same for series that `keep` wants alone; others may be in it or not.
    pub fn snapshot_of(
        &self,
        metrics: Option<&[&str]>,
        keep: &dyn Fn(&SeriesKey) -> bool,
    ) -> Snapshot {
        let live = self.state.live.read(); // one lock, one instant
        let tables = || self.tables(&live);
        let wanted: BTreeSet<&str> = match metrics {
            Some(metrics) => metrics.iter().copied().collect(),
            None => tables().flat_map(|table| table.metrics()).collect(),
        };
        let mut memory = HashMap::new();
        for metric in wanted {
            let mut by_series: HashMap<u64, Runs> = HashMap::new();
            for runs in tables().flat_map(|table| table.runs(metric, keep)) {
                match by_series.get_mut(&runs.series.number()) {
                    Some(earlier) => earlier.runs.extend(runs.runs),
                    None => drop(by_series.insert(runs.series.number(), runs)),
                }
            }
            if !by_series.is_empty() {
                memory.insert(Box::from(metric), by_series.into_values().collect());
            }
        }
        let segments = Arc::new(self.segments(&live).cloned().collect());
        let all = Arc::clone(&live.segments);
        Snapshot { state: Arc::clone(&self.state), memory, segments, all }
    }

    /// Takes a snapshot of the newest sample of each active series alone, of `metrics` or of every metric
    /// without. Active is a series with recent samples in memory, or that a target or sender still has.
    pub fn last(&self, metrics: Option<&[&str]>, keep: &dyn Fn(&SeriesKey) -> bool) -> Snapshot {
        let _live = self.state.live.read(); // no sample comes while this is held
        let wanted: BTreeSet<Box<str>> = match metrics {
            Some(metrics) => metrics.iter().map(|metric| Box::from(*metric)).collect(),
            None => self.state.index.metrics().into_iter().collect(),
        };
        let mut memory = HashMap::new();
        for metric in wanted {
            let of_metric = self.state.index.of_metric(&metric).into_iter();
            let runs: Vec<Runs> = of_metric
                .filter(|series| keep(series.key()))
                .filter_map(|series| {
                    let (time, value) = series.last().filter(|(_, value)| !is_stale(*value))?;
                    let point = Points { times: vec![time], values: vec![value] };
                    Some(Runs { series, runs: vec![Run::Open(Arc::new(point))] })
                })
                .collect();
            if !runs.is_empty() {
                memory.insert(metric, runs);
            }
        }
        let (segments, all) = (Arc::default(), Arc::default());
        Snapshot { state: Arc::clone(&self.state), memory, segments, all }
    }

    /// Hears of each batch, by its sequence, once it is visible. Who is slow hears of the newest alone.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.state.appended.subscribe()
    }

    /// All live segments, of every resolution, by first time.
    pub fn segment_list(&self) -> Vec<SegmentSummary> {
        self.state.live.read().segments.iter().map(|segment| SegmentSummary::of(segment)).collect()
    }

    /// Every label of every active metric with the number of its values, the most first.
    pub fn cardinality(&self) -> Vec<Cardinality> {
        self.state.index.cardinality()
    }

    /// What was said of each metric: type, unit, help.
    pub fn infos(&self) -> Infos {
        self.state.infos.all()
    }

    /// The names of all metrics, ascending, each with the names of its labels.
    pub fn metrics(&self) -> BTreeMap<Arc<str>, BTreeSet<Arc<str>>> {
        let live = self.state.live.read();
        let mut all: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
        for metric in self.segments(&live).flat_map(|segment| segment.meta.metrics.iter()) {
            all.entry(Arc::clone(&metric.name)).or_default().extend(metric.labels.iter().cloned());
        }
        for table in self.tables(&live) {
            for metric in table.metrics() {
                let labels = all.entry(Arc::from(metric)).or_default();
                table.each_label(metric, |name| {
                    if !labels.contains(name) {
                        labels.insert(Arc::from(name));
                    }
                });
            }
        }
        all
    }

    /// Batches that could not be logged so far.
    pub fn append_failures(&self) -> u64 {
        self.state.meters.append_failures.get()
    }

    /// Whether any sample of `metric` is held.
    pub fn has_metric(&self, metric: &str) -> bool {
        let live = self.state.live.read();
        self.tables(&live).any(|table| table.has_metric(metric))
            || self.segments(&live).any(|segment| segment.meta.metric(metric).is_some())
    }
}

/// One segment, as people see it.
#[derive(Clone, Debug)]
pub struct SegmentSummary {
    /// A ULID.
    pub id: String,
    /// How fine its samples are.
    pub resolution: Resolution,
    /// 0 as flushed, 1 merged within two hours, 2 within a day.
    pub level: u8,
    /// First and last time, in milliseconds since the epoch.
    pub span: (i64, i64),
    /// Samples in it.
    pub samples: u64,
    /// Series in it.
    pub series: u64,
    /// Its size on disk.
    pub bytes: u64,
    /// Where it lies.
    pub path: PathBuf,
}

impl SegmentSummary {
    fn of(segment: &Segment) -> Self {
        Self {
            id: segment.meta.id.clone(),
            resolution: segment.meta.resolution,
            level: segment.meta.level,
            span: segment.meta.span,
            samples: segment.meta.rows,
            series: segment.meta.series,
            bytes: segment.meta.bytes(),
            path: segment.path().to_owned(),
        }
    }
}

impl Snapshot {
    /// The segments of another resolution as they were at the same instant.
    pub fn at(&self, resolution: Resolution) -> Self {
        let own = self.all.iter().filter(|segment| segment.meta.resolution == resolution);
        Self {
            state: Arc::clone(&self.state),
            memory: HashMap::new(),
            segments: Arc::new(own.cloned().collect()),
            all: Arc::clone(&self.all),
        }
    }

    /// The first time of the segments that have `metric`, if any has.
    pub fn first_stored(&self, metric: &str) -> Option<i64> {
        let own = self.segments.iter().filter(|segment| segment.meta.metric(metric).is_some());
        own.map(|segment| segment.meta.span.0).min()
    }

    /// The names of a metric's labels, ascending. Opens no file.
    pub fn label_names(&self, metric: &str) -> BTreeSet<Arc<str>> {
        let mut names = BTreeSet::new();
        for found in self.segments.iter().filter_map(|segment| segment.meta.metric(metric)) {
            names.extend(found.labels.iter().cloned());
        }
        for runs in self.memory.get(metric).into_iter().flatten() {
            for (name, _) in runs.series.key().labels.iter() {
                if !names.contains(name) {
                    names.insert(Arc::from(name));
                }
            }
        }
        names
    }

    /// Whether this snapshot can read `metric`.
    pub fn has_metric(&self, metric: &str) -> bool {
        self.memory.contains_key(metric)
            || self.segments.iter().any(|segment| segment.meta.metric(metric).is_some())
    }

    /// The metrics that this snapshot can read, ascending.
    pub fn metrics(&self) -> BTreeSet<Arc<str>> {
        let stored = self.segments.iter().flat_map(|segment| segment.meta.metrics.iter());
        let mut metrics: BTreeSet<Arc<str>> =
            stored.map(|metric| Arc::clone(&metric.name)).collect();
        metrics.extend(self.memory.keys().map(|metric| Arc::from(metric.as_ref())));
        metrics
    }

    /// The series of `metric` with a sample in `from..=to`.
    ///
    /// # Errors
    /// A file could not be opened. Damaged segments are set aside and left out.
    pub fn series(
        &self,
        metric: &str,
        from: i64,
        to: i64,
    ) -> Result<Vec<SeriesSummary>, StoreError> {
        let mut found: BTreeMap<Arc<SeriesKey>, SeriesSummary> = BTreeMap::new();
        for (id, key, sources) in self.sources(metric, &|_, _| true, from, to)? {
            let spans = sources.iter().filter_map(Source::span);
            if let Some(span) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
                found.insert(Arc::clone(&key), SeriesSummary { id, key, span });
            }
        }
        Ok(found.into_values().collect())
    }

    /// Reads the series of `metric` that `keep` wants, by id and key, in `from..=to`, in up to `parts` scans that may run
    /// side by side. Blocks on files.
    ///
    /// # Errors
    /// A file could not be opened. Damaged segments are set aside and left out.
    pub fn scan(
        &self,
        metric: &str,
        keep: &dyn Fn(u64, &SeriesKey) -> bool,
        from: i64,
        to: i64,
        parts: usize,
    ) -> Result<Vec<Scan>, StoreError> {
        let mut whole: BTreeMap<usize, Vec<IndexEntry>> = BTreeMap::new();
        let mut merged = Vec::new();
        for (id, key, sources) in self.sources(metric, keep, from, to)? {
            if overlap(&sources) {
                merged.push((id, key, sources));
                continue;
            }
            for source in sources {
                match source {
                    Source::Stored { at, entry } => whole.entry(at).or_default().push(entry),
                    memory => merged.push((id, Arc::clone(&key), vec![memory])),
                }
            }
        }
        let mut steps: Vec<Step> = Vec::new();
        for (at, mut entries) in whole {
            let Some(segment) = self.segments.get(at) else { continue };
            entries.sort_by_key(|entry| entry.rows.start);
            steps.push(Step::Segment(Arc::clone(segment), entries));
        }
        let share = merged.len().div_ceil(parts.max(1)).max(1);
        let mut merged = merged.into_iter().peekable();
        while merged.peek().is_some() {
            steps.push(Step::Merge(merged.by_ref().take(share).collect()));
        }
        let mut scans: Vec<Scan> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let slot = number % parts.max(1);
            if scans.len() <= slot {
                scans.push(Scan::new(self, from, to));
            }
            if let Some(scan) = scans.get_mut(slot) {
                scan.steps.push(step);
            }
        }
        Ok(scans)
    }

    /// Where each wanted series lies, its sources in the order in which they were written.
    #[expect(clippy::type_complexity, reason = "a row of three that lives for two calls")]
    fn sources(
        &self,
        metric: &str,
        keep: &dyn Fn(u64, &SeriesKey) -> bool,
        from: i64,
        to: i64,
    ) -> Result<Vec<(u64, Arc<SeriesKey>, Vec<Source>)>, StoreError> {
        let hit = |span: (i64, i64)| span.1 >= from && span.0 <= to;
        let mut found: HashMap<u64, (Arc<SeriesKey>, Vec<Source>)> = HashMap::new();
        let mut order: Vec<(usize, &Arc<Segment>)> = self.segments.iter().enumerate().collect();
        order.sort_by_key(|(_, segment)| segment.meta.sequences);
        for (at, segment) in order {
            if segment.meta.metric(metric).is_none() || !hit(segment.meta.span) {
                continue;
            }
            let index = match self.state.index_of(segment) {
                Ok(index) => index,
                Err(cause) => {
                    self.give_up(segment, cause)?;
                    continue;
                }
            };
            for entry in index.metric(metric) {
                if hit(entry.span) && keep(entry.id, &entry.key) {
                    let place = found.entry(entry.id);
                    let (_, sources) =
                        place.or_insert_with(|| (Arc::clone(&entry.key), Vec::new()));
                    sources.push(Source::Stored { at, entry: entry.clone() });
                }
            }
        }
        for runs in self.memory.get(metric).into_iter().flatten() {
            if runs.span().is_some_and(hit) && keep(runs.series.id(), runs.series.key()) {
                let place = found.entry(runs.series.id());
                let (_, sources) = place.or_insert_with(|| (runs.series.shared_key(), Vec::new()));
                sources.push(Source::Memory(runs.clone()));
            }
        }
        Ok(found.into_iter().map(|(id, (key, sources))| (id, key, sources)).collect())
    }

    fn give_up(&self, segment: &Segment, cause: StoreError) -> Result<(), StoreError> {
        if cause.is_damage() && self.state.set_aside(segment, &cause) { Ok(()) } else { Err(cause) }
    }
}

#[derive(Debug)]
enum Source {
    Stored { at: usize, entry: IndexEntry },
    Memory(Runs),
}

impl Source {
    fn span(&self) -> Option<(i64, i64)> {
        match self {
            Self::Stored { entry, .. } => Some(entry.span),
            Self::Memory(runs) => runs.span(),
        }
    }
}

fn overlap(sources: &[Source]) -> bool {
    let mut spans: Vec<(i64, i64)> = sources.iter().filter_map(Source::span).collect();
    spans.sort_unstable();
    spans.iter().zip(spans.iter().skip(1)).any(|(one, next)| next.0 <= one.1)
}

#[derive(Debug)]
enum Step {
    /// Series whose other sources do not overlap with what this segment has of them.
    Segment(Arc<Segment>, Vec<IndexEntry>),
    /// Series with points in memory only, or whose sources overlap in time.
    Merge(Vec<(u64, Arc<SeriesKey>, Vec<Source>)>),
}

/// Reads chunks, one after the other. An iterator that blocks on files.
pub struct Scan {
    state: Arc<State>,
    segments: Arc<Vec<Arc<Segment>>>,
    range: (i64, i64),
    steps: Vec<Step>,
    open: Option<(Arc<Segment>, SeriesReader)>,
    given_up: HashSet<String>,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("range", &self.range)
            .field("steps", &self.steps.len())
            .finish()
    }
}

impl Scan {
    fn new(snapshot: &Snapshot, from: i64, to: i64) -> Self {
        Self {
            state: Arc::clone(&snapshot.state),
            segments: Arc::clone(&snapshot.segments),
            range: (from, to),
            steps: Vec::new(),
            open: None,
            given_up: HashSet::new(),
        }
    }

    /// Segments and merged series still to read.
    pub fn steps(&self) -> (usize, usize) {
        let merged = |step: &Step| if let Step::Merge(series) = step { series.len() } else { 0 };
        let segments = self.steps.iter().filter(|step| matches!(step, Step::Segment(..))).count();
        (segments, self.steps.iter().map(merged).sum())
    }

    /// How fine the samples are.
    pub fn resolution(&self) -> Resolution {
        self.segments.first().map_or(Resolution::Raw, |segment| segment.meta.resolution)
    }

    /// Samples in all that is still to read, also those outside of the range; at most so many come.
    pub fn most_samples(&self) -> usize {
        let stored = |entries: &[IndexEntry]| entries.iter().map(|it| it.rows.len()).sum::<usize>();
        let source = |source: &Source| match source {
            Source::Stored { entry, .. } => entry.rows.len(),
            Source::Memory(runs) => runs.runs.iter().map(Run::len).sum(),
        };
        let step = |step: &Step| match step {
            Step::Segment(_, entries) => stored(entries),
            Step::Merge(series) => series.iter().flat_map(|it| &it.2).map(source).sum(),
        };
        self.steps.iter().map(step).sum()
    }

    fn advance(&mut self) -> Result<Option<Chunk>, StoreError> {
        loop {
            if let Some((segment, reader)) = &mut self.open {
                match reader.next_series() {
                    Ok(Some((entry, points))) => {
                        let Some(chunk) = self.chunk(entry.id, entry.key, points) else { continue };
                        return Ok(Some(chunk));
                    }
                    Ok(None) => self.open = None,
                    Err(cause) => {
                        let segment = Arc::clone(segment);
                        self.open = None;
                        self.give_up(&segment, cause)?;
                    }
                }
                continue;
            }
            match self.steps.pop() {
                None => return Ok(None),
                Some(Step::Segment(segment, entries)) => match self.reader(&segment, entries) {
                    Ok(reader) => self.open = Some((segment, reader)),
                    Err(cause) => self.give_up(&segment, cause)?,
                },
                Some(Step::Merge(mut series)) => {
                    let Some((id, key, sources)) = series.pop() else { continue };
                    self.steps.push(Step::Merge(series));
                    let points = self.merge(sources)?;
                    if let Some(chunk) = self.chunk(id, key, points) {
                        return Ok(Some(chunk));
                    }
                }
            }
        }
    }

    fn chunk(&self, id: u64, key: Arc<SeriesKey>, mut points: Points) -> Option<Chunk> {
        points.clip(self.range.0, self.range.1);
        (!points.is_empty()).then_some(Chunk { id, key, points })
    }

    fn merge(&mut self, sources: Vec<Source>) -> Result<Points, StoreError> {
        let (from, to) = self.range;
        let mut runs: Vec<Run> = Vec::with_capacity(sources.len());
        for source in sources {
            match source {
                Source::Memory(memory) => {
                    runs.extend(memory.runs.into_iter().filter(|run| run.touches(from, to)));
                }
                Source::Stored { at, entry } => {
                    let Some(segment) = self.segments.get(at).cloned() else { continue };
                    let read = self
                        .reader(&segment, vec![entry])
                        .and_then(|mut reader| reader.next_series());
                    match read {
                        Ok(Some((_, points))) => runs.push(Run::Open(Arc::new(points))),
                        Ok(None) => {}
                        Err(cause) => self.give_up(&segment, cause)?,
                    }
                }
            }
        }
        Ok(Points::merge(&runs))
    }

    fn reader(
        &self,
        segment: &Arc<Segment>,
        entries: Vec<IndexEntry>,
    ) -> Result<SeriesReader, StoreError> {
        SeriesReader::open(segment, &*self.state.index_of(segment)?, entries)
    }

    fn give_up(&mut self, segment: &Segment, cause: StoreError) -> Result<(), StoreError> {
        if self.given_up.contains(&segment.meta.id) {
            return Ok(());
        }
        if !cause.is_damage() || !self.state.set_aside(segment, &cause) {
            return Err(cause);
        }
        self.given_up.insert(segment.meta.id.clone());
        Ok(())
    }
}

impl Iterator for Scan {
    type Item = Result<Chunk, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
