//! What must hold, on small series made here.

use super::*;

const FIVE_MINUTES: i64 = 300_000;

/// Numerical Recipes' linear congruential generator; uniform in -1 to 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Day wave of amplitude 10 around 100, with noise of 1.
fn usual(i: i64, noise: &mut Noise) -> f64 {
    let phase = (i % 288) as f64 / 288.0 * std::f64::consts::TAU;
    100.0 + 10.0 * phase.sin() + noise.next()
}

/// A detector after `days` of `usual` at five minutes, and the time of the next sample.
fn trained(days: i64, noise: &mut Noise) -> (Novelty, i64) {
    let mut detector = Novelty::new(NoveltyConfig::default());
    for i in 0..288 * days {
        detector.push(i * FIVE_MINUTES, usual(i, noise));
    }
    (detector, 288 * days * FIVE_MINUTES)
}

#[test]
fn a_value_never_seen_raises_an_alarm_at_once() {
    let (mut detector, next) = trained(7, &mut Noise(1));
    let alarm = detector.push(next, 160.0).alarm.expect("an alarm");
    assert_eq!((alarm.reason, alarm.at_ms), (Reason::NewValue, next));
    assert!(alarm.score > alarm.threshold && alarm.estimate.high < 160.0);
}

#[test]
fn a_usual_value_at_an_unusual_hour_is_told_by_the_hour() {
    let (mut detector, next) = trained(10, &mut Noise(2));
    let six_hours = 72 * FIVE_MINUTES;
    for i in 0..72 {
        detector.push(next + i * FIVE_MINUTES, usual(i, &mut Noise(3)));
    }
    // The wave is at its top; 91 is common at its bottom.
    let alarm = detector.push(next + six_hours, 91.05).alarm.expect("an alarm");
    assert_eq!(alarm.reason, Reason::TimeOfDay);
    assert!(alarm.seasonal_mid.is_some_and(|v| (v - 109.0).abs() < 2.0), "{alarm:?}");
}

#[test]
fn a_shift_below_the_noise_is_seen_in_the_mean_of_a_block() {
    let mut noise = Noise(11);
    let mut detector = Novelty::new(NoveltyConfig::default());
    let mut alarms = Vec::new();
    for i in 0..2600 {
        let shift = if i >= 2500 { 1.0 } else { 0.0 };
        // Clipped to the usual range: no single value is new.
        let value = (noise.next() + shift).clamp(-0.9, 0.9);
        alarms.extend(detector.push(i * FIVE_MINUTES, value).alarm);
    }
    let found = alarms.iter().find(|a| a.at_ms >= 2500 * FIVE_MINUTES).expect("an alarm");
    assert_eq!(found.reason, Reason::Level);
    assert!(found.at_ms <= 2524 * FIVE_MINUTES);
}

#[test]
fn the_first_day_raises_no_alarm() {
    let (mut detector, next) = (Novelty::new(NoveltyConfig::default()), 200 * FIVE_MINUTES);
    for i in 0..200 {
        detector.push(i * FIVE_MINUTES, usual(i, &mut Noise(12)));
    }
    let reading = detector.push(next, 500.0);
    assert!(reading.score > 0.5 && reading.alarm.is_none());
}

#[test]
fn a_gauge_that_sticks_is_a_flat_line() {
    let mut noise = Noise(10);
    let mut detector = Novelty::new(NoveltyConfig::default());
    for i in 0..2000 {
        detector.push(i * FIVE_MINUTES, noise.next());
    }
    let stuck = |i: i64| detector.push((2000 + i) * FIVE_MINUTES, 0.1).alarm;
    let mut alarms = (0..40).filter_map(stuck);
    let alarm = alarms.next().expect("an alarm");
    assert_eq!(alarm.reason, Reason::FlatLine);
    assert_eq!(alarms.count(), 0);
}

