//! Decimal values as integers: most measured values are short decimals, and integers pack far better.
//!
//! A value v is kept as the integer i at scale s when `i / 10^s` gives back v bit for bit; all else, NaN,
//! infinities, -0.0 and staleness marks included, is kept as a double.

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

    proptest! {
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
