//! Handles, processor time and disks.

use super::random::Random;
use super::{DAY, HOUR, Scenario, load, mean, quantile};
use serde_json::json;

/// Open handles: some for the load, some that are never closed.
pub(super) fn handles(random: &mut Random, kind: &'static str) -> Scenario {
    let rows = 5 * DAY;
    let load = load(random, rows, 0.0);
    let middle = mean(&load);
    let base = random.between(40.0, 400.0);
    let each = random.between(0.05, 0.6) * base / middle;
    let noise = random.wander(rows, 0.9, 0.05);
    let mut values: Vec<f64> =
        load.iter().zip(noise).map(|(load, noise)| base + each * load * (1.0 + noise)).collect();
    let most = values.iter().copied().fold(0.0, f64::max);
    let limit = random.choose(&[1024.0, 4096.0, 65536.0], 1024.0);
    let limit = if most * 1.3 > limit { 4096.0 } else { limit };
    let leaks = kind == "leak_fd";
    let onset =
        if random.chance(0.2) { 0 } else { (random.between(0.1, 0.5) * rows as f64) as usize };
    let hourly = 10_f64.powf(random.between(-0.3, 2.0));
    if leaks {
        let mut kept = 0.0;
        for (row, (value, load)) in values.iter_mut().zip(&load).enumerate() {
            if row >= onset {
                kept += random.poisson(hourly / HOUR * load / middle) as f64;
            }
            *value = (*value + kept).min(limit);
        }
    }
    let before: Vec<f64> = values.iter().take(onset.max(60)).copied().collect();
    let hit = onset as f64 + (limit - quantile(&before, 0.99)) / (hourly / HOUR);
    let truth = json!({
        "leak": leaks, "onset": leaks.then_some(onset), "hit": leaks.then_some(hit), "restarts": [], "oom": [],
        "rate": if leaks { hourly / base } else { 0.0 },
    });
    Scenario {
        kind,
        signal: "fd",
        values,
        load,
        limit: Some(limit),
        truth,
        noise: 0.0,
        whole: true,
    }
}

/// Cores: some at rest, some for each request, whose cost may drift.
pub(super) fn processor(random: &mut Random, kind: &'static str) -> Scenario {
    let rows = 7 * DAY;
    let growth = if kind == "ok_cpu_growth" { random.between(0.03, 0.08) } else { 0.0 };
    let mut load = load(random, rows, growth);
    let rest = random.between(0.02, 0.3);
    let each = random.between(0.5, 3.0) / mean(&load);
    let drifts = kind.starts_with("drift");
    let onset = (random.between(0.35, 0.7) * rows as f64) as usize;
    let size = random.between(0.05, 0.30);
    let time = if kind == "drift_step" { 1.0 } else { random.between(2.0, 24.0) * HOUR };
    if kind == "ok_cpu_traffic" {
        let (at, more) =
            ((random.between(0.3, 0.7) * rows as f64) as usize, random.between(1.2, 1.8));
        load.iter_mut().skip(at).for_each(|load| *load *= more);
    }
    let deviation = random.between(0.02, 0.08);
    let noise = random.wander(rows, 0.8, deviation);
    let cost = |row: usize| {
        let share = ((row as f64 - onset as f64) / time).clamp(0.0, 1.0);
        if drifts { 1.0 + size * share } else { 1.0 }
    };
    let rows_of = load.iter().zip(noise).enumerate();
    let mut values: Vec<f64> = rows_of
        .map(|(row, (load, noise))| rest + each * load * cost(row) * (1.0 + noise))
        .collect();
    for _ in 0..random.poisson(14.0) {
        let (from, len, more) =
            (random.below(rows), 2 + random.below(18), random.between(1.1, 2.0));
        values.iter_mut().skip(from).take(len).for_each(|value| *value *= more);
    }
    let truth = json!({
        "leak": false, "drift": drifts, "onset": drifts.then_some(onset), "size": if drifts { size } else { 0.0 },
    });
    Scenario { kind, signal: "cpu", values, load, limit: None, truth, noise: 0.01, whole: false }
}

/// A disk that stays level, or fills with what is served; each day old files go.
pub(super) fn disk(random: &mut Random, kind: &'static str) -> Scenario {
    let rows = 14 * DAY;
    let size = 10_f64.powf(random.between(10.0, 12.0));
    let start = size * random.between(0.2, 0.5);
    let saw = size * random.between(0.0, 0.06);
    let (at, waver) = (random.below(DAY), random.wander(rows, 0.999, 0.5));
    let sawed = |row: usize| saw * ((row + DAY - at) % DAY) as f64 / DAY as f64;
    let fills = kind.starts_with("fill");
    let days = random.between(3.0, 25.0);
    let longest = if fills { rows.max((days * DAY as f64) as usize + 5 * DAY) } else { rows };
    let load = load(random, longest, 0.0);
    if !fills {
        return level(random, kind, (size, start), &sawed, load, rows);
    }
    let each = (size - start - saw) / (days * DAY as f64) / mean(&load);
    let until = (rows as f64).min(days * DAY as f64);
    let change = (random.between(0.2, 0.6) * until) as usize;
    let more = if kind == "fill_change" { random.between(1.5, 3.0) } else { 1.0 };
    let (mut used, mut hit) = (start, None);
    let mut values = Vec::with_capacity(rows);
    for (row, load) in load.iter().enumerate() {
        used += each * load * if row >= change { more } else { 1.0 };
        if hit.is_none() && used + sawed(row) >= size {
            hit = Some(row);
        }
        if row < rows && hit.is_none_or(|hit| row <= hit) {
            let waver = waver.get(row).copied().unwrap_or(0.0);
            values.push((used + sawed(row) * (1.0 + 0.1 * waver)).min(size));
        }
    }
    let onset = if kind == "fill_change" { change } else { 0 };
    let truth = json!({ "leak": true, "onset": onset, "hit": hit });
    let load = load.into_iter().take(values.len()).collect();
    Scenario {
        kind,
        signal: "disk",
        values,
        load,
        limit: Some(size),
        truth,
        noise: 0.0003,
        whole: false,
    }
}

fn level(
    random: &mut Random,
    kind: &'static str,
    (size, start): (f64, f64),
    sawed: &dyn Fn(usize) -> f64,
    load: Vec<f64>,
    rows: usize,
) -> Scenario {
    let waver = random.wander(rows, 0.999, 1.0);
    let mut values: Vec<f64> = waver
        .iter()
        .enumerate()
        .map(|(row, waver)| (start + sawed(row) + 0.01 * size * waver).max(0.0))
        .collect();
    if kind == "ok_disk_compaction" {
        for _ in 0..42 {
            let (from, len) = (random.below(rows), 20 + random.below(180));
            let peak = size * random.between(0.05, 0.15);
            for (step, value) in values.iter_mut().skip(from).take(len).enumerate() {
                *value += peak * step as f64 / len as f64;
            }
        }
    }
    let truth = json!({ "leak": false });
    Scenario {
        kind,
        signal: "disk",
        values,
        load,
        limit: Some(size),
        truth,
        noise: 0.0003,
        whole: false,
    }
}
