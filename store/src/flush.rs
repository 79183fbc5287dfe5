//! From memtable to segment: freeze, write, commit, swap, and only then cut the log.
//!
//! [`Upkeep`] is what must run in the background: the sync of the log and the flush with retention.

use crate::compaction::Outcome;
use crate::info::InfoTable;
use crate::manifest::{Edit, Manifest};
use crate::memtable::Memtable;
use crate::reserve::Share;
use crate::segment::write::{SegmentWriter, Spec};
use crate::segment::{Resolution, Segment, SegmentMeta, Window};
use crate::state::State;
use crate::wal::writer::drop_flushed;
use crate::{StoreConfig, StoreError, clean, retention};
use model::Timestamp;
use platform::{crash_point, durable};
use runtime::{Backoff, Clock, Jitter, Stop, Tick};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tracing::{debug, error, info, warn};
use ulid::Ulid;

/// The background work of an open store.
#[derive(Debug)]
pub struct Upkeep {
    pub(crate) state: Arc<State>,
}

/// How many times its size the log may have while there are few samples of each series in it.
const SPARSE: u64 = 6;

/// Between two looks at whether a flush is due.
const LOOK: Duration = Duration::from_secs(1);

impl Upkeep {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// Syncs the log at its interval and whenever someone waits for it, until stopped, and once more then.
    /// All who come while a sync runs share the next one.
    ///
    /// # Errors
    /// None; a failed sync is logged, counted, and answered with a flush.
    pub async fn run_sync(&self, stop: Stop) -> Result<(), StoreError> {
        let interval = self.state.config.sync_interval.max(Duration::from_millis(10));
        loop {
            let tick = tokio::select! {
                tick = stop.wait_for(interval) => tick,
                () = self.state.sync_wanted.notified() => Tick::Elapsed,
            };
            let state = Arc::clone(&self.state);
            let _ = tokio::task::spawn_blocking(move || state.sync()).await;
            if tick == Tick::Stopped {
                return Ok(());
            }
        }
    }

    /// Flushes when the time or the memory budget says so, and deletes what is past retention.
    ///
    /// # Errors
    /// None; a failed flush is logged, counted and tried again, the samples stay in memory and log.
    pub async fn run_flush(&self, stop: Stop) -> Result<(), StoreError> {
        let backoff = Backoff { base: LOOK, cap: Duration::from_secs(30), attempts: u32::MAX };
        let mut jitter = Jitter::random();
        let mut failures = 0;
        while !stop.requested() {
            let wait = match backoff.before(failures + 1, &mut jitter) {
                Some(wait) if failures > 0 => LOOK + wait,
                _ => LOOK,
            };
            tokio::select! {
                _ = stop.wait_for(wait) => {}
                () = self.state.flush_wanted.notified(), if failures == 0 => {}
            }
            let state = Arc::clone(&self.state);
            let outcome = tokio::task::spawn_blocking(move || state.flush_if_due()).await;
            match outcome {
                Ok(Ok(())) => failures = 0,
                Ok(Err(error)) => {
                    failures += 1;
                    self.state.meters.flush_failures.inc();
                    error!(%error, failures, "recent samples could not be written to a segment, will try again");
                }
                Err(error) => error!(%error, "flush ended badly"),
            }
        }
        Ok(())
    }

    /// Merges segments whenever some are due, until stopped.
    ///
    /// # Errors
    /// None; a failed merge is logged, counted and tried again, its inputs stay as they are.
    pub async fn run_compaction(&self, stop: Stop) -> Result<(), StoreError> {
        let backoff = Backoff { base: LOOK, cap: Duration::from_secs(60), attempts: u32::MAX };
        let mut jitter = Jitter::random();
        let mut failures = 0;
        let mut wait = LOOK;
        let mut merger = Merger::start(&self.state, &stop);
        while stop.wait_for(wait).await == Tick::Elapsed {
            wait = match merger.merge().await {
                Some(Ok(outcome)) => {
                    failures = 0;
                    if outcome == Outcome::Progress { Duration::ZERO } else { LOOK }
                }
                Some(Err(error)) => {
                    failures += 1;
                    self.state.meters.compaction_failures.inc();
                    error!(%error, failures, "segments could not be merged, will try again");
                    backoff.before(failures + 1, &mut jitter).unwrap_or(LOOK)
                }
                None => {
                    error!("merging ended badly");
                    merger = Merger::start(&self.state, &stop);
                    backoff.cap
                }
            };
        }
        Ok(())
    }

