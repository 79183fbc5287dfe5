//! What targets say of their metrics: type, unit and help. Kept in the log first, in the manifest with the
//! next flush.

use model::MetricInfo;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// Metrics of which this is kept; of further ones it is not.
const MOST: usize = 50_000;

/// The info of each metric, by name.
pub type Infos = BTreeMap<Box<str>, MetricInfo>;

/// All that is known, and what of it no manifest has yet.
#[derive(Debug, Default)]
pub(crate) struct InfoTable(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    known: Infos,
    fresh: BTreeSet<Box<str>>,
}

impl InfoTable {
    /// With what the manifest has.
    pub(crate) fn new(known: Infos) -> Self {
        Self(Mutex::new(Held { known, fresh: BTreeSet::new() }))
    }

    /// Those of `said` that are new or other than before, without empty text taking the place of some.
    pub(crate) fn news(&self, said: Infos, longest: usize) -> Infos {
        let held = self.0.lock();
        let room = MOST.saturating_sub(held.known.len());
        let mut added = 0;
        let news = said.into_iter().filter_map(|(metric, said)| {
            if metric.len() > longest {
                return None;
            }
            let (info, known) = match held.known.get(&metric) {
                Some(known) => (said.or(known), true),
                None => (said, false),
            };
            added += usize::from(!known);
            let info = info.cut(longest);
            let changed = held.known.get(&metric) != Some(&info);
            (changed && (known || added <= room)).then_some((metric, info))
        });
        news.collect()
    }

    /// Takes in what the log has.
    pub(crate) fn take(&self, news: Infos) {
        let mut held = self.0.lock();
        held.fresh.extend(news.keys().cloned());
        held.known.extend(news);
    }

    /// What no manifest has yet.
    pub(crate) fn fresh(&self) -> Infos {
        let held = self.0.lock();
        let find = |metric: &str| Some((metric.into(), held.known.get(metric)?.clone()));
        held.fresh.iter().filter_map(|metric| find(metric)).collect()
    }

    /// Notes that a manifest has `infos`.
    pub(crate) fn settle(&self, infos: &Infos) {
        let Held { known, fresh } = &mut *self.0.lock();
        fresh.retain(|metric| known.get(metric) != infos.get(metric));
    }

    /// All of it.
    pub(crate) fn all(&self) -> Infos {
        self.0.lock().known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MetricKind;

    fn said(metric: &str, kind: MetricKind, unit: &str, help: &str) -> Infos {
        let info = MetricInfo { kind, unit: unit.into(), help: help.into() };
        Infos::from([(metric.into(), info)])
    }

    #[test]
    fn only_what_is_new_is_told_and_silence_takes_nothing_back() {
        let table = InfoTable::default();
        let first = table.news(said("m", MetricKind::Counter, "", "Help."), 99);
        assert_eq!(first.len(), 1);
        table.take(first.clone());
        assert!(table.news(first.clone(), 99).is_empty());
        assert!(table.news(said("m", MetricKind::Unknown, "", ""), 99).is_empty());
        let more = table.news(said("m", MetricKind::Unknown, "bytes", ""), 99);
        assert_eq!(more, said("m", MetricKind::Counter, "bytes", "Help."));
        assert_eq!(table.fresh(), first);
        table.settle(&first);
        assert!(table.fresh().is_empty());
        table.take(more.clone());
        table.settle(&first);
        assert_eq!(table.fresh(), more, "the manifest has what it was before");
        assert_eq!(table.news(said("n", MetricKind::Gauge, "", "Länger"), 2)["n"].help, "L".into());
        assert!(table.news(said("long", MetricKind::Gauge, "", ""), 2).is_empty());
    }
}
