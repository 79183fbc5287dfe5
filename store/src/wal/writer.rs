//! Appends batches to the log. One write per batch: when it returns, the batch survives `kill -9`;
//! power loss is survived after the next sync.

use super::{file_name, folder, record};
use crate::StoreError;
use crate::batch::Batch;
use crate::frame;
use crate::series::Series;
use platform::PlatformError;
use platform::crash_point;
use platform::durable::{self, AppendFile, SyncHandle};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Layouts remembered per file; over it they are declared again when next used.
const LAYOUTS: usize = 4096;

/// The open end of the log.
#[derive(Debug)]
pub(crate) struct WalWriter {
    folder: PathBuf,
    /// `None` after a failed write or sync, until the next append begins a new file.
    file: Option<AppendFile>,
    next: u64,
    declared: HashSet<u64>,
    layouts: HashMap<usize, (Arc<[Series]>, u64)>,
    layout_number: u64,
    synced_len: u64,
    scratch: Vec<u8>,
}

impl WalWriter {
    /// Begins a new file whose first frame has sequence `next`.
    pub(crate) fn begin(data: &Path, next: u64) -> Result<Self, StoreError> {
        let folder = folder(data);
        durable::create_dir(&folder)?;
        let mut writer = Self {
            folder,
            file: None,
            next,
            declared: HashSet::new(),
            layouts: HashMap::new(),
            layout_number: 0,
            synced_len: 0,
            scratch: Vec::new(),
        };
        writer.rotate()?;
        Ok(writer)
    }

    /// Logs `batch` and returns its sequence.
    ///
    /// # Errors
    /// The write failed. Nothing of the batch counts, and the next call begins a new file.
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<u64, StoreError> {
        if self.file.is_none() {
            self.rotate()?;
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let sequence = self.frames(&mut bytes, batch);
        crash_point::pass("wal_before_append");
        let outcome = self.write(&bytes);
        crash_point::pass("wal_after_append");
        self.scratch = bytes;
        self.scratch.shrink_to(1 << 20);
        outcome?;
        Ok(sequence)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PlatformError> {
        let Some(file) = self.file.as_mut() else { return Ok(()) };
        file.append(bytes).inspect_err(|_| self.file = None)
    }

    fn frames(&mut self, out: &mut Vec<u8>, batch: &Batch) -> u64 {
        let mut payload = Vec::new();
        let key = batch.series.as_ptr() as usize;
        let layout = match self.layouts.get(&key) {
            Some((_, number)) => *number,
            None => {
                let fresh: Vec<&Series> = batch
                    .series
                    .iter()
                    .filter(|series| self.declared.insert(series.number()))
                    .collect();
                if !fresh.is_empty() {
                    record::put_series(&mut payload, fresh.iter().map(|s| (s.number(), s.key())));
                    self.frame(out, record::SERIES, &mut payload);
                }
                self.layout_number += 1;
                let refs = batch.series.iter().map(Series::number);
                record::put_layout(&mut payload, self.layout_number, refs);
                self.frame(out, record::LAYOUT, &mut payload);
                if self.layouts.len() >= LAYOUTS {
                    self.layouts.clear();
                }
                self.layouts.insert(key, (Arc::clone(&batch.series), self.layout_number));
                self.layout_number
            }
        };
        record::put_scrape(&mut payload, layout, batch);
        self.frame(out, record::SCRAPE, &mut payload)
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
    /// The old file could not be synced or the new one not be created.
    pub(crate) fn rotate(&mut self) -> Result<(), StoreError> {
        if let Some(file) = self.file.take() {
            file.sync()?;
        }
        self.declared.clear();
        self.layouts.clear();
        self.synced_len = 0;
        let mut bytes = Vec::new();
        let mut payload = Vec::new();
        record::put_start(&mut payload);
        let path = self.folder.join(file_name(self.next));
        self.frame(&mut bytes, record::START, &mut payload);
        let mut file = AppendFile::create(&path)?;
        file.append(&bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// Gives the file up after a failed sync: its state is unknown, and it is not touched again.
    pub(crate) fn abandon(&mut self) {
        self.file = None;
    }

    /// A handle to sync what is logged so far, and the last sequence that this covers; `None` when all is synced.
    pub(crate) fn unsynced(&mut self) -> Result<Option<(SyncHandle, u64)>, StoreError> {
        let Some(file) = &self.file else { return Ok(None) };
        if file.len() == self.synced_len {
            return Ok(None);
        }
        let handle = file.sync_handle()?;
        self.synced_len = file.len();
        Ok(Some((handle, self.next - 1)))
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
