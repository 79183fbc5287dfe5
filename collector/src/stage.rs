//! Builds batches and appends them, keeping the handles of series between one batch and the next.

use crate::relabel::{RelabelConfig, relabel_series};
use model::sample::STALE_BITS;
use model::{Labels, MetricInfo, SeriesKey, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;
use store::{Batch, Infos, Series, StoreError, Times, Writer};
use tracing::warn;

/// Rows for the next batch. Series that are refused are left out, counted, and told once.
#[derive(Debug)]
pub(crate) struct Stage {
    writer: Writer,
    labels: Labels,
    known: HashMap<SeriesKey, Series>,
    layout: Arc<[Series]>,
    series: Vec<Series>,
    values: Vec<f64>,
    times: Vec<Option<Timestamp>>,
    infos: Infos,
    refused: usize,
    told: bool,
    told_untimely: bool,
}

impl Stage {
    /// `labels` go to every series and win over a reading's own.
    pub(crate) fn new(writer: Writer, labels: Labels) -> Self {
        Self {
            writer,
            labels,
            known: HashMap::new(),
            layout: Arc::new([]),
            series: Vec::new(),
            values: Vec::new(),
            times: Vec::new(),
            infos: Infos::new(),
            refused: 0,
            told: false,
            told_untimely: false,
        }
    }

    /// The handle of a series with our labels added, if `rules` keep it and the store takes it. A label of the
    /// same name that a page set itself wins with `honor_labels`, else it stays as `exported_<name>`.
    pub(crate) fn admit(
        &mut self,
        key: &SeriesKey,
        honor_labels: bool,
        rules: &[RelabelConfig],
    ) -> Option<Series> {
        let labels = self.with_ours(key, honor_labels);
        if rules.is_empty() {
            return self.find(&SeriesKey::new(key.metric.clone(), labels));
        }
        let (metric, labels) = relabel_series(rules, &key.metric, &labels)?;
        self.find(&SeriesKey::new(metric, labels))
    }

    fn with_ours(&self, key: &SeriesKey, honor_labels: bool) -> Labels {
        let ours = self.labels.iter().map(|(name, value)| (name.to_owned(), value));
        if honor_labels {
            let own = key.labels.iter().map(|(name, value)| (name.to_owned(), value));
            return Labels::from_pairs(ours.chain(own)); // of a repeated name the last stays
        }
        let is_ours = |name: &str| self.labels.get(name).is_some();
        let exported = key.labels.iter().map(|(name, value)| {
            let mut free = name.to_owned();
            if is_ours(name) {
                // A page may have such a label already.
                while is_ours(&free) || key.labels.get(&free).is_some() {
                    free.insert_str(0, "exported_");
                }
            }
            (free, value)
        });
        Labels::from_pairs(exported.chain(ours))
    }

    fn find(&mut self, key: &SeriesKey) -> Option<Series> {
        match self.writer.series(key) {
            Ok(series) => Some(series),
            Err(error) => {
                self.refused += 1;
                if !std::mem::replace(&mut self.told, true) {
                    warn!(labels = ?self.labels, %error, "series left out; further ones of this target are only counted");
                }
                None
            }
        }
    }

    /// Adds a reading of our own.
    pub(crate) fn push(&mut self, metric: &str, labels: &[(&str, &str)], value: f64) {
        let key = SeriesKey::new(metric, Labels::from_pairs(labels.iter().copied()));
        let series = match self.known.get(&key) {
            Some(series) => series.clone(),
            None => {
                let Some(series) = self.admit(&key, false, &[]) else { return };
                self.known.insert(key, series.clone());
                series
            }
        };
        self.push_series(series, value, None);
    }

    /// Adds a value of a series whose handle is at hand.
    pub(crate) fn push_series(&mut self, series: Series, value: f64, time: Option<Timestamp>) {
        self.series.push(series);
        self.values.push(value);
        self.times.push(time);
    }

    /// Adds what is said of a metric, to go with the next batch.
    pub(crate) fn describe(&mut self, metric: &str, say: impl FnOnce(&mut MetricInfo)) {
        say(self.infos.entry(metric.into()).or_default());
    }

    #[cfg(test)]
    pub(crate) fn said_nothing(&self) -> bool {
        self.infos.is_empty()
    }

    /// Adds a staleness mark for each reading of our own.
    pub(crate) fn end_own(&mut self) {
        for series in std::mem::take(&mut self.known).into_values() {
            self.push_series(series, f64::from_bits(STALE_BITS), None);
        }
    }

    /// The series of the rows so far.
    pub(crate) fn series(&self) -> &[Series] {
        &self.series
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Drops the rows from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.series.truncate(len);
        self.values.truncate(len);
        self.times.truncate(len);
    }

    /// Series left out since the last call.
    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    pub(crate) fn take_refused(&mut self) -> usize {
        std::mem::take(&mut self.refused)
    }

    /// Appends the rows as one batch, at `time` where they have none of their own, and begins anew.
    ///
    /// # Errors
    /// The store did not take the batch; it is gone.
    pub(crate) async fn append(&mut self, time: Timestamp) -> Result<(), StoreError> {
        if self.series != *self.layout {
            self.layout = self.series.as_slice().into();
        }
        // Handles of readings that have gone, a process or a device, must not be kept for good.
        if self.known.len() > 2 * self.layout.len() + 64 {
            self.known.clear();
        }
        let times = if self.times.iter().all(Option::is_none) {
            Times::One(time)
        } else {
            Times::Each(self.times.iter().map(|own| own.unwrap_or(time)).collect())
        };
        let values = std::mem::take(&mut self.values);
        let batch = Batch { series: Arc::clone(&self.layout), values, times };
        self.truncate(0);
        let (writer, infos) = (self.writer.clone(), self.infos.clone());
        // The store's write may wait for a slow disk, which must not stop the other targets.
        let append = move || {
            let refused = writer.append(batch)?.refused;
            if !infos.is_empty() {
                writer.describe(infos)?;
            }
            Ok::<_, StoreError>(refused)
        };
        match tokio::task::spawn_blocking(append).await {
            Ok(outcome) => {
                let refused = outcome?;
                self.infos.clear(); // what was not taken is said again
                if refused > 0 && !std::mem::replace(&mut self.told_untimely, true) {
                    warn!(labels = ?self.labels, refused, "samples with a time too far off were left out; further ones of this target are only counted");
                }
                Ok(())
            }
            Err(_) => Err(StoreError::Backlog),
        }
    }
}
