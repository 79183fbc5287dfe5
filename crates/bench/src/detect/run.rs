//! One series through every detector that fits it.

use super::read::Series;
use stats::baseline::{Baseline, BaselineConfig, Kind};
use stats::cost::{Cost, CostConfig};
use stats::growth::{Growth, GrowthConfig, Shown};
use stats::leak::{Leak, LeakConfig};
use stats::novelty::{Novelty, NoveltyConfig};
use stats::saturation::{Saturation, SaturationConfig};

/// One alarm, as a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alarm {
    pub(crate) detector: &'static str,
    /// Milliseconds since the epoch.
    pub(crate) at: i64,
    pub(crate) since: i64,
    pub(crate) severity: String,
    /// Slope an hour, ratio to what is usual, or score; with its interval.
    pub(crate) estimate: [f64; 3],
    /// Seconds to the limit, with its interval; NaN where there is none.
    pub(crate) to_limit: [f64; 3],
    pub(crate) limit: f64,
}

/// When a limit is reached, as was said at one time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) at: i64,
    pub(crate) to_limit: [f64; 3],
}

/// What the detectors said of one series.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) alarms: Vec<Alarm>,
    /// One for each row, 0 to 1; empty where novelty was not asked for.
    pub(crate) scores: Vec<f64>,
    pub(crate) intervals: Vec<Interval>,
}

/// All detectors, by the names that they are asked for.
pub(crate) const DETECTORS: [&str; 9] = [
    "leak",
    "cpu_drift",
    "latency",
    "errors",
    "throughput",
    "throughput_given_load",
    "capacity",
    "novelty",
    "saturation",
];

/// Between two forecasts that are written down, in milliseconds.
const FORECASTS: i64 = 6 * 3_600_000;

/// Whether `detector` says anything of such a series. What the folder says of its signal counts; if it says nothing, all do.
pub(crate) fn fits(detector: &str, series: &Series) -> bool {
    let process = !series.process.is_empty();
    let loads = series.loads.iter().any(|load| load.is_finite());
    let signal = series.about.signal.as_deref();
    match detector {
        "saturation" => process,
        _ if process => false,
        "novelty" => true,
        "throughput_given_load" if !loads => false,
        "leak" => matches!(signal, None | Some("memory" | "fd")),
        "cpu_drift" => matches!(signal, None | Some("cpu")),
        "capacity" => matches!(signal, None | Some("disk")),
        "throughput_given_load" => matches!(signal, None | Some("gateway" | "throughput")),
        own => signal.is_none_or(|signal| signal == own || signal == "gateway"),
    }
}

/// Runs those of `wanted` that fit.
pub(crate) fn run(series: &Series, wanted: &[&str], false_alarms_per_day: f64) -> Outcome {
    let mut outcome = Outcome::default();
    for detector in DETECTORS.into_iter().filter(|it| wanted.contains(it) && fits(it, series)) {
        match detector {
            "leak" => leak(series, false_alarms_per_day, &mut outcome),
            "cpu_drift" => drift(series, false_alarms_per_day, &mut outcome),
            "capacity" => capacity(series, &mut outcome),
            "novelty" => novelty(series, false_alarms_per_day, &mut outcome),
            "saturation" => saturation(series, &mut outcome),
            "latency" => {
                signal(series, detector, Kind::Latency, true, false_alarms_per_day, &mut outcome)
            }
            "errors" => {
                signal(series, detector, Kind::Errors, true, false_alarms_per_day, &mut outcome)
            }
            "throughput" => {
                signal(
                    series,
                    detector,
                    Kind::Throughput,
                    false,
                    false_alarms_per_day,
                    &mut outcome,
                );
            }
            _ => {
                signal(series, detector, Kind::Throughput, true, false_alarms_per_day, &mut outcome)
            }
        }
    }
    outcome
}

fn rows(series: &Series) -> impl Iterator<Item = (i64, f64, f64)> {
    let values = series.times.iter().zip(&series.values).zip(&series.loads);
    values.map(|((time, value), load)| (*time, *value, *load))
}

const NONE: [f64; 3] = [f64::NAN; 3];

