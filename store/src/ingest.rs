//! Opening a data directory, and the write path in one function.

use crate::batch::{Batch, Times};
use crate::check::{folders, set_aside};
use crate::flush::{Upkeep, persist};
use crate::info::{InfoTable, Infos};
use crate::manifest::{self, Edit, Manifest};
use crate::memtable::Memtable;
use crate::reader::Reader;
use crate::reserve::{Reserve, Share};
use crate::retention::SteadyTime;
use crate::series::{Series, SeriesIndex};
use crate::state::{IndexCache, Live, Log, Meters, State};
use crate::wal::replay::{Access, Replayed, replay};
use crate::wal::writer::WalWriter;
use crate::{StoreConfig, StoreError, clean, wal};
use model::{MetricKind, SeriesKey, Timestamp};
use parking_lot::{Mutex, RwLock};
use platform::durable;
use platform::lock::DirLock;
use runtime::Clock;
use std::collections::HashSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Registry;
use tokio::sync::Notify;
use tracing::{error, info, warn};

/// The handles of an open store.
#[derive(Debug)]
pub struct Opened {
    /// The capability to append.
    pub writer: Writer,
    /// The capability to read.
    pub reader: Reader,
    /// What must run in the background.
    pub upkeep: Upkeep,
    /// What was read back from the log.
    pub replayed: Replayed,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place in the log.
    pub sequence: u64,
    /// Samples left out because their time lies too far off.
    pub refused: u64,
}

/// The capability to append. Clones write to the same store.
#[derive(Clone, Debug)]
pub struct Writer {
    state: Arc<State>,
    /// Whether samples may come long after newer ones.
    history: bool,
}

impl Writer {
    /// The handle of a series; a new one must be within the limits.
    ///
    /// # Errors
    /// [`StoreError::Limit`] names the limit; known series stay.
    pub fn series(&self, key: &SeriesKey) -> Result<Series, StoreError> {
        self.state.index.admit(key).inspect_err(|_| self.state.meters.refused.inc())
    }

    /// The same store for history: what it appends may be as old as retention allows, also where newer samples
    /// of the same series are there.
    pub fn for_history(&self) -> Self {
        Self { state: Arc::clone(&self.state), history: true }
    }

    /// Takes a batch in. When this returns, the batch survives `kill -9` and is in every later snapshot;
    /// power loss it survives after the next sync, which [`Writer::durable`] waits for.
    ///
    /// Samples with a time of their own that lies too far off are left out and counted.
    ///
    /// # Errors
    /// Nothing of the batch was taken in. [`StoreError::is_transient`] says whether to try again.
    pub fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        batch.check()?;
        let state = &*self.state;
        let (batch, refused) = state.timely(batch, self.history);
        let Some(log) = &state.log else { return Err(StoreError::Backlog) };
        let mut log = log.lock(); // one writer, so log order is memtable order
        if state.is_full() {
            state.freeze_for_room(&mut log)?;
        }
        let sequence =
            log.wal.append(&batch).inspect_err(|_| state.meters.append_failures.inc())?; // survives kill -9 from here on
        if state.config.sync_interval.is_zero() {
            state.sync_now(&mut log)?;
        }
        let now = state.clock.now().millis();
        let mut live = state.live.write();
        if live.active.is_empty() {
            live.active_since = state.clock.monotonic();
        }
        live.active.insert(sequence, &batch, now); // visible from here on
        drop(live);
        state.appended.send_replace(sequence);
        state.meters.samples.add(batch.values.len() as u64);
        Ok(Appended { sequence, refused }) // the acknowledgement
    }
}

impl Writer {
    /// Takes in what a target says of its metrics. What says nothing new costs a look-up each.
    ///
    /// # Errors
    /// The log could not be written; nothing was taken in.
    pub fn describe(&self, said: Infos) -> Result<(), StoreError> {
        let Some(log) = &self.state.log else { return Ok(()) };
        let longest = self.state.config.max_text_size.as_usize();
        let news = self.state.infos.news(said, longest);
        if news.is_empty() {
            return Ok(());
        }
        let mut log = log.lock();
        log.wal.append_info(&news).inspect_err(|_| self.state.meters.append_failures.inc())?;
        self.state.infos.take(news);
        Ok(())
    }

    /// The last sequence that survives power loss.
    pub fn durable_sequence(&self) -> u64 {
        *self.state.durable.borrow()
    }

