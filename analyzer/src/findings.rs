//! The findings that are kept: bounded in number, in a journal that survives the process, each in its group.
//!
//! The journal has one finding a line, as JSON; a later line of the same id stands for the earlier one. It is written
//! anew when most of its lines are of the past. A line that is torn or damaged is left out, and said so.

use crate::finding::{Finding, Kind, Related, Severity, Verdict};
use crate::{AnalyzerConfig, AnalyzerError};
use model::Timestamp;
use parking_lot::Mutex;
use platform::durable::{self, AppendFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// The journal, in the folder of the analyzer.
const JOURNAL: &str = "findings.jsonl";

/// Findings of one service that begin within this time are one.
const TOGETHER: Duration = Duration::from_secs(15 * 60);

/// After so long without more evidence a finding is over.
const SILENT: Duration = Duration::from_secs(36 * 3_600);

/// The span of the budget of a service.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// With a rank this low or lower, a ticket is a note: two people, or one twice, said that its like was nothing.
const LOW_RANK: f64 = 0.25;

/// All findings. Clones share them.
#[derive(Clone, Debug)]
pub struct Findings(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// By time and id, the oldest first.
    all: BTreeMap<(Timestamp, String), Finding>,
    journal: Option<Journal>,
    max: usize,
    tickets_per_week: usize,
}

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    /// None after a failed write: then the whole is written anew at the next change.
    file: Option<AppendFile>,
    lines: usize,
}

impl Findings {
    /// Those kept in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// The folder or its journal could not be read or written.
    pub fn open(dir: &Path, config: &AnalyzerConfig) -> Result<Self, AnalyzerError> {
        durable::create_dir(dir)?;
        let findings = Self::read(dir, config)?;
        {
            let mut kept = findings.0.lock();
            kept.journal = Some(Journal { path: dir.join(JOURNAL), file: None, lines: 0 });
            kept.rewrite()?;
        }
        Ok(findings)
    }

    /// Those kept in `dir`, without a way to keep more; a folder that is not there has none.
    ///
    /// # Errors
    /// The journal is there and could not be read.
    pub fn read(dir: &Path, config: &AnalyzerConfig) -> Result<Self, AnalyzerError> {
        let path = dir.join(JOURNAL);
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(AnalyzerError::Read { path, source }),
        };
        let mut by_id: BTreeMap<String, Finding> = BTreeMap::new();
        let mut damaged = 0_usize;
        for line in text.lines().filter(|line| !line.is_empty()) {
            match serde_json::from_str::<Finding>(line) {
                Ok(finding) => drop(by_id.insert(finding.id.clone(), finding)),
                Err(_) => damaged += 1,
            }
        }
        if damaged > 0 {
            warn!(path = %path.display(), damaged, "lines of the journal of findings are damaged; the rest is kept");
        }
        let findings = Self::in_memory(config);
        {
            let mut kept = findings.0.lock();
            for finding in by_id.into_values() {
                kept.all.insert((finding.at, finding.id.clone()), finding);
            }
            kept.trim();
        }
        Ok(findings)
    }

    /// None yet, and none outlives the process.
    pub fn in_memory(config: &AnalyzerConfig) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            all: BTreeMap::new(),
            journal: None,
            max: config.max_findings,
            tickets_per_week: config.tickets_per_service_week,
        })))
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Finding> {
        self.0.lock().all.values().rev().cloned().collect()
    }

    /// Keeps a finding, unless it is known. More evidence for what goes on already is added to that. Returns what is new, or
    /// worse than before, as it is kept: with its group, rank and severity.
    pub(crate) fn add(&self, finding: Finding) -> Option<Finding> {
        let mut kept = self.0.lock();
        if kept.all.contains_key(&(finding.at, finding.id.clone())) {
            return None;
        }
        if let Some(before) = kept.same(&finding) {
            if finding.at <= before.updated {
                return None;
            }
            let worse = finding.severity > before.severity;
            let finding = kept.ranked(Finding {
                id: before.id,
                at: before.at,
                since: before.since.min(finding.since),
                changes: before.changes,
                related: before.related,
                belongs_to: before.belongs_to,
                verdict: before.verdict,
                ..finding
            });
            kept.put(finding.clone());
            return worse.then_some(finding);
        }
        let mut finding = kept.ranked(finding);
        let head = kept.head_of(&finding);
        if let Some(head) = head {
            finding.belongs_to = Some(head.1.clone());
            kept.relate(&head, &finding);
        }
        kept.put(finding.clone());
        Some(finding)
    }

    /// Marks as over what goes on in a series. Returns how many were.
    pub(crate) fn end(&self, kind: Kind, subject: &crate::Subject, until: Timestamp) -> usize {
        let mut kept = self.0.lock();
        let open = |it: &&Finding| it.until.is_none() && it.kind == kind && it.subject == *subject;
        let ended: Vec<Finding> = kept.all.values().filter(open).cloned().collect();
        for finding in &ended {
            kept.put(Finding { until: Some(until.max(finding.at)), ..finding.clone() });
        }
        ended.len()
    }

    /// Marks as over what had no more evidence for a day and a half before `now`: detectors repeat what goes on each day.
    pub(crate) fn expire(&self, now: Timestamp) {
        let mut kept = self.0.lock();
        let silent = |it: &&Finding| it.until.is_none() && it.updated.plus(SILENT) < now;
        let silent: Vec<Finding> = kept.all.values().filter(silent).cloned().collect();
        for finding in silent {
            kept.put(Finding { until: Some(finding.updated), ..finding });
        }
    }

    /// Notes what a person said of a finding. Its like, also those found before and still open, are ranked anew.
    /// `None` if there is no such finding.
    pub fn judge(&self, id: &str, verdict: Verdict) -> Option<Finding> {
        let mut kept = self.0.lock();
        let mut finding = kept.all.values().find(|it| it.id == id)?.clone();
        finding.verdict = Some(verdict);
        kept.put(finding.clone());
        let like: Vec<Finding> = kept
            .all
            .values()
            .filter(|it| it.like() == finding.like() && it.until.is_none())
            .cloned()
            .collect();
        for one in like {
            let ranked = kept.ranked(one);
            kept.put(ranked);
        }
        kept.all.get(&(finding.at, finding.id)).cloned()
    }
}

