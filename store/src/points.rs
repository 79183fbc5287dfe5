//! Points of one series: times ascending, each time once.

use crate::block::Block;
use model::sample::is_stale;
use std::sync::Arc;

/// Times in milliseconds since the epoch, ascending, each once, with their values.
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// The times.
    pub times: Vec<i64>,
    /// The values, as many.
    pub values: Vec<f64>,
}

impl Points {
    /// How many.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The first and the last time.
    pub fn span(&self) -> Option<(i64, i64)> {
        Some((*self.times.first()?, *self.times.last()?))
    }

    /// Drops staleness marks.
    pub fn drop_stale(&mut self) {
        if !self.values.iter().any(|value| is_stale(*value)) {
            return;
        }
        let rows = self.times.iter().zip(&self.values).filter(|(_, value)| !is_stale(**value));
        (self.times, self.values) = rows.map(|(time, value)| (*time, *value)).unzip();
    }

    /// Adds a point. Returns whether times still ascend strictly; if not, call [`Points::settle`].
    pub(crate) fn push(&mut self, time: i64, value: f64) -> bool {
        let ascends = self.times.last().is_none_or(|last| *last < time);
        self.times.push(time);
        self.values.push(value);
        ascends
    }

    /// Drops all points but keeps the room.
    pub(crate) fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
    }

    /// Sorts by time; of equal times the point added last stays.
    pub(crate) fn settle(&mut self) {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|at| self.times.get(*at).copied()); // stable, so later additions stay later
        let mut settled = Self::default();
        for at in order {
            let (Some(time), Some(value)) = (self.times.get(at), self.values.get(at)) else {
                continue;
            };
            match (settled.times.last(), settled.values.last_mut()) {
                (Some(last), Some(held)) if last == time => *held = *value,
                _ => {
                    settled.times.push(*time);
                    settled.values.push(*value);
                }
            }
        }
        *self = settled;
    }

    /// Keeps the points with `from <= time <= to`.
    pub(crate) fn clip(&mut self, from: i64, to: i64) {
        let end = self.times.partition_point(|time| *time <= to);
        let start = self.times.partition_point(|time| *time < from).min(end);
        self.times.truncate(end);
        self.values.truncate(end);
        self.times.drain(..start);
        self.values.drain(..start);
    }

    fn append(&mut self, other: &Self) {
        self.times.extend_from_slice(&other.times);
        self.values.extend_from_slice(&other.values);
    }

    /// Joins runs of one series, the oldest first: of equal times the later run's point stays.
    ///
    /// Cost: linear where the runs follow each other, else O(n log n).
    pub(crate) fn merge<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Self {
        let mut merged = Self::default();
        let mut ascends = true;
        for run in runs {
            let Some((first, _)) = run.span() else { continue };
            ascends &= merged.times.last().is_none_or(|last| *last < first);
            match run {
                Run::Open(points) => merged.append(points),
                Run::Sealed(block) => block.append_to(&mut merged),
            }
        }
        if !ascends {
            merged.settle();
        }
        merged
    }
}

/// Points of one series, times ascending and each once.
#[derive(Clone, Debug)]
pub(crate) enum Run {
    Open(Arc<Points>),
    Sealed(Arc<Block>),
}

impl Run {
    /// First and last time.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        match self {
            Self::Open(points) => points.span(),
            Self::Sealed(block) => block.span(),
        }
    }

    /// How many points.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Open(points) => points.len(),
            Self::Sealed(block) => block.len(),
        }
    }

    /// Whether there may be a point with `from <= time <= to`.
    pub(crate) fn touches(&self, from: i64, to: i64) -> bool {
        self.span().is_some_and(|(first, last)| first <= to && last >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn merging_is_writing_in_order_into_a_map(
            runs in prop::collection::vec(prop::collection::btree_map(0_i64..40, any::<i32>(), 0..12), 0..5),
            from in 0_i64..40, to in 0_i64..40,
        ) {
            let mut model = BTreeMap::new();
            let mut list = Vec::new();
            for run in &runs {
                model.extend(run.iter().map(|(time, value)| (*time, *value)));
                let points = Points {
                    times: run.keys().copied().collect(),
                    values: run.values().map(|value| f64::from(*value)).collect(),
                };
                list.push(if list.len() % 2 == 0 || points.is_empty() {
                    Run::Open(Arc::new(points))
                } else {
                    let mut block = Block::default();
                    block.add(&points, &mut 0);
                    Run::Sealed(Arc::new(block))
                });
            }
            let mut merged = Points::merge(&list);
            merged.clip(from, to);
            let read: Vec<(i64, i32)> =
                merged.times.iter().zip(&merged.values).map(|(t, v)| (*t, *v as i32)).collect();
            let expected: Vec<(i64, i32)> =
                model.into_iter().filter(|(time, _)| (from..=to).contains(time)).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
