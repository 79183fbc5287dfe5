//! From alerts to messages: who is to be told what now. Looks at what stands in the book, so that a restart, a silence that
//! ends and a repeat are the same look again.

use crate::book::{Alert, Group, Kept, Told};
use crate::journal::Record;
use crate::notify::{Entry, Reason};
use crate::route::{Destination, Manner, Route, Routes};
use crate::silence::Quiet;
use crate::state::Phase;
use model::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Groups that have alerts; those of more go into one group of their route and receiver.
const MAX_GROUPS: usize = 1_000;

/// What does not change between looks, and when groups began to wait.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(crate) routes: Routes,
    pub(crate) quiet: Quiet,
    pub(crate) max_alerts: usize,
    /// Receivers that do not want to hear that an alert is over.
    pub(crate) not_resolved: BTreeSet<String>,
    /// Where each alert goes, by fingerprint.
    pub(crate) destinations: BTreeMap<String, Vec<Destination>>,
    /// Since when a group has something to tell.
    pub(crate) waits: BTreeMap<String, Timestamp>,
}

impl Dispatcher {
    /// Writes all messages that are due at `now`, and says when to look again.
    pub(crate) fn look(&mut self, kept: &mut Kept, now: Timestamp) -> Timestamp {
        self.settle_quiet(kept, now);
        let mut groups: BTreeMap<String, (Destination, Vec<String>)> = BTreeMap::new();
        self.destinations.retain(|fingerprint, _| kept.alerts.contains_key(fingerprint));
        for alert in kept.alerts.values().filter(|it| it.standing.phase != Phase::Pending) {
            let routes = &self.routes;
            let known = self.destinations.entry(alert.fingerprint.clone());
            let known = known.or_insert_with(|| routes.of(alert));
            if alert.finding.is_some() {
                *known = routes.of(alert); // its severity changes while it goes on
            }
            let more = told_besides(alert, known);
            for to in known.iter().chain(&more) {
                let key = to.key();
                let (key, to) = if groups.len() >= MAX_GROUPS && !groups.contains_key(&key) {
                    let to = Destination { labels: BTreeMap::new(), ..to.clone() };
                    (to.key(), to)
                } else {
                    (key, to.clone())
                };
                groups.entry(key).or_insert((to, Vec::new())).1.push(alert.fingerprint.clone());
            }
        }
        let mut next = now.plus(Duration::from_secs(3_600));
        self.waits.retain(|key, _| groups.contains_key(key));
        for (key, (to, members)) in &groups {
            next = next.min(self.look_at(kept, key, to, members, now));
        }
        self.put_away(kept);
        next
    }

    /// Says of each alert whether it is quiet, and why.
    fn settle_quiet(&self, kept: &mut Kept, now: Timestamp) {
        let firing = kept.alerts.values().filter(|it| it.fires());
        let judge = self.quiet.judge(firing.clone(), kept.silences.values(), now);
        let quiet: Vec<(String, Option<String>)> = firing
            .map(|it| (it.fingerprint.clone(), judge.why_quiet(it)))
            .filter(|(fingerprint, why)| {
                kept.alerts.get(fingerprint).is_some_and(|it| it.quiet != *why)
            })
            .collect();
        for (fingerprint, why) in quiet {
            if let Some(alert) = kept.alerts.get_mut(&fingerprint) {
                let newly = why.is_some() && !alert.muted;
                alert.muted |= why.is_some();
                alert.quiet = why;
                if newly {
                    let alert = alert.clone();
                    kept.note(Record::Alert(Box::new(alert)));
                }
            }
        }
    }

