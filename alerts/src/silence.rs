//! When nobody is told: silences that people set, maintenance windows by the clock, and alerts that explain others.

use crate::book::Alert;
use crate::config::{InhibitConfig, MaintenanceConfig};
use crate::expr::Matcher;
use crate::expr::parse::matchers;
use model::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Alerts that nobody is told of for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// Which alerts, as in PromQL without braces.
    pub matchers: String,
    /// From when.
    pub starts: Timestamp,
    /// Until when.
    pub ends: Timestamp,
    /// Who set it.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// Whether labels are as all matchers want them.
pub(crate) fn fits(matchers: &[Matcher], labels: &BTreeMap<String, String>) -> bool {
    let of = |name: &str| labels.get(name).map_or("", String::as_str);
    matchers.iter().all(|it| it.fits(of(&it.label)))
}

/// A maintenance window.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    matchers: Vec<Matcher>,
    /// Monday is 0.
    days: BTreeSet<i64>,
    /// Minutes of the day.
    from: i64,
    to: i64,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Window {
    pub(crate) fn new(config: &MaintenanceConfig) -> Result<Self, String> {
        let day = |name: &String| {
            let at = DAYS.iter().position(|it| it == name);
            at.map(|at| at as i64).ok_or_else(|| format!("no day is {name:?}; give mon to sun"))
        };
        let mut days = config.days.iter().map(day).collect::<Result<BTreeSet<_>, _>>()?;
        if days.is_empty() {
            days = (0..7).collect();
        }
        let matchers = matchers(&config.matchers).map_err(|fault| fault.why)?;
        Ok(Self { matchers, days, from: minutes(&config.from)?, to: minutes(&config.to)? })
    }

    fn is_open(&self, now: Timestamp) -> bool {
        let (day, minute) = (now.day(), now.millis().rem_euclid(86_400_000) / 60_000);
        // The first of January 1970 was a Thursday.
        let on = |day: i64| self.days.contains(&(day + 3).rem_euclid(7));
        if self.from <= self.to {
            return on(day) && (self.from..self.to).contains(&minute);
        }
        on(day) && minute >= self.from || on(day - 1) && minute < self.to
    }
}

fn minutes(text: &str) -> Result<i64, String> {
    let parts = text
        .split_once(':')
        .and_then(|(h, m)| Some((h.parse::<i64>().ok()?, m.parse::<i64>().ok()?)));
    match parts {
        Some((hours @ 0..=24, minutes @ 0..=59)) if hours * 60 + minutes <= 1_440 => {
            Ok(hours * 60 + minutes)
        }
        _ => Err(format!("{text:?} is no time of the day; give one such as 02:00")),
    }
}

/// What keeps alerts from being told, apart from silences.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    windows: Vec<Window>,
    inhibits: Vec<Inhibit>,
    /// By silence. A silence's matchers never change.
    parsed: Mutex<BTreeMap<String, Arc<Vec<Matcher>>>>,
}

#[derive(Debug)]
struct Inhibit {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    equal: Vec<String>,
}

impl Quiet {
    /// Faults are those of `AlertsConfig::faults`; what has one is left out here.
    pub(crate) fn new(maintenance: &[MaintenanceConfig], inhibit: &[InhibitConfig]) -> Self {
        let inhibits = inhibit.iter().filter_map(|it| {
            let (source, target) = (matchers(&it.source).ok()?, matchers(&it.target).ok()?);
            Some(Inhibit { source, target, equal: it.equal.clone() })
        });
        let windows = maintenance.iter().filter_map(|it| Window::new(it).ok());
        Self { windows: windows.collect(), inhibits: inhibits.collect(), parsed: Mutex::default() }
    }

    /// The matchers of a silence, parsed at the first look.
    fn parsed(&self, silence: &Silence) -> Option<Arc<Vec<Matcher>>> {
        let mut parsed = self.parsed.lock();
        if let Some(known) = parsed.get(&silence.id) {
            return Some(Arc::clone(known));
        }
        if parsed.len() >= 2 * crate::desk::MAX_SILENCES {
            parsed.clear(); // most are of silences that are over
        }
        let fresh = Arc::new(matchers(&silence.matchers).ok()?);
        parsed.insert(silence.id.clone(), Arc::clone(&fresh));
        Some(fresh)
    }

    /// For each alert why it is not told, if it is not: a judge for many alerts at one time.
    pub(crate) fn judge<'a>(
        &'a self,
        firing: impl Iterator<Item = &'a Alert> + Clone,
        silences: impl Iterator<Item = &'a Silence>,
        now: Timestamp,
    ) -> Judge<'a> {
        let silences = silences.filter(|it| (it.starts..it.ends).contains(&now));
        let silences = silences.filter_map(|it| Some((it, self.parsed(it)?))).collect();
        let sources = self.inhibits.iter().map(|rule| {
            let sources = firing.clone().filter(|it| fits(&rule.source, &it.labels));
            sources.map(|it| (values(&rule.equal, it), it.fingerprint.as_str())).collect()
        });
        let windows = self.windows.iter().filter(|it| it.is_open(now)).collect();
        Judge { quiet: self, silences, windows, sources: sources.collect() }
    }
}

fn values<'a>(names: &[String], alert: &'a Alert) -> Vec<&'a str> {
    names.iter().map(|name| alert.labels.get(name).map_or("", String::as_str)).collect()
}

/// What keeps which alerts from being told, at one time.
pub(crate) struct Judge<'a> {
    quiet: &'a Quiet,
    silences: Vec<(&'a Silence, Arc<Vec<Matcher>>)>,
    windows: Vec<&'a Window>,
    /// By rule: label values of what fires, and what.
    sources: Vec<BTreeMap<Vec<&'a str>, &'a str>>,
}

impl Judge<'_> {
    /// Why nobody is told of `alert`.
    pub(crate) fn why_quiet(&self, alert: &Alert) -> Option<String> {
        if let Some((silence, _)) = self.silences.iter().find(|(_, it)| fits(it, &alert.labels)) {
            return Some(format!(
                "silence {} of {}: {}",
                silence.id, silence.author, silence.reason
            ));
        }
        if self.windows.iter().any(|it| fits(&it.matchers, &alert.labels)) {
            return Some("maintenance window".to_owned());
        }
        for (rule, sources) in self.quiet.inhibits.iter().zip(&self.sources) {
            // What is a source itself is told, lest two alerts keep each other quiet.
            if !fits(&rule.target, &alert.labels) || fits(&rule.source, &alert.labels) {
                continue;
            }
            if let Some(source) = sources.get(&values(&rule.equal, alert)) {
                return Some(format!("explained by alert {source}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[&str], from: &str, to: &str) -> Window {
        let days = days.iter().map(|it| (*it).to_owned()).collect();
        let (from, to) = (from.to_owned(), to.to_owned());
        Window::new(&MaintenanceConfig { matchers: String::new(), days, from, to }).unwrap()
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let at = |text| Timestamp::parse(text).unwrap();
        let it = window(&["sat"], "22:00", "02:00");
        assert!(it.is_open(at("2026-11-28T22:00:00Z"))); // a Saturday
        assert!(it.is_open(at("2026-11-29T01:59:00Z")));
        assert!(!it.is_open(at("2026-11-29T02:00:00Z")));
        assert!(!it.is_open(at("2026-11-28T01:00:00Z")));
        let it = window(&[], "02:00", "04:00");
        assert!(it.is_open(at("2026-11-25T03:00:00Z")) && !it.is_open(at("2026-11-25T04:00:00Z")));
        assert!(minutes("25:00").is_err() && minutes("24:01").is_err() && minutes("24:00").is_ok());
    }
}
