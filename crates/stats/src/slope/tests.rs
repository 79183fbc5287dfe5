use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn slopes_and_scores_are_those_of_scipy() {
    let reference: Value =
        serde_json::from_str(include_str!("../../reference/slope.json")).unwrap();
    for case in reference["cases"].as_array().unwrap() {
        let (times, values) = (numbers(&case["times"]), numbers(&case["values"]));
        let expected = |name: &str| case[name].as_f64().unwrap();
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + b.abs());
        let line = theil_sen(&times, &values, 0.95).unwrap();
        assert!(near(line.slope, expected("slope")), "{case} {line:?}");
        assert!(near(line.intercept, expected("median_intercept")), "{case} {line:?}");
        let rest: Vec<f64> = times.iter().zip(&values).map(|(t, v)| v - line.slope * t).collect();
        if effective(&rest) == values.len() as f64 {
            assert!(near(line.low, expected("low")), "{case} {line:?}");
            assert!(near(line.high, expected("high")), "{case} {line:?}");
        } else {
            assert!(line.low <= expected("low") && line.high >= expected("high"));
        }
        let trend = mann_kendall(&values).unwrap();
        assert!(near(trend.tau, expected("tau")), "{case} {trend:?}");
        assert!(trend.z.abs() <= expected("plain_z").abs() + 1e-9, "{case} {trend:?}");
    }
}

#[test]
fn what_cannot_have_a_slope_has_none() {
    assert_eq!(theil_sen(&[], &[], 0.95), None);
    assert_eq!(theil_sen(&[1.0], &[1.0], 0.95), None);
    assert_eq!(theil_sen(&[1.0, 1.0], &[1.0, 2.0], 0.95), None);
    assert_eq!(theil_sen(&[1.0, 2.0], &[1.0, f64::NAN], 0.95), None);
    assert_eq!(theil_sen(&[2.0, 1.0], &[1.0, 2.0], 0.95), None);
    assert_eq!(mann_kendall(&[1.0, 2.0]), None);
    assert_eq!(mann_kendall(&[1.0; 9]).unwrap().z, 0.0);
}

#[test]
fn a_slow_wave_is_no_trend_but_many_values_alone_would_say_so() {
    // Neighbours hardly differ, so a few hundred values are worth a handful.
    let values: Vec<f64> = (0..300).map(|at| (f64::from(at) / 60.0).sin()).collect();
    let plain = {
        let points = Points::new(&values, &values);
        assert!(points.is_none() || values.is_sorted());
        effective(&values)
    };
    assert!(plain < 10.0, "{plain}");
    assert!(mann_kendall(&values).unwrap().p > 0.05);
}

#[test]
fn a_line_meets_its_limit() {
    let line = Slope { slope: 2.0, low: 1.0, high: 4.0, intercept: 10.0 };
    assert_eq!(time_to(110.0, 10.0, &line), (Some(40.0), Some(20.0), Some(80.0)));
    assert_eq!(time_to(0.0, 10.0, &line), (None, None, None));
    let unsure = Slope { low: -1.0, ..line };
    assert_eq!(time_to(110.0, 10.0, &unsure), (Some(40.0), Some(20.0), None));
    let flat = Slope { slope: 0.0, low: 0.0, high: 0.0, intercept: 10.0 };
    assert_eq!(time_to(10.0, 5.0, &flat), (Some(0.0), Some(0.0), Some(0.0)));
    assert_eq!(time_to(11.0, 5.0, &flat), (None, None, None));
    let falling = Slope { slope: -2.0, low: -4.0, high: -1.0, intercept: 110.0 };
    assert_eq!(time_to(10.0, 10.0, &falling), (Some(40.0), Some(20.0), Some(80.0)));
}

fn points() -> impl Strategy<Value = Vec<(f64, f64)>> {
    let point = (0..40_i32, -20..20_i32).prop_map(|(t, v)| (f64::from(t), f64::from(v) / 4.0));
    proptest::collection::vec(point, 2..60)
}

proptest! {
    #[test]
    fn counting_pairs_finds_the_slope_that_sorting_them_does(mut points in points()) {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (times, values): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
        let Some(sorted) = Points::new(&times, &values).filter(|it| it.pairs() > 0) else {
            return Ok(());
        };
        prop_assert_eq!(sorted.slopes.as_ref().map(Vec::len), Some(sorted.pairs() as usize));
        let counted = Points { slopes: None, ..Points::new(&times, &values).unwrap() };
        for rank in [0, sorted.pairs() / 3, sorted.pairs() / 2, sorted.pairs() - 1] {
            let (a, b) = (sorted.ranked(rank, rank), counted.ranked(rank, rank));
            prop_assert!((a - b).abs() < 1e-9, "rank {}: {} and {}", rank, a, b);
        }
    }

    #[test]
    fn falling_pairs_are_those_of_the_plain_count(values in proptest::collection::vec(-5..5_i32, 0..80)) {
        let mut numbers: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        let mut plain = 0;
        for (at, a) in values.iter().enumerate() {
            plain += values[at..].iter().filter(|b| a > b).count() as u64;
        }
        prop_assert_eq!(inversions(&mut numbers), plain);
    }
}
