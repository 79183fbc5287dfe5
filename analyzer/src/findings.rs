//! The findings that are kept: bounded in number, in a journal that survives the process, each in its group.
//!
//! The journal has one finding a line, as JSON; a later line of the same id stands for the earlier one. It is written
//! anew when most of its lines are of the past. A line that is torn or damaged is left out, and said so.

use crate::finding::{Finding, Kind, Related, Severity, Subject, Verdict};
use crate::{AnalyzerConfig, AnalyzerError};
use model::Timestamp;
use parking_lot::Mutex;
use platform::durable;
use platform::journal::{self, Held, Journal};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The journal, in the folder of the analyzer.
const JOURNAL: &str = "findings.jsonl";

/// Findings of one service that begin within this time are one.
const TOGETHER: Duration = Duration::from_secs(15 * 60);

/// After so long without more evidence a finding is over. Of a leak there is more each day; the others are told to be over,
/// unless their target is gone.
fn silence(kind: Kind) -> Duration {
    let hours = if kind == Kind::Leak { 36 } else { 8 * 24 };
    Duration::from_secs(hours * 3_600)
}

/// The span of the budget of a service.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// With a rank this low or lower, a ticket is a note: of its like two were called nothing.
const LOW_RANK: f64 = 0.25;

/// All findings. Clones share them.
#[derive(Clone, Debug)]
pub struct Findings(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Held for the whole of a change, so that lines are written in the order of changes. Readers do not wait for it.
    journal: Mutex<Option<Journal>>,
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    /// By time and id, the oldest first.
    all: BTreeMap<(Timestamp, String), Finding>,
    /// Lines that are not yet in the journal.
    lines: Vec<String>,
    max: usize,
    tickets_per_week: usize,
}

impl Findings {
    /// Those kept in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// The folder or its journal could not be read or written.
    pub fn open(dir: &Path, config: &AnalyzerConfig) -> Result<Self, AnalyzerError> {
        durable::create_dir(dir)?;
        let (findings, damaged) = Self::read_all(dir, config)?;
        let whole = findings.0.kept.lock().whole();
        let journal = Journal::begin(&dir.join(JOURNAL), &whole, &damaged)?;
        *findings.0.journal.lock() = Some(journal);
        Ok(findings)
    }

    /// Those kept in `dir`, without a way to keep more; a folder that is not there has none.
    ///
    /// # Errors
    /// The journal is there and could not be read.
    pub fn read(dir: &Path, config: &AnalyzerConfig) -> Result<Self, AnalyzerError> {
        Ok(Self::read_all(dir, config)?.0)
    }

    /// All that can be read, and the lines that cannot.
    fn read_all(dir: &Path, config: &AnalyzerConfig) -> Result<(Self, String), AnalyzerError> {
        let parse = |line: &str| serde_json::from_str::<Finding>(line).ok();
        let Held { records, damaged } = journal::read(&dir.join(JOURNAL), parse)?;
        let mut by_id: BTreeMap<String, Finding> = BTreeMap::new();
        for finding in records {
            by_id.insert(finding.id.clone(), finding);
        }
        let findings = Self::in_memory(config);
        {
            let mut kept = findings.0.kept.lock();
            for finding in by_id.into_values() {
                kept.all.insert((finding.at, finding.id.clone()), finding);
            }
            kept.trim();
        }
        Ok((findings, damaged))
    }

