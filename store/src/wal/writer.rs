//! Appends batches to the log. One write per batch: when it returns, the batch survives `kill -9`;
//! power loss is survived after the next sync.

use super::{file_name, folder, record};
use crate::StoreError;
use crate::batch::{Batch, Times};
use crate::frame;
use crate::info::Infos;
use crate::series::{ByNumber, Series};
use platform::PlatformError;
use platform::crash_point;
use platform::durable::{self, AppendFile, SyncHandle};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rough bytes of the names of series in one frame.
const PART: usize = 4 << 20;

/// Layouts remembered per file; over it they are declared again when next used.
const LAYOUTS: usize = 4096;
/// And series in them: each layout is a list of its own.
const HANDLES: usize = 4 << 20;

/// The open end of the log.
#[derive(Debug)]
pub(crate) struct WalWriter {
    folder: PathBuf,
    /// `None` after a failed write or sync, until the next append begins a new file.
    file: Option<AppendFile>,
    next: u64,
    declared: ByNumber<()>,
    layouts: HashMap<usize, (Arc<[Series]>, u64)>,
    /// Series in the lists of the layouts.
    held: usize,
    layout_number: u64,
    synced_len: u64,
    /// Bytes in closed files that hold something that is in no segment yet.
    closed_len: u64,
    /// The last sequence in a file that may not be on disk although it was written; a flush settles it.
    doubtful: Option<u64>,
    scratch: Vec<u8>,
    payload: Vec<u8>,
}

impl WalWriter {
    /// Begins a new file whose first frame has sequence `next`, after files with `held` bytes.
    pub(crate) fn begin(data: &Path, next: u64, held: u64) -> Result<Self, StoreError> {
        let folder = folder(data);
        durable::create_dir(&folder)?;
        let mut writer = Self {
            folder,
            file: None,
            next,
            declared: ByNumber::default(),
            layouts: HashMap::new(),
            held: 0,
            layout_number: 0,
            synced_len: 0,
            closed_len: held,
            doubtful: None,
            scratch: Vec::new(),
            payload: Vec::new(),
        };
        writer.rotate()?;
        Ok(writer)
    }

    /// Logs `batch` and returns its sequence.
    ///
    /// # Errors
    /// The write failed. Nothing of the batch counts, and the next call begins a new file.
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<u64, StoreError> {
        let mut bytes = self.ready()?;
        let sequence = self.frames(&mut bytes, batch);
        crash_point::pass("wal_before_append");
        let outcome = self.write(&bytes);
        crash_point::pass("wal_after_append");
        self.keep(bytes);
        outcome?;
        Ok(sequence)
    }

    /// Logs what is said of metrics.
    ///
    /// # Errors
    /// As [`WalWriter::append`].
    pub(crate) fn append_info(&mut self, infos: &Infos) -> Result<(), StoreError> {
        let mut bytes = self.ready()?;
        let mut payload = Vec::new();
        record::put_info(&mut payload, infos);
        self.frame(&mut bytes, record::INFO, &mut payload);
        let outcome = self.write(&bytes);
        self.keep(bytes);
        Ok(outcome?)
    }

