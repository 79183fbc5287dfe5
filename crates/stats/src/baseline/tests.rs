use super::*;

const MINUTE: i64 = 60_000;
const DAY: i64 = 1440;

/// Linear congruential generator (Knuth's MMIX constants).
struct Lcg(u64);

impl Lcg {
    fn uniform(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// One service: minutes of (load, latency, error ratio) with a daily cycle and a weekend.
struct Service {
    rng: Lcg,
    drift: f64,
    jitter: f64,
}

impl Service {
    fn new(seed: u64) -> Self {
        Self { rng: Lcg(seed), drift: 0.0, jitter: 0.0 }
    }

    fn next(&mut self, i: i64) -> (f64, f64, f64) {
        self.drift = 0.97 * self.drift + 0.012 * self.rng.normal();
        self.jitter = 0.7 * self.jitter + 0.07 * self.rng.normal();
        let phase = (i % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
        let weekend = if i / DAY % 7 >= 5 { 0.6 } else { 1.0 };
        let load = 200.0 * (1.0 + 0.5 * phase.sin()) * weekend * (1.0 + self.drift);
        let latency = 20.0 * (1.0 + load / 500.0) * self.jitter.exp();
        let requests = (load * 60.0).round();
        let errors = (requests * 0.002 + (requests * 0.002).sqrt() * self.rng.normal()).round();
        (load, latency, errors.max(0.0) / requests)
    }
}

fn config(kind: Kind) -> BaselineConfig {
    BaselineConfig { kind, budget_per_day: 0.02 }
}

/// Feeds `days`; `change(i, kind, value)` may alter a value. Returns the alarms and the detector.
fn run(
    kind: Kind,
    days: i64,
    with_load: bool,
    change: impl Fn(i64, f64) -> f64,
) -> (Vec<BaselineAlarm>, Baseline) {
    let mut service = Service::new(7);
    let mut detector = Baseline::new(config(kind));
    let mut alarms = Vec::new();
    for i in 0..days * DAY {
        let (load, latency, errors) = service.next(i);
        let value = match kind {
            Kind::Latency => latency,
            Kind::Errors => errors,
            Kind::Throughput => load,
        };
        let load = if with_load { load } else { f64::NAN };
        alarms.extend(detector.push(i * MINUTE, change(i, value), load));
    }
    (alarms, detector)
}

const KINDS: [Kind; 3] = [Kind::Latency, Kind::Errors, Kind::Throughput];

#[test]
fn a_healthy_service_is_quiet_for_three_weeks() {
    for kind in KINDS {
        for with_load in [true, false] {
            let (alarms, _) = run(kind, 21, with_load, |_, v| v);
            assert!(alarms.is_empty(), "{kind:?} {with_load}: {alarms:?}");
        }
    }
}

#[test]
fn a_fault_of_an_hour_is_found_within_minutes_with_its_onset_and_size() {
    for (kind, factor) in [(Kind::Latency, 1.8), (Kind::Errors, 5.0), (Kind::Throughput, 0.6)] {
        for with_load in [true, false] {
            let start = 10 * DAY + 600;
            let hit = |i: i64| i >= start && i < start + 60;
            let (alarms, d) = run(kind, 12, with_load, |i, v| if hit(i) { v * factor } else { v });
            let first = alarms.first().expect("an alarm");
            assert!((start..start + 20).contains(&(first.at_ms / MINUTE)), "{kind:?}");
            assert!((first.estimate.since_ms / MINUTE - start).abs() <= 15, "{first:?}");
            let e = &first.estimate;
            assert!(e.ratio_low < factor * 1.1 && e.ratio_high > factor * 0.9, "{e:?}");
            assert!(e.observed.is_finite() && e.expected_low < e.expected_high);
            assert!(d.active().is_none(), "the end is known");
        }
    }
}

#[test]
fn single_wild_samples_are_normal() {
    let (alarms, _) = run(Kind::Latency, 14, true, |i, v| if i % 611 == 0 { v * 6.0 } else { v });
    assert!(alarms.is_empty(), "{alarms:?}");
}

#[test]
fn a_lasting_change_is_one_finding_and_then_normal() {
    let (alarms, d) = run(Kind::Latency, 21, true, |i, v| if i > 12 * DAY { v * 1.5 } else { v });
    let notes = alarms.iter().filter(|a| a.severity == Severity::Note).count();
    assert_eq!(notes, 1, "{alarms:?}");
    assert!(d.active().is_none());
}

#[test]
fn a_holiday_is_at_most_one_finding() {
    let day = 16 * DAY..17 * DAY;
    let (alarms, _) =
        run(Kind::Throughput, 21, false, |i, v| if day.contains(&i) { v * 0.6 } else { v });
    assert!(alarms.len() <= 2, "{alarms:?}");
    assert!(alarms.iter().all(|a| a.at_ms / MINUTE < 17 * DAY));
}

#[test]
fn a_stuck_value_is_a_flat_line() {
    let (alarms, _) = run(Kind::Latency, 10, true, |i, v| if i > 9 * DAY { 27.0 } else { v });
    assert!(alarms.iter().any(|a| a.reason == Reason::FlatLine), "{alarms:?}");
}

#[test]
fn more_noise_is_a_change_of_variance() {
    let mut rng = Lcg(3);
    let noise: Vec<f64> = (0..12 * DAY).map(|_| (0.5 * rng.normal()).exp()).collect();
    let wild = |i: i64, v: f64| {
        if i > 11 * DAY { v * noise[i as usize] } else { v }
    };
    let (alarms, _) = run(Kind::Latency, 12, true, wild);
    assert!(alarms.iter().any(|a| a.reason == Reason::Variance), "{alarms:?}");
}

#[test]
fn the_band_covers_what_comes() {
    for kind in KINDS {
        let mut service = Service::new(11);
        let mut d = Baseline::new(config(kind));
        let (mut inside, mut all) = (0.0, 0.0);
        for i in 0..14 * DAY {
            let (load, latency, errors) = service.next(i);
            let v = [latency, errors, load][kind as usize];
            if i > 9 * DAY
                && let Some((mid, low, high)) = d.expected()
            {
                assert!(low <= mid && mid <= high);
                all += 1.0;
                inside += if (low..=high).contains(&v) { 1.0 } else { 0.0 };
            }
            d.push(i * MINUTE, v, load);
        }
        assert!(inside / all > 0.9, "{kind:?} {}", inside / all);
    }
}

#[test]
fn a_snapshot_goes_on_bit_for_bit() {
    for kind in KINDS {
        let (_, mut a) = run(kind, 9, true, |i, v| if i > 12_500 { v * 3.0 } else { v });
        let bytes = postcard::to_allocvec(&a).unwrap();
        let mut b: Baseline = postcard::from_bytes(&bytes).unwrap();
        assert!(a == b);
        let mut service = Service::new(5);
        for i in 9 * DAY..11 * DAY {
            let (load, latency, _) = service.next(i);
            assert_eq!(a.push(i * MINUTE, latency, load), b.push(i * MINUTE, latency, load));
        }
        assert!(a == b);
    }
}

#[test]
fn the_numbers_follow_from_the_samples_since_evidence_from() {
    let mut service = Service::new(9);
    let rows: Vec<_> = (0..50 * DAY / 5).map(|k| (k * 5 * MINUTE, service.next(k * 5))).collect();
    let mut d = Baseline::new(config(Kind::Latency));
    for &(ms, (load, latency, _)) in &rows {
        d.push(ms, latency, load);
    }
    let e = d.estimate().unwrap();
    assert!(e.evidence_from >= 27 * DAY * MINUTE, "the old generation went");
    let mut fresh = Baseline::new(config(Kind::Latency));
    for &(ms, (load, latency, _)) in rows.iter().filter(|r| r.0 >= e.evidence_from) {
        fresh.push(ms, latency, load);
    }
    assert_eq!(fresh.estimate(), Some(e));
}

#[test]
fn no_input_panics_or_gives_numbers_that_are_not_finite() {
    let odd = [0.0, -1.0, 1e-300, 1e300, f64::NAN, f64::INFINITY, f64::MAX, 5e-324, 1.0, 0.5];
    let times = [0, i64::MAX, i64::MIN, i64::MAX - 1, 60_000, -1, i64::MIN + 1];
    for kind in KINDS {
        let mut rng = Lcg(1);
        let mut d = Baseline::new(config(kind));
        let mut t = -5_000_000_i64;
        for k in 0..60_000_usize {
            let pick = |r: f64| odd.get((r * 10.0) as usize).copied().unwrap_or(1.0);
            let (v, l) = (pick(rng.uniform()), pick(rng.uniform()));
            t += (rng.uniform() * 2e5) as i64 - 1000;
            if rng.uniform() < 0.0005 {
                t += 40 * DAY * MINUTE;
            }
            let time = if k > 59_000 { times[k % times.len()] } else { t };
            if let Some(a) = d.push(time, v, l) {
                assert!(a.score.is_finite() && a.estimate.ratio.is_finite(), "{a:?}");
                assert!(a.estimate.observed.is_finite() && a.estimate.expected_high.is_finite());
            }
            assert!(d.score().is_finite());
            if let Some((mid, low, high)) = d.expected() {
                assert!(mid.is_finite() && low.is_finite() && high.is_finite());
            }
        }
    }
}

#[test]
fn the_state_is_bounded() {
    let (_, d) = run(Kind::Latency, 41, true, |_, v| v);
    assert!(postcard::to_allocvec(&d).unwrap().len() < 64_000);
    assert!(size_of::<Baseline>() < 2_000, "{}", size_of::<Baseline>());
}

#[test]
fn faults_are_found_at_other_steps_and_the_rest_is_quiet() {
    for step in [1_i64, 10, 300] {
        let mut service = Service::new(21);
        let mut d = Baseline::new(config(Kind::Latency));
        let day = 86_400 / step;
        let (start, end) = (3 * day + day / 3, 3 * day + day / 3 + 3600 / step);
        let mut alarms = Vec::new();
        for i in 0..4 * day {
            let (load, latency, _) = service.next(i * step / 60);
            let bad = (start..end).contains(&i);
            let v = if bad { latency * 2.0 } else { latency };
            alarms.extend(d.push(i * step * 1000, v, load));
        }
        let at: Vec<i64> = alarms.iter().map(|a| a.at_ms / 1000 / step).collect();
        assert!(!at.is_empty() && at.iter().all(|&i| i >= start && i <= end), "{step} {at:?}");
    }
}

#[test]
fn a_rate_of_rare_errors_is_neither_lost_nor_missed() {
    let mut rng = Lcg(17);
    let mut d = Baseline::new(config(Kind::Errors));
    let mut alarms = Vec::new();
    for i in 0..10 * DAY {
        let bad = (9 * DAY..9 * DAY + 30).contains(&i);
        let rate = if bad { 0.003 } else { 1e-4 };
        let errors = (0..1300).filter(|_| rng.uniform() < rate).count();
        alarms.extend(d.push(i * MINUTE, errors as f64 / 1300.0, 1300.0 / 60.0));
        if i == 9 * DAY - 1 {
            let (mid, low, high) = d.expected().expect("a level");
            assert!((0.5e-4..2e-4).contains(&mid) && low == 0.0 && high < 0.003, "{mid} {high}");
        }
    }
    let at: Vec<i64> = alarms.iter().map(|a| a.at_ms / MINUTE - 9 * DAY).collect();
    assert!(!at.is_empty() && at.iter().all(|t| (0..30).contains(t)), "{at:?}");
}

/// The level of last week's same hour is unknown then; that of before the hole may be of another kind of day.
#[test]
fn a_hole_in_the_collection_of_a_week_ago_is_no_fall_of_requests() {
    for (from, to) in [(4 * DAY + 1200, 5 * DAY + 360), (5 * DAY - 60, 7 * DAY - 120)] {
        let (mut service, mut detector) =
            (Service::new(7), Baseline::new(config(Kind::Throughput)));
        for i in 0..14 * DAY {
            let (load, ..) = service.next(i);
            if (from..to).contains(&i) {
                continue;
            }
            let alarm = detector.push(i * MINUTE, load, f64::NAN);
            let quiet = alarm.as_ref().is_none_or(|it| it.severity == Severity::Note);
            assert!(quiet, "on day {:.2}: {alarm:?}", i as f64 / DAY as f64);
        }
    }
}