fn leak(series: &Series, sensitivity: f64, out: &mut Outcome) {
    let mut leak = Leak::new(LeakConfig { sensitivity });
    leak.set_limit(series.about.limit);
    let restarts = series.about.restarts.as_deref().unwrap_or_default();
    for (row, (time, value, load)) in rows(series).enumerate() {
        if restarts.binary_search(&row).is_ok() {
            leak.restarted(time);
        }
        let Some(alarm) = leak.push(time, value, load) else { continue };
        let left = alarm.time_to_limit_s.unwrap_or(f64::NAN);
        let (low, high) = alarm.time_interval_s.unwrap_or((f64::NAN, f64::NAN));
        let (slow, fast) = alarm.slope_interval;
        out.alarms.push(Alarm {
            detector: "leak",
            at: alarm.at,
            since: alarm.since,
            severity: format!("{:?}", alarm.severity).to_ascii_lowercase(),
            estimate: [alarm.slope_per_hour, slow, fast],
            to_limit: [left, low, high],
            limit: alarm.limit.map_or(f64::NAN, |(limit, _)| limit),
        });
    }
}

fn drift(series: &Series, false_alarms_per_day: f64, out: &mut Outcome) {
    let mut cost = Cost::new(CostConfig { false_alarms_per_day, ..CostConfig::default() });
    for (time, value, load) in rows(series) {
        let Some(alarm) = cost.push(time, value, load) else { continue };
        let of = alarm.estimate;
        out.alarms.push(Alarm {
            detector: "cpu_drift",
            at: time,
            since: of.since,
            severity: "ticket".to_owned(),
            estimate: [of.ratio, of.ratio_low, of.ratio_high],
            to_limit: NONE,
            limit: f64::NAN,
        });
    }
}

fn signal(
    series: &Series,
    detector: &'static str,
    kind: Kind,
    loads: bool,
    budget_per_day: f64,
    out: &mut Outcome,
) {
    let mut baseline = Baseline::new(BaselineConfig { kind, budget_per_day });
    for (time, value, load) in rows(series) {
        let load = if loads { load } else { f64::NAN };
        let Some(alarm) = baseline.push(time, value, load) else { continue };
        let of = alarm.estimate;
        out.alarms.push(Alarm {
            detector,
            at: time,
            since: of.since_ms,
            severity: format!("{:?}", alarm.severity).to_ascii_lowercase(),
            estimate: [of.ratio, of.ratio_low, of.ratio_high],
            to_limit: NONE,
            limit: f64::NAN,
        });
    }
}

fn capacity(series: &Series, out: &mut Outcome) {
    let limit = series.about.limit;
    let mut growth = Growth::new(GrowthConfig { limit, ..GrowthConfig::default() });
    let mut said = i64::MIN;
    let full = |of: &stats::growth::GrowthForecast| {
        let reach = of.reach.as_ref().and_then(|all| all.last())?.seconds?;
        Some([reach.mid, reach.low, reach.high])
    };
    for (time, value, load) in rows(series) {
        if let Some(Shown::Near(alarm)) = growth.push(time, value, load) {
            let rate = alarm.forecast.rate_per_day;
            out.alarms.push(Alarm {
                detector: "capacity",
                at: time,
                since: alarm.forecast.since_ms,
                severity: format!("{:?}", alarm.severity).to_ascii_lowercase(),
                estimate: [rate.mid / 24.0, rate.low / 24.0, rate.high / 24.0],
                to_limit: full(&alarm.forecast).unwrap_or(NONE),
                limit: limit.unwrap_or(f64::NAN),
            });
        }
        if time.div_euclid(FORECASTS) != said.div_euclid(FORECASTS) {
            said = time;
            let to_limit = growth.forecast().as_ref().and_then(full);
            out.intervals.extend(to_limit.map(|to_limit| Interval { at: time, to_limit }));
        }
    }
}

fn novelty(series: &Series, budget_per_day: f64, out: &mut Outcome) {
    let mut novelty = Novelty::new(NoveltyConfig { budget_per_day, ..NoveltyConfig::default() });
    for (time, value, _) in rows(series) {
        let reading = novelty.push(time, value);
        out.scores.push(reading.score);
        let Some(alarm) = reading.alarm else { continue };
        out.alarms.push(Alarm {
            detector: "novelty",
            at: time,
            since: time,
            severity: "note".to_owned(),
            estimate: [alarm.score, alarm.threshold, f64::NAN],
            to_limit: NONE,
            limit: f64::NAN,
        });
    }
}

fn saturation(series: &Series, out: &mut Outcome) {
    let mut saturation = Saturation::new(SaturationConfig::default());
    for (time, reading) in series.times.iter().zip(&series.process) {
        let Some(alarm) = saturation.push(*time, *reading) else { continue };
        out.alarms.push(Alarm {
            detector: "saturation",
            at: *time,
            since: alarm.since,
            severity: "page".to_owned(),
            estimate: [alarm.cpu_share, alarm.cpu_low, alarm.cpu_high],
            to_limit: NONE,
            limit: f64::NAN,
        });
    }
}