    /// Merges all that is due at `now`; blocks.
    ///
    /// # Errors
    /// A segment could not be written or committed.
    pub fn compact_now(&self, now: Timestamp) -> Result<(), StoreError> {
        while self.state.compact(now, now, &|| false)? == Outcome::Progress {}
        Ok(())
    }

    /// Writes all recent samples to segments now; blocks.
    ///
    /// # Errors
    /// A segment could not be written or committed.
    pub fn flush_now(&self) -> Result<(), StoreError> {
        self.state.freeze_active();
        self.state.flush_frozen()
    }

    /// Syncs the log and leaves the mark of a clean end. Call when nobody appends any more.
    ///
    /// # Errors
    /// The log could not be synced, or the mark not be written.
    pub fn close(&self) -> Result<(), StoreError> {
        let Some(log) = &self.state.log else { return Ok(()) };
        let mut log = log.lock();
        self.state.sync_now(&mut log)?;
        if log.wal.is_doubtful() || log.manifest.is_broken() {
            return Ok(());
        }
        clean::leave_mark(&self.state.config.dir, log.wal.last_sequence())
    }

    /// Compares every segment with its checksum and sets the damaged ones aside; blocks.
    pub fn verify_segments(&self) {
        let segments = Arc::clone(&self.state.live.read().segments);
        for segment in segments.iter() {
            match segment.verify() {
                Err(cause) if cause.is_damage() => drop(self.state.set_aside(segment, &cause)),
                Err(error) => warn!(%error, "a segment could not be compared with its checksum"),
                Ok(()) => {}
            }
        }
    }
}

/// A thread that merges when asked to, and lets all others go first: queries and ingest do not wait for it.
struct Merger {
    ask: std::sync::mpsc::SyncSender<()>,
    told: tokio::sync::mpsc::Receiver<Result<Outcome, StoreError>>,
}

impl Merger {
    fn start(state: &Arc<State>, stop: &Stop) -> Self {
        let (ask, asked) = std::sync::mpsc::sync_channel(1);
        let (tell, told) = tokio::sync::mpsc::channel(1);
        let (state, stop) = (Arc::downgrade(state), stop.clone());
        let work = move || {
            platform::process::step_back();
            while asked.recv().is_ok() {
                let Some(state) = state.upgrade() else { return };
                let stopping = || stop.requested();
                let outcome = state.compact(state.clock.now(), state.steady_now(), &stopping);
                drop(state);
                if tell.blocking_send(outcome).is_err() {
                    return;
                }
            }
        };
        // Without a thread the next merge says that it ended badly.
        if let Err(error) = std::thread::Builder::new().name("compaction".to_owned()).spawn(work) {
            error!(%error, "no thread for merging segments");
        }
        Self { ask, told }
    }

    /// Merges what is due; `None` when the thread has ended.
    async fn merge(&mut self) -> Option<Result<Outcome, StoreError>> {
        self.ask.try_send(()).ok()?;
        self.told.recv().await
    }
}

