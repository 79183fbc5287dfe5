//! One-off jumps of level (a big copy, a clean-up) that must not be read as growth.

use super::fit::Point;
use crate::order::{median, spread};

/// Hours on each side whose means are compared: longer than a compaction, shorter than a day.
const SIDE: usize = 12;
/// A jump beats the usual difference of the sides by this many robust standard deviations
/// and brings this share of it within two hours.
const BEYOND: f64 = 8.0;
const SUDDEN: f64 = 0.75;
/// Most jumps taken out of four weeks: what comes more often is how the resource lives.
const MOST: usize = 4;

/// Difference of the means of `SIDE` hours after and before each point that has both.
fn differences(points: &[Point]) -> Vec<f64> {
    let mut sums = Vec::with_capacity(points.len() + 1);
    let mut sum = 0.0;
    sums.push(0.0);
    for p in points {
        sum += p.2;
        sums.push(sum);
    }
    let wide = sums.windows(2 * SIDE + 1);
    wide.map(|w| (w[2 * SIDE] - 2.0 * w[SIDE] + w[0]) / SIDE as f64).collect()
}

/// Moves what lies before a jump onto the level after it.
pub(super) fn remove(points: &mut [Point]) {
    if points.len() < 6 * SIDE {
        return;
    }
    for _ in 0..MOST {
        let d = differences(points);
        let usual = median(&mut d.clone()).unwrap_or(0.0);
        let wide = spread(&mut d.clone()).unwrap_or(0.0);
        let largest = d.iter().map(|v| v - usual).enumerate();
        let Some((k, size)) = largest.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())) else {
            return;
        };
        let i = k + SIDE; // first point after the jump
        let at = |j: usize| points.get(j).map_or(0.0, |p| p.2);
        let sudden = (at(i + 1) - at(i - 2)) / size;
        if wide <= 0.0 || size.abs() < BEYOND * wide || sudden < SUDDEN {
            return;
        }
        points.iter_mut().take(i).for_each(|p| p.2 += size);
    }
}
