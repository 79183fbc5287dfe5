//! Whatever comes, no detector panics, and what it says is finite where it says so.

use crate::baseline::{Baseline, BaselineConfig, Kind};
use crate::cost::{Cost, CostConfig};
use crate::forecast::forecast;
use crate::growth::{Growth, GrowthConfig};
use crate::leak::{Leak, LeakConfig};
use crate::novelty::{Novelty, NoveltyConfig};
use crate::saturation::{Reading, Saturation, SaturationConfig};
use proptest::prelude::*;

/// Numbers that programs trip over, among plain ones.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e6..1e6_f64,
        2 => 0.0..1.0_f64,
        1 => prop::sample::select(vec![
            0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN,
            f64::MIN_POSITIVE, 1e300, -1e300, 1e-300, 9.007_199_254_740_993e15,
        ]),
    ]
}

/// Steps in time: mostly of seconds to hours, now and then back, far, or to the ends of what there is.
fn step() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => 1_000..120_000_i64,
        3 => 600_000..7_200_000_i64,
        1 => -3_600_000..3_600_000_i64,
        1 => prop::sample::select(vec![0, 86_400_000, 400 * 86_400_000, i64::MAX, i64::MIN, i64::MAX / 2]),
    ]
}

type Row = (i64, f64, f64);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let start = prop_oneof![
        Just(1_700_000_000_000_i64),
        prop::sample::select(vec![0, -1, i64::MIN, i64::MAX, i64::MAX - 10]),
    ];
    (start, prop::collection::vec((step(), number(), number()), 0..400), any::<bool>()).prop_map(
        |(start, steps, calm)| {
            let mut time = start;
            let row = |(step, value, load): (i64, f64, f64)| {
                time = time.saturating_add(step);
                // Half of the time values are plain, so that detectors get to where they know something.
                if calm {
                    (time, 100.0 + value % 10.0, 50.0 + load % 10.0)
                } else {
                    (time, value, load)
                }
            };
            steps.into_iter().map(row).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_input_makes_a_detector_panic(rows in rows(), limit in number()) {
        let mut leak = Leak::new(LeakConfig::default());
        let mut growth = Growth::new(GrowthConfig { limit: Some(limit), ..GrowthConfig::default() });
        let mut cost = Cost::new(CostConfig::default());
        let mut novelty = Novelty::new(NoveltyConfig::default());
        let mut saturation = Saturation::new(SaturationConfig { capacity_cores: limit });
        let kinds = [Kind::Latency, Kind::Errors, Kind::Throughput];
        let mut signals = kinds.map(|kind| Baseline::new(BaselineConfig { kind, budget_per_day: 0.002 }));
        leak.set_limit(Some(limit));
        for (at, (time, value, load)) in rows.iter().enumerate() {
            leak.push(*time, *value, *load);
            growth.push(*time, *value, *load);
            cost.push(*time, *value, *load);
            let score = novelty.push(*time, *value).score;
            prop_assert!((0.0..=1.0).contains(&score), "{score}");
            for signal in &mut signals {
                signal.push(*time, *value, *load);
                signal.expected();
            }
            let reading = Reading {
                cpu_cores: *value,
                offered_rps: *load,
                goodput_rps: *load,
                latency_s: *value,
                errors_rps: *load,
                answered: at % 3 != 0,
            };
            saturation.push(*time, reading);
            if at % 37 == 5 {
                leak.restarted(*time);
                leak.set_limit(None);
                growth.set_limit(Some(*value));
                cost.accept();
            }
        }
        prop_assert!(leak.estimate().is_none_or(|it| !it.floor.is_nan()));
        prop_assert!(growth.forecast().is_none_or(|it| !it.rate_per_day.mid.is_nan()));
        prop_assert!(cost.estimate().is_none_or(|it| !it.ratio.is_nan()));
        prop_assert!(novelty.estimate().is_none_or(|it| !it.mid.is_nan()));
        prop_assert!(saturation.estimate().is_none_or(|it| it.at >= it.since));
        signals.iter().for_each(|signal| { signal.estimate(); });
        let history: Vec<(i64, f64)> = rows.iter().map(|(time, value, _)| (*time, *value)).collect();
        if let Ok(ahead) = forecast(&history, 200) {
            prop_assert!(ahead.points.len() <= 720);
        }
    }
}
