//! Every event, in a journal that survives `kill -9`; the newest are kept.

use crate::experiment::Experiment;
use model::Timestamp;
use parking_lot::Mutex;
use platform::PlatformError;
use platform::journal::{self, Journal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Events kept.
const MOST: usize = 10_000;

/// Who began it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The schedule, for the time of this number.
    Schedule(u64),
    /// A person or a program, by name.
    Person(String),
}

/// How it stands.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes on.
    Running,
    /// All was well again in time.
    Recovered,
    /// It was not.
    NotRecovered,
    /// It was broken off, and all was well again in time.
    Aborted,
    /// It did not begin, because not all was well before.
    NotSteady,
    /// It did not begin, because others were there for too long.
    LeftOut,
    /// Its time passed while nobody was there to begin it.
    Missed,
    /// It could not be begun.
    Failed,
    /// Whoever had begun it ended in the middle of it; it has ended by itself.
    Interrupted,
}

impl Outcome {
    /// As in SQL.
    pub fn name(self) -> String {
        let name = serde_json::to_value(self).ok();
        name.and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// One time that an experiment was done.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Event {
    /// Its id, a ULID.
    pub id: String,
    /// What is done.
    pub experiment: Experiment,
    /// Who began it.
    pub source: Source,
    /// When it was due.
    pub due: Timestamp,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it stands.
    pub outcome: Outcome,
    /// Why it is so.
    pub detail: String,
    /// Calls or questions that the fault has met, where that is counted.
    pub hits: Option<u64>,
    /// Requests during it.
    pub requests: Option<f64>,
    /// Share of them that failed, before and during.
    pub failing: [Option<f64>; 2],
    /// Mean seconds of an answer, before and during.
    pub seconds: [Option<f64>; 2],
    /// The finding or alert that came first, and after how many seconds.
    pub detector: Option<(String, f64)>,
    /// The alert that fired first, and after how many seconds.
    pub alert: Option<(String, f64)>,
    /// From its end to the first moment at which all was well and stayed so.
    pub recovery_seconds: Option<f64>,
}

/// A line of the journal.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The time that schedules count from.
    Origin(Timestamp),
    Event(Box<Event>),
}

/// The events. Clones share them.
#[derive(Clone, Debug)]
pub struct Book(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    origin: Timestamp,
    events: BTreeMap<String, Event>,
    /// None where nothing is to be written.
    journal: Option<Journal>,
}

struct Held {
    origin: Timestamp,
    events: BTreeMap<String, Event>,
    damaged: String,
}

fn held(path: &Path, now: Timestamp) -> Result<Held, PlatformError> {
    let read = journal::read(path, |line| serde_json::from_str::<Line>(line).ok())?;
    let mut held = Held { origin: now, events: BTreeMap::new(), damaged: read.damaged };
    for line in read.records {
        match line {
            Line::Origin(at) => held.origin = at,
            Line::Event(event) => drop(held.events.insert(event.id.clone(), *event)),
        }
    }
    Ok(held)
}

impl Book {
    /// Opens `chaos.jsonl` in `dir`; with none there, schedules count from `now`. What ran when an earlier process ended was interrupted.
    ///
    /// # Errors
    /// The journal could not be read or written.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, PlatformError> {
        platform::durable::create_dir(dir)?;
        let path = dir.join("chaos.jsonl");
        let Held { origin, mut events, damaged } = held(&path, now)?;
        for event in events.values_mut().filter(|it: &&mut Event| it.outcome == Outcome::Running) {
            event.outcome = Outcome::Interrupted;
            event.detail = "the monitor ended in the middle of it".to_owned();
        }
        trim(&mut events);
        let journal = Some(Journal::begin(&path, &whole(origin, &events), &damaged)?);
        Ok(Self(Arc::new(Mutex::new(Kept { origin, events, journal }))))
    }

    /// Reads what is there and writes nothing; for files of a monitor that does not run.
    ///
    /// # Errors
    /// The journal is there and could not be read.
    pub fn read(dir: &Path, now: Timestamp) -> Result<Self, PlatformError> {
        let path = dir.join("chaos.jsonl");
        let Held { origin, events, .. } = held(&path, now)?;
        Ok(Self(Arc::new(Mutex::new(Kept { origin, events, journal: None }))))
    }

    /// The time that schedules count from.
    pub fn origin(&self) -> Timestamp {
        self.0.lock().origin
    }

    /// The newest first.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().events.values().rev().cloned().collect()
    }

    /// One of them.
    pub fn event(&self, id: &str) -> Option<Event> {
        self.0.lock().events.get(id).cloned()
    }

    /// Whether the schedule's time `n` of an experiment, which is `due`, was dealt with. Under another schedule it is another time.
    pub(crate) fn knows(&self, experiment: &str, n: u64, due: Timestamp) -> bool {
        let is_it = |it: &Event| it.experiment.name == experiment && it.due == due;
        self.0.lock().events.values().any(|it| is_it(it) && it.source == Source::Schedule(n))
    }

    /// Writes an event down, as it is now; blocks.
    pub(crate) fn put(&self, event: &Event) {
        let mut kept = self.0.lock();
        kept.events.insert(event.id.clone(), event.clone());
        trim(&mut kept.events);
        let line = line(&Line::Event(Box::new(event.clone())));
        let Kept { origin, events, journal } = &mut *kept;
        if let Some(journal) = journal {
            journal.append((&line, 1), 2 * MOST, true, || whole(*origin, events));
        }
    }
}

fn trim(events: &mut BTreeMap<String, Event>) {
    while events.len() > MOST {
        events.pop_first();
    }
}

fn line(it: &Line) -> String {
    serde_json::to_string(it).map(|text| text + "\n").unwrap_or_default()
}

fn whole(origin: Timestamp, events: &BTreeMap<String, Event>) -> String {
    let all = events.values().map(|it| line(&Line::Event(Box::new(it.clone()))));
    line(&Line::Origin(origin)) + &all.collect::<String>()
}