    /// Waits until memory has room again after [`StoreError::Backlog`].
    ///
    /// # Errors
    /// [`StoreError::Backlog`]: it had none within `limit`.
    pub async fn room(&self, limit: Duration) -> Result<(), StoreError> {
        let full = || self.state.is_full() && !self.state.live.read().frozen.is_empty();
        let wait = async {
            loop {
                let mut flushed = pin!(self.state.flushed.notified());
                flushed.as_mut().enable(); // before the look: a flush that ends after it is not missed
                if !full() {
                    return;
                }
                flushed.await;
            }
        };
        tokio::time::timeout(limit, wait).await.map_err(|_| StoreError::Backlog)
    }

    /// Waits until everything up to `sequence` survives power loss.
    ///
    /// # Errors
    /// [`StoreError::NotDurable`]: `limit` passed before the disk confirmed it. Sending the same samples again
    /// stores nothing twice.
    pub async fn durable(&self, sequence: u64, limit: Duration) -> Result<(), StoreError> {
        let mut durable = self.state.durable.subscribe();
        let wait = async {
            while *durable.borrow_and_update() < sequence {
                self.state.sync_wanted.notify_one();
                let _ = durable.changed().await;
            }
        };
        tokio::time::timeout(limit, wait).await.map_err(|_| StoreError::NotDurable(limit))
    }
}

impl State {
    /// The batch without samples whose own time lies too far off, and how many those were.
    ///
    /// Late is measured against the newest sample of the same series, so that history may be sent in order; or
    /// against our clock, where that is behind: a clock that leapt ahead and back must not keep series shut.
    fn timely(&self, batch: Batch, history: bool) -> (Batch, u64) {
        let Times::Each(times) = &batch.times else { return (batch, 0) };
        let now = self.clock.now();
        let newest = now.plus(self.config.early_limit).millis();
        let oldest = now.minus(self.config.retention).millis();
        let late = i64::try_from(self.config.late_limit.as_millis()).unwrap_or(i64::MAX);
        let late = if history { i64::MAX } else { late };
        let fits = |(time, series): (&Timestamp, &Series)| {
            let newest_known = series.newest().min(now.millis());
            let oldest = oldest.max(newest_known.saturating_sub(late));
            (oldest..=newest).contains(&time.millis())
        };
        let fits: Vec<bool> = times.iter().zip(batch.series.iter()).map(fits).collect();
        let refused = fits.iter().filter(|fits| !**fits).count() as u64;
        if refused == 0 {
            return (batch, 0);
        }
        self.meters.late.add(refused);
        let kept = || fits.iter().enumerate().filter(|(_, fits)| **fits).map(|(at, _)| at);
        let batch = Batch {
            series: kept().filter_map(|at| batch.series.get(at).cloned()).collect(),
            values: kept().filter_map(|at| batch.values.get(at).copied()).collect(),
            times: Times::Each(kept().filter_map(|at| times.get(at).copied()).collect()),
        };
        (batch, refused)
    }

    /// Whether the active memtable has its half of the budget; the other half is for the frozen one.
    pub(crate) fn is_full(&self) -> bool {
        self.live.read().active.sample_bytes() >= self.config.memory_budget.as_usize() / 2
    }

    fn freeze_for_room(&self, log: &mut Log) -> Result<(), StoreError> {
        if !self.live.read().frozen.is_empty() {
            self.flush_wanted.notify_one();
            return Err(StoreError::Backlog);
        }
        self.freeze(log);
        self.flush_wanted.notify_one();
        Ok(())
    }

    /// Puts the active memtable aside for flushing. The log goes on in a new file, so that the old ones
    /// can go when the flush is done.
    pub(crate) fn freeze(&self, log: &mut Log) {
        if self.live.read().active.is_empty() {
            return;
        }
        if let Err(error) = log.wal.rotate() {
            // What is not synced is in the memtable, and the flush that follows makes it durable.
            error!(%error, "write-ahead log could not be synced; flushing what it holds");
            self.meters.sync_failures.inc();
        }
        log.wal.note_frozen();
        let mut live = self.live.write();
        let frozen = std::mem::take(&mut live.active);
        live.frozen.push(Arc::new(frozen));
    }

    pub(crate) fn sync_now(&self, log: &mut Log) -> Result<(), StoreError> {
        // A batch in a new file is durable with that file, whatever an older one holds in doubt.
        let Some((handle, sequence)) = log.wal.unsynced(true)? else { return Ok(()) };
        if let Err(error) = handle.sync() {
            self.meters.sync_failures.inc();
            log.wal.abandon();
            return Err(error.into());
        }
        self.meters.syncs.inc();
        if !log.wal.is_doubtful() {
            self.note_durable(sequence);
        }
        Ok(())
    }
}

