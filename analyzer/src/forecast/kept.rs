//! Forecasts that were made, kept until what they were of has come, and scored against it.

use super::bands::Band;
use crate::finding::Subject;
use crate::{AnalyzerConfig, AnalyzerError};
use model::Timestamp;
use parking_lot::Mutex;
use platform::durable;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// The file, in the folder of the analyzer: one forecast a line, as JSON.
const FILE: &str = "forecasts.jsonl";

/// Forecasts kept; the oldest go. A week of four horizons, four times a day, of all series that are forecast.
const MOST: usize = 8 * 4 * 4 * super::bands::MOST_KEPT;

/// The horizons that are kept of each forecast, in hours.
pub(crate) const HORIZONS: [usize; 4] = [6, 24, 72, 168];

/// One hour of a forecast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// When it was made.
    pub made: Timestamp,
    /// Of which series.
    pub subject: Subject,
    /// How far ahead.
    pub horizon_hours: usize,
    /// The start of the hour that it is of.
    pub time: Timestamp,
    /// What was expected.
    pub value: f64,
    /// Bands of 50, 80 and 95 %: low and high.
    pub bands: [[f64; 2]; 3],
    /// The mean of the hour, once it is over.
    pub actual: Option<f64>,
}

/// How often what came was within each band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Forecasts that could be scored.
    pub scored: usize,
    /// Share within the 50, 80 and 95 % band.
    pub within: [f64; 3],
}

/// All that are kept. Clones share them.
#[derive(Clone, Debug)]
pub struct Forecasts(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    all: VecDeque<Kept>,
    path: Option<PathBuf>,
    /// When it was last tried to score some, and to make some.
    tried: Option<Timestamp>,
    made: Option<Timestamp>,
}

impl Forecasts {
    /// Those kept in `dir`, and where more are kept if `write`; a folder that is not there has none.
    ///
    /// # Errors
    /// The file is there and could not be read.
    pub fn open(dir: &Path, write: bool) -> Result<Self, AnalyzerError> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(AnalyzerError::Read { path, source }),
        };
        let lines = text.lines().filter(|line| !line.is_empty());
        let read: Vec<Result<Kept, _>> = lines.map(serde_json::from_str).collect();
        let damaged = read.iter().filter(|it| it.is_err()).count();
        if damaged > 0 {
            warn!(path = %path.display(), damaged, "lines of kept forecasts are damaged; the rest is kept");
        }
        let all = read.into_iter().flatten().collect();
        Ok(Self(Arc::new(Mutex::new(Inner::new(all, write.then_some(path))))))
    }

    /// None yet, and none outlives the process.
    pub fn in_memory() -> Self {
        Self(Arc::new(Mutex::new(Inner::new(VecDeque::new(), None))))
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Kept> {
        self.0.lock().all.iter().rev().cloned().collect()
    }

    /// How often what came was within the bands.
    pub fn coverage(&self) -> Coverage {
        let inner = self.0.lock();
        let scored: Vec<(&Kept, f64)> =
            inner.all.iter().filter_map(|it| Some((it, it.actual?))).collect();
        let within = std::array::from_fn(|at| {
            let hits = scored.iter().filter(|(it, actual)| {
                it.bands.get(at).is_some_and(|[low, high]| (*low..=*high).contains(actual))
            });
            hits.count() as f64 / scored.len().max(1) as f64
        });
        Coverage { scored: scored.len(), within }
    }

    /// Whether it is time to score, each hour, and to make new ones, each six hours; that time is noted as tried.
    fn is_time(&self, now: Timestamp) -> (bool, bool) {
        let mut inner = self.0.lock();
        let due = |last: Option<Timestamp>, every: Duration| {
            last.is_none_or(|last| last.plus(every) <= now || last > now)
        };
        let (score, make) = (due(inner.tried, HOUR), due(inner.made, 6 * HOUR));
        if score {
            inner.tried = Some(now);
        }
        if make {
            inner.made = Some(now);
        }
        (score, make)
    }

    /// Keeps what was forecast at `made`.
    pub(crate) fn keep(&self, made: Timestamp, bands: &[Band]) -> Result<(), AnalyzerError> {
        let mut inner = self.0.lock();
        for band in bands {
            for horizon in HORIZONS {
                let Some(point) = horizon.checked_sub(1).and_then(|at| band.points.get(at)) else {
                    continue;
                };
                inner.all.push_back(Kept {
                    made,
                    subject: band.subject.clone(),
                    horizon_hours: horizon,
                    time: Timestamp(point.time_ms),
                    value: point.mid,
                    bands: point.bands,
                    actual: None,
                });
            }
        }
        while inner.all.len() > MOST {
            inner.all.pop_front();
        }
        inner.write()
    }

    /// Those whose hour was over at `now`, not yet scored.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<(Subject, Timestamp)> {
        let inner = self.0.lock();
        let due = inner.all.iter().filter(|it| it.actual.is_none() && it.time.plus(HOUR) <= now);
        // What has no samples for two days will not get any.
        let due = due.filter(|it| it.time.plus(2 * DAY) > now);
        due.map(|it| (it.subject.clone(), it.time)).collect()
    }

    /// Notes what came.
    pub(crate) fn score(&self, came: &[(Subject, Timestamp, f64)]) -> Result<(), AnalyzerError> {
        if came.is_empty() {
            return Ok(());
        }
        let mut inner = self.0.lock();
        let came: BTreeMap<(&Subject, Timestamp), f64> =
            came.iter().map(|(subject, time, actual)| ((subject, *time), *actual)).collect();
        for kept in inner.all.iter_mut().filter(|it| it.actual.is_none()) {
            kept.actual = came.get(&(&kept.subject, kept.time)).copied();
        }
        inner.write()
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

impl Inner {
    fn new(all: VecDeque<Kept>, path: Option<PathBuf>) -> Self {
        let made = all.back().map(|it: &Kept| it.made);
        Self { all, path, tried: None, made }
    }

    fn write(&self) -> Result<(), AnalyzerError> {
        let Some(path) = &self.path else { return Ok(()) };
        let lines = self.all.iter().filter_map(|it| serde_json::to_string(it).ok());
        let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
        Ok(durable::replace(path, text.as_bytes())?)
    }
}

impl Forecasts {
    /// Forecasts made before are scored, and each six hours new ones are made.
    ///
    /// # Errors
    /// A file could not be read or written.
    pub(crate) fn tend(
        &self,
        reader: &store::Reader,
        config: &AnalyzerConfig,
        now: Timestamp,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), AnalyzerError> {
        let (score, make) = self.is_time(now);
        if score {
            let mut by_series: BTreeMap<Subject, Vec<Timestamp>> = BTreeMap::new();
            for (subject, time) in self.due(now) {
                by_series.entry(subject).or_default().push(time);
            }
            let mut came = Vec::new();
            for (subject, times) in by_series {
                let key = subject.key();
                let hours: Vec<i64> = times.iter().map(|time| time.millis()).collect();
                let means = super::hourly::means_at(reader, &key, &hours, wanted)?;
                let own = means.into_iter();
                came.extend(own.map(|(time, mean)| (subject.clone(), Timestamp(time), mean)));
            }
            self.score(&came)?;
        }
        if make {
            let bands = super::bands::of_watched(reader, config, now, wanted)?;
            if !bands.is_empty() && wanted() {
                self.keep(now, &bands)?;
            }
        }
        Ok(())
    }
}
