//! Everything that is known about alerts, in memory and in the journal: each change is one function, written down before
//! anybody hears of it.

use crate::AlertsError;
use crate::incident::Incident;
use crate::journal::{self, Record};
use crate::notify::Entry;
use crate::remediation::record::{Remediation, Strike};
use crate::silence::Silence;
use crate::state::{Phase, Standing};
use model::Timestamp;
use parking_lot::Mutex;
use platform::journal::{Held, Journal};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// Things of the past that are kept, of each kind.
const HISTORY: usize = 5_000;

/// One alert: an instance of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Of rule and labels, the same in every process.
    pub fingerprint: String,
    /// The rule's name.
    pub rule: String,
    /// Which rule of that name.
    #[serde(default)]
    pub source: String,
    /// `alertname` and the labels of rule and series.
    pub labels: BTreeMap<String, String>,
    /// What is said of it.
    pub annotations: BTreeMap<String, String>,
    /// Where it stands.
    pub standing: Standing,
    /// The value that made it; none where that is no finite number.
    #[serde(default)]
    pub value: Option<f64>,
    /// The newest sample in that value.
    #[serde(default)]
    pub sampled: Option<Timestamp>,
    /// When that value was computed.
    pub evaluated: Timestamp,
    /// The condition, as in the rule.
    pub query: String,
    /// SQL that gives the evidence again.
    #[serde(default)]
    pub sql: String,
    /// The finding that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// What each receiver was told last.
    #[serde(default)]
    pub told: BTreeMap<String, Told>,
    /// Whether it was kept quiet at some time since it fired.
    #[serde(default)]
    pub muted: bool,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
    /// What is being done about it, in words.
    #[serde(default)]
    pub action: String,
    /// The incident that it belongs to.
    #[serde(default)]
    pub incident: String,
    /// Over, and everybody who is to hear of it has.
    #[serde(default)]
    pub(crate) closed: bool,
    /// Why nobody is told, if so.
    #[serde(skip_deserializing, default)]
    pub quiet: Option<String>,
    /// Read back from the journal and not seen since.
    #[serde(skip)]
    pub(crate) restored: bool,
    /// Fires on for its time after a start, and its condition was not seen to hold since.
    #[serde(skip)]
    pub(crate) unseen: bool,
}

/// What a receiver was told of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The occurrence, by when it fired.
    pub fired: Timestamp,
    /// Whether it was told that it is over.
    pub resolved: bool,
    /// The severity that was told.
    pub severity: String,
    /// When it was first told of this occurrence; of a journal of before this was kept, never.
    #[serde(default)]
    pub at: Option<Timestamp>,
}

/// Somebody looks after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

/// A change that a person or a program made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// Who, by the name of the token.
    pub who: String,
    /// What, in words.
    pub what: String,
}

/// Alerts that are told together to one receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Route, receiver and group labels.
    pub key: String,
    /// When messages went out, the newest last; as many as count.
    pub sent: Vec<Timestamp>,
    /// The number of the next message.
    pub number: u64,
}

impl Alert {
    /// The label `severity`.
    pub fn severity(&self) -> &str {
        self.labels.get("severity").map_or("", String::as_str)
    }

    /// Whether it fires now.
    pub fn fires(&self) -> bool {
        self.standing.phase == Phase::Firing
    }

    /// What it is about, for incidents: the process or job, else the alert's own name.
    pub(crate) fn service(&self) -> String {
        let of = |name: &str| self.labels.get(name).filter(|it| !it.is_empty());
        let job = of("job").filter(|it| *it != "process");
        job.or(of("process")).or(of("service")).unwrap_or(&self.rule).clone()
    }
}

