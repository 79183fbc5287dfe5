//! Reads the log back at start, one file at a time. A tail without a sound frame after it is cut, damage
//! with sound frames after it is stepped over; both are counted, and copied to `quarantine/` first.

use super::record::{self, Record};
use super::{first_sequence, folder};
use crate::frame::{self, Damage, Frame};
use crate::info::{InfoTable, Infos};
use crate::series::{ByNumber, Series, SeriesIndex};
use crate::{Batch, StoreError, Times};
use platform::durable::{self, AppendFile};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use tracing::{error, warn};

/// What a replay found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Files read.
    pub files: usize,
    /// Batches that were not yet in a segment.
    pub batches: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes cut from torn tails.
    pub torn_bytes: u64,
    /// Bytes of damage with sound frames after it.
    pub damaged_bytes: u64,
    /// Sound frames that could not be used: of no known kind, or naming what damage took.
    pub unusable_frames: u64,
    /// The highest sequence seen, 0 for none.
    pub last_sequence: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Whether the last run ended as it should: it said so, and the log ends where it said.
    pub clean: bool,
}

/// Whether the log may be mended on disk or only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    Read,
}

/// What the reading thread has found, in order.
enum Found {
    Batch(u64, Batch),
    /// The end of a file that is damaged, with all its bytes.
    Damage(PathBuf, Vec<u8>, Damage),
}

/// Batches that are read ahead.
const AHEAD: usize = 16;

/// Hands every logged batch after sequence `flushed` to `visit`, in order. Another thread reads ahead, one file
/// in memory at a time.
///
/// # Errors
/// A file could not be read or mended, or `visit` failed.
pub(crate) fn replay(
    data: &Path,
    flushed: u64,
    access: Access,
    index: &SeriesIndex,
    infos: &InfoTable,
    mut visit: impl FnMut(u64, Batch) -> Result<(), StoreError>,
) -> Result<Replayed, StoreError> {
    let folder = folder(data);
    if !folder.exists() {
        return Ok(Replayed::default());
    }
    let mut files = durable::list(&folder)?;
    files.retain(|path| first_sequence(path).is_some());
    let (send, receive) = mpsc::sync_channel(AHEAD);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_files(files, flushed, index, infos, &send));
        let mut damage = Replayed::default();
        for found in receive {
            match found {
                Found::Batch(sequence, batch) => visit(sequence, batch)?,
                Found::Damage(path, bytes, at) => {
                    report(data, &path, &bytes, &at, access, &mut damage)?;
                }
            }
        }
        let Ok(read) = reading.join() else {
            return Err(StoreError::Corrupt {
                id: "wal".to_owned(),
                cause: "the thread that reads it ended badly".to_owned(),
            });
        };
        let Replayed { torn_bytes, damaged_bytes, .. } = damage;
        Ok(Replayed { torn_bytes, damaged_bytes, ..read? })
    })
}

/// Reads file after file; ends early when nobody listens any more.
fn read_files(
    files: Vec<PathBuf>,
    flushed: u64,
    index: &SeriesIndex,
    infos: &InfoTable,
    send: &SyncSender<Found>,
) -> Result<Replayed, StoreError> {
    let mut found = Replayed::default();
    for path in files {
        let bytes = std::fs::read(&path).map_err(|source| platform::PlatformError::File {
            attempt: "read",
            path: path.clone(),
            source,
        })?;
        let mut file =
            FileState { path: &path, index, refs: ByNumber::default(), layouts: HashMap::new() };
        let mut heard = true;
        let damage = frame::scan(&bytes, 0, |frame| {
            found.last_sequence = found.last_sequence.max(frame.sequence);
            let sequence = frame.sequence;
            match file.apply(frame, flushed)? {
                Applied::Nothing => {}
                Applied::Unusable => found.unusable_frames += 1,
                Applied::Infos(news) => infos.take(news),
                Applied::Batch(batch) => {
                    found.batches += 1;
                    found.samples += batch.values.len() as u64;
                    heard &= send.send(Found::Batch(sequence, batch)).is_ok();
                }
            }
            Ok::<_, StoreError>(())
        })?;
        found.files += 1;
        found.bytes += bytes.len() as u64;
        if damage != Damage::default() {
            heard &= send.send(Found::Damage(path, bytes, damage)).is_ok();
        }
        if !heard {
            break;
        }
    }
    Ok(found)
}

