//! One watched gauge: the detectors that its rules ask for.

use super::rule::Rule;
use crate::detect::{Draft, growth, leak, novelty};
use crate::{AnalyzerConfig, Detect, Kind, Severity};
use model::SeriesKey;
use serde::{Deserialize, Serialize};
use stats::growth::{Growth, GrowthConfig, Shown};
use stats::leak::{Leak, LeakConfig};
use stats::novelty::{Novelty, NoveltyConfig};

/// Of a resource without samples for so long, in milliseconds, nothing is forecast any more.
pub(crate) const GONE: i64 = 26 * 3_600_000;

/// The state of one gauge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gauge {
    pub(crate) metric: String,
    pub(crate) labels: Vec<(String, String)>,
    /// Time of its newest sample.
    pub(crate) seen: i64,
    /// The series of its limit by rule, as found when the target's limits had changed so often.
    pub(crate) limits: Vec<Option<u64>>,
    pub(crate) limits_known: u64,
    /// What is used of a resource, and where it ends, as of its newest sample.
    used: f64,
    limit: Option<f64>,
    pub(crate) leak: Option<Box<Leak>>,
    pub(crate) growth: Option<Box<Growth>>,
    pub(crate) novelty: Option<Box<Novelty>>,
}

impl Gauge {
    /// A gauge without history, with the detectors of `rules`.
    pub(crate) fn new(key: &SeriesKey, rules: &[&Rule], config: &AnalyzerConfig) -> Self {
        let asked = |what: Detect| rules.iter().any(|rule| rule.detect == what);
        let budget = config.false_alarms_per_series_day;
        let labels = key.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            metric: key.metric.to_string(),
            labels: labels.collect(),
            seen: 0,
            limits: Vec::new(),
            limits_known: u64::MAX,
            used: 0.0,
            limit: None,
            leak: asked(Detect::Leak)
                .then(|| Box::new(Leak::new(LeakConfig { sensitivity: budget }))),
            growth: asked(Detect::Capacity).then(|| Box::new(Growth::new(GrowthConfig::default()))),
            novelty: asked(Detect::Novelty).then(|| {
                Box::new(Novelty::new(NoveltyConfig {
                    budget_per_day: budget,
                    ..NoveltyConfig::default()
                }))
            }),
        }
    }

    /// What each detector estimates, whether it would raise it or not.
    pub(crate) fn estimates(&self, at: i64, out: &mut dyn FnMut(Draft)) {
        if let Some(of) = self.leak.as_ref().and_then(|leak| leak.estimate()) {
            out(leak::draft(&self.metric, &of));
        }
        if let Some(of) = self
            .growth
            .as_ref()
            .filter(|_| at - self.seen < GONE)
            .and_then(|it| it.forecast_at(at.max(self.seen)))
        {
            let mut draft = growth::estimate(&self.metric, &of, Severity::Note);
            growth::place(&mut draft, self.used, self.limit);
            out(draft);
        }
        if let Some(of) = self.novelty.as_ref().and_then(|novelty| novelty.estimate()) {
            out(novelty::estimate(&self.metric, &of, at));
        }
    }

    /// Its process is another one. True if the old one was said to leak.
    pub(crate) fn restarted(&mut self, time: i64) -> bool {
        self.leak.as_mut().is_some_and(|leak| leak.restarted(time))
    }

    /// Takes a sample. `rules` come with their limits. What is over is told as an error.
    pub(crate) fn push<'a>(
        &mut self,
        time: i64,
        value: f64,
        load: f64,
        rules: impl Iterator<Item = (&'a Rule, Option<f64>)>,
        out: &mut dyn FnMut(Result<Draft, Kind>),
    ) {
        self.seen = time;
        let mut done = [false; 3];
        for (rule, limit) in rules {
            // What is free is told from the whole as what is used.
            let used = match (rule.free, limit) {
                (true, Some(whole)) => whole - value,
                (true, None) => continue,
                (false, _) => value,
            };
            let first = |at: usize, done: &mut [bool; 3]| {
                done.get_mut(at).is_some_and(|done| !std::mem::replace(done, true))
            };
            match rule.detect {
                Detect::Leak if first(0, &mut done) => {
                    let Some(leak) = &mut self.leak else { continue };
                    leak.set_limit(limit);
                    if let Some(alarm) = leak.push(time, used, load) {
                        out(Ok(leak::draft(&self.metric, &alarm)));
                    }
                }
                Detect::Capacity if first(1, &mut done) => {
                    let Some(growth) = &mut self.growth else { continue };
                    growth.set_limit(limit);
                    (self.used, self.limit) = (used, limit);
                    match growth.push(time, used, load) {
                        Some(Shown::Near(alarm)) => {
                            let mut draft = growth::draft(&self.metric, &alarm);
                            growth::place(&mut draft, used, limit);
                            out(Ok(draft));
                        }
                        Some(Shown::Over) => out(Err(Kind::Capacity)),
                        None => {}
                    }
                }
                Detect::Novelty if first(2, &mut done) => {
                    let Some(novelty) = &mut self.novelty else { continue };
                    if let Some(alarm) = novelty.push(time, used).alarm {
                        out(Ok(novelty::draft(&self.metric, &alarm)));
                    }
                }
                _ => {}
            }
        }
    }
}
