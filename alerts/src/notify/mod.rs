//! Messages on their way: an outbox that survives the process, one task for each receiver, tries until it is taken.
//!
//! - here: the message and the task; `webhook`, `email`: the two ways out; `text`: what is said; `plot`: the series as an image

pub(crate) mod email;
mod plot;
pub(crate) mod text;
pub(crate) mod webhook;

use crate::book::{Alert, Book, Group, Kept};
use crate::journal::Record;
use crate::latency::Latency;
use crate::route::Destination;
use model::Timestamp;
use runtime::{Backoff, Clock, Jitter, Stop, Tick};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracing::{info, warn};

/// Why a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Something fires or is over.
    News,
    /// It still fires.
    Repeat,
    /// Nobody acknowledged it.
    Escalation,
    /// The machine is at its end with it.
    Remediation,
}

/// A message to one receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The same for the same message in every attempt and process: receivers may take it for the proof of a duplicate.
    pub key: String,
    /// To whom.
    pub receiver: String,
    /// The group that it is of.
    pub group: String,
    /// The labels that its alerts share by `group_by`.
    pub labels: BTreeMap<String, String>,
    /// Why.
    pub reason: Reason,
    /// The alerts in it.
    pub alerts: Vec<Alert>,
    /// How many fire.
    pub firing: usize,
    /// How many are over.
    pub resolved: usize,
    /// When it was written.
    pub made: Timestamp,
    /// Attempts begun.
    pub attempts: u32,
    /// When the last one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Timestamp>,
    /// When it is tried next.
    pub next: Timestamp,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the receiver took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Timestamp>,
    /// When it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<Timestamp>,
}

impl Entry {
    pub(crate) fn new(
        group: &Group,
        to: &Destination,
        reason: Reason,
        (firing, resolved): (usize, usize),
        alerts: Vec<Alert>,
        now: Timestamp,
    ) -> Self {
        let Destination { receiver, labels, .. } = to.clone();
        Self {
            key: key_of(&group.key, &receiver, group.number),
            group: group.key.clone(),
            receiver,
            labels,
            reason,
            alerts,
            firing,
            resolved,
            made: now,
            attempts: 0,
            tried: None,
            next: now,
            error: None,
            sent: None,
            given_up: None,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.sent.is_some() || self.given_up.is_some()
    }

    /// Whether this may be replaced by `newer`, as nobody has seen it.
    pub(crate) fn takes_in(&self, newer: &Self) -> bool {
        self.attempts == 0 && self.receiver == newer.receiver && self.group == newer.group
    }

    /// This in the place of an older message, with at most so many alerts named. What is over in that one and not in this stays; what
    /// fired there and is not here any more is quiet, or is named no more.
    pub(crate) fn in_place_of(mut self, older: &Self, most: usize) -> Self {
        self.key = older.key.clone();
        self.made = older.made;
        let have: BTreeSet<&str> = self.alerts.iter().map(|it| it.fingerprint.as_str()).collect();
        let over = older.alerts.iter().filter(|it| !it.fires());
        let more: Vec<Alert> =
            over.filter(|it| !have.contains(it.fingerprint.as_str())).cloned().collect();
        let named = older.alerts.iter().filter(|it| !it.fires()).count();
        self.resolved += more.len() + older.resolved.saturating_sub(named);
        self.alerts.extend(more);
        self.alerts.truncate(most);
        self
    }

    /// Whether anything in it still fires.
    pub(crate) fn fires(&self) -> bool {
        self.firing > 0
    }
}

/// The key of the `number`-th message of a group to a receiver.
pub(crate) fn key_of(group: &str, receiver: &str, number: u64) -> String {
    let text = format!("{group}\n{receiver}\n{number}");
    format!("{:016x}-{number}", twox_hash::XxHash3_64::oneshot(text.as_bytes()))
}

/// Why an attempt failed, and what follows from it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: String,
    /// No attempt will do better.
    pub(crate) for_good: bool,
    /// The receiver wants to be left alone for so long.
    pub(crate) after: Option<Duration>,
}

/// One way out.
#[derive(Debug)]
pub(crate) enum Way {
    Webhook(Box<webhook::Webhook>),
    Email(Box<email::Email>),
}

impl Way {
    /// Whether all that it needs can be read now: better told at the start than with the first alert.
    pub(crate) fn ready(&self) -> Result<(), String> {
        match self {
            Self::Webhook(webhook) => webhook.ready(),
            Self::Email(email) => email.ready(),
        }
    }

