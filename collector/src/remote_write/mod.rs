//! The remote-write receiver: what Prometheus and its agents push, taken into the store and confirmed
//! only when it survives power loss. Protocol: Prometheus Remote-Write 1.0.
//!
//! - `wire`: the message's bytes, `encode`: for other receivers; here: from label bytes to series, and from a request to batches

pub(crate) mod encode;
mod wire;

use ahash::RandomState;
use model::Timestamp;
use parking_lot::{Mutex, RwLock};
use runtime::Clock;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use store::{Batch, Series, StoreError, Times, Writer};
use telemetry::{Counter, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For the disk to confirm a request.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// The right to have one request's body in memory. Dropping it lets the next request in.
#[derive(Debug)]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Requests worked on at once; each holds its body, as it came and decompressed.
const AT_ONCE: usize = 4;

/// A series that nobody sent for this long to twice this long is let go.
const KEEP: Duration = Duration::from_secs(600);

/// Series known by their bytes before the older half is let go.
const KNOWN: usize = 2_000_000;

/// Rows of one batch: one frame of the log.
const BATCH_ROWS: usize = 1 << 17;

/// Takes pushed requests. Clones share what they know of series.
#[derive(Clone, Debug)]
pub struct RemoteWrite(Arc<Receiver>);

#[derive(Debug)]
struct Receiver {
    writer: Writer,
    clock: Clock,
    max_body: usize,
    known: RwLock<Known>,
    turn: Mutex<Timestamp>,
    at_once: Arc<Semaphore>,
    samples: Counter,
    refused: Counter,
}

type ByLabels = HashMap<Box<[u8]>, Series, RandomState>;

/// Series by the bytes of their labels, in two generations, so that what nobody sends any more goes.
#[derive(Debug, Default)]
struct Known {
    young: ByLabels,
    old: ByLabels,
}

/// Why a request was not taken in, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The body is no remote-write request; nothing was taken in, and sending it again is of no use.
    #[error("{0}")]
    Malformed(String),
    /// Some samples were refused for good, the rest is stored.
    #[error("{refused} of {samples} samples refused, the rest is stored: {cause}")]
    Refused {
        /// Samples that were not stored.
        refused: u64,
        /// Samples sent.
        samples: u64,
        /// Why the first of them was not.
        cause: String,
    },
    /// The store cannot take it now; send it again.
    #[error("not stored, send it again: {0}")]
    Unavailable(StoreError),
}

impl RemoteWrite {
    /// A receiver that writes to `writer`. Bodies over `max_body` bytes uncompressed are refused.
    pub fn new(writer: Writer, clock: Clock, max_body: usize, registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            registry.counter(&format!("forerunner_remote_write_{name}"), help)
        };
        Self(Arc::new(Receiver {
            writer,
            clock,
            max_body,
            known: RwLock::default(),
            turn: Mutex::new(clock.now()),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            samples: counter("samples_total", "Samples received by remote-write."),
            refused: counter("refused_samples_total", "Samples of remote-write that were refused."),
        }))
    }

    /// Waits until a body may be read into memory.
    pub async fn turn(&self) -> Turn {
        Turn { _permit: Arc::clone(&self.0.at_once).acquire_owned().await.ok() }
    }

    /// Takes in the snappy-compressed `body`, which was read in its `turn`. When this returns, its samples survive power loss and are
    /// seen by queries.
    ///
    /// # Errors
    /// [`PushError`] tells what was stored and whether sending it again is of use.
    pub async fn take(&self, turn: Turn, body: bytes::Bytes) -> Result<(), PushError> {
        self.take_by(turn, body, &self.0.writer).await
    }

    /// The same for history: samples may be as old as retention allows, also where newer ones are there.
    ///
    /// # Errors
    /// As [`RemoteWrite::take`].
    pub async fn take_history(&self, turn: Turn, body: bytes::Bytes) -> Result<(), PushError> {
        self.take_by(turn, body, &self.0.writer.for_history()).await
    }

    async fn take_by(
        &self,
        turn: Turn,
        body: bytes::Bytes,
        writer: &Writer,
    ) -> Result<(), PushError> {
        let _turn = turn; // held until the end
        let (receiver, own) = (Arc::clone(&self.0), writer.clone());
        let work = move || {
            let mut read = receiver.read(&body)?;
            append(&own, &mut read)?;
            Ok::<_, PushError>(read)
        };
        let taken = tokio::task::spawn_blocking(work).await;
        let mut read =
            taken.unwrap_or_else(|error| Err(PushError::Malformed(error.to_string())))?;
        while !read.batches.is_empty() {
            writer.room(CONFIRM_WITHIN).await.map_err(PushError::Unavailable)?;
            let own = writer.clone();
            let work = move || append(&own, &mut read).map(|()| read);
            let taken = tokio::task::spawn_blocking(work).await;
            read = taken.unwrap_or_else(|error| Err(PushError::Malformed(error.to_string())))?;
        }
        let Read { samples, refused, sequence, cause, .. } = read;
        let confirmed = writer.durable(sequence, CONFIRM_WITHIN).await;
        confirmed.map_err(PushError::Unavailable)?;
        self.0.samples.add(samples - refused);
        self.0.refused.add(refused);
        match cause {
            Some(cause) => Err(PushError::Refused { refused, samples, cause }),
            None => Ok(()),
        }
    }
}

