//! What is kept of each group of samples, and how groups of several workers become one.

use super::shape::{Figure, Groups};
use ahash::RandomState;
use std::collections::HashMap;
use store::Points;

/// The texts of a group's labels, absent ones `None`.
pub(super) type Texts = Box<[Option<Box<str>>]>;

/// Figures of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    count: u64,
    sum: f64,
    least: f64,
    greatest: f64,
    last: (i64, f64),
}

impl Default for Figures {
    fn default() -> Self {
        let (least, greatest) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { count: 0, sum: 0.0, least, greatest, last: (i64::MIN, f64::NAN) }
    }
}

impl Figures {
    /// Of samples of one series, in order. None of `values` is NaN.
    fn of(times: &[i64], values: &[f64]) -> Self {
        let mut all = Self { count: values.len() as u64, ..Self::default() };
        // Four at a time: each sum waits for nothing but its own.
        let mut sums = [0.0_f64; 4];
        let mut four = values.chunks_exact(4);
        for chunk in &mut four {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += value;
            }
        }
        all.sum = sums.iter().sum::<f64>() + four.remainder().iter().sum::<f64>();
        for value in values {
            all.least = all.least.min(*value);
            all.greatest = all.greatest.max(*value);
        }
        if let (Some(time), Some(value)) = (times.last(), values.last()) {
            all.last = (*time, *value);
        }
        all
    }

    /// Takes in a figure of a rollup.
    fn add_rolled(&mut self, stat: &str, time: i64, value: f64) {
        match stat {
            "count" => self.count += value as u64,
            "sum" => self.sum += value,
            "min" => self.least = self.least.min(value),
            "max" => self.greatest = self.greatest.max(value),
            "last" if time >= self.last.0 => self.last = (time, value),
            _ => {}
        }
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
        if other.last.0 >= self.last.0 {
            self.last = other.last;
        }
    }

    /// `None` is null.
    pub(super) fn get(&self, figure: Figure) -> Option<f64> {
        if figure == Figure::Count {
            return Some(self.count as f64);
        }
        (self.count > 0).then_some(match figure {
            Figure::Count => self.count as f64,
            Figure::Sum => self.sum,
            Figure::Average => self.sum / self.count as f64,
            Figure::Least => self.least,
            Figure::Greatest => self.greatest,
            Figure::Last => self.last.1,
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// All groups of one select.
#[derive(Debug, Default)]
pub(super) struct Table {
    numbers: HashMap<Texts, usize, RandomState>,
    /// By the number of the texts and the start of the bucket.
    groups: HashMap<(usize, i64), Figures, RandomState>,
}

impl Table {
    /// Takes in samples of one series.
    pub(super) fn add(&mut self, texts: Texts, groups: &Groups, points: &Points) {
        let next = self.numbers.len();
        let number = *self.numbers.entry(texts).or_insert(next);
        let Some(step) = groups.step else {
            let figures = Figures::of(&points.times, &points.values);
            self.groups.entry((number, 0)).or_default().join(&figures);
            return;
        };
        let (mut times, mut values) = (points.times.as_slice(), points.values.as_slice());
        while let Some(first) = times.first() {
            let start = first.div_euclid(step).saturating_mul(step);
            let end = start.saturating_add(step);
            let len = times.partition_point(|time| *time < end).max(1);
            let (bucket, later) = times.split_at(len);
            let (own, rest) = values.split_at(len.min(values.len()));
            self.groups.entry((number, start)).or_default().join(&Figures::of(bucket, own));
            (times, values) = (later, rest);
        }
    }

    /// Takes in one figure of a series of a rollup.
    pub(super) fn add_rolled(
        &mut self,
        texts: Texts,
        groups: &Groups,
        stat: &str,
        points: &Points,
    ) {
        let next = self.numbers.len();
        let number = *self.numbers.entry(texts).or_insert(next);
        let step = groups.step.unwrap_or(i64::MAX);
        for (time, value) in points.times.iter().zip(&points.values) {
            let start = time.div_euclid(step).saturating_mul(step);
            let figures = self.groups.entry((number, start)).or_default();
            figures.add_rolled(stat, *time, *value);
        }
    }

    /// Takes in what another worker found.
    pub(super) fn join(&mut self, other: Self) {
        let mut renumbered = vec![0; other.numbers.len()];
        for (texts, number) in other.numbers {
            let next = self.numbers.len();
            let own = *self.numbers.entry(texts).or_insert(next);
            if let Some(place) = renumbered.get_mut(number) {
                *place = own;
            }
        }
        for ((number, start), figures) in other.groups {
            let number = renumbered.get(number).copied().unwrap_or_default();
            self.groups.entry((number, start)).or_default().join(&figures);
        }
    }

    /// Groups in it.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Each group with the texts of its labels and the start of its bucket.
    pub(super) fn rows(&self) -> Vec<(&Texts, i64, &Figures)> {
        let mut texts: Vec<Option<&Texts>> = vec![None; self.numbers.len()];
        for (text, number) in &self.numbers {
            if let Some(place) = texts.get_mut(*number) {
                *place = Some(text);
            }
        }
        self.groups
            .iter()
            .filter_map(|((number, start), figures)| {
                Some((texts.get(*number).copied().flatten()?, *start, figures))
            })
            .collect()
    }
}