/// Opens a data directory for one writer, creating it if needed, and replays the log.
///
/// # Errors
/// Another process has it open, it is of another version, or a file operation failed. Damage is no
/// error: it is reported, set aside, and the rest is served. On a full disk it takes the room that is kept for that.
pub fn open(config: StoreConfig, clock: Clock, registry: &Registry) -> Result<Opened, StoreError> {
    match try_open(config.clone(), clock, registry) {
        Err(error) if error.is_full_disk() && Reserve::new(&config.dir).give() => {
            try_open(config, clock, registry)
        }
        outcome => outcome,
    }
}

fn try_open(config: StoreConfig, clock: Clock, registry: &Registry) -> Result<Opened, StoreError> {
    let data = config.dir.clone();
    durable::create_dir(&data)?;
    let lock = DirLock::exclusive(&data.join("LOCK"), &format!("process {}", std::process::id()))?;
    let is_new = !data.join("wal").exists();
    let mut manifest = match manifest::read(&data) {
        Ok(read) => {
            let doubtful = read.damaged || read.torn;
            // Before the tail is cut that says that something may be missing.
            clear_strays(&data, &read.live, doubtful)?;
            Manifest::open(&data, read)?
        }
        Err(StoreError::NoStore(_)) => {
            // Segments without a manifest were somebody's: a repair takes them back.
            clear_strays(&data, &manifest::Live::default(), true)?;
            Manifest::create(&data)?
        }
        Err(error) => return Err(error),
    };
    let index = SeriesIndex::new(&config);
    let mut active = Memtable::default();
    let flushed = manifest.live().flushed;
    let infos = InfoTable::new(manifest.live().infos.clone());
    let (half, mut full_disk) = (config.memory_budget.as_usize() / 2, false);
    let mut replayed = replay(&data, flushed, Access::Write, &index, &infos, |sequence, batch| {
        active.insert(sequence, &batch, clock.now().millis());
        if active.sample_bytes() >= half && !full_disk {
            match persist(&config, clock, &mut manifest, &infos, &active) {
                Ok(()) => drop(std::mem::take(&mut active)),
                // The log has room for no more than memory had once.
                Err(error) if error.is_full_disk() => full_disk = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })?;
    let next = replayed.last_sequence.max(manifest.live().flushed).max(wal::last_name(&data)?) + 1;
    replayed.clean = clean::take_mark(&data, next - 1)? || is_new;
    if !replayed.clean && manifest.live() != &manifest::Live::default() {
        // What was read may have been in the system's memory only: a sync of an earlier process may have
        // failed, and trying it again would only seem to work.
        manifest.begin_anew(Edit::default())?;
    }
    let mut wal = WalWriter::begin(&data, next, replayed.bytes)?;
    if !replayed.clean && !active.is_empty() {
        wal.doubt_before(next);
    }
    let log = Log { wal, manifest };
    let parts = Parts { index, infos, active, log: Some(log), lock };
    let state = assemble(config, clock, registry, parts);
    let segments =
        state.log.as_ref().map(|log| state.segments_of(log.lock().manifest.live(), false));
    state.live.write().segments = segments.unwrap_or_default();
    announce(&state, &replayed);
    // Before anyone appends: room that was kept for a full disk may have gone into this start.
    if let Err(error) = state.expire() {
        warn!(%error, "nothing could be deleted yet");
    }
    state.keep_room(Share::All);
    let state = Arc::new(state);
    expose(&state, registry);
    Ok(Opened {
        writer: Writer { state: Arc::clone(&state), history: false },
        reader: Reader::new(Arc::clone(&state)),
        upkeep: Upkeep::new(state),
        replayed,
    })
}

/// Opens a data directory that no process writes to, and changes nothing in it.
///
/// # Errors
/// A process writes to it, there is no store in it, or it is of another version.
pub fn open_read_only(dir: &Path, clock: Clock) -> Result<(Reader, Replayed), StoreError> {
    let live = manifest::read(dir)?.live;
    let lock = DirLock::shared(&dir.join("LOCK"))?;
    let config = StoreConfig { dir: dir.to_owned(), ..StoreConfig::default() };
    let index = SeriesIndex::new(&config);
    let mut active = Memtable::default();
    let infos = InfoTable::new(live.infos.clone());
    let replayed = replay(dir, live.flushed, Access::Read, &index, &infos, |sequence, batch| {
        active.insert(sequence, &batch, clock.now().millis());
        Ok(())
    })?;
    let parts = Parts { index, infos, active, log: None, lock };
    let state = assemble(config, clock, &Registry::new(), parts);
    let segments = state.segments_of(&live, false);
    state.live.write().segments = segments;
    Ok((Reader::new(Arc::new(state)), replayed))
}

/// What opening found.
struct Parts {
    index: SeriesIndex,
    infos: InfoTable,
    active: Memtable,
    log: Option<Log>,
    lock: DirLock,
}

fn assemble(config: StoreConfig, clock: Clock, registry: &Registry, parts: Parts) -> State {
    let Parts { index, infos, active, log, lock } = parts;
    let active_since = clock.monotonic();
    // A clock that is ahead at the start must not delete by age either.
    let segments = log.iter().flat_map(|log| log.manifest.live().segments.values());
    let newest = segments.map(|meta| meta.span.1).chain(active.windows().map(|it| it.span().1));
    let steady = newest.max().map_or(clock.now(), |newest| Timestamp(newest).min(clock.now()));
    State {
        config,
        clock,
        index,
        infos,
        log: log.map(Mutex::new),
        live: RwLock::new(Live {
            active,
            active_since,
            frozen: Vec::new(),
            segments: Arc::default(),
        }),
        flush_wanted: Notify::new(),
        flushed: Notify::new(),
        strays: Mutex::default(),
        steady: Mutex::new(SteadyTime::new(steady, active_since)),
        sync_wanted: Notify::new(),
        durable: tokio::sync::watch::Sender::new(0),
        appended: tokio::sync::watch::Sender::new(0),
        meters: Meters::new(registry),
        written: Mutex::default(),
        doomed: Mutex::default(),
        indexes: Mutex::new(IndexCache::default()),
        _lock: lock,
    }
}

fn announce(state: &State, replayed: &Replayed) {
    state.meters.torn_bytes.add(replayed.torn_bytes);
    state.meters.damaged_bytes.add(replayed.damaged_bytes);
    state.meters.replayed.add(replayed.samples);
    state.meters.clean_start.set(f64::from(u8::from(replayed.clean)));
    if replayed.unusable_frames > 0 {
        warn!(frames = replayed.unusable_frames, "frames of the write-ahead log could not be used");
    }
    info!(
        dir = %state.config.dir.display(), segments = state.live.read().segments.len(),
        clean_end = replayed.clean, wal_files = replayed.files, replayed_samples = replayed.samples, torn_bytes = replayed.torn_bytes,
        "store opened"
    );
}

/// Removes what a crash left half done: temporary folders, and segments that were never committed or
/// already forgotten. With a manifest that may have lost an edit those are set aside instead, for they may be all there is.
fn clear_strays(data: &Path, live: &manifest::Live, doubtful: bool) -> Result<(), StoreError> {
    durable::remove_dir(&data.join("tmp"))?;
    let known: HashSet<_> = live.segments.values().map(|meta| data.join(&meta.folder)).collect();
    for folder in folders(data)?.into_iter().filter(|folder| !known.contains(folder)) {
        if doubtful {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let target = set_aside(data, &folder, &name)?;
            error!(from = %folder.display(), to = %target.display(), "segment unknown to the damaged manifest set aside; `forerunner store repair` takes it back");
        } else {
            durable::remove_dir(&folder)?;
            info!(folder = %folder.display(), "segment without a commit removed; the log still has its samples");
        }
    }
    Ok(())
}

/// Gauges that are read when the page is asked for. They do not keep the store open.
fn expose(state: &Arc<State>, registry: &Registry) {
    let gauge = |name: &str, help: &str, read: fn(&State) -> f64| {
        let state = Arc::downgrade(state);
        let name = format!("forerunner_store_{name}");
        registry.computed(&name, help, MetricKind::Gauge, move || {
            state.upgrade().map_or(f64::NAN, |state| read(&state))
        });
    };
    gauge("series", "Series that are active.", |state| state.index.len() as f64);
    gauge("memory_bytes", "Memory for samples not yet in a segment.", |state| {
        let live = state.live.read();
        let tables = live.frozen.iter().map(AsRef::as_ref).chain([&live.active]);
        tables.map(|table| table.sample_bytes() + table.series_bytes()).sum::<usize>() as f64
    });
    gauge("segments", "Live segments.", |state| state.live.read().segments.len() as f64);
    gauge("segment_bytes", "Bytes of live segments on disk.", |state| {
        state.live.read().segments.iter().map(|segment| segment.meta.bytes()).sum::<u64>() as f64
    });
    gauge("segment_samples", "Samples in live segments.", |state| {
        state.live.read().segments.iter().map(|segment| segment.meta.rows).sum::<u64>() as f64
    });
    gauge("wal_file_bytes", "Bytes in the open file of the write-ahead log.", |state| {
        // Who asks must not wait while the log is synced.
        let log = state.log.as_ref().map(|log| log.try_lock());
        log.map_or(0.0, |log| log.map_or(f64::NAN, |log| log.wal.file_len() as f64))
    });
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod power_loss;
#[cfg(test)]
mod tests;