struct FileState<'a> {
    path: &'a Path,
    index: &'a SeriesIndex,
    refs: ByNumber<Series>,
    layouts: HashMap<u64, Arc<[Series]>>,
}

enum Applied {
    Nothing,
    Infos(Infos),
    Unusable,
    Batch(Batch),
}

impl FileState<'_> {
    fn apply(&mut self, frame: Frame, flushed: u64) -> Result<Applied, StoreError> {
        let Some(record) = record::take(frame.kind, &frame.payload) else {
            return Ok(Applied::Unusable);
        };
        match record {
            Record::Start { version } if version != record::VERSION => {
                return Err(StoreError::Version {
                    path: self.path.to_owned(),
                    found: version,
                    expected: record::VERSION,
                });
            }
            Record::Start { .. } => {}
            Record::Series(series) => {
                for (reference, key) in series {
                    self.refs.insert(reference, self.index.restore(key));
                }
            }
            Record::Layout { number, refs } => {
                let series: Option<Vec<Series>> =
                    refs.iter().map(|reference| self.refs.get(reference).cloned()).collect();
                let Some(series) = series else { return Ok(Applied::Unusable) };
                self.layouts.insert(number, series.into());
            }
            Record::Info(infos) => return Ok(Applied::Infos(infos)),
            Record::Scrape { .. } | Record::Batch { .. } if frame.sequence <= flushed => {}
            Record::Scrape { layout, time, values } => {
                let series = self.layouts.get(&layout).cloned();
                return Ok(applied(series, Times::One(time), values));
            }
            Record::Batch { refs, times, values } => {
                let series: Option<Arc<[Series]>> =
                    refs.iter().map(|reference| self.refs.get(reference).cloned()).collect();
                return Ok(applied(series, Times::Each(times), values));
            }
        }
        Ok(Applied::Nothing)
    }
}

fn applied(series: Option<Arc<[Series]>>, times: Times, values: Vec<f64>) -> Applied {
    let batch = series.map(|series| Batch { series, values, times });
    match batch.filter(|batch| batch.check().is_ok()) {
        Some(batch) => Applied::Batch(batch),
        None => Applied::Unusable,
    }
}

fn report(
    data: &Path,
    path: &Path,
    bytes: &[u8],
    damage: &Damage,
    access: Access,
    found: &mut Replayed,
) -> Result<(), StoreError> {
    for range in &damage.middle {
        found.damaged_bytes += range.len() as u64;
        let kept = match access {
            Access::Write => Some(set_aside(data, path, bytes, range)?),
            Access::Read => None,
        };
        error!(
            file = %path.display(), from = range.start, to = range.end, set_aside = ?kept,
            "damage within the write-ahead log, stepped over to the next sound frame"
        );
    }
    if let Some(at) = damage.torn_at {
        let torn = bytes.len() - at;
        found.torn_bytes += torn as u64;
        let kept = match access {
            Access::Write => {
                let kept = set_aside(data, path, bytes, &(at..bytes.len()))?;
                AppendFile::open_at(path, at as u64)?;
                Some(kept)
            }
            Access::Read => None,
        };
        warn!(
            file = %path.display(), at, bytes = torn, set_aside = ?kept,
            "write-ahead log ends in a torn or corrupt tail, cut off there"
        );
    }
    Ok(())
}

/// Copies damaged bytes to the quarantine, so that nothing is lost that someone could still read.
fn set_aside(
    data: &Path,
    path: &Path,
    bytes: &[u8],
    range: &Range<usize>,
) -> Result<std::path::PathBuf, StoreError> {
    let folder = durable::create_dir_in(data, Path::new("quarantine"))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let target = folder.join(format!("wal-{stem}-{}.bin", range.start));
    durable::replace(&target, bytes.get(range.clone()).unwrap_or_default())?;
    Ok(target)
}