    /// None yet, and none outlives the process.
    pub fn in_memory(config: &AnalyzerConfig) -> Self {
        let kept = Kept {
            all: BTreeMap::new(),
            lines: Vec::new(),
            max: config.max_findings,
            tickets_per_week: config.tickets_per_service_week,
        };
        let changed = watch::Sender::new(0);
        Self(Arc::new(Shared { journal: Mutex::new(None), kept: Mutex::new(kept), changed }))
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Finding> {
        self.newest(usize::MAX, |_| true)
    }

    /// The newest that are wanted, up to `most`.
    pub fn newest(&self, most: usize, wanted: impl Fn(&Finding) -> bool) -> Vec<Finding> {
        let kept = self.0.kept.lock();
        kept.all.values().rev().filter(|it| wanted(it)).take(most).cloned().collect()
    }

    /// The newest that are open and to be told, up to `most`: heads, and of what belongs to one the first whose kind is nearer to a cause
    /// than the head's and those before. An anomaly that was seen first must not keep a leak from those who act on leaks.
    pub fn to_tell(&self, most: usize) -> Vec<Finding> {
        let kept = self.0.kept.lock();
        let mut nearest = BTreeMap::<&str, usize>::new();
        let mut told: Vec<&Finding> = Vec::new();
        let open = kept.all.values().filter(|it| it.until.is_none());
        for it in open.clone().filter(|it| it.belongs_to.is_none()) {
            nearest.insert(&it.id, it.kind.cause_rank());
            told.push(it);
        }
        for it in open {
            let Some(head) = it.belongs_to.as_deref() else { continue };
            let rank = nearest.entry(head).or_insert(usize::MAX);
            if it.kind.cause_rank() < *rank {
                *rank = it.kind.cause_rank();
                told.push(it);
            }
        }
        told.sort_by_key(|it| std::cmp::Reverse(it.at));
        told.into_iter().take(most).cloned().collect()
    }

    /// Hears of each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Makes a change, and writes it down when readers may go on.
    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        let mut journal = self.0.journal.lock();
        let (done, lines) = {
            let mut kept = self.0.kept.lock();
            let done = change(&mut kept);
            (done, std::mem::take(&mut kept.lines))
        };
        if lines.is_empty() {
            return done;
        }
        if let Some(journal) = journal.as_mut() {
            // Four times as many as are kept lie in the file at most.
            let most = 3 * self.0.kept.lock().max.max(16);
            let whole = || self.0.kept.lock().whole();
            journal.append((&lines.concat(), lines.len()), most, true, whole);
        }
        drop(journal);
        self.0.changed.send_modify(|number| *number += 1);
        done
    }

    /// Keeps a finding, unless it is known. More evidence for what goes on already is added to that. Returns what is new, or
    /// worse than before, as it is kept: with its group, rank and severity.
    pub(crate) fn add(&self, finding: Finding) -> Option<Finding> {
        self.change(|kept| kept.add(finding))
    }

    /// Marks as over what goes on in a series and began before `until`.
    pub(crate) fn end(&self, kind: Kind, subject: &Subject, until: Timestamp) {
        let open = |it: &Finding| {
            it.until.is_none() && it.at <= until && it.kind == kind && it.subject == *subject
        };
        self.change(|kept| kept.each(open, |it| it.until = Some(until)));
    }

    /// Marks as over what had no more evidence for long before `now`.
    pub(crate) fn expire(&self, now: Timestamp) {
        let silent = |it: &Finding| it.until.is_none() && it.updated.plus(silence(it.kind)) < now;
        self.change(|kept| kept.each(silent, |it| it.until = Some(it.updated)));
    }

    /// Notes what a person said of a finding. Its like, also those found before and still open, are ranked anew.
    /// `None` if there is no such finding.
    pub fn judge(&self, id: &str, verdict: Verdict) -> Option<Finding> {
        self.change(|kept| {
            let mut finding = kept.all.values().find(|it| it.id == id)?.clone();
            finding.verdict = Some(verdict);
            kept.put(finding.clone());
            let like = |it: &Finding| it.like() == finding.like() && it.until.is_none();
            let like: Vec<Finding> = kept.all.values().filter(|it| like(it)).cloned().collect();
            for one in like {
                let ranked = kept.ranked(one);
                kept.put(ranked);
            }
            kept.all.get(&(finding.at, finding.id)).cloned()
        })
    }
}

impl Kept {
    fn add(&mut self, finding: Finding) -> Option<Finding> {
        if self.all.contains_key(&(finding.at, finding.id.clone())) {
            return None;
        }
        if let Some(before) = self.same(&finding) {
            // Of before its last evidence it is known, though under another time: a replay.
            if before.until.is_some() || finding.at <= before.updated {
                return None;
            }
            let had = before.severity;
            let finding = self.ranked(Finding {
                id: before.id,
                at: before.at,
                since: before.since.min(finding.since),
                changes: before.changes,
                worst: before.worst,
                related: before.related,
                belongs_to: before.belongs_to,
                verdict: before.verdict,
                ..finding
            });
            self.put(finding.clone());
            return (finding.severity > had).then_some(finding);
        }
        let mut finding = self.ranked(finding);
        if let Some(head) = self.head_of(&finding) {
            finding.belongs_to = Some(head.1.clone());
            self.relate(&head, &finding);
        }
        self.put(finding.clone());
        Some(finding)
    }

