//! How a change of the file is published: under one lock for all processes, against the content that was read, noted before, whole or
//! not at all; and how it is taken back.

use super::document::{Document, EditError};
use super::flags::Flags;
use super::journal::{Intent, Journal, Record, beside};
use platform::PlatformError;
use platform::durable;
use platform::lock::DirLock;
use runtime::Clock;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a change waits for others who change the file.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a change was not made. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// The file is not there or cannot be read.
    #[error("could not read {path:?}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The edit cannot be made.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The new values would not do.
    #[error("not changed: {}", .0.join("; "))]
    Unfit(Vec<String>),
    /// Somebody changed the file since it was read.
    #[error("not changed: the file is at {now}, not at {expected} as you expect; read it again")]
    Moved {
        /// What was expected.
        expected: String,
        /// What is.
        now: String,
    },
    /// There is no such version to go back to.
    #[error("no version {0} in the journal; `history` lists those that there are")]
    NoVersion(u64),
    /// The file or what stands beside it could not be written.
    #[error("not changed: {0}")]
    Platform(#[from] PlatformError),
    /// The journal could not be written as text.
    #[error("not changed: the journal's line could not be written: {0}")]
    Journal(String),
}

/// A change to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These keys get these values.
    Set(Vec<(String, String)>),
    /// These keys go.
    Unset(Vec<String>),
    /// What can be repaired is.
    Repair,
    /// The content from before this version comes back.
    Rollback(u64),
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file says so already.
    Unchanged,
    /// It is published as this version; the content has this hash.
    Published {
        /// Its number.
        version: u64,
        /// Of the content.
        hash: String,
    },
}

/// A version in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub number: u64,
    /// When.
    pub time: model::Timestamp,
    /// Who.
    pub author: String,
    /// What, without values.
    pub change: String,
    /// What became of it.
    pub state: String,
}

/// An environment file that many may change at once.
#[derive(Clone, Debug)]
pub struct EnvFile {
    path: PathBuf,
    clock: Clock,
}

