//! Latency, errors and throughput of a service, well and with events.

use super::random::Random;
use super::{DAY, Scenario, load, quantile};
use serde_json::json;

const ROWS: usize = 14 * DAY;

pub(super) fn make(random: &mut Random, kind: &'static str) -> Scenario {
    let load = load(random, ROWS, 0.0);
    let mut events: Vec<(usize, usize)> = Vec::new();
    if kind.starts_with("an_") {
        for _ in 0..1 + random.below(3) {
            let from = (random.between(0.55, 0.97) * ROWS as f64) as usize;
            let to = (from + 15 + random.below(165)).min(ROWS - 1);
            if events.iter().all(|(other, _)| from.abs_diff(*other) >= DAY / 2) {
                events.push((from, to));
            }
        }
    }
    let range = match kind {
        _ if kind.ends_with("throughput") => (0.3, 0.8),
        _ if kind.ends_with("latency") => (1.4, 4.0),
        _ => (4.0, 20.0),
    };
    let mut times = vec![1.0; ROWS];
    for (from, to) in &events {
        let size = random.between(range.0, range.1);
        times.iter_mut().skip(*from).take(to - from).for_each(|it| *it = size);
    }
    let values = match kind {
        _ if kind.ends_with("throughput") => load.iter().zip(&times).map(|(a, b)| a * b).collect(),
        _ if kind.ends_with("latency") => latency(random, &load, &times),
        _ => errors(random, &load, &times),
    };
    let events: Vec<[usize; 2]> = events.into_iter().map(|(from, to)| [from, to]).collect();
    let truth = json!({ "leak": false, "anomalies": events });
    Scenario { kind, signal: "gateway", values, load, limit: None, truth, noise: 0.0, whole: false }
}

/// Milliseconds: more at high load, and now and then one that is slow.
fn latency(random: &mut Random, load: &[f64], times: &[f64]) -> Vec<f64> {
    let base = 10_f64.powf(random.between(0.5, 2.5));
    let most = quantile(load, 0.999);
    let deviation = random.between(0.05, 0.2);
    let noise = random.wander(load.len(), 0.7, deviation);
    let mut one = |(load, times): (&f64, &f64), noise: f64| {
        let share = load / most;
        let spike = if random.chance(0.002) { random.between(2.0, 6.0) } else { 1.0 };
        base * (1.0 + 0.5 * share / (1.3 - share.min(1.1))) * times * noise.exp() * spike
    };
    load.iter().zip(times).zip(noise).map(|(row, noise)| one(row, noise)).collect()
}

/// A share of the requests of a minute.
fn errors(random: &mut Random, load: &[f64], times: &[f64]) -> Vec<f64> {
    let base = 10_f64.powf(random.between(-4.0, -2.3));
    let noise = random.wander(load.len(), 0.95, 0.3);
    let mut one = |(load, times): (&f64, &f64), noise: f64| {
        let more = if *times > 1.0 { 0.003 } else { 0.0 };
        let chance = (base * noise.exp() * times + more).min(1.0);
        let requests = (load * 60.0).floor().max(1.0);
        random.successes(requests, chance) / requests
    };
    load.iter().zip(times).zip(noise).map(|(row, noise)| one(row, noise)).collect()
}