    /// Mails a minute; other ways have no limit.
    fn per_minute(&self) -> usize {
        match self {
            Self::Webhook(_) => usize::MAX,
            Self::Email(email) => email.per_minute(),
        }
    }
}

const RETRY: Backoff =
    Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(30), attempts: u32::MAX };

/// Sends what waits for one receiver.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) name: String,
    pub(crate) way: Way,
    pub(crate) book: Book,
    pub(crate) clock: Clock,
    pub(crate) give_up_after: Duration,
    pub(crate) latency: Latency,
}

impl Sender {
    /// Sends until stopped.
    pub(crate) async fn run(self, stop: Stop) -> Result<(), crate::AlertsError> {
        let mut changes = self.book.changes();
        let mut jitter = Jitter::random();
        let mut sent: Vec<Timestamp> = Vec::new();
        while !stop.requested() {
            changes.mark_unchanged();
            let now = self.clock.now();
            sent.retain(|at| *at <= now && now.since(*at) < Duration::from_secs(60));
            let room = self.way.per_minute().saturating_sub(sent.len());
            let (due, next) = self.due(now, room);
            if due.is_empty() {
                tokio::select! {
                    _ = changes.changed() => {}
                    tick = stop.wait_for(self.clock.until(next).min(Duration::from_secs(60))) => {
                        if tick == Tick::Stopped { break; }
                    }
                }
                continue;
            }
            tokio::select! {
                () = stop.wait() => break, // what was not sent stays in the outbox
                () = self.attempt(due, &mut jitter) => sent.push(now),
            }
        }
        Ok(())
    }

    /// The message to send now, or several as one digest where there is little room; and when the next is due.
    fn due(&self, now: Timestamp, room: usize) -> (Vec<Entry>, Timestamp) {
        let later = now.plus(Duration::from_secs(60));
        self.book.look(|kept| {
            let mut waiting: Vec<&Entry> =
                kept.waiting.values().filter(|it| it.receiver == self.name).collect();
            waiting.sort_by_key(|it| (it.made, it.key.clone()));
            // Within a group the order stays, and of one alert across them: its end must not come before its beginning.
            let (mut seen, mut told) = (BTreeSet::new(), BTreeSet::new());
            let first = waiting.into_iter().filter(|it| {
                let begun = it.alerts.iter().any(|of| told.contains(of.fingerprint.as_str()));
                told.extend(it.alerts.iter().map(|of| of.fingerprint.as_str()));
                seen.insert(it.group.as_str()) && !begun
            });
            let first: Vec<&Entry> = first.collect();
            let next = first.iter().map(|it| it.next).min().unwrap_or(later);
            // A last try that is yet to come is of a clock that went back.
            let due = |it: &&Entry| it.next <= now || it.tried.is_some_and(|tried| tried > now);
            let mut ready = first.into_iter().filter(due);
            match room {
                0 => (Vec::new(), now.plus(Duration::from_secs(1))),
                usize::MAX => (ready.next().into_iter().cloned().collect(), next),
                // The last mail of the minute takes all that waits.
                1 => (ready.take(100).cloned().collect(), next),
                _ => (ready.next().into_iter().cloned().collect(), next),
            }
        })
    }

    async fn attempt(&self, due: Vec<Entry>, jitter: &mut Jitter) {
        let mut due = self.claim(due).await;
        let began = self.clock.now();
        let outcome = match &self.way {
            Way::Webhook(webhook) => match due.first() {
                Some(entry) => webhook.send(entry).await,
                None => Ok(()),
            },
            Way::Email(email) => email.send(&due).await,
        };
        let now = self.clock.now();
        for entry in &mut due {
            match &outcome {
                Ok(()) => {
                    (entry.sent, entry.error) = (Some(now), None);
                    self.latency.delivered(entry, began, now);
                    info!(receiver = %self.name, key = %entry.key, attempts = entry.attempts, "notified");
                }
                Err(refused) => {
                    let old = now.since(entry.made) > self.give_up_after;
                    entry.error = Some(refused.why.clone());
                    if refused.for_good || old {
                        entry.given_up = Some(now);
                    }
                    let pause =
                        RETRY.before(entry.attempts.min(12) + 1, jitter).unwrap_or(RETRY.cap);
                    entry.next =
                        now.plus(refused.after.unwrap_or(pause).min(Duration::from_secs(3_600)));
                    self.latency.failed(&self.name);
                    warn!(receiver = %self.name, key = %entry.key, attempts = entry.attempts, error = refused.why,
                        given_up = entry.given_up.is_some(), "a receiver did not take a message");
                }
            }
        }
        // What is said is in the history by its counts; a whole copy of each message would fill memory.
        due.iter_mut().filter(|it| it.is_done()).for_each(|it| it.alerts.clear());
        self.note(due).await;
    }

