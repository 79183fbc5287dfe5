//! What the collector hands over: values for an ordered list of series.

use crate::StoreError;
use crate::series::Series;
use model::Timestamp;
use std::sync::Arc;

/// Values of many series. Position i of `values` belongs to position i of `series`.
///
/// A target that exposes the same series each time keeps one `series` list and hands it over again and
/// again; the WAL then names it by a number.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Which series.
    pub series: Arc<[Series]>,
    /// One value each.
    pub values: Vec<f64>,
    /// When they were measured.
    pub times: Times,
}

/// When the values of a batch were measured.
#[derive(Clone, Debug)]
pub enum Times {
    /// All at once.
    One(Timestamp),
    /// One time each.
    Each(Vec<Timestamp>),
}

impl Batch {
    /// The time at position `at`.
    pub fn time(&self, at: usize) -> Option<Timestamp> {
        match &self.times {
            Times::One(time) => Some(*time),
            Times::Each(times) => times.get(at).copied(),
        }
    }

    /// Most rows of one batch, so that its frame in the log stays far under the longest allowed.
    pub const MAX_ROWS: usize = 1 << 20;

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.values.len() > Self::MAX_ROWS {
            return Err(StoreError::Rows { rows: self.values.len(), limit: Self::MAX_ROWS });
        }
        let times = match &self.times {
            Times::One(_) => self.values.len(),
            Times::Each(times) => times.len(),
        };
        if self.series.len() != self.values.len() || times != self.values.len() {
            let (series, values) = (self.series.len(), self.values.len().min(times));
            return Err(StoreError::Shape { series, values });
        }
        Ok(())
    }

    /// Every series with its time and value.
    pub fn rows(&self) -> impl Iterator<Item = (&Series, Timestamp, f64)> {
        let rows = self.series.iter().zip(&self.values).enumerate();
        rows.filter_map(|(at, (series, value))| Some((series, self.time(at)?, *value)))
    }
}
