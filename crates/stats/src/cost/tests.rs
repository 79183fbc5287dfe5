use super::*;

const MINUTE: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

/// Uniform numbers in 0..1 (Knuth's MMIX constants).
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About standard normal.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// `days` of minutes: daily load, cpu = 0.2 + 0.01 load x cost(day), autocorrelated noise of 4 %.
fn service(days: i64, seed: u64, shape: impl Fn(f64) -> (f64, f64)) -> Vec<(i64, f64, f64)> {
    let mut random = Lcg(seed);
    let mut noise = 0.0;
    (0..days * 1440)
        .map(|i| {
            let day = i as f64 / 1440.0;
            let (cost, traffic) = shape(day);
            noise = 0.8 * noise + 0.6 * 0.04 * random.normal();
            let season = 1.0 + 0.4 * (day * std::f64::consts::TAU).sin();
            let load = 100.0 * season * traffic * (1.0 + 0.05 * random.normal());
            (i * MINUTE, 0.2 + 0.01 * load * cost * (1.0 + noise), load)
        })
        .collect()
}

fn feed(detector: &mut Cost, samples: &[(i64, f64, f64)]) -> Vec<CostAlarm> {
    samples.iter().filter_map(|(at, cpu, load)| detector.push(*at, *cpu, *load)).collect()
}

fn alarms(samples: &[(i64, f64, f64)]) -> Vec<CostAlarm> {
    feed(&mut Cost::new(CostConfig::default()), samples)
}

#[test]
fn step_of_8_percent_is_found_within_12_h_and_dated() {
    for seed in 1..6 {
        let samples = service(6, seed, |day| (if day < 4.0 { 1.0 } else { 1.08 }, 1.0));
        let found = alarms(&samples);
        assert_eq!(found.len(), 1, "seed {seed}");
        let e = &found[0].estimate;
        assert!(e.at > 4 * DAY_MS && e.at <= 4 * DAY_MS + DAY_MS / 2, "seed {seed}: {e:?}");
        assert!((e.since - 4 * DAY_MS).abs() <= 4 * 3_600_000, "seed {seed}: {e:?}");
        assert!(e.ratio_low < 1.08 && e.ratio_high > 1.05, "seed {seed}: {e:?}");
    }
}

#[test]
fn ramp_of_a_day_is_found_before_it_ends() {
    let samples = service(6, 3, |day| (1.0 + 0.15 * (day - 3.0).clamp(0.0, 1.0), 1.0));
    let found = alarms(&samples);
    assert_eq!(found.len(), 1);
    assert!(found[0].estimate.at > 3 * DAY_MS && found[0].estimate.at < 4 * DAY_MS);
}

#[test]
fn steady_cost_is_nothing_for_weeks() {
    for seed in 1..4 {
        assert!(alarms(&service(21, seed, |_| (1.0, 1.0))).is_empty(), "seed {seed}");
    }
}

#[test]
fn traffic_that_was_never_seen_is_nothing() {
    for factor in [0.3, 1.8, 3.0] {
        let jump = |day: f64| (1.0, if day < 4.0 { 1.0 } else { factor });
        assert!(alarms(&service(8, 5, jump)).is_empty(), "factor {factor}");
    }
    assert!(alarms(&service(10, 6, |day| (1.0, 1.0 + 0.08 * day))).is_empty());
}

#[test]
fn ramp_that_starts_while_learning_is_not_absorbed() {
    let samples = service(7, 4, |day| (1.0 + 0.2 * ((day - 0.7) / 3.0).clamp(0.0, 1.0), 1.0));
    assert!(!alarms(&samples).is_empty());
}

#[test]
fn cheaper_is_no_alarm_and_the_baseline_follows() {
    let shape = |day: f64| (if !(4.0..7.0).contains(&day) { 1.0 } else { 0.85 }, 1.0);
    let found = alarms(&service(9, 8, shape));
    assert_eq!(found.len(), 1, "only the way back up: {found:?}");
    assert!(found[0].estimate.at > 7 * DAY_MS);
}