    /// Changes those that `which` names.
    fn each(&mut self, which: impl Fn(&Finding) -> bool, change: impl Fn(&mut Finding)) {
        let found: Vec<Finding> = self.all.values().filter(|it| which(it)).cloned().collect();
        for mut finding in found {
            change(&mut finding);
            self.put(finding);
        }
    }

    /// With its rank, and the severity that rank and budget leave.
    fn ranked(&self, mut finding: Finding) -> Finding {
        let like = finding.like();
        let judged = self.all.values().filter(|it| it.like() == like).filter_map(|it| it.verdict);
        let nothings = judged.fold(0, |count, verdict| match verdict {
            Verdict::Nothing => count + 1,
            Verdict::Right => 0,
        });
        finding.rank = 0.5_f64.powi(nothings);
        finding.severity = finding.raised;
        if finding.severity == Severity::Ticket
            && (finding.rank <= LOW_RANK || self.spent(&finding))
        {
            finding.severity = Severity::Note;
        }
        if !finding.related.is_empty() {
            finding.severity = finding.severity.max(finding.worst);
        }
        finding
    }

    /// What goes on in the same series, or did at the time of `finding`.
    fn same(&self, finding: &Finding) -> Option<Finding> {
        let mut same = self.all.values().rev().filter(|it| {
            it.kind == finding.kind
                && it.subject == finding.subject
                && it.until.is_none_or(|until| it.at <= finding.at && finding.at <= until)
        });
        same.next().cloned()
    }

    /// Whether the service had its tickets of the week already, all of them worth more.
    fn spent(&self, finding: &Finding) -> bool {
        let recent = self.all.values().filter(|it| {
            it.severity == Severity::Ticket
                && it.id != finding.id
                && it.subject.service() == finding.subject.service()
                && it.at <= finding.at
                && it.at.plus(WEEK) > finding.at
                && it.rank >= finding.rank
        });
        recent.count() >= self.tickets_per_week
    }

    /// The finding of the same service that began about then and belongs to no other.
    fn head_of(&self, finding: &Finding) -> Option<(Timestamp, String)> {
        let near = |a: Timestamp, b: Timestamp| {
            a.millis().abs_diff(b.millis()) <= TOGETHER.as_millis() as u64
        };
        let mut newest = self.all.values().rev().filter(|it| {
            it.belongs_to.is_none()
                && it.subject.service() == finding.subject.service()
                && it.id != finding.id
                && (near(it.since, finding.since) || near(it.at, finding.at))
        });
        newest.next().map(|it| (it.at, it.id.clone()))
    }

    fn relate(&mut self, head: &(Timestamp, String), finding: &Finding) {
        let Some(mut head) = self.all.get(head).cloned() else { return };
        let related = |it: &Finding| Related {
            id: it.id.clone(),
            kind: it.kind,
            subject: it.subject.clone(),
            since: it.since,
            summary: it.summary().to_owned(),
        };
        if head.related.is_empty() {
            head.related.push(related(&head));
            head.worst = head.severity;
        }
        head.related.push(related(finding));
        head.related.sort_by_key(|it| (it.kind.cause_rank(), it.since, it.id.clone()));
        head.related.truncate(MOST_RELATED);
        head.worst = head.worst.max(finding.severity);
        head.severity = head.severity.max(head.worst);
        self.put(head);
    }

    fn put(&mut self, finding: Finding) {
        self.lines.extend(line(&finding));
        self.all.insert((finding.at, finding.id.clone()), finding);
        self.trim();
    }

    /// All as lines.
    fn whole(&self) -> String {
        self.all.values().filter_map(line).collect()
    }

    /// The oldest make room.
    fn trim(&mut self) {
        while self.all.len() > self.max {
            self.all.pop_first();
        }
    }
}

fn line(finding: &Finding) -> Option<String> {
    Some(serde_json::to_string(finding).ok()? + "\n")
}

/// Series named in one finding.
const MOST_RELATED: usize = 100;

#[cfg(test)]
mod tests;