    /// The messages as they stand now, noted as tried, in one change: what was merged into one since it was found due goes out
    /// with it, and from here on nothing is. A message that somebody may have seen is never changed.
    async fn claim(&self, due: Vec<Entry>) -> Vec<Entry> {
        let now = self.clock.now();
        let claim = move |kept: &mut Kept| claim(kept, &due, now);
        self.book.change_aside(false, claim).await.unwrap_or_default()
    }

    async fn note(&self, entries: Vec<Entry>) {
        let done = entries.iter().any(Entry::is_done);
        let note = move |kept: &mut Kept| {
            entries.into_iter().for_each(|it| kept.note(Record::Entry(Box::new(it))));
        };
        self.book.change_aside(done, note).await;
    }
}

fn claim(kept: &mut Kept, due: &[Entry], now: Timestamp) -> Vec<Entry> {
    let waiting = due.iter().filter_map(|it| kept.waiting.get(&it.key).cloned());
    let mut claimed: Vec<Entry> = waiting.collect();
    for entry in &mut claimed {
        entry.attempts += 1;
        entry.tried = Some(now);
        kept.note(Record::Entry(Box::new(entry.clone())));
    }
    claimed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Group;

    /// A message to `h`, with alerts of these names, those with a minus over.
    fn entry(number: u64, alerts: &[&str]) -> Entry {
        let alerts: Vec<Alert> = alerts
            .iter()
            .map(|it| {
                let over = it.starts_with('-');
                let standing = crate::Standing {
                    phase: if over { crate::Phase::Resolved } else { crate::Phase::Firing },
                    since: Timestamp(0),
                    fired: Some(Timestamp(0)),
                    held: Timestamp(0),
                    resolved: over.then_some(Timestamp(1)),
                };
                let name = it.trim_start_matches('-');
                let text = format!(
                    r#"{{"fingerprint":"{name}","rule":"R","labels":{{}},"annotations":{{}},"evaluated":"1970-01-01T00:00:00.000Z","query":"","standing":{}}}"#,
                    serde_json::to_string(&standing).unwrap()
                );
                serde_json::from_str(&text).unwrap()
            })
            .collect();
        let firing = alerts.iter().filter(|it: &&Alert| it.fires()).count();
        let to = Destination { route: 0, receiver: "h".to_owned(), labels: BTreeMap::new() };
        let group = Group { key: "g".to_owned(), sent: Vec::new(), number };
        let over = alerts.len() - firing;
        Entry::new(&group, &to, Reason::News, (firing, over), alerts, Timestamp(5))
    }

    fn names(entry: &Entry) -> Vec<&str> {
        entry.alerts.iter().map(|it| it.fingerprint.as_str()).collect()
    }

    #[test]
    fn what_is_merged_into_a_message_after_it_was_found_due_goes_out_with_it() {
        let book = Book::of(Vec::new());
        let found = entry(1, &["a"]);
        book.change(false, |kept| kept.note(Record::Entry(Box::new(found.clone()))));
        // Before the sender claims it, another alert joins.
        let more = entry(2, &["a", "b"]).in_place_of(&found, 100);
        book.change(false, |kept| kept.note(Record::Entry(Box::new(more))));
        let claimed = book.change(false, |kept| claim(kept, &[found], Timestamp(9)));
        assert_eq!(names(&claimed[0]), ["a", "b"]);
        assert_eq!((claimed[0].attempts, claimed[0].key.clone()), (1, entry(1, &[]).key));
        let kept = book.look(|kept| kept.waiting.values().next().cloned().unwrap());
        assert!(kept == claimed[0] && !kept.takes_in(&entry(3, &["c"])));
    }

    #[test]
    fn a_merged_message_keeps_what_is_over_and_neither_grows_nor_miscounts() {
        let mut entry = entry(1, &["a", "-x", "b"]);
        for number in 2..50 {
            let newer = self::entry(number, &["a", "b", "c"]);
            entry = newer.in_place_of(&entry, 3);
        }
        assert_eq!((entry.firing, entry.resolved, entry.alerts.len()), (3, 1, 3));
        let again = self::entry(99, &["a", "b"]).in_place_of(&self::entry(1, &["-x", "z"]), 9);
        assert_eq!(names(&again), ["a", "b", "x"]);
        assert_eq!((again.firing, again.resolved), (2, 1));
    }
}