#[test]
fn odd_job_of_an_hour_is_nothing() {
    let spike = |day: f64| (if (4.0..4.05).contains(&day) { 2.0 } else { 1.0 }, 1.0);
    assert!(alarms(&service(6, 9, spike)).is_empty());
}

#[test]
fn alarm_stands_until_accepted_and_a_new_one_needs_a_new_drift() {
    let shape = |day: f64| {
        (1.0 + if day < 4.0 { 0.0 } else { 0.1 } + if day < 8.0 { 0.0 } else { 0.1 }, 1.0)
    };
    let samples = service(10, 10, shape);
    let mut detector = Cost::new(CostConfig::default());
    let (first, second) = samples.split_at(5 * 1440);
    assert_eq!(feed(&mut detector, first).len(), 1);
    assert!(detector.is_standing());
    detector.accept();
    assert!(!detector.is_standing());
    let found = feed(&mut detector, second);
    assert_eq!(found.len(), 1);
    assert!(found[0].estimate.at > 8 * DAY_MS);
}

#[test]
fn unknown_load_still_finds_a_doubled_cpu() {
    let strip = |samples: Vec<(i64, f64, f64)>| -> Vec<(i64, f64, f64)> {
        samples.into_iter().map(|(at, cpu, _)| (at, cpu, f64::NAN)).collect()
    };
    let doubled = strip(service(8, 11, |day| (if day < 5.0 { 1.0 } else { 2.0 }, 1.0)));
    assert_eq!(alarms(&doubled).len(), 1);
    assert!(alarms(&strip(service(14, 12, |_| (1.0, 1.0)))).is_empty());
}

#[test]
fn fresh_detector_from_the_evidence_gives_the_same_numbers() {
    let samples = service(20, 13, |day| (if day < 18.0 { 1.0 } else { 1.1 }, 1.0));
    let alarm = alarms(&samples).remove(0).estimate;
    assert!(alarm.evidence_from > 0, "the ring has moved on");
    let mut fresh = Cost::new(CostConfig::default());
    for (at, cpu, load) in samples {
        if at >= alarm.evidence_from && at <= alarm.at {
            fresh.push(at, cpu, load);
        }
    }
    assert_eq!(fresh.estimate(), Some(alarm));
}

#[test]
fn restart_from_a_snapshot_is_bit_equal() {
    let samples = service(5, 14, |day| (if day < 3.0 { 1.0 } else { 1.1 }, 1.0));
    let mut whole = Cost::new(CostConfig::default());
    let mut parts = whole.clone();
    for (i, (at, cpu, load)) in samples.iter().enumerate() {
        let a = whole.push(*at, *cpu, *load);
        assert_eq!(parts.push(*at, *cpu, *load), a);
        if i % 997 == 0 {
            let bytes = postcard::to_allocvec(&parts).expect("serialises");
            parts = postcard::from_bytes(&bytes).expect("restores");
            assert!(parts == whole, "at sample {i}");
        }
    }
}

#[test]
fn odd_input_does_no_harm() {
    let mut detector = Cost::new(CostConfig::default());
    let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300, f64::MIN_POSITIVE];
    for (i, cpu) in odd.iter().enumerate() {
        for (j, load) in odd.iter().enumerate() {
            for at in [i64::MIN, -5, 0, (i * 40 + j) as i64 * 20 * MINUTE, i64::MAX] {
                detector.push(at, *cpu, *load);
                detector.estimate();
            }
        }
    }
    let mut zero = Cost::new(CostConfig::default());
    for i in 0..20_000 {
        zero.push(i * MINUTE, 0.0, 0.0);
    }
    assert_eq!(zero.estimate(), None);
    assert!(size_of::<Cost>() + ring::RING * size_of::<ring::Block>() < 8192);
}

#[test]
fn a_target_that_is_read_each_hour_has_its_drift_found_at_any_minute() {
    let all = service(14, 3, |day| (if day < 8.0 { 1.0 } else { 1.25 }, 1.0));
    for minute in [10, 45] {
        let hourly: Vec<_> =
            all.iter().filter(|it| it.0 / MINUTE % 60 == minute).copied().collect();
        assert_eq!(alarms(&hourly).len(), 1, "at minute {minute}");
    }
}
