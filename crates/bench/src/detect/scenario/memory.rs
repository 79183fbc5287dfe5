//! A collected heap, well and leaking.

use super::random::Random;
use super::{DAY, HOUR, Scenario, load, mean, quantile};
use serde_json::json;

/// Growth of a leak, as a share of the base an hour.
const RATES: [f64; 6] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.5];

const ROWS: usize = 5 * DAY;

/// When garbage is collected.
#[derive(Clone, Copy, PartialEq)]
enum Collect {
    Never,
    /// When garbage is this share of the live size.
    Over(f64),
    /// Every so many samples.
    Every(f64),
}

/// What the heap does.
struct Heap {
    base: f64,
    per_load: f64,
    /// Garbage of a sample at mean load.
    garbage: f64,
    collect: Collect,
    minor: f64,
    /// Share of freed pages that an allocator gives back with each sample; 0 gives all.
    keeps: f64,
    warm: (f64, f64),
    limit: f64,
    leaks: bool,
}

pub(super) fn make(random: &mut Random, kind: &'static str) -> Scenario {
    let leaks = kind.starts_with("leak");
    let growth = if kind == "ok_load_growth" { random.between(0.04, 0.12) } else { 0.0 };
    let load = load(random, ROWS, growth);
    let base = 10_f64.powf(random.between(7.7, 9.7));
    let follows = if kind.ends_with("load_growth") { (0.15, 0.3) } else { (0.0, 0.25) };
    let per_load = base * random.between(follows.0, follows.1) / mean(&load);
    let (collect, garbage, minor) = collector(random, kind, base);
    let wander = random.between(0.001, 0.012);
    let mut live: Vec<f64> =
        random.wander(ROWS, 0.995, wander).into_iter().map(|it| 1.0 + it).collect();
    let warms = kind == "ok_warmup" || (kind != "ok_flat" && random.chance(0.25));
    let warm = if warms {
        (random.between(0.5, 10.0) * HOUR, base * random.between(0.1, 1.2))
    } else {
        (0.0, 0.0)
    };
    let mut restarts = vec![false; ROWS];
    shape(random, kind, &mut live, &mut restarts);
    let onset = if !leaks || random.chance(0.2) {
        0
    } else {
        (random.between(0.1, 0.5) * ROWS as f64) as usize
    };
    let rate = RATES.get(random.number % RATES.len()).copied().unwrap_or(0.01);
    let leak =
        if leaks { leak(random, kind, base * rate / HOUR, &load, onset) } else { vec![0.0; ROWS] };
    if kind == "leak_restart" && onset > 0 {
        restarts.iter_mut().skip(onset).take(1).for_each(|it| *it = true);
    }
    let saw = match collect {
        Collect::Never => 0.0,
        Collect::Over(share) => share,
        Collect::Every(samples) => garbage * samples / base,
    };
    let peak = base * (1.0 + saw) + per_load * quantile(&load, 0.99) + warm.1;
    let limit = peak * random.between(1.5, 3.0);
    let keeps = random.choose(&[0.0, 0.0, 0.02], 0.0);
    let heap = Heap { base, per_load, garbage, collect, minor, keeps, warm, limit, leaks };
    let (values, restarts) = heap.run(&live, &load, &leak, &restarts);
    let per = leak.iter().skip(onset).sum::<f64>() / (ROWS - onset) as f64;
    let hit = (leaks && per > 0.0).then(|| onset as f64 + (limit - peak) / per);
    let rows = |which: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..ROWS).filter(|row| which(*row)).collect()
    };
    let oom = rows(&|row| values.get(row).is_some_and(|value| *value >= limit));
    let truth = json!({
        "leak": leaks, "onset": leaks.then_some(onset), "rate": if leaks { rate } else { 0.0 }, "hit": hit,
        "restarts": rows(&|row| restarts.get(row).copied().unwrap_or(false)),
        "oom": oom.into_iter().take(20).collect::<Vec<_>>(),
    });
    let noise = random.between(0.0005, 0.004);
    Scenario {
        kind,
        signal: "memory",
        values,
        load,
        limit: Some(limit),
        truth,
        noise,
        whole: false,
    }
}

fn collector(random: &mut Random, kind: &str, base: f64) -> (Collect, f64, f64) {
    let collected = matches!(kind, "ok_gc" | "leak_gc" | "leak_restart");
    let which = random.below(4);
    let (which, longest) = if collected { (1 + which % 3, 12.0) } else { (which, 2.0) };
    let longest: f64 = if kind == "leak_restart" { 2.0 } else { longest };
    let period = 10_f64.powf(random.between(0.6, (longest * HOUR).log10()));
    let size = random.between(0.1, 1.0);
    let garbage = size * base / period;
    let minor = random.choose(&[0.0, 0.15], 0.0);
    match which {
        0 => (Collect::Never, 0.0, 0.0),
        3 => (Collect::Every(period), garbage, minor),
        _ => (Collect::Over(size * random.between(0.7, 0.9)), garbage, minor),
    }
}