/// A request as batches, and what became of them.
#[derive(Default)]
struct Read {
    /// Not yet taken in.
    batches: VecDeque<Batch>,
    /// Of the last one taken in.
    sequence: u64,
    samples: u64,
    refused: u64,
    /// Why the first was refused.
    cause: Option<String>,
}

/// Takes in the batches until the store has no room; those left stay in `read`.
fn append(writer: &Writer, read: &mut Read) -> Result<(), PushError> {
    while let Some(batch) = read.batches.front() {
        let appended = match writer.append(batch.clone()) {
            Ok(appended) => appended,
            Err(StoreError::Backlog) => return Ok(()),
            Err(error) => return Err(PushError::Unavailable(error)),
        };
        read.batches.pop_front();
        read.sequence = appended.sequence;
        read.refused += appended.refused;
        if appended.refused > 0 {
            let cause = "time too far off (store.late_limit, store.early_limit, store.retention)";
            read.cause.get_or_insert_with(|| cause.to_owned());
        }
    }
    Ok(())
}

impl Receiver {
    fn read(&self, body: &[u8]) -> Result<Read, PushError> {
        let len = snap::raw::decompress_len(body).map_err(|error| {
            PushError::Malformed(format!("the body is not snappy-compressed: {error}"))
        })?;
        if len > self.max_body {
            let limit = self.max_body;
            let text = format!("the body has {len} bytes uncompressed, over the limit of {limit}");
            return Err(PushError::Malformed(text));
        }
        let body = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| {
            PushError::Malformed(format!("the body is not snappy-compressed: {error}"))
        })?;
        let request =
            wire::decode(&body).map_err(|error| PushError::Malformed(error.to_string()))?;
        self.turn_over();
        Ok(self.build(request))
    }

    fn build(&self, request: wire::Request<'_>) -> Read {
        let histograms = request.histograms;
        let mut read = Read {
            samples: request.values.len() as u64 + histograms,
            refused: histograms,
            cause: (histograms > 0).then(|| "native histograms are not stored".to_owned()),
            ..Read::default()
        };
        let found = self.find(&request.series);
        let mut rows = request.times.into_iter().zip(request.values);
        let (mut series, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (sent, found) in request.series.iter().zip(found) {
            let own = rows.by_ref().take(sent.samples);
            match found {
                Ok(found) => {
                    for (time, value) in own {
                        times.push(time);
                        values.push(value);
                    }
                    series.extend(std::iter::repeat_n(found, sent.samples));
                }
                Err(cause) => {
                    read.refused += own.count() as u64;
                    read.cause.get_or_insert(cause);
                }
            }
        }
        while !values.is_empty() {
            let rest = values.len().min(BATCH_ROWS);
            let (more_times, more_values) = (times.split_off(rest), values.split_off(rest));
            let part: Arc<[Series]> = series.drain(..rest).collect();
            read.batches.push_back(Batch { series: part, values, times: Times::Each(times) });
            (times, values) = (more_times, more_values);
        }
        read
    }

    /// The handle of each series, in order, or why there is none.
    fn find(&self, sent: &[wire::SeriesRead<'_>]) -> Vec<Result<Series, String>> {
        let mut found: Vec<Option<Series>> = {
            let known = self.known.read();
            sent.iter().map(|series| known.young.get(&*series.labels).cloned()).collect()
        };
        if found.iter().all(Option::is_some) {
            return found.into_iter().flatten().map(Ok).collect();
        }
        let mut known = self.known.write();
        let resolve = |(sent, found): (&wire::SeriesRead<'_>, &mut Option<Series>)| {
            if let Some(found) = found.take() {
                return Ok(found);
            }
            let labels: &[u8] = &sent.labels;
            let series = match known.old.get(labels) {
                Some(series) => series.clone(),
                None => {
                    let key = wire::series_key(labels)?;
                    self.writer.series(&key).map_err(|error| error.to_string())?
                }
            };
            known.young.insert(labels.into(), series.clone());
            Ok(series)
        };
        sent.iter().zip(&mut found).map(resolve).collect()
    }

    fn turn_over(&self) {
        let now = self.clock.now();
        let mut turn = self.turn.lock();
        if now.since(*turn) >= KEEP || self.known.read().young.len() >= KNOWN / 2 {
            *turn = now;
            let mut known = self.known.write();
            known.old = std::mem::take(&mut known.young);
        }
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(body: &[u8]) {
    if let Ok(request) = wire::decode(body) {
        let samples: usize = request.series.iter().map(|series| series.samples).sum();
        assert_eq!((samples, samples), (request.times.len(), request.values.len()));
        for series in &request.series {
            let _ = wire::series_key(&series.labels);
        }
    }
}

#[cfg(test)]
mod tests;