    /// A file is open, and here is room for frames.
    fn ready(&mut self) -> Result<Vec<u8>, StoreError> {
        if self.file.is_none() {
            self.rotate()?;
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        Ok(bytes)
    }

    fn keep(&mut self, bytes: Vec<u8>) {
        self.scratch = bytes;
        self.scratch.shrink_to(1 << 20);
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PlatformError> {
        let Some(file) = self.file.as_mut() else { return Ok(()) };
        file.append(bytes).inspect_err(|_| {
            // A full disk may still take a sync of what was written before, and gets back what was written of this.
            match self.file.take().map(|file| file.cut().and_then(|()| file.sync())) {
                Some(Err(_)) => self.abandon(),
                _ => self.file = None,
            }
        })
    }

    fn frames(&mut self, out: &mut Vec<u8>, batch: &Batch) -> u64 {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        let kind = match &batch.times {
            Times::One(time) => {
                let layout = self.layout(out, &batch.series, &mut payload);
                record::put_scrape(&mut payload, layout, *time, &batch.values);
                record::SCRAPE
            }
            Times::Each(times) => {
                self.declare(out, &batch.series, &mut payload);
                let refs = batch.series.iter().map(Series::number);
                record::put_batch(&mut payload, refs, times, &batch.values);
                record::BATCH
            }
        };
        let sequence = self.frame(out, kind, &mut payload);
        payload.shrink_to(1 << 20);
        self.payload = payload;
        sequence
    }

    /// The number of the layout of `series`, declared if this file does not have it yet.
    fn layout(&mut self, out: &mut Vec<u8>, series: &Arc<[Series]>, payload: &mut Vec<u8>) -> u64 {
        let key = series.as_ptr() as usize;
        if let Some((_, number)) = self.layouts.get(&key) {
            return *number;
        }
        self.declare(out, series, payload);
        self.layout_number += 1;
        record::put_layout(payload, self.layout_number, series.iter().map(Series::number));
        self.frame(out, record::LAYOUT, payload);
        let held = series.len();
        if self.layouts.len() >= LAYOUTS || self.held + held > HANDLES {
            self.layouts.clear();
            self.held = 0;
        }
        self.held += held;
        self.layouts.insert(key, (Arc::clone(series), self.layout_number));
        self.layout_number
    }

    /// Declares the series that this file does not have yet.
    fn declare(&mut self, out: &mut Vec<u8>, series: &[Series], payload: &mut Vec<u8>) {
        let fresh: Vec<&Series> = series
            .iter()
            .filter(|series| self.declared.insert(series.number(), ()).is_none())
            .collect();
        // In frames that can be read back, however much is declared at once.
        let mut len = 0;
        let parts = fresh.split_inclusive(|series| {
            len += series.key().text_len();
            let full = len >= PART;
            if full {
                len = 0;
            }
            full
        });
        for part in parts {
            record::put_series(payload, part.iter().map(|s| (s.number(), s.key())));
            self.frame(out, record::SERIES, payload);
        }
    }

    fn frame(&mut self, out: &mut Vec<u8>, kind: u8, payload: &mut Vec<u8>) -> u64 {
        let sequence = self.next;
        frame::put(out, sequence, kind, payload);
        payload.clear();
        self.next += 1;
        sequence
    }

    /// Syncs and closes the file, and begins the next. What is logged from here on is in later files.
    ///
    /// # Errors
    /// The old file could not be synced, and is given up, or the new one not be created.
    pub(crate) fn rotate(&mut self) -> Result<(), StoreError> {
        if let Some(file) = self.file.take() {
            self.closed_len += file.len();
            file.sync().inspect_err(|_| self.abandon())?;
        }
        self.declared.clear();
        self.layouts.clear();
        self.held = 0;
        self.synced_len = 0;
        let mut bytes = Vec::new();
        let mut payload = Vec::new();
        record::put_start(&mut payload);
        let path = self.folder.join(file_name(self.next));
        self.frame(&mut bytes, record::START, &mut payload);
        let mut file = AppendFile::create(&path)?;
        file.append(&bytes).inspect_err(|_| {
            // On a full disk there is an attempt for each push: none may leave a file.
            let _ = durable::remove_file(&path);
        })?;
        self.file = Some(file);
        Ok(())
    }

    /// Gives the file up after a failed sync: the kernel may have dropped its pages, and a second sync would
    /// hide that. What it holds is durable again once a flush has written it to a segment.
    pub(crate) fn abandon(&mut self) {
        self.file = None;
        self.doubtful = Some(self.next - 1);
    }

    /// Notes that what was read back from earlier files may not be on disk before a flush.
    pub(crate) fn doubt_before(&mut self, next: u64) {
        self.doubtful = Some(next - 1);
    }

    /// A handle to sync what is logged in the open file, and the last sequence in it; `None` when all of it is
    /// synced, or while an older file is in doubt, unless the open one counts `alone`.
    pub(crate) fn unsynced(
        &mut self,
        alone: bool,
    ) -> Result<Option<(SyncHandle, u64)>, StoreError> {
        let Some(file) = &self.file else { return Ok(None) };
        if file.len() == self.synced_len || self.doubtful.is_some() && !alone {
            return Ok(None);
        }
        let handle = file.sync_handle()?;
        self.synced_len = file.len();
        Ok(Some((handle, self.next - 1)))
    }

    /// The last sequence given.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.next - 1
    }

    /// Whether something logged may not be on disk until a flush.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubtful.is_some()
    }

    /// Notes that everything up to `flushed` is in segments.
    pub(crate) fn settle(&mut self, flushed: u64) {
        if self.doubtful.is_some_and(|doubtful| doubtful <= flushed) {
            self.doubtful = None;
        }
    }

    /// Notes that all logged so far is on its way to segments.
    pub(crate) fn note_frozen(&mut self) {
        self.closed_len = 0;
    }

    /// Bytes of the log that hold something that is not on its way to segments.
    pub(crate) fn held_len(&self) -> u64 {
        self.closed_len + self.file_len()
    }

    /// Bytes in the open file.
    pub(crate) fn file_len(&self) -> u64 {
        self.file.as_ref().map_or(0, AppendFile::len)
    }
}

/// Removes the files that hold nothing after `flushed`.
///
/// # Errors
/// A file could not be removed.
pub(crate) fn drop_flushed(data: &Path, flushed: u64) -> Result<(), StoreError> {
    let files = durable::list(&folder(data))?;
    for (file, next) in files.iter().zip(files.iter().skip(1)) {
        let ends_before = super::first_sequence(next).is_some_and(|first| first <= flushed + 1);
        if super::first_sequence(file).is_some() && ends_before {
            durable::remove_file(file)?;
        }
    }
    Ok(())
}