/// All of it. Changed only within [`Book::change`].
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Pending and firing, and resolved until everybody was told, by fingerprint.
    pub(crate) alerts: BTreeMap<String, Alert>,
    /// Their fingerprints, by rule.
    of_rule: HashMap<String, BTreeSet<String>>,
    /// Resolved, the newest last.
    pub(crate) past: VecDeque<Alert>,
    pub(crate) groups: BTreeMap<String, Group>,
    /// Waiting, by key.
    pub(crate) waiting: BTreeMap<String, Entry>,
    /// Delivered or given up, the newest last.
    pub(crate) delivered: VecDeque<Entry>,
    pub(crate) silences: BTreeMap<String, Silence>,
    pub(crate) incidents: BTreeMap<String, Incident>,
    pub(crate) remediations: BTreeMap<String, Remediation>,
    pub(crate) strikes: BTreeMap<String, Strike>,
    pub(crate) audit: VecDeque<Audit>,
    /// The kill switch; none is yes.
    pub(crate) allowed: Option<bool>,
    /// What goes to the journal.
    records: Vec<Record>,
}

impl Kept {
    /// Keeps what a record says, as if it were read back.
    pub(crate) fn take(&mut self, record: Record) {
        match record {
            Record::Alert(alert) => {
                if alert.closed {
                    self.remove(&alert.fingerprint);
                    self.past.push_back(*alert);
                } else {
                    let own = self.of_rule.entry(alert.source.clone()).or_default();
                    own.insert(alert.fingerprint.clone());
                    self.alerts.insert(alert.fingerprint.clone(), *alert);
                }
            }
            Record::Forget(fingerprint) => self.remove(&fingerprint),
            Record::Group(group) => drop(self.groups.insert(group.key.clone(), group)),
            Record::Entry(entry) => {
                self.waiting.remove(&entry.key);
                if entry.is_done() {
                    self.delivered.retain(|it| it.key != entry.key);
                    self.delivered.push_back(*entry);
                } else {
                    self.waiting.insert(entry.key.clone(), *entry);
                }
            }
            Record::Silence(silence) => drop(self.silences.insert(silence.id.clone(), silence)),
            Record::Incident(incident) => {
                drop(self.incidents.insert(incident.id.clone(), *incident));
            }
            Record::Remediation(it) => drop(self.remediations.insert(it.id.clone(), *it)),
            Record::Strike(strike) => {
                drop(self.strikes.insert(format!("{}/{}", strike.runbook, strike.step), strike));
            }
            Record::Audit(audit) => self.audit.push_back(audit),
            Record::Allowed(allowed) => self.allowed = Some(allowed),
        }
        self.trim();
    }

    fn remove(&mut self, fingerprint: &str) {
        let Some(alert) = self.alerts.remove(fingerprint) else { return };
        if let Some(own) = self.of_rule.get_mut(&alert.source) {
            own.remove(fingerprint);
            if own.is_empty() {
                self.of_rule.remove(&alert.source);
            }
        }
    }

    /// The alerts of a rule, by its id.
    pub(crate) fn of_rule(&self, id: &str) -> impl Iterator<Item = &Alert> {
        let own = self.of_rule.get(id).into_iter().flatten();
        own.filter_map(|fingerprint| self.alerts.get(fingerprint))
    }

    /// Keeps it and writes it down.
    pub(crate) fn note(&mut self, record: Record) {
        self.records.push(record.clone());
        self.take(record);
    }

    fn trim(&mut self) {
        while self.past.len() > HISTORY {
            self.past.pop_front();
        }
        while self.delivered.len() > HISTORY {
            self.delivered.pop_front();
        }
        while self.audit.len() > HISTORY {
            self.audit.pop_front();
        }
        // Ids begin with their time, so the first is the oldest. What goes on is kept: there are limits to how much does.
        forget(&mut self.incidents, |it| it.ended.is_some());
        forget(&mut self.remediations, |it| it.outcome == "refused");
        forget(&mut self.remediations, |it| it.ended.is_some());
        // One is over if it ended before the newest was set, whenever that begins: ids tell when.
        let newest = self
            .silences
            .keys()
            .next_back()
            .and_then(|id| i64::from_str_radix(id.get(..12)?, 16).ok());
        forget(&mut self.silences, |it| newest.is_some_and(|newest| it.ends.millis() < newest));
        if self.groups.len() > HISTORY {
            let oldest = self.groups.values().min_by_key(|it| it.sent.last().copied());
            if let Some(key) = oldest.map(|it| it.key.clone()) {
                self.groups.remove(&key);
            }
        }
    }