impl EnvFile {
    /// The file at `path`, or where a link there leads. It need not exist: it is then created by the first change.
    pub fn new(path: &Path, clock: Clock) -> Self {
        Self { path: std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), clock }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says, and the hash of its content.
    ///
    /// # Errors
    /// It cannot be read, or is no UTF-8.
    pub fn read(&self) -> Result<(Document, String), EnvError> {
        let failed = |cause: String| EnvError::Read { path: self.path.clone(), cause };
        let bytes = match std::fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|error| failed(error.to_string()))?,
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            failed(format!("line {line} is not UTF-8; write the file as UTF-8"))
        })?;
        Ok((Document::parse(&text), hash(&text)))
    }

    /// Makes a change, if the content still has the hash `expected`, where that is given. A `judged` change stays only when
    /// [`EnvFile::keep`] says so: a start of the gateway before that takes it back.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn commit(
        &self,
        change: &Change,
        author: &str,
        expected: Option<&str>,
        judged: bool,
    ) -> Result<Outcome, EnvError> {
        let _lock = self.lock()?;
        let (document, now) = self.read()?;
        if let Some(expected) = expected.filter(|expected| *expected != now) {
            return Err(EnvError::Moved { expected: expected.to_owned(), now });
        }
        let mut journal = Journal::open(&self.path)?;
        let edited = edit(&document, change, &journal)?;
        if edited.text() == document.text() {
            return Ok(Outcome::Unchanged);
        }
        // What was unfit before is no reason to refuse what makes nothing worse.
        let known = Flags::faults(&document);
        let faults = Flags::faults(&edited).into_iter().filter(|fault| !known.contains(fault));
        let faults: Vec<String> = faults.map(|(_, words)| words).collect();
        if !faults.is_empty() && !matches!(change, Change::Rollback(_)) {
            return Err(EnvError::Unfit(faults));
        }
        let (version, after) = (journal.next_version(), hash(edited.text()));
        let intent = Intent {
            version,
            time: self.clock.now(),
            author: author.to_owned(),
            change: change.words(),
            before: document.text().to_owned(),
            after: edited.text().to_owned(),
            before_hash: now,
            after_hash: after.clone(),
            judged,
        };
        journal.append(Record::Intent(intent), true)?;
        platform::crash_point::pass("env_after_intent");
        if let Err(error) = durable::replace_private(&self.path, edited.text().as_bytes()) {
            // Where it is there all the same, the next start looks at it.
            if self.read().is_ok_and(|(_, found)| found != after) {
                let reason = format!("not published: {error}");
                let _ = journal.append(Record::Outcome { version, kept: false, reason }, true);
            }
            return Err(error.into());
        }
        for own in ["lock", "journal"] {
            // Of root's making it would be shut to the gateway.
            durable::belong_like(&self.path, &beside(&self.path, own));
        }
        platform::crash_point::pass("env_after_publish");
        Ok(Outcome::Published { version, hash: after })
    }

    /// A judged change is good. Says false when it was taken back meanwhile.
    ///
    /// # Errors
    /// The journal could not be written.
    pub fn keep(&self, version: u64) -> Result<bool, EnvError> {
        let _lock = self.lock()?;
        let mut journal = Journal::open(&self.path)?;
        if let Some((kept, _)) = journal.outcome(version) {
            return Ok(kept);
        }
        let outcome = Record::Outcome { version, kept: true, reason: String::new() };
        journal.append(outcome, true)?;
        Ok(true)
    }

    /// Takes a change back, and why. What others changed after it stays.
    ///
    /// # Errors
    /// The version is unknown, or a file could not be written.
    pub fn take_back(&self, version: u64, reason: &str) -> Result<(), EnvError> {
        let _lock = self.lock()?;
        let mut journal = Journal::open(&self.path)?;
        self.take_back_locked(&mut journal, version, reason)
    }

    /// Takes back the judged changes of which nobody said that they are good, the newest first; gives their numbers. For the start of
    /// the gateway: what it did not survive must not meet it again.
    ///
    /// # Errors
    /// A file could not be read or written.
    pub fn recover(&self) -> Result<Vec<u64>, EnvError> {
        if !beside(&self.path, "journal").exists() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        let mut journal = Journal::open(&self.path)?;
        let kept = |it: &Intent| journal.outcome(it.version).is_some_and(|(kept, _)| kept);
        // The same content, made again later and called good, is good.
        let made_again = |it: &Intent| {
            let mut later = journal.intents().rev().take_while(|later| later.version > it.version);
            later.any(|later| later.after_hash == it.after_hash && kept(later))
        };
        let open =
            |it: &&Intent| it.judged && journal.outcome(it.version).is_none() && !made_again(it);
        let versions: Vec<u64> =
            journal.intents().rev().filter(open).map(|it| it.version).collect();
        for version in &versions {
            let reason = "the gateway started before anybody said that it is good";
            self.take_back_locked(&mut journal, *version, reason)?;
        }
        Ok(versions)
    }

    fn take_back_locked(
        &self,
        journal: &mut Journal,
        version: u64,
        reason: &str,
    ) -> Result<(), EnvError> {
        let missing = EnvError::NoVersion(version);
        let intent = journal.intents().find(|it| it.version == version).cloned().ok_or(missing)?;
        let (now, now_hash) = self.read()?;
        let restored = if now_hash == intent.after_hash {
            intent.before.clone()
        } else {
            // Others came after it, or it was never published: then nothing of it is there.
            without(&now, &intent.before, &intent.after)?.text().to_owned()
        };
        if restored != now.text() {
            durable::replace_private(&self.path, restored.as_bytes())?;
        }
        let outcome = Record::Outcome { version, kept: false, reason: reason.to_owned() };
        journal.append(outcome, true)
    }

    /// The versions that are known, the newest first.
    ///
    /// # Errors
    /// The journal or the file could not be read.
    pub fn history(&self) -> Result<Vec<Version>, EnvError> {
        let _lock = self.lock()?;
        let journal = Journal::open(&self.path)?;
        let (_, now) = self.read()?;
        let mut last = true;
        let mut versions = Vec::new();
        for intent in journal.intents().rev() {
            let state = match journal.outcome(intent.version) {
                Some((true, _)) => "kept".to_owned(),
                Some((false, reason)) => format!("taken back: {reason}"),
                // Its writer ended between the note and the file.
                None if last && intent.before_hash == now => "not published".to_owned(),
                None if intent.judged => "being judged".to_owned(),
                None => "published".to_owned(),
            };
            last = false;
            let Intent { version: number, time, author, change, .. } = intent.clone();
            versions.push(Version { number, time, author, change, state });
        }
        Ok(versions)
    }

    /// Changes bytes past everything that a change goes through, but with the lock: for faults on purpose, and their end.
    pub(crate) fn rewrite(
        &self,
        change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<(), EnvError> {
        let _lock = self.lock()?;
        let now = std::fs::read(&self.path).unwrap_or_default();
        match change(&now) {
            Some(new) => Ok(durable::replace_private(&self.path, &new)?),
            None => Ok(()),
        }
    }

    fn lock(&self) -> Result<DirLock, EnvError> {
        let holder = format!("process {}", std::process::id());
        Ok(DirLock::wait(&beside(&self.path, "lock"), &holder, PATIENCE)?)
    }
}

impl Change {
    fn words(&self) -> String {
        let keys = |keys: Vec<&str>| keys.join(" ");
        match self {
            Self::Set(pairs) => {
                format!("set {}", keys(pairs.iter().map(|(key, _)| key.as_str()).collect()))
            }
            Self::Unset(names) => {
                format!("unset {}", keys(names.iter().map(String::as_str).collect()))
            }
            Self::Repair => "repair".to_owned(),
            Self::Rollback(version) => format!("rollback of version {version}"),
        }
    }
}

fn edit(document: &Document, change: &Change, journal: &Journal) -> Result<Document, EnvError> {
    let mut edited = document.clone();
    match change {
        Change::Set(pairs) => {
            for (key, value) in pairs {
                edited = edited.set(key, value)?;
            }
        }
        Change::Unset(keys) => {
            for key in keys {
                edited = edited.unset(key)?;
            }
        }
        Change::Repair => edited = edited.repaired().0,
        Change::Rollback(version) => {
            let intent = journal.intents().find(|it| it.version == *version);
            let intent = intent.ok_or(EnvError::NoVersion(*version))?;
            edited = Document::parse(&intent.before);
        }
    }
    Ok(edited)
}

/// `now` with what lies between `before` and `after` undone, where nobody has changed it again.
fn without(now: &Document, before: &str, after: &str) -> Result<Document, EnvError> {
    let (before, after) = (Document::parse(before), Document::parse(after));
    let mut document = now.clone();
    let keys = before.values().into_keys().chain(after.values().into_keys());
    let keys: std::collections::BTreeSet<&str> = keys.collect();
    for key in keys {
        let (was, became) = (before.get(key), after.get(key));
        if was == became || now.get(key) != became {
            continue;
        }
        document = match was {
            Some(value) => document.set(key, value)?,
            None => document.unset(key)?,
        };
    }
    Ok(document)
}

/// Names a content.
fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