    fn look_at(
        &mut self,
        kept: &mut Kept,
        key: &str,
        to: &Destination,
        members: &[String],
        now: Timestamp,
    ) -> Timestamp {
        let Some(route) = self.routes.all.get(to.route) else {
            return now.plus(Duration::from_secs(3_600));
        };
        let Manner { wait, burst, interval, repeat } = route.manner;
        let resolved_too = !self.not_resolved.contains(&to.receiver);
        let alerts: Vec<&Alert> = members.iter().filter_map(|it| kept.alerts.get(it)).collect();
        let firing: Vec<&Alert> =
            alerts.iter().copied().filter(|it| it.fires() && it.quiet.is_none()).collect();
        let has_news = |it: &&Alert| is_news(it, &to.receiver, resolved_too);
        let news = alerts.iter().copied().filter(has_news).count();
        let group = kept.groups.get(key).cloned().unwrap_or_else(|| Group {
            key: key.to_owned(),
            sent: Vec::new(),
            // Not from one: a group that was forgotten must not give the keys of other messages again.
            number: now.millis().unsigned_abs(),
        });
        let looked_after = firing.iter().all(|it| it.acknowledged.is_some());
        let mut next = now.plus(Duration::from_secs(3_600));
        let reason = if news > 0 {
            let since = *self
                .waits
                .entry(key.to_owned())
                .and_modify(|at| *at = (*at).min(now))
                .or_insert(now);
            // So many within an interval go at once; the next waits until the first of them is an interval old.
            // A clock that went back leaves times that are yet to come; they do not count.
            let sent: Vec<Timestamp> = group.sent.iter().copied().filter(|at| *at <= now).collect();
            let first = sent.len().checked_sub(burst).and_then(|at| sent.get(at));
            let due = since.plus(wait).max(first.map_or(since, |first| first.plus(interval)));
            next = next.min(due);
            (due <= now).then_some(Reason::News)
        } else {
            self.waits.remove(key);
            // A group whose key is new, as after a change of routes, repeats what was told under the old one.
            let own = firing.iter().filter(|_| route.receivers.contains(&to.receiver));
            let fired = own.filter_map(|it| it.standing.fired).max();
            let due = group.sent.last().copied().or(fired).map(|last| last.plus(repeat));
            let due = due.filter(|_| !firing.is_empty() && !looked_after);
            next = due.map_or(next, |due| next.min(due));
            due.filter(|due| *due <= now).map(|_| Reason::Repeat)
        };
        let escalate = escalation(route, to, &firing);
        if let Some((due, _)) = &escalate {
            next = next.min(*due);
        }
        let escalate =
            escalate.filter(|(due, _)| *due <= now).map(|(_, who)| who).unwrap_or_default();
        if reason.is_none() && escalate.is_empty() {
            return next;
        }
        let mut group = group;
        for (reason, receiver) in reason
            .map(|reason| (reason, to.receiver.clone()))
            .into_iter()
            .chain(escalate.into_iter().map(|receiver| (Reason::Escalation, receiver.clone())))
        {
            let destination = Destination { receiver, ..to.clone() };
            self.write(kept, &mut group, &destination, members, reason, now);
        }
        self.waits.remove(key);
        kept.note(Record::Group(group));
        next
    }

    /// Writes one message; entry, group and alerts go to the journal in one piece.
    fn write(
        &self,
        kept: &mut Kept,
        group: &mut Group,
        to: &Destination,
        members: &[String],
        reason: Reason,
        now: Timestamp,
    ) {
        let resolved_too = !self.not_resolved.contains(&to.receiver);
        let alerts: Vec<&Alert> = members.iter().filter_map(|it| kept.alerts.get(it)).collect();
        let mut shown: Vec<&Alert> =
            alerts.iter().copied().filter(|it| it.fires() && it.quiet.is_none()).collect();
        let news: BTreeSet<String> = alerts
            .iter()
            .filter(|it| is_news(it, &to.receiver, resolved_too))
            .map(|it| it.fingerprint.clone())
            .collect();
        let over =
            alerts.iter().copied().filter(|it| !it.fires() && news.contains(&it.fingerprint));
        shown.extend(over);
        // What is new comes first, the worst before the others.
        shown.sort_by_key(|it| {
            (!news.contains(&it.fingerprint), it.severity() != "critical", it.standing.since)
        });
        let firing = shown.iter().filter(|it| it.fires()).count();
        let entry = Entry::new(
            group,
            to,
            reason,
            (firing, shown.len() - firing),
            shown.iter().take(self.max_alerts).map(|it| (*it).clone()).collect(),
            now,
        );
        // One message that nobody has tried to send yet takes in what is new.
        let older = kept.waiting.values().find(|it| it.takes_in(&entry)).map(|it| it.key.clone());
        let entry = match older.and_then(|key| kept.waiting.get(&key)) {
            Some(older) => entry.in_place_of(older, self.max_alerts),
            None => {
                group.number += 1;
                entry
            }
        };
        kept.note(Record::Entry(Box::new(entry)));
        group.sent.push(now);
        let surplus = group.sent.len().saturating_sub(32);
        group.sent.drain(..surplus);
        let heard: Vec<String> = members
            .iter()
            .filter(|it| {
                news.contains(*it)
                    || kept.alerts.get(*it).is_some_and(|it| it.fires() && it.quiet.is_none())
            })
            .cloned()
            .collect();
        for fingerprint in heard {
            let Some(alert) = kept.alerts.get_mut(&fingerprint) else { continue };
            let fired = alert.standing.fired.unwrap_or(alert.standing.since);
            let before = alert.told.get(&to.receiver).filter(|it| it.fired == fired);
            let told = Told {
                fired,
                resolved: !alert.fires(),
                severity: alert.severity().to_owned(),
                at: before.map_or(Some(now), |it| it.at),
            };
            if alert.told.get(&to.receiver) != Some(&told) {
                alert.told.insert(to.receiver.clone(), told);
                let alert = alert.clone();
                kept.note(Record::Alert(Box::new(alert)));
            }
        }
    }

