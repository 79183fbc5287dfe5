//! Scenarios with exact truth, from a seed: what a service's resources and signals look like while it is well, and
//! while it leaks, drifts, fails or fills its disk. A sample a minute.
//!
//! `memory` simulates a collected heap: live size, garbage until a collection, pages that an allocator keeps, restarts,
//! warm-up, steps, batch jobs, caches that fill. `resources` has handles, processor and disk, `signals` latency, errors
//! and throughput. All follow a load with days, weeks, noise and bursts.

mod memory;
mod random;
mod resources;
mod signals;

use super::read::{About, EPOCH, Series};
use random::Random;
use serde_json::{Value, json};
use std::f64::consts::TAU;

/// Samples of a day and of an hour.
const DAY: usize = 1440;
const HOUR: f64 = 60.0;

/// One series before it is observed.
struct Scenario {
    kind: &'static str,
    signal: &'static str,
    values: Vec<f64>,
    load: Vec<f64>,
    limit: Option<f64>,
    /// What is true, besides.
    truth: Value,
    /// Relative noise of the observation, and whether values are whole.
    noise: f64,
    whole: bool,
}

/// Every kind, and who makes it.
type Make = fn(&mut Random, &'static str) -> Scenario;
const KINDS: [(&str, Make); 33] = [
    ("ok_flat", memory::make),
    ("ok_gc", memory::make),
    ("ok_warmup", memory::make),
    ("ok_step", memory::make),
    ("ok_batch", memory::make),
    ("ok_randomwalk", memory::make),
    ("ok_plateau", memory::make),
    ("ok_restart", memory::make),
    ("ok_load_growth", memory::make),
    ("leak_plain", memory::make),
    ("leak_gc", memory::make),
    ("leak_load", memory::make),
    ("leak_peak", memory::make),
    ("leak_chunks", memory::make),
    ("leak_restart", memory::make),
    ("leak_load_growth", memory::make),
    ("ok_fd", resources::handles),
    ("leak_fd", resources::handles),
    ("ok_cpu", resources::processor),
    ("ok_cpu_growth", resources::processor),
    ("ok_cpu_traffic", resources::processor),
    ("drift_step", resources::processor),
    ("drift_ramp", resources::processor),
    ("ok_disk", resources::disk),
    ("ok_disk_compaction", resources::disk),
    ("fill_disk", resources::disk),
    ("fill_change", resources::disk),
    ("ok_throughput", signals::make),
    ("ok_latency", signals::make),
    ("ok_errors", signals::make),
    ("an_throughput", signals::make),
    ("an_latency", signals::make),
    ("an_errors", signals::make),
];

/// `each` series of every kind, and what is true of them, in the form of `truth.json`.
pub(super) fn make(seed: u64, each: usize) -> (Vec<Series>, Value) {
    let mut all = Vec::new();
    let mut truths = Vec::new();
    for (place, (kind, make)) in KINDS.into_iter().enumerate() {
        for number in 0..each {
            let mut random = Random::new(seed, place as u64, number as u64);
            random.number = number;
            let scenario = make(&mut random, kind);
            let (series, truth) = observe(&mut random, scenario, format!("{kind}-{seed}-{number}"));
            all.push(series);
            truths.push(truth);
        }
    }
    (all, Value::Array(truths))
}

/// Adds what observing does: noise, lost scrapes, a gap.
fn observe(random: &mut Random, of: Scenario, name: String) -> (Series, Value) {
    let rows = of.values.len();
    let mut values: Vec<f64> =
        of.values.iter().map(|value| value * (1.0 + of.noise * random.normal())).collect();
    if of.whole {
        values.iter_mut().for_each(|value| *value = value.round());
    }
    for value in &mut values {
        if random.chance(0.003) {
            *value = f64::NAN;
        }
    }
    if random.chance(0.2) {
        let (from, len) = (random.below(rows), 10 + random.below(80));
        values.iter_mut().skip(from).take(len).for_each(|value| *value = f64::NAN);
    }
    let times: Vec<i64> = (0..rows as i64).map(|row| EPOCH + row * 60_000).collect();
    let mut truth = of.truth;
    if let Some(truth) = truth.as_object_mut() {
        let own = json!({
            "id": name, "kind": of.kind, "signal": of.signal, "limit": of.limit, "dt": 60, "n": rows,
        });
        truth.extend(own.as_object().cloned().unwrap_or_default());
    }
    let restarts = truth.get("restarts").and_then(Value::as_array);
    let restarts = restarts
        .map(|rows| rows.iter().filter_map(Value::as_u64).map(|row| row as usize).collect());
    let about = About { signal: Some(of.signal.to_owned()), limit: of.limit, restarts };
    let series = Series {
        name,
        texts: (0..rows).map(|row| (row * 60).to_string()).collect(),
        times,
        values,
        loads: of.load,
        about,
        ..Series::default()
    };
    (series, truth)
}

/// Requests a second: days, weeks, noise that wanders, bursts, and growth a day.
fn load(random: &mut Random, rows: usize, growth: f64) -> Vec<f64> {
    let base = 10_f64.powf(random.between(1.3, 3.0));
    let daily = random.between(0.2, 0.7);
    let phase = random.between(0.0, TAU);
    let weekend = random.between(0.5, 0.95);
    let first = random.below(7);
    let noise = random.wander(rows, 0.97, 0.06);
    let mut load: Vec<f64> = noise
        .iter()
        .enumerate()
        .map(|(row, noise)| {
            let day = row as f64 / DAY as f64;
            let wave = 1.0
                + daily * (TAU * day + phase).sin()
                + 0.25 * daily * (2.0 * TAU * day + 2.0 * phase).sin();
            let week = if (row / DAY + first) % 7 >= 5 { weekend } else { 1.0 };
            (wave * week * (1.0 + growth * day) * (1.0 + noise)).max(0.02) * base
        })
        .collect();
    for _ in 0..random.poisson(rows as f64 / DAY as f64) {
        let (from, len, size) =
            (random.below(rows), 5 + random.below(35), random.between(1.2, 2.0));
        load.iter_mut().skip(from).take(len).for_each(|load| *load *= size);
    }
    load
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len().max(1) as f64
}

fn quantile(of: &[f64], q: f64) -> f64 {
    stats::order::quantile(&mut of.to_vec(), q).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_scenarios_and_another_gives_others() {
        let (one, truth) = make(3, 1);
        let (two, again) = make(3, 1);
        let bits = |all: &[Series]| -> Vec<u64> {
            all.iter().flat_map(|it| it.values.iter().map(|value| value.to_bits())).collect()
        };
        assert!(bits(&one) == bits(&two) && truth == again);
        assert!(bits(&one) != bits(&make(4, 1).0));
        assert_eq!(one.len(), KINDS.len());
        for series in &one {
            let known: Vec<f64> =
                series.values.iter().copied().filter(|it| it.is_finite()).collect();
            assert!(known.len() > series.values.len() / 2, "{}", series.name);
            assert!(known.iter().all(|value| *value >= 0.0), "{}", series.name);
            assert_eq!(series.loads.len(), series.values.len(), "{}", series.name);
        }
    }
}
