//! Decimal values as integers: most measured values are short decimals, and integers pack far better.
//!
//! A value v is kept as the integer i at scale s when `i / 10^s` gives back v bit for bit; all else, NaN,
//! infinities, -0.0 and staleness marks included, is kept as a double.
//!
//! In a segment the integers of one series are `step * factor + base`. The factor is their greatest common
//! step (memory comes in pages). The base is chosen so that the steps of one series go on where those of
//! the series before it ended: differences are packed in blocks, and a leap between two series would widen
//! a whole block.

/// The largest power of ten tried.
pub(crate) const LARGEST: i8 = 9;

/// Integers up to here are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Values looked at to choose a scale.
const PROBE: usize = 256;

/// `10^scale`, exact for the scales in use.
pub(crate) fn power(scale: i8) -> f64 {
    const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
    usize::try_from(scale).ok().and_then(|at| POWERS.get(at)).copied().unwrap_or(1.0)
}

/// The integer that stands for `value` at `scale`, if it does so exactly.
pub(crate) fn to_integer(value: f64, scale: i8) -> Option<i64> {
    let scaled = (value * power(scale)).round();
    let exact =
        scaled.abs() < EXACT && from_integer(scaled as i64, scale).to_bits() == value.to_bits();
    exact.then_some(scaled as i64)
}

/// The value that an integer stands for.
pub(crate) fn from_integer(integer: i64, scale: i8) -> f64 {
    integer as f64 / power(scale)
}

/// The smallest scale at which most of `values` are integers; `None` when they are better kept as doubles.
pub(crate) fn choose(values: &[f64]) -> Option<i8> {
    let step = values.len().div_ceil(PROBE).max(1);
    let probe: Vec<f64> =
        values.iter().step_by(step).copied().filter(|value| value.is_finite()).collect();
    let fits = |scale| probe.iter().filter(|value| to_integer(**value, scale).is_some()).count();
    let (scale, count) = (0..=LARGEST)
        .map(|scale| (scale, fits(scale)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    (count * 10 >= probe.len() * 9 && count > 0).then_some(scale)
}

/// Steps over which the walk begins anew at zero, so that nothing overflows.
const FARTHEST: i64 = 1 << 52;

/// How the values of one series are kept in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coding {
    pub(crate) scale: i8,
    pub(crate) factor: i64,
    pub(crate) base: i64,
}

impl Coding {
    /// The value of a step.
    pub(crate) fn value(self, step: i64) -> f64 {
        from_integer(step.wrapping_mul(self.factor).wrapping_add(self.base), self.scale)
    }
}

/// The steps of the series before and what it takes to go on from there.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    at: i64,
    steps: Vec<Option<i64>>,
}

impl Walk {
    /// Codes the values of one series; [`Walk::steps`] has a step for each, or none where it stays a double.
    pub(crate) fn code(&mut self, values: &[f64]) -> Coding {
        self.steps.clear();
        let Some(scale) = choose(values) else {
            self.steps.resize(values.len(), None);
            return Coding { scale: 0, factor: 1, base: 0 };
        };
        self.steps.extend(values.iter().map(|value| to_integer(*value, scale)));
        let first = self.steps.iter().flatten().next().copied().unwrap_or(0);
        let mut factor = 0;
        for integer in self.steps.iter().flatten() {
            if factor == 1 {
                break;
            }
            factor = gcd(factor, (integer - first).unsigned_abs());
        }
        let factor = i64::try_from(factor).unwrap_or(1).max(1);
        let start = if self.at.abs().checked_mul(factor).is_some_and(|far| far < FARTHEST) {
            self.at
        } else {
            0
        };
        for step in self.steps.iter_mut().flatten() {
            *step = (*step - first) / factor + start;
            self.at = *step;
        }
        Coding { scale, factor, base: first - start * factor }
    }

    /// The steps of the last series coded.
    pub(crate) fn steps(&self) -> &[Option<i64>] {
        &self.steps
    }
}

/// The greatest common divisor; 0 is neutral.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_decimals_get_their_own_scale() {
        assert_eq!(choose(&[1.0, 2.0, 3e9]), Some(0));
        assert_eq!(choose(&[1.5, 2.25, 0.1]), Some(2));
        assert_eq!(choose(&[0.1 + 0.2, std::f64::consts::PI]), None);
        assert_eq!(choose(&[f64::NAN]), None);
        assert_eq!(to_integer(-0.0, 0), None);
        assert_eq!(to_integer(f64::INFINITY, 0), None);
    }

    #[test]
    fn a_series_goes_on_where_the_one_before_ended_in_its_largest_steps() {
        let mut walk = Walk::default();
        assert_eq!(walk.code(&[4096.0, 12288.0]), Coding { scale: 0, factor: 8192, base: 4096 });
        assert_eq!(walk.steps(), [Some(0), Some(1)]);
        assert_eq!(walk.code(&[0.5, 0.7, f64::NAN]), Coding { scale: 1, factor: 2, base: 3 });
        assert_eq!(walk.steps(), [Some(1), Some(2), None]);
    }

    proptest! {
        #[test]
        fn a_walk_gives_back_every_value(
            series in prop::collection::vec(prop::collection::vec((any::<i64>(), any::<u64>(), 0..4_u8), 1..20), 1..6),
            decimals in 0..=3_i32,
        ) {
            let mut walk = Walk::default();
            for rows in series {
                let values: Vec<f64> = rows
                    .iter()
                    .map(|(integer, bits, kind)| match kind {
                        0 => f64::from_bits(*bits),
                        1 => (integer % 1000) as f64 / 10_f64.powi(decimals),
                        _ => (integer >> 12) as f64,
                    })
                    .collect();
                let coding = walk.code(&values);
                for (value, step) in values.iter().zip(walk.steps()) {
                    if let Some(step) = step {
                        prop_assert_eq!(coding.value(*step).to_bits(), value.to_bits());
                    }
                }
            }
        }

        #[test]
        fn what_becomes_an_integer_comes_back_bit_for_bit(bits in any::<u64>(), decimal in -1e12_f64..1e12, scale in 0..=LARGEST) {
            let short = (decimal * power(scale)).round() / power(scale);
            for value in [f64::from_bits(bits), decimal, short, decimal.trunc()] {
                if let Some(integer) = to_integer(value, scale) {
                    prop_assert_eq!(from_integer(integer, scale).to_bits(), value.to_bits());
                }
            }
        }
    }
}
