//! Random numbers from a seed.

use std::f64::consts::TAU;

/// SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195), and what is made of it.
pub(super) struct Random {
    state: u64,
    /// Which of its kind the scenario is.
    pub(super) number: usize,
}

impl Random {
    pub(super) fn new(seed: u64, kind: u64, number: u64) -> Self {
        let mixed = seed
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(kind.wrapping_mul(0xbf58_476d_1ce4_e5b9))
            .wrapping_add(number.wrapping_mul(0x94d0_49bb_1331_11eb));
        Self { state: mixed, number: 0 }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// 0 to `most`, without it.
    pub(super) fn below(&mut self, most: usize) -> usize {
        ((self.unit() * most as f64) as usize).min(most.saturating_sub(1))
    }

    pub(super) fn chance(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    pub(super) fn choose<T: Copy>(&mut self, from: &[T], or: T) -> T {
        from.get(self.below(from.len())).copied().unwrap_or(or)
    }

    /// Box and Muller 1958.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().max(1e-300).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    /// Knuth's product for few; normal for many.
    pub(super) fn poisson(&mut self, mean: f64) -> usize {
        if mean > 50.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as usize;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// How many of `trials` succeed, each with a small chance.
    pub(super) fn successes(&mut self, trials: f64, chance: f64) -> f64 {
        (self.poisson(trials * chance) as f64).min(trials)
    }

    /// A first-order process around 0 with this standard deviation.
    pub(super) fn wander(&mut self, rows: usize, memory: f64, deviation: f64) -> Vec<f64> {
        let step = deviation * (1.0 - memory * memory).sqrt();
        let mut value = 0.0;
        let mut next = || {
            value = memory * value + step * self.normal();
            value
        };
        (0..rows).map(|_| next()).collect()
    }
}