impl State {
    pub(crate) fn sync(&self) {
        let Some(log) = &self.log else { return };
        let unsynced = log.lock().wal.unsynced(false);
        let outcome = match unsynced {
            Ok(None) => return,
            Ok(Some((handle, sequence))) => {
                handle.sync().map(|()| sequence).map_err(StoreError::from)
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(sequence) => {
                self.meters.syncs.inc();
                self.note_durable(sequence);
                self.rotate_log(self.config.wal_file_size.get());
            }
            Err(error) => {
                // After a failed sync the kernel may have dropped the pages: never sync that file again.
                log.lock().wal.abandon();
                self.distrust_log(&error);
            }
        }
    }

    /// Begins the log's next file when the open one has `limit` bytes: a start reads one file at a time, and
    /// what is in segments goes file by file. Call when most of it is synced, for the rest is synced here.
    pub(crate) fn rotate_log(&self, limit: u64) {
        let Some(log) = &self.log else { return };
        let mut log = log.lock();
        if log.wal.file_len() < limit || log.wal.is_doubtful() {
            return;
        }
        let last = log.wal.last_sequence();
        match log.wal.rotate() {
            Ok(()) => self.note_durable(last),
            Err(error) => {
                drop(log);
                self.distrust_log(&error);
            }
        }
    }

    fn distrust_log(&self, error: &StoreError) {
        error!(%error, "write-ahead log could not be synced; beginning a new file and flushing");
        self.meters.sync_failures.inc();
        self.freeze_active();
        self.flush_wanted.notify_one();
    }

    fn freeze_active(&self) {
        if let Some(log) = &self.log {
            self.freeze(&mut log.lock());
        }
    }

    pub(crate) fn flush_if_due(&self) -> Result<(), StoreError> {
        let wal = self.log.as_ref().map(|log| {
            let log = log.lock();
            (log.wal.held_len(), log.wal.is_doubtful())
        });
        let (wal_len, doubtful) = wal.unwrap_or_default();
        // With many series the log fills with few samples of each: then a segment would be mostly index.
        let limit = self.config.wal_file_size.get();
        let dense = self.live.read().active.is_dense();
        let wal_full = wal_len >= limit && dense || wal_len >= limit.saturating_mul(SPARSE);
        let aged = {
            let live = self.live.read();
            let age = self.clock.monotonic().saturating_duration_since(live.active_since);
            !live.active.is_empty() && age >= self.config.flush_interval
        };
        let room = self.live.read().frozen.is_empty();
        if room && (aged || wal_full || doubtful || self.is_full()) {
            self.freeze_active();
        }
        // Also when the disk is full and nothing can be written: what is past its age makes room.
        let flushed = self.flush_frozen();
        let room_made = self.expire()?;
        match flushed {
            Err(error) if room_made && error.is_full_disk() => self.flush_frozen()?,
            flushed => flushed?,
        }
        self.settle_log()?;
        self.keep_room(Share::Half);
        Ok(())
    }

    /// Keeps room for the next deletion on a full disk.
    pub(crate) fn keep_room(&self, share: Share) {
        if let Some(log) = &self.log {
            log.lock().manifest.keep_room(share);
        }
    }

    /// Where no recent sample is left that a file in doubt may have held, the doubt has no object any more.
    fn settle_log(&self) -> Result<(), StoreError> {
        let Some(log) = &self.log else { return Ok(()) };
        let mut log = log.lock();
        let live = self.live.read();
        if !log.wal.is_doubtful() || !live.active.is_empty() || !live.frozen.is_empty() {
            return Ok(());
        }
        drop(live);
        let infos = self.infos.fresh();
        if !infos.is_empty() {
            log.manifest.commit(Edit { infos: infos.clone(), ..Edit::default() })?;
            self.infos.settle(&infos);
        }
        let last = log.wal.last_sequence();
        log.wal.settle(last);
        Ok(())
    }

    fn flush_frozen(&self) -> Result<(), StoreError> {
        let Some(log) = &self.log else { return Ok(()) };
        loop {
            let Some(frozen) = self.live.read().frozen.first().cloned() else { return Ok(()) };
            let flushed = frozen.sequences().1;
            // The slow part runs without a lock: appends and queries go on. What an attempt wrote whose commit
            // failed is committed now: whether that commit is on disk is not known, so its files must stay.
            let written = self.written.lock().take();
            let metas = match written.filter(|(sequence, _)| *sequence == flushed) {
                Some((_, metas)) => metas,
                None => write_segments(&self.config, self.clock, &frozen)?,
            };
            *self.written.lock() = Some((flushed, metas.clone()));
            let segments = metas.len();
            let infos = self.infos.fresh();
            let edit = Edit {
                add: metas,
                flushed: Some(flushed),
                infos: infos.clone(),
                ..Edit::default()
            };
            {
                let mut log = log.lock();
                let swapped = self.commit(&mut log, edit)?;
                // One lock for both, so that no snapshot sees a sample twice or not at all.
                let mut live = self.live.write();
                live.segments = swapped;
                live.frozen.remove(0);
                log.wal.settle(flushed);
            }
            self.flushed.notify_waiters();
            *self.written.lock() = None;
            self.infos.settle(&infos);
            self.note_durable(flushed);
            crash_point::pass("flush_before_wal_cut");
            drop_flushed(&self.config.dir, flushed)?;
            self.meters.flushes.inc();
            info!(samples = frozen.samples(), segments, "recent samples written to segments");
            drop(frozen);
            self.index.forget_unused();
        }
    }

    /// The time that retention goes by.
    fn steady_now(&self) -> Timestamp {
        self.steady.lock().at(self.clock.now(), self.clock.monotonic())
    }

    /// Bytes by which the disk has less room than it should.
    fn missing_room(&self) -> u64 {
        let wanted = self.config.min_free.get();
        if wanted == 0 {
            return 0;
        }
        // What was deleted while a query reads it takes its room until the query ends.
        let doomed = self.doomed.lock();
        let coming: u64 =
            doomed.iter().filter_map(Weak::upgrade).map(|segment| segment.meta.bytes()).sum();
        match platform::host::free_bytes(&self.config.dir) {
            Ok(free) => wanted.saturating_sub(free).saturating_sub(coming),
            Err(error) => {
                debug!(%error, "the room on the disk could not be read");
                0
            }
        }
    }

    /// Deletes what is past retention, and the oldest while there is too little room; whether there was any.
    pub(crate) fn expire(&self) -> Result<bool, StoreError> {
        let Some(log) = &self.log else { return Ok(false) };
        let now = self.steady_now();
        let missing = self.missing_room();
        let mut log = log.lock();
        let remove = retention::expired(log.manifest.live(), &self.config, now, missing);
        if remove.is_empty() {
            return Ok(false);
        }
        let old = Arc::clone(&self.live.read().segments);
        let segments = self.commit(&mut log, Edit { remove: remove.clone(), ..Edit::default() })?;
        self.live.write().segments = segments;
        let gone = |segment: &&Arc<Segment>| remove.contains(&segment.meta.id);
        let mut doomed = self.doomed.lock();
        doomed.retain(|segment| segment.strong_count() > 0);
        for segment in old.iter().filter(gone) {
            segment.doom();
            doomed.push(Arc::downgrade(segment));
        }
        drop(doomed);
        self.meters.expired.add(remove.len() as u64);
        debug!(segments = remove.len(), "segments past retention deleted");
        Ok(true)
    }
}

/// Writes `memtable` to segments and commits them; for the replay, where nobody reads yet.
pub(crate) fn persist(
    config: &StoreConfig,
    clock: Clock,
    manifest: &mut Manifest,
    infos: &InfoTable,
    memtable: &Memtable,
) -> Result<(), StoreError> {
    let add = write_segments(config, clock, memtable)?;
    let (flushed, infos) = (Some(memtable.sequences().1), infos.fresh());
    manifest.commit(Edit { add, flushed, infos, ..Edit::default() })
}

/// Writes one segment for each window and moves it to its place; not yet committed.
fn write_segments(
    config: &StoreConfig,
    clock: Clock,
    memtable: &Memtable,
) -> Result<Vec<SegmentMeta>, StoreError> {
    let mut metas = Vec::new();
    for window in memtable.windows() {
        let id = new_id(clock);
        match write_segment(config, &id, memtable, window) {
            Ok(meta) => metas.extend(meta),
            Err(error) => {
                // On a full disk each attempt must leave what it took.
                let folders = metas.iter().map(|meta: &SegmentMeta| meta.folder.clone());
                for folder in folders.chain([Path::new("tmp").join(&id)]) {
                    let _ = durable::remove_dir(&config.dir.join(folder));
                }
                return Err(error);
            }
        }
    }
    Ok(metas)
}

fn write_segment(
    config: &StoreConfig,
    id: &str,
    memtable: &Memtable,
    window: Window,
) -> Result<Option<SegmentMeta>, StoreError> {
    let (data, resolution) = (config.dir.as_path(), Resolution::Raw);
    let spec = Spec { data, id, resolution, level: 0, sequences: memtable.sequences() };
    let mut writer = SegmentWriter::create(&spec)?;
    let (from, to) = window.span();
    for (series, points) in memtable.sorted(from, to) {
        writer.add(series.id(), series.key(), &points)?;
    }
    let Some(meta) = writer.finish()? else { return Ok(None) };
    place(data, &meta)?;
    Ok(Some(meta))
}

/// A new segment's id.
pub(crate) fn new_id(clock: Clock) -> String {
    let now = u64::try_from(clock.now().millis()).unwrap_or(0);
    let mut random = Jitter::random();
    let random = (u128::from(random.next_u64()) << 64) | u128::from(random.next_u64());
    Ulid::from_parts(now, random).to_string()
}

/// Moves a complete segment from `tmp/` to its place.
pub(crate) fn place(data: &Path, meta: &SegmentMeta) -> Result<(), StoreError> {
    crash_point::pass("segment_before_rename");
    let target = data.join(&meta.folder);
    if let Some(parent) = meta.folder.parent() {
        durable::create_dir_in(data, parent)?;
    }
    durable::rename(&data.join("tmp").join(&meta.id), &target)?;
    crash_point::pass("segment_after_rename");
    Ok(())
}
