//! What people may ask and do. Every change is written down with who made it.

use crate::book::{Acknowledged, Alert, Audit, Book, Kept, id};
use crate::config::AlertsConfig;
use crate::evaluate::Healths;
use crate::expr::parse::matchers;
use crate::incident::Incident;
use crate::journal::Record;
use crate::notify::Entry;
use crate::remediation::record::{Remediation, Strike};
use crate::rule::Rule;
use crate::silence::Silence;
use crate::{AlertsError, table};
use model::Timestamp;
use runtime::Clock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Silences at a time that are not over.
pub(crate) const MAX_SILENCES: usize = 1_000;

/// What is to be quiet for longer is no silence.
const LONGEST_SILENCE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Where people ask and do. Clones share it.
#[derive(Clone, Debug)]
pub struct Desk {
    book: Book,
    rules: Arc<Vec<Rule>>,
    healths: Healths,
    config: Arc<AlertsConfig>,
    clock: Clock,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not understood or not allowed.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    Missing(String),
}

/// A silence to be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// As in PromQL without braces.
    pub matchers: String,
    /// Default: now.
    pub starts: Option<Timestamp>,
    /// Its end, or `duration`.
    pub ends: Option<Timestamp>,
    /// Such as `2h`.
    pub duration: Option<String>,
    /// Default: the name of the token.
    pub author: Option<String>,
    /// Why.
    pub reason: String,
}

/// A rule, for people.
#[derive(Clone, Debug, Serialize)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Its condition.
    pub query: String,
    /// Where it stands.
    pub place: String,
    /// `for`, in seconds.
    pub hold_seconds: f64,
    /// `keep_firing_for`, in seconds.
    pub keep_seconds: f64,
    /// When it was looked at last.
    pub evaluated: Option<Timestamp>,
    /// How long that took.
    pub took_seconds: f64,
    /// Why it could not be looked at.
    pub error: Option<String>,
    /// Its alerts, by phase.
    pub alerts: BTreeMap<&'static str, usize>,
}

impl Desk {
    pub(crate) fn new(
        book: Book,
        rules: Arc<Vec<Rule>>,
        healths: Healths,
        config: AlertsConfig,
        clock: Clock,
    ) -> Self {
        Self { book, rules, healths, config: Arc::new(config), clock }
    }

    /// The desk of a folder that no process uses, to be asked alone.
    ///
    /// # Errors
    /// Its journal could not be read.
    pub fn read(dir: &Path, clock: Clock) -> Result<Self, AlertsError> {
        let book = Book::read(dir)?;
        Ok(Self::new(book, Arc::default(), Healths::default(), AlertsConfig::default(), clock))
    }

    /// Alerts that are wanted, firing ones first, the newest first; and how many there are in all.
    pub fn alerts(
        &self,
        most: usize,
        past: bool,
        wanted: impl Fn(&Alert) -> bool,
    ) -> (Vec<Alert>, usize) {
        self.book.look(|kept| {
            let now = kept.alerts.values();
            let before = kept.past.iter().filter(|_| past);
            let mut found: Vec<&Alert> = now.chain(before).filter(|it| wanted(it)).collect();
            let total = found.len();
            found.sort_by_cached_key(|it| {
                (!it.fires(), std::cmp::Reverse(it.standing.since), it.fingerprint.clone())
            });
            (found.into_iter().take(most).cloned().collect(), total)
        })
    }

