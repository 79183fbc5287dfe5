use super::*;

const NAN: f64 = f64::NAN;

fn reading(cpu: f64, offered: f64, goodput: f64, latency: f64, answered: bool) -> Reading {
    Reading {
        cpu_cores: cpu,
        offered_rps: offered,
        goodput_rps: goodput,
        latency_s: latency,
        errors_rps: NAN,
        answered,
    }
}

/// Feeds a reading each `step` seconds; returns the alarms.
fn feed(step: i64, readings: &[Reading]) -> Vec<SaturationAlarm> {
    let mut detector = Saturation::new(SaturationConfig::default());
    let times = (1..).map(|i| i * step * 1000);
    times.zip(readings).filter_map(|(at, r)| detector.push(at, *r)).collect()
}

#[test]
fn collapse_of_goodput_at_full_cpu_is_named_within_30_s() {
    let alarms = feed(5, &[reading(0.84, 65.0, 9.0, NAN, true); 6]);
    assert_eq!(alarms.len(), 1);
    assert!(alarms[0].at <= 30_000);
    assert_eq!(alarms[0].reason, SaturationReason::GoodputCollapse);
    assert!((alarms[0].goodput_share - 9.0 / 65.0).abs() < 1e-9);
}

#[test]
fn probes_without_answer_at_full_cpu_are_named_without_goodput() {
    // The recorded run: first answer after 6.8 s, then none, pending ones unknown.
    let pending = reading(0.80, NAN, NAN, NAN, true);
    let alarms = feed(
        5,
        &[
            pending,
            reading(0.86, NAN, NAN, 6.8, true),
            pending,
            pending,
            reading(0.79, NAN, NAN, 10.0, false),
            reading(0.88, NAN, NAN, 10.0, false),
        ],
    );
    assert_eq!(alarms.len(), 1);
    assert!(alarms[0].at <= 30_000);
    assert_eq!(alarms[0].reason, SaturationReason::Unanswered);
}

#[test]
fn warm_up_at_full_cpu_that_answers_is_nothing() {
    let mut run = vec![reading(1.0, NAN, NAN, 0.7, true); 5];
    run.extend(vec![reading(0.17, NAN, NAN, 0.003, true); 40]);
    assert!(feed(5, &run).is_empty());
}

#[test]
fn batch_job_at_full_cpu_that_keeps_goodput_is_nothing() {
    let mut run = vec![reading(0.2, 65.0, 65.0, 0.01, true); 60];
    run.extend(vec![reading(1.0, 65.0, 63.0, 3.0, true); 200]);
    assert!(feed(5, &run).is_empty());
}

#[test]
fn injected_faults_are_nothing() {
    let mut seed = 7_u64;
    let run: Vec<Reading> = (0..2000)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let x = (seed >> 33) as f64 / (1_u64 << 31) as f64;
            let latency = if x < 0.2 { 0.3 + 6.0 * x } else { 0.01 };
            reading(0.95, 65.0, 52.0, latency, true)
        })
        .collect();
    assert!(feed(5, &run).is_empty());
}

#[test]
fn outage_of_an_upstream_with_idle_cpu_is_nothing() {
    assert!(feed(5, &[reading(0.05, 65.0, 0.0, 10.0, false); 100]).is_empty());
}

#[test]
fn process_that_neighbours_starve_is_named_but_a_hung_one_is_not() {
    let starved = feed(3, &[reading(0.35, NAN, NAN, 2.0, false); 10]);
    assert_eq!(starved.len(), 1);
    assert!(starved[0].at <= 30_000);
    assert!(feed(3, &[reading(0.01, NAN, NAN, 2.0, false); 100]).is_empty());
    assert!(feed(3, &[reading(0.35, NAN, NAN, 9.0, true); 100]).is_empty());
}

#[test]
fn alarm_comes_once_and_again_after_recovery() {
    let bad = reading(0.95, 65.0, 5.0, 9.0, false);
    let good = reading(0.2, 65.0, 65.0, 0.01, true);
    let mut run = vec![bad; 100];
    run.extend(vec![good; 60]);
    run.extend(vec![bad; 100]);
    assert_eq!(feed(1, &run).len(), 2);
}

#[test]
fn cpu_and_latency_alone_suffice_against_the_normal_latency() {
    let mut run = vec![reading(0.3, NAN, NAN, 0.02, true); 100];
    run.extend(vec![reading(0.97, NAN, NAN, 3.0, true); 6]);
    let alarms = feed(5, &run);
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].reason, SaturationReason::SlowAnswers);
    assert_eq!(alarms[0].evidence_from, 5000);
}

#[test]
fn minute_readings_need_two() {
    let mut run = vec![reading(0.3, NAN, NAN, 0.02, true); 10];
    run.extend(vec![reading(0.97, 50.0, 5.0, 12.0, true); 2]);
    let alarms = feed(60, &run);
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].at, 12 * 60_000);
}

#[test]
fn fresh_detector_from_the_evidence_gives_the_same_numbers() {
    let mut run = vec![reading(0.3, 65.0, 65.0, 0.02, true); 50];
    run.extend((0..10).map(|i| reading(0.9 + 0.01 * f64::from(i), 65.0, 10.0, 7.0, true)));
    let alarm = feed(5, &run).remove(0);
    let mut fresh = Saturation::new(SaturationConfig::default());
    for (at, r) in (1..).map(|i| i * 5000).zip(&run) {
        if at >= alarm.evidence_from && at <= alarm.at {
            fresh.push(at, *r);
        }
    }
    let again = fresh.estimate().expect("an episode");
    assert_eq!((again.since, again.readings), (alarm.since, alarm.readings));
    assert_eq!(again.cpu_share, alarm.cpu_share);
    assert_eq!(again.goodput_share, alarm.goodput_share);
}

#[test]
fn odd_input_and_restart_do_no_harm() {
    let mut detector = Saturation::new(SaturationConfig { capacity_cores: 0.0 });
    for (at, x) in [(i64::MIN, NAN), (0, f64::INFINITY), (0, -1.0), (i64::MAX, 1e300), (5, 0.0)] {
        detector.push(at, reading(x, x, x, x, true));
    }
    let bytes = postcard::to_allocvec(&detector).expect("serialises");
    let back: Saturation = postcard::from_bytes(&bytes).expect("restores");
    assert!(back == detector);
}