    /// What is over and told, or need not be told, becomes history.
    fn put_away(&self, kept: &mut Kept) {
        let over = kept.alerts.values().filter(|it| it.standing.phase == Phase::Resolved);
        let done: Vec<Alert> = over
            .filter(|alert| {
                let to = self
                    .destinations
                    .get(&alert.fingerprint)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                !to.iter().chain(&told_besides(alert, to)).any(|it| {
                    is_news(alert, &it.receiver, !self.not_resolved.contains(&it.receiver))
                })
            })
            .cloned()
            .collect();
        for mut alert in done {
            alert.told.values_mut().for_each(|it| it.resolved = true);
            alert.closed = true;
            kept.note(Record::Alert(Box::new(alert)));
        }
    }
}

/// Whoever was told by escalation or by a runbook, and has not heard the end.
fn told_besides(alert: &Alert, known: &[Destination]) -> Vec<Destination> {
    let open = alert.told.iter().filter(|(_, told)| !told.resolved).map(|(receiver, _)| receiver);
    let besides = open.filter(|receiver| !known.iter().any(|it| it.receiver == **receiver));
    let like = known.first().cloned();
    besides
        .map(|receiver| Destination {
            receiver: receiver.clone(),
            ..like.clone().unwrap_or(Destination {
                route: 0,
                receiver: String::new(),
                labels: BTreeMap::new(),
            })
        })
        .collect()
}

/// When the route's second receivers are to be told, and which: nobody looks after an alert that a first one was told of, and they
/// have not heard of it.
fn escalation<'a>(
    route: &'a Route,
    to: &Destination,
    firing: &[&Alert],
) -> Option<(Timestamp, Vec<&'a String>)> {
    let (after, second) = route.escalation.as_ref()?;
    if !route.receivers.contains(&to.receiver) {
        return None;
    }
    let heard = |alert: &Alert, who: &String| {
        alert.told.get(who).is_some_and(|it| Some(it.fired) == alert.standing.fired)
    };
    let open = firing.iter().filter(|it| it.acknowledged.is_none() && heard(it, &to.receiver));
    let open: Vec<&&Alert> = open.filter(|it| second.iter().any(|who| !heard(it, who))).collect();
    // From when somebody was told: what was quiet until then has called nobody yet.
    let told = |alert: &Alert| alert.told.get(&to.receiver).and_then(|it| it.at);
    let first = open.iter().filter_map(|it| it.standing.fired.max(told(it))).min()?;
    Some((first.plus(*after), second.iter().collect()))
}

/// Whether `receiver` has something to hear of `alert`.
fn is_news(alert: &Alert, receiver: &str, resolved_too: bool) -> bool {
    let fired = alert.standing.fired.unwrap_or(alert.standing.since);
    let told = alert.told.get(receiver).filter(|it| it.fired == fired);
    match (alert.standing.phase, told) {
        (Phase::Pending, _) => false,
        (Phase::Firing, None) => alert.quiet.is_none(),
        (Phase::Firing, Some(told)) => {
            alert.quiet.is_none() && told.severity != "critical" && alert.severity() == "critical"
        }
        // Over before anybody heard of it: still told, unless it was to be quiet.
        (Phase::Resolved, None) => resolved_too && !alert.muted,
        (Phase::Resolved, Some(told)) => resolved_too && !told.resolved,
    }
}

#[cfg(test)]
mod tests;
