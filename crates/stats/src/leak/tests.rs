//! Tests by what must hold, on small own generators.

use super::*;

const START: i64 = 1_700_000_000_000;

struct Lcg(u64);

impl Lcg {
    fn unit(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn noise(&mut self) -> f64 {
        (0..6).map(|_| self.unit()).sum::<f64>() - 3.0
    }
}

/// Feeds `value(i)` at `step_s` and returns the alarms with their sample numbers.
fn feed(
    leak: &mut Leak,
    step_s: i64,
    count: i64,
    mut value: impl FnMut(i64) -> (f64, f64),
) -> Vec<(i64, LeakAlarm)> {
    let mut alarms = Vec::new();
    for i in 0..count {
        let (v, load) = value(i);
        if let Some(alarm) = leak.push(START + i * step_s * 1000, v, load) {
            alarms.push((i, alarm));
        }
    }
    alarms
}

fn detector(limit: f64) -> Leak {
    let mut leak = Leak::new(LeakConfig::default());
    leak.set_limit(Some(limit));
    leak
}

#[test]
fn a_steady_leak_is_found_long_before_the_limit_with_the_right_date() {
    let mut rng = Lcg(1);
    let mut leak = detector(300.0);
    // Level for 48 h, then 1 % of the base an hour: the limit comes 200 h later.
    let alarms = feed(&mut leak, 60, 5 * 1440, |i| {
        let grown = (i - 2880).max(0) as f64 / 60.0;
        (100.0 + grown + 0.2 * rng.noise(), f64::NAN)
    });
    let (i, alarm) = alarms.first().expect("an alarm");
    let after_h = (i - 2880) as f64 / 60.0;
    assert!((1.0..30.0).contains(&after_h), "{after_h} h");
    let left_h = alarm.time_to_limit_s.unwrap_or(0.0) / 3600.0;
    assert!((left_h / (200.0 - after_h) - 1.0).abs() < 0.2, "{left_h} h");
    assert!((alarm.slope_per_hour - 1.0).abs() < 0.2);
    assert_eq!(alarm.severity, Severity::Ticket);
}

#[test]
fn level_noise_and_collection_saw_and_a_step_say_nothing() {
    let mut rng = Lcg(2);
    let mut leak = detector(400.0);
    let alarms = feed(&mut leak, 60, 5 * 1440, |i| {
        let saw = 80.0 * (i % 200) as f64 / 200.0;
        let step = if i > 4000 { 30.0 } else { 0.0 };
        (100.0 + saw + step + 0.3 * rng.noise(), f64::NAN)
    });
    assert!(alarms.is_empty(), "{alarms:?}");
}

#[test]
fn growth_under_a_collection_saw_is_found() {
    let mut rng = Lcg(3);
    let mut leak = detector(400.0);
    let alarms = feed(&mut leak, 60, 5 * 1440, |i| {
        let saw = 50.0 * (i % 90) as f64 / 90.0;
        (100.0 + saw + 3.0 * (i - 2000).max(0) as f64 / 60.0 + 0.3 * rng.noise(), f64::NAN)
    });
    assert!(alarms.first().is_some_and(|a| a.0 > 2000 && a.0 < 4500), "{alarms:?}");
}

#[test]
fn a_cache_that_fills_is_no_leak() {
    let mut rng = Lcg(4);
    let mut leak = detector(300.0);
    let alarms = feed(&mut leak, 60, 5 * 1440, |i| {
        let filled = 1.0 - (-((i - 1500).max(0) as f64) / 480.0).exp();
        (100.0 + 50.0 * filled + 0.2 * rng.noise(), f64::NAN)
    });
    assert!(alarms.is_empty(), "{alarms:?}");
}

#[test]
fn growth_that_follows_load_is_no_leak_and_load_is_named() {
    let mut rng = Lcg(5);
    let mut leak = detector(400.0);
    let alarms = feed(&mut leak, 60, 5 * 1440, |i| {
        let day = (i as f64 / 1440.0 * std::f64::consts::TAU).sin();
        let load = 100.0 * (1.0 + 0.4 * day) * (1.0 + 0.1 * i as f64 / 1440.0);
        (100.0 + 0.5 * load + 0.2 * rng.noise(), load)
    });
    assert!(alarms.is_empty(), "{alarms:?}");
    assert!(leak.estimate().is_none_or(|e| e.growth < 5.0));
}

#[test]
fn a_fast_leak_sampled_each_second_is_paged_within_two_minutes() {
    let mut rng = Lcg(6);
    let mut leak = detector(262_144.0);
    let alarms = feed(&mut leak, 1, 300, |i| {
        let warm = 30_000.0 * (1.0 - (-(i as f64) / 8.0).exp());
        (55_000.0 + warm + 640.0 * i as f64 + 600.0 * rng.noise(), 200.0)
    });
    let (i, alarm) = alarms.first().expect("an alarm");
    assert!((60..130).contains(i), "after {i} s");
    assert_eq!(alarm.severity, Severity::Page);
    let hit = *i as f64 + alarm.time_to_limit_s.unwrap_or(0.0);
    let truth = (262_144.0 - 85_000.0) / 640.0;
    assert!((hit / truth - 1.0).abs() < 0.1, "{hit} s, not {truth} s");
}

#[test]
fn evidence_carries_over_restarts() {
    let mut rng = Lcg(7);
    let mut leak = detector(400.0);
    let mut found = None;
    for i in 0..5 * 1440 {
        // A restart each 16 h gives all of 2 an hour back.
        if i % 960 == 0 && i > 0 {
            leak.restarted(START + i * 60_000);
        }
        let grown = 2.0 * (i % 960) as f64 / 60.0;
        let value = 100.0 + grown + 0.3 * rng.noise();
        found = found.or(leak.push(START + i * 60_000, value, f64::NAN));
    }
    let alarm = found.expect("an alarm");
    assert!(alarm.restarts >= 1);
    assert!((alarm.slope_per_hour - 2.0).abs() < 0.4, "{}", alarm.slope_per_hour);
}

#[test]
fn a_ceiling_is_learned_from_a_life_that_leaked_until_it_ended() {
    let mut leak = Leak::new(LeakConfig::default());
    let mut rng = Lcg(8);
    for i in 0..6000 {
        let value = if i < 4000 {
            100.0 + 0.1 * (i - 1000).max(0) as f64
        } else {
            100.0 + 0.1 * (i - 4000) as f64
        };
        if i == 4000 {
            leak.restarted(START + i * 60_000);
        }
        leak.push(START + i * 60_000, value + 0.2 * rng.noise(), f64::NAN);
    }
    let limit = leak.estimate().and_then(|e| e.limit);
    assert!(
        limit.is_some_and(|l| l.1 == LimitSource::Learned && (l.0 - 400.0).abs() < 5.0),
        "{limit:?}"
    );
}

#[test]
fn bad_input_is_ignored_and_never_panics() {
    let mut leak = detector(1e9);
    let odd = [f64::NAN, f64::INFINITY, -f64::INFINITY, 0.0, -1e308, 1e308, f64::MIN_POSITIVE];
    let mut rng = Lcg(9);
    for i in 0..20_000i64 {
        let value = odd[(rng.unit() * 7.0) as usize % 7];
        let load = odd[(rng.unit() * 7.0) as usize % 7];
        let jitter = (rng.unit() * 200_000.0) as i64 - 50_000;
        leak.push(START + i * 60_000 + jitter, value, load);
    }
    for time in [i64::MIN, -1, i64::MAX - 1, i64::MAX] {
        leak.push(time, 1.0, 1.0);
        leak.restarted(time);
    }
    leak.estimate();
}

#[test]
fn a_snapshot_goes_on_bit_equal_and_the_evidence_reproduces_the_numbers() {
    let mut rng = Lcg(10);
    let samples: Vec<(i64, f64)> = (0..5000)
        .map(|i| (START + i * 60_000, 100.0 + 0.02 * (i - 2000).max(0) as f64 + 0.2 * rng.noise()))
        .collect();
    let mut leak = detector(300.0);
    let mut alarm = None;
    for (k, (t, v)) in samples.iter().enumerate() {
        if k == 2500 {
            let bytes = postcard::to_allocvec(&leak).expect("serialises");
            leak = postcard::from_bytes(&bytes).expect("reads");
        }
        alarm = leak.push(*t, *v, f64::NAN).or(alarm);
        if alarm.is_some() {
            break;
        }
    }
    let alarm = alarm.expect("an alarm");
    let mut again = detector(300.0);
    for (t, v) in samples.iter().filter(|s| s.0 >= alarm.evidence_from && s.0 <= alarm.at) {
        again.push(*t, *v, f64::NAN);
    }
    assert_eq!(again.estimate(), Some(alarm));
    assert!(again == leak);
}

#[test]
fn a_larger_budget_never_finds_later() {
    let first = |budget: f64| {
        let mut leak = Leak::new(LeakConfig { sensitivity: budget });
        leak.set_limit(Some(400.0));
        let mut rng = Lcg(11);
        let alarms = feed(&mut leak, 60, 7200, |i| {
            (100.0 + 0.012 * (i - 2000).max(0) as f64 + 2.0 * rng.noise(), f64::NAN)
        });
        alarms.first().map_or(i64::MAX, |a| a.0)
    };
    assert!(first(0.05) <= first(0.002));
    assert!(first(0.002) <= first(0.000_1));
}

#[test]
fn a_fast_leak_is_found_without_a_limit_and_a_warm_up_is_not() {
    let mut rng = Lcg(9);
    let mut warm = |i: i64| {
        let filled = 1.0 - (-(i as f64) / 15.0).exp();
        50_000.0 + 40_000.0 * filled + 600.0 * rng.noise()
    };
    let mut healthy = Leak::new(LeakConfig::default());
    let quiet = feed(&mut healthy, 1, 400, |i| (warm(i), 200.0));
    assert!(quiet.is_empty(), "{quiet:?}");
    let mut leaky = Leak::new(LeakConfig::default());
    let alarms = feed(&mut leaky, 1, 400, |i| (warm(i) + 640.0 * i as f64, 200.0));
    assert!(alarms.first().is_some_and(|a| a.0 > 60 && a.0 < 180), "{alarms:?}");
}

#[test]
fn only_floors_that_cannot_leak_are_level() {
    let mut level = Level::new(4);
    let fill = |level: &mut Level, from: i64, life: u16, value: &dyn Fn(i64) -> f32| {
        for i in from..from + 40 {
            level.push(START + i * 4000, value(i), 1.0, life);
        }
    };
    fill(&mut level, 0, 0, &|_| 5.0);
    assert!(level.is_level(1, 7, 0.0, 0.0) && level.is_level(3, 7, 0.0, 0.0));
    fill(&mut level, 40, 0, &|i| 5.0 + i as f32);
    assert!(!level.is_level(1, 7, 0.0, 10.0), "grew by more than ten");
    assert!(level.is_level(1, 7, 0.0, 1000.0), "grew by less than a thousand");
    fill(&mut level, 80, 1, &|i| 5.0 + i as f32);
    assert!(!level.is_level(2, 7, 0.0, 1000.0), "an earlier life is in the ring");
}

#[test]
fn an_unknown_load_is_never_level() {
    let mut level = Level::new(4);
    for i in 0..40 {
        level.push(START + i * 4000, 5.0, f32::NAN, 0);
    }
    assert!(level.is_level(1, 7, 0.0, 0.0));
    assert!(!level.is_level(1, 7, 0.5, 1000.0));
}

#[test]
fn a_fast_leak_is_found_in_its_second_minute_whatever_the_instant_of_its_start() {
    let mut rng = Lcg(7);
    for _ in 0..100 {
        let start = START + (rng.unit() * 1e8) as i64;
        let jitter = rng.unit();
        let mut leak = Leak::new(LeakConfig::default());
        let first = (0..480_i64).find(|i| {
            let seconds = *i as f64 * 0.25;
            let value = 13e6 + 0.75e6 * (seconds / 0.2505 + jitter).floor();
            let load = if *i < 2 { f64::NAN } else { 4.0 + 0.01 * rng.noise() };
            leak.push(start + i * 250 + (rng.unit() * 4.0) as i64, value, load).is_some()
        });
        assert!(first.is_some_and(|i| i <= 260), "{first:?} from {start}");
    }
}
