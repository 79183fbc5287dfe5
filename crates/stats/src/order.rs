//! Order statistics and the tails of the normal distribution.

/// The quantile `q` in 0..=1 by linear interpolation between the two nearest order statistics (type 7 of
/// Hyndman and Fan 1996, doi:10.2307/2684934). Reorders `values`; NaN must not be in it.
///
/// `None` without values. Cost: O(n).
pub fn quantile(values: &mut [f64], q: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let (_, at, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let at = *at;
    let next = above.iter().copied().fold(f64::INFINITY, f64::min);
    let share = place - below as f64;
    Some(if share > 0.0 { at + share * (next - at) } else { at })
}

/// The median. As [`quantile`].
pub fn median(values: &mut [f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The median distance from the median, scaled so that it estimates the standard deviation of normal data
/// (Hampel 1974, doi:10.1080/01621459.1974.10482962). Holds with up to half of the values wrong.
pub fn spread(values: &mut [f64]) -> Option<f64> {
    let middle = median(values)?;
    for value in values.iter_mut() {
        *value = (*value - middle).abs();
    }
    Some(median(values)? * 1.482_602_218_505_602)
}

/// The chance that a standard normal value is over `z`; relative error under 1.2e-7 (Chebyshev fit of erfc,
/// Numerical Recipes, 2nd edition, 6.2).
pub fn normal_tail(z: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let exponent = FIT.iter().rev().fold(0.0, |sum, factor| sum * t + factor);
    let tail = 0.5 * t * (exponent - x * x).exp();
    if z < 0.0 { 1.0 - tail } else { tail }
}

/// The value that a standard normal one is under with chance `p`; error under 1e-7 for 1e-12 < p < 1 - 1e-12.
///
/// Acklam's rational approximation, with one step of Halley's method.
pub fn normal_quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
        1.0,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        0.007_784_695_709_041_462,
        0.322_467_129_070_039_8,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    let fit = |of: &[f64], x: f64| of.iter().fold(0.0, |sum, factor| sum * x + factor);
    let x = if p < 0.024_25 {
        let q = (-2.0 * p.ln()).sqrt();
        fit(&C, q) / fit(&D, q)
    } else {
        let q = p - 0.5;
        fit(&A, q * q) * q / fit(&B, q * q)
    };
    let error = (1.0 - normal_tail(x)) - p;
    let step = error * (std::f64::consts::TAU).sqrt() * (x * x / 2.0).exp();
    x - step / (1.0 + x * step / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&mut values, 0.0), Some(1.0));
        assert_eq!(median(&mut values), Some(2.5));
        assert_eq!(quantile(&mut values, 1.0), Some(4.0));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn spread_ignores_outliers() {
        let mut values = [1.0, 2.0, 3.0, 4.0, 1e9];
        assert!((spread(&mut values).unwrap() - 1.4826).abs() < 1e-4);
    }

    #[test]
    fn normal_tail_and_quantile_agree_with_tables() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.158_655_25), (1.959_964, 0.025), (4.0, 3.167_124e-5)] {
            assert!((normal_tail(z) / p - 1.0).abs() < 1e-6, "{z}: {}", normal_tail(z));
            assert!((normal_quantile(1.0 - p) - z).abs() < 1e-5, "{p}");
            assert!((normal_quantile(p) + z).abs() < 1e-5, "{p}");
        }
    }
}
