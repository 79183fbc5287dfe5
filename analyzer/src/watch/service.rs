//! The detectors of a target's own signals: what its work costs, how long it takes, how often it fails, how much of it
//! there is, and whether it is at its end of speed.

use super::target::Room;
use crate::detect::{Draft, baseline, cost, saturation};
use crate::{AnalyzerConfig, Kind};
use serde::{Deserialize, Serialize};
use stats::baseline::{Baseline, BaselineConfig};
use stats::cost::{Cost, CostConfig};
use stats::saturation::{Saturation, SaturationConfig};

/// One scrape of a target as rates; NaN where unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) requests_per_second: f64,
    pub(crate) error_ratio: f64,
    pub(crate) latency_seconds: f64,
    pub(crate) cpu_cores: f64,
    /// Whether it answered; none where nobody asked.
    pub(crate) answered: Option<bool>,
}

/// Each is made when its signal is first known, if there is room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) cost: Option<Box<Cost>>,
    pub(crate) latency: Option<Box<Baseline>>,
    pub(crate) errors: Option<Box<Baseline>>,
    pub(crate) throughput: Option<Box<Baseline>>,
    pub(crate) saturation: Option<Box<Saturation>>,
}

/// A draft of what was found, or the kind of what is over.
pub(crate) type Outcome = Result<Draft, Kind>;

impl Service {
    /// Signals watched.
    pub(crate) fn signals(&self) -> usize {
        let some = [
            self.cost.is_some(),
            self.latency.is_some(),
            self.errors.is_some(),
            self.throughput.is_some(),
            self.saturation.is_some(),
        ];
        some.into_iter().filter(|it| *it).count()
    }

    /// Takes one scrape.
    pub(crate) fn push(
        &mut self,
        time: i64,
        of: &Reading,
        config: &AnalyzerConfig,
        room: &mut Room,
        out: &mut dyn FnMut(Outcome),
    ) {
        let load = of.requests_per_second;
        let budget = config.false_alarms_per_series_day;
        if let Some(cost) = made(&mut self.cost, of.cpu_cores, room, || {
            Cost::new(CostConfig { false_alarms_per_day: budget, ..CostConfig::default() })
        }) {
            let stood = cost.is_standing();
            match cost.push(time, of.cpu_cores, load) {
                Some(alarm) => out(Ok(cost::draft(&alarm))),
                None if stood && !cost.is_standing() => out(Err(Kind::CpuDrift)),
                None => {}
            }
        }
        let signals = [
            (&mut self.latency, stats::baseline::Kind::Latency, of.latency_seconds, load),
            (&mut self.errors, stats::baseline::Kind::Errors, of.error_ratio, load),
            (&mut self.throughput, stats::baseline::Kind::Throughput, load, f64::NAN),
        ];
        for (slot, kind, value, load) in signals {
            let Some(signal) = made(slot, value, room, || {
                Baseline::new(BaselineConfig { kind, budget_per_day: budget })
            }) else {
                continue;
            };
            let was = signal.active().is_some();
            match signal.push(time, value, load) {
                Some(alarm) => out(Ok(baseline::draft(&alarm))),
                None if was && signal.active().is_none() => out(Err(baseline::kind(kind))),
                None => {}
            }
        }
        self.saturate(time, of, room, out);
    }

    /// What each detector estimates, whether it would raise it or not.
    pub(crate) fn estimates(&self, at: i64, out: &mut dyn FnMut(Draft)) {
        if let Some(of) = self.cost.as_ref().and_then(|cost| cost.estimate()) {
            out(cost::estimate(&of));
        }
        let signals = [
            (&self.latency, stats::baseline::Kind::Latency),
            (&self.errors, stats::baseline::Kind::Errors),
            (&self.throughput, stats::baseline::Kind::Throughput),
        ];
        for (signal, kind) in signals {
            if let Some(of) = signal.as_ref().and_then(|it| it.estimate()) {
                out(baseline::estimate(kind, &of, at));
            }
        }
        if let Some(of) = self.saturation.as_ref().and_then(|it| it.estimate()) {
            out(saturation::draft(&of));
        }
    }

    fn saturate(&mut self, time: i64, of: &Reading, room: &mut Room, out: &mut dyn FnMut(Outcome)) {
        let known = if of.answered.is_some() { 1.0 } else { of.cpu_cores };
        let new = || Saturation::new(SaturationConfig::default());
        let Some(saturation) = made(&mut self.saturation, known, room, new) else { return };
        let was = saturation.is_standing();
        let reading = stats::saturation::Reading {
            cpu_cores: of.cpu_cores,
            offered_rps: f64::NAN,
            goodput_rps: of.requests_per_second * (1.0 - of.error_ratio),
            latency_s: of.latency_seconds,
            errors_rps: of.requests_per_second * of.error_ratio,
            answered: of.answered.unwrap_or(true),
        };
        match saturation.push(time, reading) {
            Some(alarm) => out(Ok(saturation::draft(&alarm))),
            None if was && !saturation.is_standing() => out(Err(Kind::Saturation)),
            None => {}
        }
    }
}

/// The detector, made if its signal is known now.
fn made<'a, T>(
    slot: &'a mut Option<Box<T>>,
    signal: f64,
    room: &mut Room,
    new: impl FnOnce() -> T,
) -> Option<&'a mut T> {
    if slot.is_none() && signal.is_finite() && room.take() {
        *slot = Some(Box::new(new()));
    }
    slot.as_deref_mut()
}