    fn everything(&self) -> Vec<Record> {
        let alerts = self.past.iter().chain(self.alerts.values());
        let entries = self.delivered.iter().chain(self.waiting.values());
        let mut all: Vec<Record> = alerts.map(|it| Record::Alert(Box::new(it.clone()))).collect();
        all.extend(self.groups.values().cloned().map(Record::Group));
        all.extend(entries.map(|it| Record::Entry(Box::new(it.clone()))));
        all.extend(self.silences.values().cloned().map(Record::Silence));
        all.extend(self.incidents.values().map(|it| Record::Incident(Box::new(it.clone()))));
        all.extend(self.remediations.values().map(|it| Record::Remediation(Box::new(it.clone()))));
        all.extend(self.strikes.values().cloned().map(Record::Strike));
        all.extend(self.audit.iter().cloned().map(Record::Audit));
        all.extend(self.allowed.map(Record::Allowed));
        all
    }
}

/// Removes the oldest of what may go, where there is more than is kept.
fn forget<T>(all: &mut BTreeMap<String, T>, may_go: impl Fn(&T) -> bool) {
    if all.len() > HISTORY
        && let Some(id) = all.iter().find(|(_, it)| may_go(it)).map(|(id, _)| id.clone())
    {
        all.remove(&id);
    }
}

/// An id that begins with its time, so that ids sort by it; `of` tells those of one millisecond apart.
pub(crate) fn id(now: Timestamp, of: &str) -> String {
    let hash = twox_hash::XxHash3_64::oneshot(of.as_bytes());
    format!("{:012x}-{:08x}", now.millis(), hash as u32)
}

/// The book. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Book(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Held for the whole of a change, so that lines are in the order of changes. Readers do not wait for it.
    journal: Mutex<Option<Journal>>,
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
}

impl Book {
    /// The book of `dir`, which is made if it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, AlertsError> {
        platform::durable::create_dir(dir)?;
        let Held { records, damaged } = journal::read(dir)?;
        let book = Self::of(records);
        let journal = journal::begin(dir, &book.0.kept.lock().everything(), &damaged)?;
        *book.0.journal.lock() = Some(journal);
        Ok(book)
    }

    /// The book of `dir`, to be read alone.
    pub(crate) fn read(dir: &Path) -> Result<Self, AlertsError> {
        Ok(Self::of(journal::read(dir)?.records))
    }

    /// A book that no file has.
    pub(crate) fn of(records: Vec<Record>) -> Self {
        let mut kept = Kept::default();
        records.into_iter().for_each(|record| kept.take(record));
        kept.alerts.values_mut().for_each(|it| it.restored = true);
        // Whether a message was tried may not have survived with it: it is never changed any more.
        kept.waiting.values_mut().for_each(|it| it.attempts = it.attempts.max(1));
        let changed = watch::Sender::new(0);
        Self(Arc::new(Shared { journal: Mutex::new(None), kept: Mutex::new(kept), changed }))
    }

    /// Looks.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Kept) -> T) -> T {
        look(&self.0.kept.lock())
    }

    /// Changes, and writes down what the change noted; it survives `kill -9` when this returns, and with `sync` power loss.
    pub(crate) fn change<T>(&self, sync: bool, change: impl FnOnce(&mut Kept) -> T) -> T {
        let mut journal = self.0.journal.lock();
        let (done, records) = {
            let mut kept = self.0.kept.lock();
            let done = change(&mut kept);
            (done, std::mem::take(&mut kept.records))
        };
        if records.is_empty() {
            return done;
        }
        if let Some(journal) = journal.as_mut() {
            journal::append(journal, &records, sync, || self.0.kept.lock().everything());
        }
        drop(journal);
        self.0.changed.send_modify(|number| *number += 1);
        done
    }

    /// The same from a task: it waits for the disk, and the tasks of others must not wait with it. `None` where it panicked.
    pub(crate) async fn change_aside<T: Send + 'static>(
        &self,
        sync: bool,
        change: impl FnOnce(&mut Kept) -> T + Send + 'static,
    ) -> Option<T> {
        let own = self.clone();
        tokio::task::spawn_blocking(move || own.change(sync, change)).await.ok()
    }

    /// Hears of each change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}
