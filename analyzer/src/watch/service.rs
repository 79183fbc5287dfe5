//! The detectors of a target's own signals: what its work costs, how long it takes, how often it fails, how much of it
//! there is, and whether it is at its end of speed.

use super::target::Look;
use crate::Kind;
use crate::detect::{Draft, baseline, cost, saturation};
use serde::{Deserialize, Serialize};
use stats::baseline::{Baseline, BaselineConfig};
use stats::cost::{Cost, CostConfig};
use stats::saturation::{Saturation, SaturationConfig};

/// One scrape of a target as rates; NaN where unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    /// Requests a second as known now.
    pub(crate) load: f64,
    /// The same if this scrape told; so are the next three.
    pub(crate) requests: f64,
    pub(crate) error_ratio: f64,
    /// Seconds.
    pub(crate) latency: f64,
    /// Cores.
    pub(crate) cpu: f64,
    /// Cores as known now, and the most that it used while it answered.
    pub(crate) cpu_now: f64,
    pub(crate) cpu_peak: f64,
    /// Whether it answered; none where this scrape does not say.
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

    /// Forgets what was known of a signal. Returns whether something was found in it that goes on.
    pub(crate) fn drop_signal(&mut self, kind: Kind) -> bool {
        let signal =
            |slot: &mut Option<Box<Baseline>>| slot.take().is_some_and(|it| it.active().is_some());
        match kind {
            Kind::Latency => signal(&mut self.latency),
            Kind::Errors => signal(&mut self.errors),
            Kind::Throughput => signal(&mut self.throughput),
            Kind::CpuDrift => self.cost.take().is_some_and(|it| it.is_standing()),
            Kind::Saturation => self.saturation.take().is_some_and(|it| it.is_standing()),
            _ => false,
        }
    }

    /// Takes one scrape.
    pub(crate) fn push(
        &mut self,
        time: i64,
        of: &Reading,
        look: &mut Look<'_>,
        out: &mut dyn FnMut(Outcome),
    ) {
        let budget = look.config.false_alarms_per_series_day;
        if of.cpu.is_finite()
            && let Some(cost) = made(&mut self.cost, look, || {
                Cost::new(CostConfig { false_alarms_per_day: budget, ..CostConfig::default() })
            })
        {
            let stood = cost.is_standing();
            match cost.push(time, of.cpu, of.load) {
                Some(alarm) => out(Ok(cost::draft(&alarm))),
                None if stood && !cost.is_standing() => out(Err(Kind::CpuDrift)),
                None => {}
            }
        }
        let signals = [
            (&mut self.latency, stats::baseline::Kind::Latency, of.latency, of.load),
            (&mut self.errors, stats::baseline::Kind::Errors, of.error_ratio, of.load),
            (&mut self.throughput, stats::baseline::Kind::Throughput, of.requests, f64::NAN),
        ];
        for (slot, kind, value, load) in signals {
            if !value.is_finite() {
                continue;
            }
            let new = || Baseline::new(BaselineConfig { kind, budget_per_day: budget });
            let Some(signal) = made(slot, look, new) else { continue };
            let was = signal.active().is_some();
            match signal.push(time, value, load) {
                Some(alarm) => out(Ok(baseline::draft(&alarm))),
                None if was && signal.active().is_none() => out(Err(baseline::kind(kind))),
                None => {}
            }
        }
        if let Some(answered) = of.answered {
            self.saturate(time, answered, of, look, out);
        }
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

    fn saturate(
        &mut self,
        time: i64,
        answered: bool,
        of: &Reading,
        look: &mut Look<'_>,
        out: &mut dyn FnMut(Outcome),
    ) {
        let new = || Saturation::new(SaturationConfig::default());
        let Some(saturation) = made(&mut self.saturation, look, new) else { return };
        // Whole cores: a runtime of one thread ends at one, give or take what is measured; what used more has more.
        saturation.set_capacity((of.cpu_peak - 0.25).ceil().max(1.0));
        let was = saturation.is_standing();
        let reading = stats::saturation::Reading {
            cpu_cores: of.cpu_now,
            offered_rps: f64::NAN,
            goodput_rps: of.requests * (1.0 - of.error_ratio),
            latency_s: of.latency,
            errors_rps: of.requests * of.error_ratio,
            answered,
        };
        match saturation.push(time, reading) {
            Some(alarm) => out(Ok(saturation::draft(&alarm))),
            None if was && !saturation.is_standing() => out(Err(Kind::Saturation)),
            None => {}
        }
    }
}

/// The detector, made if there is room.
fn made<'a, T>(
    slot: &'a mut Option<Box<T>>,
    look: &mut Look<'_>,
    new: impl FnOnce() -> T,
) -> Option<&'a mut T> {
    if slot.is_none() && look.take() {
        *slot = Some(Box::new(new()));
    }
    slot.as_deref_mut()
}
