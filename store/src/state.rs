//! What the writer, the reader and the upkeep share: the log, the recent samples and the live segments.

use crate::info::InfoTable;
use crate::manifest::{Edit, Manifest};
use crate::memtable::Memtable;
use crate::retention::SteadyTime;
use crate::segment::read::Index;
use crate::segment::{Segment, SegmentMeta};
use crate::series::SeriesIndex;
use crate::wal::writer::WalWriter;
use crate::{StoreConfig, StoreError};
use parking_lot::{Mutex, RwLock};
use platform::durable;
use platform::lock::DirLock;
use runtime::Clock;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use telemetry::{Counter, Registry};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{error, warn};

/// The store behind its handles.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: StoreConfig,
    pub(crate) clock: Clock,
    pub(crate) steady: Mutex<SteadyTime>,
    pub(crate) index: SeriesIndex,
    pub(crate) infos: InfoTable,
    /// `None` when opened for reading only. Locked before `live` where both are.
    pub(crate) log: Option<Mutex<Log>>,
    pub(crate) live: RwLock<Live>,
    pub(crate) flush_wanted: Notify,
    /// A flush has ended, and memory has room.
    pub(crate) flushed: Notify,
    /// Folders of merged segments whose commit failed.
    pub(crate) strays: Mutex<Vec<PathBuf>>,
    /// Someone waits for the log to be durable.
    pub(crate) sync_wanted: Notify,
    /// The last sequence that survives power loss.
    pub(crate) durable: watch::Sender<u64>,
    /// The last sequence that is visible to readers.
    pub(crate) appended: watch::Sender<u64>,
    pub(crate) meters: Meters,
    /// What an attempt at a flush has written up to a sequence, while its commit is not known to have happened.
    pub(crate) written: Mutex<Option<(u64, Vec<SegmentMeta>)>>,
    /// Segments past retention that somebody may still read.
    pub(crate) doomed: Mutex<Vec<Weak<Segment>>>,
    pub(crate) indexes: Mutex<IndexCache>,
    pub(crate) _lock: DirLock,
}

/// The write side.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) wal: WalWriter,
    pub(crate) manifest: Manifest,
}

/// What a snapshot is a copy of; it changes as a whole, under its lock.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) active: Memtable,
    pub(crate) active_since: Instant,
    /// Being written to segments, the oldest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    /// By first time.
    pub(crate) segments: Arc<Vec<Arc<Segment>>>,
}

/// What the store counts about itself.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    pub(crate) samples: Counter,
    pub(crate) late: Counter,
    pub(crate) refused: Counter,
    pub(crate) append_failures: Counter,
    pub(crate) syncs: Counter,
    pub(crate) sync_failures: Counter,
    pub(crate) flushes: Counter,
    pub(crate) flush_failures: Counter,
    pub(crate) compactions: Counter,
    pub(crate) compaction_failures: Counter,
    pub(crate) quarantined: Counter,
    pub(crate) expired: Counter,
    pub(crate) torn_bytes: Counter,
    pub(crate) damaged_bytes: Counter,
    pub(crate) replayed: Counter,
    pub(crate) durable_sequence: telemetry::Gauge,
    pub(crate) clean_start: telemetry::Gauge,
}

impl Meters {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter =
            |name: &str, help: &str| registry.counter(&format!("forerunner_store_{name}"), help);
        Self {
            samples: counter("samples_total", "Samples taken in."),
            late: counter(
                "untimely_samples_total",
                "Samples refused because their time lies too far off.",
            ),
            refused: counter("refused_series_total", "New series refused by a limit."),
            append_failures: counter("append_failures_total", "Batches that could not be logged."),
            syncs: counter("wal_syncs_total", "Syncs of the write-ahead log."),
            sync_failures: counter(
                "wal_sync_failures_total",
                "Syncs of the write-ahead log that failed.",
            ),
            flushes: counter("flushes_total", "Memtables written to segments."),
            flush_failures: counter(
                "flush_failures_total",
                "Attempts to write a segment that failed.",
            ),
            compactions: counter("compactions_total", "Merges of segments."),
            compaction_failures: counter(
                "compaction_failures_total",
                "Attempts to merge segments that failed.",
            ),
            quarantined: counter("quarantined_segments_total", "Damaged segments set aside."),
            expired: counter("expired_segments_total", "Segments deleted by retention."),
            torn_bytes: counter(
                "wal_torn_bytes_total",
                "Bytes cut from the tail of the log at start.",
            ),
            damaged_bytes: counter(
                "wal_damaged_bytes_total",
                "Bytes stepped over within the log at start.",
            ),
            replayed: counter(
                "wal_replayed_samples_total",
                "Samples read back from the log at start.",
            ),
            durable_sequence: registry.gauge(
                "forerunner_store_durable_sequence",
                "Last log sequence that survives power loss.",
            ),
            clean_start: registry.gauge(
                "forerunner_store_clean_start",
                "1 when the run before ended as it should, 0 after a crash.",
            ),
        }
    }
}