#[test]
fn repetition_of_an_incident_tires() {
    let (mut detector, next) = trained(7, &mut Noise(4));
    let first = detector.push(next, 160.0).score;
    let second = detector.push(next + FIVE_MINUTES, 161.0).score;
    assert!(first > 0.5 && second < 0.1, "{first} {second}");
}

#[test]
fn noise_and_season_alone_stay_within_the_budget() {
    let mut noise = Noise(5);
    let mut detector = Novelty::new(NoveltyConfig::default());
    let alarms = (0..288 * 60)
        .filter(|i| detector.push(i * FIVE_MINUTES, usual(*i, &mut noise)).alarm.is_some())
        .count();
    assert!(alarms <= 3, "{alarms} alarms in 60 days");
}

#[test]
fn a_wild_series_raises_its_own_threshold() {
    let mut noise = Noise(6);
    let mut detector = Novelty::new(NoveltyConfig::default());
    let mut alarms = 0;
    for i in 0..24 * 200 {
        let spike = if noise.next() > 0.98 { (8.0 * noise.next()).exp() } else { 0.0 };
        let r = detector.push(i * 3_600_000, spike);
        if let Some(a) = &r.alarm {
            println!("{i} {spike:.3} {:?} {} {}", a.reason, a.score, a.threshold);
        }
        alarms += u32::from(r.alarm.is_some());
    }
    assert!(alarms <= 22, "{alarms} alarms in 200 days at a budget of 10");
}

#[test]
fn estimate_needs_only_the_samples_since_its_evidence() {
    let mut noise = Noise(7);
    let (mut detector, next) = trained(3, &mut noise);
    let tail: Vec<(i64, f64)> =
        (0..80).map(|i| (next + i * FIVE_MINUTES, usual(i, &mut noise))).collect();
    tail.iter().for_each(|(t, v)| _ = detector.push(*t, *v));
    let estimate = detector.estimate().expect("an estimate");
    let mut fresh = Novelty::new(NoveltyConfig::default());
    tail.iter()
        .filter(|(t, _)| *t >= estimate.evidence_from_ms)
        .for_each(|(t, v)| _ = fresh.push(*t, *v));
    assert_eq!(fresh.estimate(), Some(estimate));
}

#[test]
fn a_restart_from_a_snapshot_is_bit_equal() {
    let mut noise = Noise(8);
    let (mut detector, next) = trained(5, &mut noise);
    let bytes = postcard::to_allocvec(&detector).expect("text");
    let mut restarted: Novelty = postcard::from_bytes(&bytes).expect("a detector");
    for i in 0..600 {
        let (time, value) =
            (next + i * FIVE_MINUTES, usual(i, &mut noise) + f64::from(i == 300) * 70.0);
        assert_eq!(detector.push(time, value), restarted.push(time, value));
    }
    assert!(detector == restarted);
}

#[test]
fn garbage_is_ignored_and_scores_stay_finite() {
    let mut detector =
        Novelty::new(NoveltyConfig { budget_per_day: f64::NAN, ..Default::default() });
    let odd = [f64::NAN, f64::INFINITY, -1e300, 1e29, -1e29, 0.0, -0.0, 1e-300, f64::MIN_POSITIVE];
    let times = [5, 5, 4, i64::MIN, i64::MAX, 0, 1, 2];
    for i in 0..3000i64 {
        let value = odd[(i * 7 % 9) as usize];
        let time = if i % 50 == 49 { times[(i % 8) as usize] } else { i * 1000 };
        let score = detector.push(time, value).score;
        assert!((0.0..=1.0).contains(&score), "{score} at {i}");
    }
}

#[test]
fn the_state_is_bounded() {
    let mut noise = Noise(9);
    let mut detector = Novelty::new(NoveltyConfig::default());
    for i in 0..20_000i64 {
        detector.push(i * 60_000, (30.0 * noise.next()).exp() * noise.next());
    }
    assert!(detector.state_bytes() <= 8192, "{} bytes", detector.state_bytes());
}