/// What happens to the live size that is no leak.
fn shape(random: &mut Random, kind: &str, live: &mut [f64], restarts: &mut [bool]) {
    let rows = live.len();
    match kind {
        "ok_step" => {
            let at = (random.between(0.2, 0.8) * rows as f64) as usize;
            let size = random.between(0.05, 0.5);
            live.iter_mut().skip(at).for_each(|it| *it += size);
            if random.chance(0.5) {
                restarts.iter_mut().skip(at).take(1).for_each(|it| *it = true);
            }
        }
        "ok_batch" => {
            let (at, len) = (random.below(DAY), 20 + random.below(160));
            let size = random.between(0.2, 1.0);
            for (row, it) in live.iter_mut().enumerate() {
                let within = (row + DAY - at) % DAY < len && row >= at;
                *it += if within { size } else { 0.0 };
            }
        }
        "ok_randomwalk" => {
            let size = random.between(0.01, 0.05);
            let slow = random.wander(rows, 0.9993, size);
            live.iter_mut().zip(slow).for_each(|(it, slow)| *it += slow);
        }
        "ok_plateau" => {
            let at = (random.between(0.05, 0.4) * rows as f64) as usize;
            let (time, size) = (random.between(3.0, 18.0) * HOUR, random.between(0.1, 0.8));
            for (row, it) in live.iter_mut().enumerate().skip(at) {
                *it += size * (1.0 - (-((row - at) as f64) / time).exp());
            }
        }
        "ok_restart" | "leak_restart" => {
            let gap = random.between(8.0, 40.0) * HOUR;
            let mut at = random.between(0.0, gap);
            while at < rows as f64 {
                restarts.iter_mut().skip(at as usize).take(1).for_each(|it| *it = true);
                at += gap * random.between(0.8, 1.2);
            }
        }
        _ => {}
    }
}

/// What stays behind with each sample.
fn leak(random: &mut Random, kind: &str, per: f64, load: &[f64], onset: usize) -> Vec<f64> {
    let (middle, high) = (mean(load), quantile(load, 0.6));
    let over = load.iter().filter(|it| **it > high).count() as f64 / load.len() as f64;
    let every = random.between(0.3, 3.0) * HOUR;
    let mut one = |load: f64| match kind {
        "leak_load" => per * load / middle,
        "leak_peak" if load > high => per / over,
        "leak_peak" => 0.0,
        "leak_chunks" if random.chance(1.0 / every) => per * every * random.between(0.5, 1.5),
        "leak_chunks" => 0.0,
        _ => per,
    };
    let rows = load.iter().enumerate();
    rows.map(|(row, load)| if row < onset { 0.0 } else { one(*load) }).collect()
}

impl Heap {
    /// What is used with each sample, and when the process began anew.
    fn run(
        &self,
        live: &[f64],
        load: &[f64],
        leak: &[f64],
        restarts: &[bool],
    ) -> (Vec<f64>, Vec<bool>) {
        let middle = mean(load);
        let (mut used, mut began) = (Vec::with_capacity(live.len()), Vec::new());
        let (mut garbage, mut leaked, mut resident) = (0.0, 0.0, 0.0_f64);
        let (mut age, mut since) = (0.0, 0.0);
        let mut dead = false;
        let rows = live.iter().zip(load).zip(leak).zip(restarts).enumerate();
        for (row, (((live, load), leak), restart)) in rows {
            let anew = *restart || std::mem::take(&mut dead);
            began.push(anew);
            if anew {
                (garbage, leaked, age, since, resident) = (0.0, 0.0, 0.0, 0.0, 0.0);
            }
            leaked += leak;
            let mut size = self.base * live + self.per_load * load + leaked;
            if self.warm.0 > 0.0 {
                size += self.warm.1 * (1.0 - (-age / self.warm.0).exp());
            }
            (age, since) = (age + 1.0, since + 1.0);
            if self.collect != Collect::Never {
                garbage += self.garbage * load / middle;
                let full = match self.collect {
                    Collect::Never => false,
                    Collect::Over(share) => garbage > share * size,
                    Collect::Every(samples) => since >= samples,
                };
                if full {
                    (garbage, since) = (0.0, 0.0);
                } else if row % 7 == 0 {
                    garbage *= 1.0 - self.minor;
                }
            }
            let mut now = size + garbage;
            if self.keeps > 0.0 {
                resident = now.max(resident + self.keeps * (now - resident));
                now = resident;
            }
            dead = self.leaks && now >= self.limit;
            used.push(if dead { self.limit } else { now });
        }
        (used, began)
    }
}