impl Kept {
    /// With its rank, and the severity that rank and budget leave.
    fn ranked(&self, mut finding: Finding) -> Finding {
        let like = finding.like();
        let judged = self.all.values().filter(|it| it.like() == like).filter_map(|it| it.verdict);
        let nothings = judged.fold(0, |count, verdict| match verdict {
            Verdict::Nothing => count + 1,
            Verdict::Right => 0,
        });
        finding.rank = 0.5_f64.powi(nothings);
        if finding.severity == Severity::Ticket
            && (finding.rank <= LOW_RANK || self.spent(&finding))
        {
            finding.severity = Severity::Note;
        }
        finding
    }

    /// What goes on in the same series already.
    fn same(&self, finding: &Finding) -> Option<Finding> {
        let mut open = self.all.values().rev().filter(|it| {
            it.until.is_none() && it.kind == finding.kind && it.subject == finding.subject
        });
        open.next().cloned()
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
        }
        head.related.push(related(finding));
        head.related.sort_by_key(|it| (it.kind.cause_rank(), it.since, it.id.clone()));
        head.related.truncate(MOST_RELATED);
        head.severity = head.severity.max(finding.severity);
        self.put(head);
    }

    fn put(&mut self, finding: Finding) {
        let line = serde_json::to_string(&finding);
        self.all.insert((finding.at, finding.id.clone()), finding);
        self.trim();
        let Ok(line) = line else { return };
        let most = 4 * self.max.max(16);
        let appended = match &mut self.journal {
            None => return,
            Some(Journal { file: Some(file), lines, .. }) if *lines < most => {
                *lines += 1;
                file.append(format!("{line}\n").as_bytes()).and_then(|()| file.sync())
            }
            Some(_) => self.rewrite(),
        };
        if let Err(error) = appended {
            warn!(%error, "a finding was not written to its journal; all are written anew with the next");
            if let Some(journal) = &mut self.journal {
                journal.file = None;
            }
        }
    }

    fn rewrite(&mut self) -> Result<(), platform::PlatformError> {
        let lines = self.all.values().filter_map(|it| serde_json::to_string(it).ok());
        let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.file = None;
        durable::replace(&journal.path, text.as_bytes())?;
        journal.file = Some(AppendFile::open_at(&journal.path, text.len() as u64)?);
        journal.lines = self.all.len();
        Ok(())
    }

    /// The oldest make room.
    fn trim(&mut self) {
        while self.all.len() > self.max {
            self.all.pop_first();
        }
    }
}

/// Series named in one finding.
const MOST_RELATED: usize = 100;

#[cfg(test)]
mod tests;