    /// How many alerts there are by rule and phase.
    pub fn counts(&self) -> BTreeMap<String, BTreeMap<&'static str, usize>> {
        self.book.look(|kept| {
            let mut counts: BTreeMap<String, BTreeMap<&'static str, usize>> = BTreeMap::new();
            for alert in kept.alerts.values() {
                *counts
                    .entry(alert.rule.clone())
                    .or_default()
                    .entry(alert.standing.phase.name())
                    .or_default() += 1;
            }
            counts
        })
    }

    /// The newest incidents.
    pub fn incidents(&self, most: usize) -> Vec<Incident> {
        self.book.look(|kept| kept.incidents.values().rev().take(most).cloned().collect())
    }

    /// The newest runs of runbooks.
    pub fn remediations(&self, most: usize) -> Vec<Remediation> {
        self.book.look(|kept| kept.remediations.values().rev().take(most).cloned().collect())
    }

    /// How often each step helped.
    pub fn strikes(&self) -> Vec<Strike> {
        self.book.look(|kept| kept.strikes.values().cloned().collect())
    }

    /// Messages, those that wait first.
    pub fn notifications(&self, most: usize) -> Vec<Entry> {
        self.book.look(|kept| {
            kept.waiting.values().chain(kept.delivered.iter().rev()).take(most).cloned().collect()
        })
    }

    /// Silences that are not over, or all that are kept.
    pub fn silences(&self, past: bool) -> Vec<Silence> {
        let now = self.clock.now();
        self.book.look(|kept| {
            kept.silences.values().rev().filter(|it| past || it.ends > now).cloned().collect()
        })
    }

    /// The newest changes by people and programs.
    pub fn audit(&self, most: usize) -> Vec<Audit> {
        self.book.look(|kept| kept.audit.iter().rev().take(most).cloned().collect())
    }

    /// All rules.
    pub fn rules(&self) -> Vec<RuleView> {
        let (counts, healths) = (self.counts(), self.healths.lock().clone());
        let view = |(at, rule): (usize, &Rule)| {
            let health = healths.get(&at).cloned().unwrap_or_default();
            RuleView {
                name: rule.name.clone(),
                group: rule.group.clone(),
                query: rule.query(),
                place: rule.place.clone(),
                hold_seconds: rule.hold.as_secs_f64(),
                keep_seconds: rule.keep.as_secs_f64(),
                evaluated: health.evaluated,
                took_seconds: health.took.as_secs_f64(),
                error: health.error,
                alerts: counts.get(&rule.name).cloned().unwrap_or_default(),
            }
        };
        self.rules.iter().enumerate().map(view).collect()
    }

    /// The receivers by name, each with what waits for it and its last failure. Nothing secret is in it.
    pub fn receivers(&self) -> Vec<serde_json::Value> {
        self.book.look(|kept| {
            let one = |it: &crate::ReceiverConfig| {
                let waiting: Vec<&Entry> =
                    kept.waiting.values().filter(|entry| entry.receiver == it.name).collect();
                let oldest = waiting.iter().map(|it| it.made).min();
                serde_json::json!({
                    "name": it.name,
                    "kind": if it.webhook.is_some() { "webhook" } else { "email" },
                    "waiting": waiting.len(),
                    "oldest": oldest,
                    "error": waiting.iter().find_map(|it| it.error.clone()),
                })
            };
            self.config.receiver.iter().map(one).collect()
        })
    }

    /// Whether remediation is on: by configuration and by people; and whether it only writes down.
    pub fn remediation_state(&self) -> (bool, bool, bool) {
        let allowed = self.book.look(|kept| kept.allowed) != Some(false);
        (self.config.remediation.enabled, allowed, self.config.remediation.dry_run)
    }

    fn audited<T>(&self, who: &str, what: String, change: impl FnOnce(&mut Kept) -> T) -> T {
        let at = self.clock.now();
        tracing::info!(who, what, "changed");
        self.book.change(true, |kept| {
            let done = change(kept);
            kept.note(Record::Audit(Audit { at, who: who.to_owned(), what }));
            done
        })
    }

    /// Sets a silence.
    ///
    /// # Errors
    /// Its matchers, times or reason will not do.
    pub fn silence(&self, who: &str, new: NewSilence) -> Result<Silence, Refusal> {
        let invalid = |why: String| Err(Refusal::Invalid(why));
        let parsed = match matchers(&new.matchers) {
            Ok(parsed) => parsed,
            Err(fault) => {
                return invalid(format!("matchers, character {}: {}", fault.at + 1, fault.why));
            }
        };
        if parsed.is_empty() {
            return invalid("matchers are empty: a silence of everything hides the end of everything; name at least one label".to_owned());
        }
        if new.reason.trim().is_empty() {
            return invalid("a reason is missing: whoever is on call next will ask".to_owned());
        }
        let now = self.clock.now();
        let starts = new.starts.unwrap_or(now);
        let ends = match (new.ends, &new.duration) {
            (Some(ends), None) => ends,
            (None, Some(text)) => match model::time::parse_duration(text) {
                Ok(time) => starts.plus(time),
                Err(why) => return invalid(format!("duration: {why}")),
            },
            _ => return invalid("give either ends or duration".to_owned()),
        };
        if ends > now.plus(LONGEST_SILENCE) {
            return invalid(
                "the silence would last for over ten years; change the rule or the route instead"
                    .to_owned(),
            );
        }
        if ends <= starts || ends <= now {
            return invalid("the silence would be over before it begins".to_owned());
        }
        if self.silences(false).len() >= MAX_SILENCES {
            return invalid(format!("{MAX_SILENCES} silences are set already; end some"));
        }
        let silence = Silence {
            id: id(now, &format!("{}{}{ends}", new.matchers, new.reason)),
            matchers: new.matchers,
            starts,
            ends,
            author: new.author.filter(|it| !it.trim().is_empty()).unwrap_or_else(|| who.to_owned()),
            reason: new.reason,
        };
        let what = format!("silenced {} until {ends}: {}", silence.matchers, silence.reason);
        let kept = silence.clone();
        self.audited(who, what, |book| book.note(Record::Silence(kept)));
        Ok(silence)
    }

    /// Ends a silence now.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn end_silence(&self, who: &str, id: &str) -> Result<Silence, Refusal> {
        let found = self.book.look(|kept| kept.silences.get(id).cloned());
        let Some(mut silence) = found else {
            return Err(Refusal::Missing(format!(
                "no silence has the id {id}; /api/v1/silences lists them"
            )));
        };
        silence.ends = silence.ends.min(self.clock.now());
        let kept = silence.clone();
        self.audited(who, format!("ended silence {id} of {}", silence.matchers), |book| {
            book.note(Record::Silence(kept))
        });
        Ok(silence)
    }

    /// Says that somebody looks after an alert, by its fingerprint, or after all of an incident, by its id.
    ///
    /// # Errors
    /// Nothing that fires has this id.
    pub fn acknowledge(&self, who: &str, id: &str) -> Result<usize, Refusal> {
        let by = Acknowledged { by: who.to_owned(), at: self.clock.now() };
        let wanted = |it: &&Alert| it.fires() && (it.fingerprint == id || it.incident == id);
        let found: Vec<Alert> =
            self.book.look(|kept| kept.alerts.values().filter(wanted).cloned().collect());
        if found.is_empty() {
            return Err(Refusal::Missing(format!(
                "nothing that fires has the id {id}; /api/v1/alerts and /api/v1/incidents list them"
            )));
        }
        let count = found.len();
        self.audited(who, format!("acknowledged {id}"), |kept| {
            for alert in found {
                if let Some(mut now) = kept.alerts.get(&alert.fingerprint).cloned() {
                    now.acknowledged = Some(by.clone());
                    kept.note(Record::Alert(Box::new(now)));
                }
            }
            if let Some(mut incident) = kept.incidents.get(id).cloned() {
                incident.acknowledged = Some(by);
                kept.note(Record::Incident(Box::new(incident)));
            }
        });
        Ok(count)
    }

    /// The kill switch of remediation.
    pub fn allow(&self, who: &str, allowed: bool) {
        let what = format!("switched remediation {}", if allowed { "on" } else { "off" });
        self.audited(who, what, |kept| kept.note(Record::Allowed(allowed)));
    }

    /// Takes steps up again that were struck off.
    pub fn forgive(&self, who: &str) -> usize {
        let strikes: Vec<Strike> = self.strikes().into_iter().filter(|it| it.helped == 0).collect();
        let count = strikes.len();
        self.audited(who, "took up again the steps that were struck off".to_owned(), |kept| {
            for strike in strikes {
                kept.note(Record::Strike(Strike { taken: 0, ..strike }));
            }
        });
        count
    }

    /// All of it as tables.
    pub fn table(&self, name: &str) -> Option<table::Table> {
        self.book.look(|kept| table::of(kept, name))
    }
}