/// Indexes of segments in use, the least recently used dropped over a size.
#[derive(Debug, Default)]
pub(crate) struct IndexCache {
    held: HashMap<String, (Arc<Index>, u64)>,
    bytes: usize,
    uses: u64,
}

impl IndexCache {
    /// Lets go of the indexes of segments that are no longer live.
    pub(crate) fn forget(&mut self, ids: &[String]) {
        for index in ids.iter().filter_map(|id| self.held.remove(id)) {
            self.bytes = self.bytes.saturating_sub(index.0.bytes());
        }
    }
}

impl State {
    /// Tells that everything up to `sequence` survives power loss.
    pub(crate) fn note_durable(&self, sequence: u64) {
        self.durable.send_if_modified(|durable| {
            let more = *durable < sequence;
            *durable = (*durable).max(sequence);
            more
        });
        self.meters.durable_sequence.set(*self.durable.borrow() as f64);
    }

    /// The index of `segment`, read if it is not at hand. Damage sets the segment aside.
    pub(crate) fn index_of(&self, segment: &Segment) -> Result<Arc<Index>, StoreError> {
        {
            let mut cache = self.indexes.lock();
            cache.uses += 1;
            let uses = cache.uses;
            if let Some((index, used)) = cache.held.get_mut(&segment.meta.id) {
                *used = uses;
                return Ok(Arc::clone(index));
            }
        }
        let index = Arc::new(segment.index()?);
        let mut cache = self.indexes.lock();
        let used = cache.uses;
        if cache.held.insert(segment.meta.id.clone(), (Arc::clone(&index), used)).is_none() {
            cache.bytes += index.bytes();
        }
        while cache.bytes > self.config.index_cache_size.as_usize() && cache.held.len() > 1 {
            let oldest =
                cache.held.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| id.clone());
            let Some((dropped, _)) = oldest.and_then(|id| cache.held.remove(&id)) else { break };
            cache.bytes = cache.bytes.saturating_sub(dropped.bytes());
        }
        Ok(index)
    }

    /// Commits `edit` and swaps the live segments, both or neither.
    pub(crate) fn commit(
        &self,
        log: &mut Log,
        edit: Edit,
    ) -> Result<Arc<Vec<Arc<Segment>>>, StoreError> {
        log.manifest.commit(edit)?;
        // A commit that comes after one that failed begins the manifest anew, without what that was to add.
        for folder in self.strays.lock().drain(..) {
            if let Err(error) = durable::remove_dir(&folder) {
                warn!(%error, "what a failed merge has left stays until the next start");
            }
        }
        Ok(self.segments_of(log.manifest.live(), true))
    }

    /// The segments of a manifest's state; those already held are shared, the others `sound` if this process
    /// has just written them.
    pub(crate) fn segments_of(
        &self,
        manifest: &crate::manifest::Live,
        sound: bool,
    ) -> Arc<Vec<Arc<Segment>>> {
        let held = Arc::clone(&self.live.read().segments);
        let held: HashMap<&str, &Arc<Segment>> =
            held.iter().map(|segment| (segment.meta.id.as_str(), segment)).collect();
        let mut segments: Vec<Arc<Segment>> = manifest
            .segments
            .values()
            .map(|meta| match held.get(meta.id.as_str()) {
                Some(segment) => Arc::clone(segment),
                None => Arc::new(Segment::new(&self.config.dir, meta.clone(), sound)),
            })
            .collect();
        segments.sort_by_key(|segment| segment.meta.span);
        Arc::new(segments)
    }

    /// Moves a damaged segment out of the way and says so; the rest is served on. False where it stays: its checksum is right, so that what
    /// failed is the way to it and may pass, or it could not be moved.
    pub(crate) fn set_aside(&self, segment: &Segment, cause: &StoreError) -> bool {
        let id = &segment.meta.id;
        if segment.compare().map_or_else(|error| !error.is_damage(), |()| true) {
            error!(segment = %id, path = %segment.path().display(), %cause, "segment could not be read, and stays: its checksum is not wrong");
            return false;
        }
        let Some(log) = &self.log else {
            error!(segment = %id, path = %segment.path().display(), %cause, "damaged segment left out");
            return true;
        };
        let mut log = log.lock();
        if !log.manifest.live().segments.contains_key(id) {
            return true; // another reader came first
        }
        // Moved before it is forgotten: what no manifest names is deleted by the next start.
        let moved = crate::check::set_aside(&self.config.dir, segment.path(), id);
        let edit = Edit { remove: vec![id.clone()], ..Edit::default() };
        let committed = moved.and_then(|moved| Ok((moved, self.commit(&mut log, edit)?)));
        let (moved, segments) = match committed {
            Ok(done) => done,
            Err(error) => {
                error!(segment = %id, %cause, %error, "damaged segment could not be set aside");
                return false;
            }
        };
        self.live.write().segments = segments;
        self.meters.quarantined.inc();
        error!(
            segment = %id, rows = segment.meta.rows, %cause, moved_to = %moved.display(),
            "damaged segment set aside, the rest is served; restore it from a backup or delete it"
        );
        true
    }
}
