use super::*;

/// Deterministic noise, roughly normal: sum of four uniform numbers of an LCG.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        let mut sum = 0.0;
        for _ in 0..4 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            sum += (self.0 >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        }
        sum * 1.732
    }
}

fn daily(hours: usize, seed: u64, slope: f64) -> Vec<(i64, f64)> {
    let mut noise = Noise(seed);
    let wave = |i: usize| (i as f64 / 24.0 * std::f64::consts::TAU).sin();
    (0..hours)
        .map(|i| (i as i64 * HOUR_MS, 100.0 + slope * i as f64 + 20.0 * wave(i) + noise.next()))
        .collect()
}

#[test]
fn holt_winters_equals_statsmodels() {
    let text = include_str!("../../reference/forecast.json");
    let all: serde_json::Value = serde_json::from_str(text).unwrap();
    let list = |v: &serde_json::Value| -> Vec<f64> {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    for case in all["cases"].as_array().unwrap() {
        let number = |k: &str| case[k].as_f64().unwrap();
        let s = Smoothing {
            level: number("alpha"),
            trend: number("beta"),
            season: number("gamma"),
            damping: number("phi"),
        };
        let mut hw = HoltWinters::new(s, number("level"), number("trend"), list(&case["season"]));
        for (y, fitted) in list(&case["y"]).iter().zip(list(&case["fitted"])) {
            let got = hw.update(*y);
            assert!((got - fitted).abs() < 1e-6, "{s:?}: {got} {fitted}");
        }
        let expected = list(&case["forecast"]);
        for (got, want) in hw.forecast(expected.len()).iter().zip(expected) {
            assert!((got - want).abs() < 1e-6);
        }
    }
}

#[test]
fn short_history_is_refused() {
    assert_eq!(forecast(&daily(71, 1, 0.0), 24), Err(TooShort { hours: 71, needed: 72 }));
    assert!(forecast(&[], 24).is_err());
    assert!(forecast(&[(0, f64::NAN)], 24).is_err());
}

#[test]
fn bands_cover_what_they_promise() {
    let mut inside = [0.0; 3];
    let mut n = 0.0;
    for seed in 1..40 {
        let y = daily(24 * 20, seed, 0.05 * (seed % 3) as f64);
        let f = forecast(&y[..24 * 10 + seed as usize], 120).unwrap();
        for p in f.points.iter().step_by(5) {
            let came = y[(p.time_ms / HOUR_MS) as usize].1;
            for (c, b) in inside.iter_mut().zip(p.bands) {
                *c += if b[0] <= came && came <= b[1] { 1.0 } else { 0.0 };
            }
            n += 1.0;
        }
    }
    let [half, most, nearly] = inside.map(|c| c / n);
    assert!((0.43..0.65).contains(&half), "{half}");
    assert!((0.74..0.90).contains(&most), "{most}");
    assert!((0.91..0.995).contains(&nearly), "{nearly}");
}

#[test]
fn ensemble_beats_the_same_hour_yesterday() {
    let f = forecast(&daily(24 * 14, 3, 0.2), 48).unwrap();
    assert!(f.past.iter().all(|p| p.mase < 0.9), "{:?}", f.past);
}

#[test]
fn bands_are_nested_and_times_follow_the_history() {
    let y = daily(24 * 7, 5, 0.0);
    let f = forecast(&y, 200).unwrap();
    assert_eq!(f.points.len(), 200);
    for (k, p) in f.points.iter().enumerate() {
        assert_eq!(p.time_ms, (24 * 7 + k as i64) * HOUR_MS);
        assert!(p.bands[2][0] <= p.bands[1][0] && p.bands[1][0] <= p.bands[0][0]);
        assert!(p.bands[0][0] <= p.mid && p.mid <= p.bands[0][1]);
        assert!(p.bands[0][1] <= p.bands[1][1] && p.bands[1][1] <= p.bands[2][1]);
    }
}

#[test]
fn gaps_order_and_constants_do_no_harm() {
    let mut y = daily(24 * 9, 7, 0.0);
    y.drain(50..63);
    y.reverse();
    y.push((HOUR_MS * 10, f64::INFINITY));
    assert!(forecast(&y, 48).unwrap().points.iter().all(|p| p.mid.is_finite()));
    let flat: Vec<(i64, f64)> = (0..400).map(|i| (i * HOUR_MS, 5.0)).collect();
    for p in forecast(&flat, 48).unwrap().points {
        assert!((p.mid - 5.0).abs() < 1e-9 && p.bands[2][1] - p.bands[2][0] < 1e-6);
    }
}

#[test]
fn horizon_zero_and_extremes_are_harmless() {
    assert!(forecast(&daily(100, 1, 0.0), 0).unwrap().points.is_empty());
    assert_eq!(forecast(&daily(100, 1, 0.0), 9_999).unwrap().points.len(), 720);
    let wide = [(i64::MIN, 1.0), (0, 1.0), (i64::MAX, 2.0)];
    assert!(forecast(&wide, 24).is_err());
    for start in [i64::MIN, i64::MAX - 99 * HOUR_MS] {
        let y: Vec<(i64, f64)> = (0..99).map(|i| (start + i * HOUR_MS, 1e300)).collect();
        assert!(forecast(&y, 24).is_ok());
    }
}
