//! Which segments are live. One appended and synced frame is the commit of a change: before it nothing
//! has happened, after it everything has. See `docs/format/manifest.md`.

use crate::StoreError;
use crate::codec::{
    put_i64, put_str, put_u64, take_array, take_count, take_i64, take_str, take_u64,
};
use crate::frame;
use crate::info::Infos;
use crate::reserve::{Reserve, Share};
use crate::segment::{MetricMeta, Resolution, SegmentMeta};
use crate::wal::record::{put_info, take_info};
use platform::durable::{self, AppendFile};
use platform::{PlatformError, crash_point};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{error, warn};

const CURRENT: &str = "CURRENT";
const START: u8 = 0;
const EDIT: u8 = 1;
const VERSION: u32 = 2;

/// Edits in one file before a new one begins with the state as its first edits.
const EDITS_PER_FILE: u64 = 1_000;

/// Rough bytes of one edit of the state: far from [`frame::LONGEST`], over which none can be read.
const PART: usize = 4 << 20;

/// A change of what is live; all of it happens or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Edit {
    pub(crate) add: Vec<SegmentMeta>,
    pub(crate) remove: Vec<String>,
    /// The WAL is in segments up to here.
    pub(crate) flushed: Option<u64>,
    /// What was said of metrics since the last edit.
    pub(crate) infos: Infos,
}

/// What is live.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Live {
    pub(crate) segments: BTreeMap<String, SegmentMeta>,
    pub(crate) flushed: u64,
    pub(crate) infos: Infos,
}

impl Live {
    fn apply(&mut self, edit: Edit) {
        for id in &edit.remove {
            self.segments.remove(id);
        }
        for mut meta in edit.add {
            // One segment mostly has the metrics of the one before: keep the list once.
            if let Some((_, before)) = self.segments.last_key_value()
                && before.metrics == meta.metrics
            {
                meta.metrics = Arc::clone(&before.metrics);
            }
            self.segments.insert(meta.id.clone(), meta);
        }
        self.flushed = self.flushed.max(edit.flushed.unwrap_or(0));
        self.infos.extend(edit.infos);
    }
}

/// The open manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    data: PathBuf,
    file: AppendFile,
    number: u64,
    edits: u64,
    live: Live,
    /// Set by a failed write: the file's end is unknown, the next commit begins a new file.
    broken: bool,
    reserve: Reserve,
}

/// What reading the manifest gave.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) live: Live,
    number: u64,
    edits: u64,
    sound_len: u64,
    /// Whether edits were lost that had been on disk.
    pub(crate) damaged: bool,
    /// Whether what stood at the end was no whole edit: an attempt that power loss cut short, or damage.
    pub(crate) torn: bool,
}

/// Reads the manifest that `CURRENT` names, without changing anything.
///
/// # Errors
/// [`StoreError::NoStore`] when there is none, a file could not be read, or it is of a later version.
pub(crate) fn read(data: &Path) -> Result<Read, StoreError> {
    let current = data.join(CURRENT);
    let name = match std::fs::read_to_string(&current) {
        Ok(name) => name.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::NoStore(data.to_owned()));
        }
        Err(source) => {
            return Err(PlatformError::File { attempt: "read", path: current, source }.into());
        }
    };
    let number = number_of(&name).ok_or_else(|| StoreError::Corrupt {
        id: CURRENT.to_owned(),
        cause: format!("it names {name:?}, which is no manifest"),
    })?;
    let path = data.join(&name);
    let bytes = std::fs::read(&path).map_err(|source| PlatformError::File {
        attempt: "read",
        path: path.clone(),
        source,
    })?;
    let mut live = Live::default();
    let (mut edits, mut lost, mut least) = (0, false, 2);
    let damage = frame::scan(&bytes, 0, |frame| {
        match frame.kind {
            START => least = 1 + parts_of_state(&frame.payload, &path)?,
            EDIT => match take_edit(&frame.payload) {
                Some(edit) => live.apply(edit),
                None => lost = true,
            },
            _ => lost = true,
        }
        edits += 1;
        Ok::<_, StoreError>(())
    })?;
    let sound_len = damage.torn_at.unwrap_or(bytes.len());
    if sound_len < bytes.len() {
        warn!(file = %path.display(), at = sound_len, "torn tail of the manifest ignored; it was no commit");
    }
    // The state was synced before `CURRENT` named the file.
    let damaged = lost || !damage.middle.is_empty() || edits < least;
    if damaged {
        error!(file = %path.display(), "damage within the manifest: segments it added may be missing");
    }
    let torn = sound_len < bytes.len();
    Ok(Read { live, number, edits, sound_len: sound_len as u64, damaged, torn })
}

/// How many edits the state at the file's start takes; in older files it is one.
fn parts_of_state(payload: &[u8], path: &Path) -> Result<u64, StoreError> {
    let input = &mut &*payload;
    let found = take_u64(input).and_then(|version| u32::try_from(version).ok()).unwrap_or(0);
    if found == VERSION {
        return Ok(take_u64(input).unwrap_or(1));
    }
    Err(StoreError::Version { path: path.to_owned(), found, expected: VERSION })
}

impl Manifest {
    /// Creates an empty one in a directory without.
    pub(crate) fn create(data: &Path) -> Result<Self, StoreError> {
        // Beside manifests that nothing names any more, if there are any, and after them.
        let number = last_number(data)? + 1;
        let file = begin(data, number, &Live::default())?;
        Ok(Self {
            data: data.to_owned(),
            file,
            number,
            edits: 1,
            live: Live::default(),
            broken: false,
            reserve: Reserve::new(data),
        })
    }

    /// Opens the one that was read, its torn tail cut off.
    pub(crate) fn open(data: &Path, read: Read) -> Result<Self, StoreError> {
        let path = data.join(file_name(read.number));
        let file = AppendFile::open_at(&path, read.sound_len)?;
        let Read { live, edits, .. } = read;
        let number = last_number(data)?; // higher than CURRENT's after an attempt that failed
        let reserve = Reserve::new(data);
        Ok(Self { data: data.to_owned(), file, number, edits, live, broken: false, reserve })
    }

    /// Commits `edit`: when this returns, it is durable. On a full disk it takes the room that is kept for that.
    ///
    /// # Errors
    /// It could not be written or synced; it may or may not have happened, and the next commit settles it.
    pub(crate) fn commit(&mut self, edit: Edit) -> Result<(), StoreError> {
        match self.try_commit(edit.clone()) {
            Err(error) if error.is_full_disk() && self.reserve.give() => self.try_commit(edit),
            outcome => outcome,
        }
    }

    /// Keeps room for the next commits on a full disk, once there is plenty.
    pub(crate) fn keep_room(&self, share: Share) {
        self.reserve.keep(self.file.len(), share);
    }

    fn try_commit(&mut self, edit: Edit) -> Result<(), StoreError> {
        let mut next = self.live.clone();
        next.apply(edit.clone());
        let payload = put_edit(&edit);
        // One edit is one frame, so that all of it happens or none; the state of a new file may take several.
        if self.broken || self.edits >= EDITS_PER_FILE || payload.len() > frame::LONGEST {
            self.broken = true;
            // A number is used once: CURRENT may name a file that a failed attempt has begun.
            self.number += 1;
            self.file = begin(&self.data, self.number, &next)?;
            (self.edits, self.broken) = (2, false);
            self.live = next;
            self.drop_others();
            return Ok(());
        }
        let mut bytes = Vec::new();
        frame::put(&mut bytes, self.edits, EDIT, &payload);
        crash_point::pass("manifest_before_append");
        let written = self.file.append(&bytes).and_then(|()| self.file.sync());
        if let Err(error) = written {
            self.broken = true;
            return Err(error.into());
        }
        crash_point::pass("manifest_after_sync");
        self.edits += 1;
        self.live = next;
        Ok(())
    }

    /// Commits `edit` at the start of a new file, so that damage in the old one is left behind, and what was
    /// read of it but may not be on disk.
    pub(crate) fn begin_anew(&mut self, edit: Edit) -> Result<(), StoreError> {
        self.broken = true;
        self.commit(edit)
    }

    /// Whether the last commit failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Removes the files of other numbers, which nothing names any more. The commit has happened; what stays now
    /// goes with the next file.
    fn drop_others(&self) {
        let others = durable::list(&self.data).and_then(|paths| {
            let number = |path: &PathBuf| number_of(path.file_name()?.to_str()?);
            let mut paths = paths.into_iter();
            let other = |path: &PathBuf| number(path).is_some_and(|number| number != self.number);
            paths.try_for_each(
                |path| if other(&path) { durable::remove_file(&path) } else { Ok(()) },
            )
        });
        if let Err(error) = others {
            warn!(%error, "an older manifest stays for now");
        }
    }

    /// What is live.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }
}

/// Writes manifest `number` with `live` as its first edit and makes it the current one.
fn begin(data: &Path, number: u64, live: &Live) -> Result<AppendFile, StoreError> {
    let path = data.join(file_name(number));
    let file = write_state(&path, live).inspect_err(|_| {
        // Nothing names it, and on a full disk each attempt must leave what it took.
        let _ = durable::remove_file(&path);
    })?;
    crash_point::pass("manifest_before_current");
    durable::replace(&data.join(CURRENT), format!("{}\n", file_name(number)).as_bytes())?;
    Ok(file)
}

fn write_state(path: &Path, live: &Live) -> Result<AppendFile, StoreError> {
    let mut file = AppendFile::create(path)?;
    let parts = parts(live);
    let mut start = Vec::new();
    put_u64(&mut start, u64::from(VERSION));
    put_u64(&mut start, parts.len() as u64);
    let mut bytes = Vec::new();
    frame::put(&mut bytes, 0, START, &start);
    for (part, sequence) in parts.iter().zip(1..) {
        let payload = put_edit(part);
        if payload.len() > frame::LONGEST {
            let what = "metric names in one segment's bytes in the manifest".to_owned();
            return Err(StoreError::Limit { what, limit: frame::LONGEST });
        }
        frame::put(&mut bytes, sequence, EDIT, &payload);
    }
    file.append(&bytes)?;
    file.sync()?;
    Ok(file)
}

/// The state as edits short enough to be read back.
fn parts(live: &Live) -> Vec<Edit> {
    let mut parts = Vec::new();
    let mut part = Edit { flushed: Some(live.flushed), ..Edit::default() };
    let mut len = 0;
    for meta in live.segments.values() {
        len += rough_len(meta);
        part.add.push(meta.clone());
        if len >= PART {
            len = 0;
            parts.push(std::mem::take(&mut part));
        }
    }
    for (metric, info) in &live.infos {
        len += 64 + metric.len() + info.unit.len() + info.help.len();
        part.infos.insert(metric.clone(), info.clone());
        if len >= PART {
            len = 0;
            parts.push(std::mem::take(&mut part));
        }
    }
    parts.push(part);
    parts
}

fn rough_len(meta: &SegmentMeta) -> usize {
    let labels = |metric: &MetricMeta| metric.labels.iter().map(|it| it.len() + 2).sum::<usize>();
    let metrics = meta.metrics.iter().map(|metric| metric.name.len() + 4 + labels(metric));
    200 + metrics.sum::<usize>()
}

/// The highest number that a manifest in `data` has; 0 without.
fn last_number(data: &Path) -> Result<u64, StoreError> {
    let paths = durable::list(data)?;
    let numbers = paths.iter().filter_map(|path| number_of(path.file_name()?.to_str()?));
    Ok(numbers.max().unwrap_or(0))
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("MANIFEST-")?.parse().ok()
}

fn file_name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

pub(crate) fn put_edit(edit: &Edit) -> Vec<u8> {
    let mut out = Vec::new();
    put_u64(&mut out, edit.flushed.map_or(0, |flushed| flushed + 1));
    put_u64(&mut out, edit.remove.len() as u64);
    for id in &edit.remove {
        put_str(&mut out, id);
    }
    put_u64(&mut out, edit.add.len() as u64);
    for meta in &edit.add {
        put_str(&mut out, &meta.id);
        put_str(&mut out, &meta.folder.to_string_lossy());
        put_u64(&mut out, meta.resolution.number());
        put_u64(&mut out, u64::from(meta.level));
        put_i64(&mut out, meta.span.0);
        put_i64(&mut out, meta.span.1);
        for number in [meta.rows, meta.series, meta.sequences.0, meta.sequences.1] {
            put_u64(&mut out, number);
        }
        for (size, crc) in meta.files {
            put_u64(&mut out, size);
            out.extend_from_slice(&crc.to_le_bytes());
        }
        put_u64(&mut out, meta.metrics.len() as u64);
        for metric in meta.metrics.iter() {
            put_str(&mut out, &metric.name);
            put_u64(&mut out, metric.labels.len() as u64);
            for label in &metric.labels {
                put_str(&mut out, label);
            }
        }
    }
    put_info(&mut out, &edit.infos);
    out
}

pub(crate) fn take_edit(payload: &[u8]) -> Option<Edit> {
    let input = &mut &*payload;
    let flushed = take_u64(input)?.checked_sub(1);
    let count = take_count(input, 1)?;
    let remove: Option<Vec<String>> =
        (0..count).map(|_| take_str(input).map(str::to_owned)).collect();
    let count = take_count(input, 20)?;
    let add: Option<Vec<SegmentMeta>> = (0..count).map(|_| take_meta(input)).collect();
    let (add, remove) = (add?, remove?);
    // Edits of before this was kept end here.
    let infos = if input.is_empty() { Infos::new() } else { take_info(input)? };
    Some(Edit { add, remove, flushed, infos })
}

fn take_meta(input: &mut &[u8]) -> Option<SegmentMeta> {
    let id = take_str(input)?.to_owned();
    let folder = PathBuf::from(take_str(input)?);
    let resolution = Resolution::from_number(take_u64(input)?)?;
    let level = u8::try_from(take_u64(input)?).ok()?;
    let span = (take_i64(input)?, take_i64(input)?);
    let (rows, series) = (take_u64(input)?, take_u64(input)?);
    let sequences = (take_u64(input)?, take_u64(input)?);
    let mut files = [(0, 0); 2];
    for file in &mut files {
        *file = (take_u64(input)?, u32::from_le_bytes(take_array::<4>(input)?));
    }
    let count = take_count(input, 1)?;
    let metrics: Option<Vec<MetricMeta>> = (0..count).map(|_| take_metric(input)).collect();
    Some(SegmentMeta {
        id,
        folder,
        resolution,
        level,
        span,
        rows,
        series,
        sequences,
        files,
        metrics: metrics?.into(),
    })
}

fn take_metric(input: &mut &[u8]) -> Option<MetricMeta> {
    let name = Arc::from(take_str(input)?);
    let count = take_count(input, 1)?;
    let labels: Option<Vec<Arc<str>>> =
        (0..count).map(|_| take_str(input).map(Arc::from)).collect();
    Some(MetricMeta { name, labels: labels? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(id: &str) -> SegmentMeta {
        SegmentMeta {
            id: id.to_owned(),
            folder: Path::new("seg/raw/2026-11-23").join(id),
            resolution: Resolution::Hour,
            level: 2,
            span: (-5, 9),
            rows: 7,
            series: 2,
            sequences: (3, 8),
            files: [(100, 0xdead_beef), (20, 1)],
            metrics: [("a", vec![]), ("b c", vec!["x".into(), "y".into()])]
                .map(|(name, labels)| MetricMeta { name: name.into(), labels })
                .into(),
        }
    }

    #[test]
    fn commits_are_read_back_and_a_torn_one_did_not_happen() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::create(dir.path()).unwrap();
        manifest
            .commit(Edit { add: vec![meta("1"), meta("2")], flushed: Some(8), ..Edit::default() })
            .unwrap();
        let before = manifest.live().clone();
        let path = dir.path().join("MANIFEST-000001");
        let len = std::fs::metadata(&path).unwrap().len();
        manifest
            .commit(Edit { add: vec![meta("3")], remove: vec!["1".into()], ..Edit::default() })
            .unwrap();
        let after = manifest.live().clone();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(read(dir.path()).unwrap().live, after);
        for end in len as usize..whole.len() {
            AppendFile::create(&dir.path().join("cut")).unwrap().append(&whole[..end]).unwrap();
            durable::rename(&dir.path().join("cut"), &path).unwrap();
            let read = read(dir.path()).unwrap();
            assert_eq!((&read.live, read.damaged), (&before, false));
            assert_eq!(Manifest::open(dir.path(), read).unwrap().live(), &before);
        }
    }

    #[test]
    fn a_full_file_is_followed_by_the_next_with_the_same_state() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::create(dir.path()).unwrap();
        manifest.edits = EDITS_PER_FILE - 1;
        for id in ["1", "2", "3"] {
            manifest.commit(Edit { add: vec![meta(id)], ..Edit::default() }).unwrap();
        }
        assert_eq!(std::fs::read_to_string(dir.path().join(CURRENT)).unwrap(), "MANIFEST-000002\n");
        assert!(!dir.path().join("MANIFEST-000001").exists());
        assert_eq!(&read(dir.path()).unwrap().live, manifest.live());
    }

    #[test]
    fn a_state_longer_than_any_frame_is_read_back_and_a_part_that_is_missing_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::create(dir.path()).unwrap();
        let metric = |n: u32| MetricMeta {
            name: format!("a_long_name_of_a_metric_{n}").into(),
            labels: Vec::new(),
        };
        let metrics: Arc<[MetricMeta]> = (0..20_000).map(metric).collect();
        let add = (0..120)
            .map(|n| SegmentMeta { metrics: Arc::clone(&metrics), ..meta(&format!("{n:03}")) });
        let edit = Edit { add: add.collect(), flushed: Some(8), ..Edit::default() };
        assert!(put_edit(&edit).len() > frame::LONGEST);
        manifest.commit(edit).unwrap();
        let found = read(dir.path()).unwrap();
        assert_eq!((found.live.segments.len(), found.live.flushed, found.damaged), (120, 8, false));
        assert!(found.live == *manifest.live());
        let path = dir.path().join("MANIFEST-000002");
        let bytes = std::fs::read(&path).unwrap();
        AppendFile::create(&dir.path().join("cut"))
            .unwrap()
            .append(&bytes[..bytes.len() - 1])
            .unwrap();
        durable::rename(&dir.path().join("cut"), &path).unwrap();
        assert!(read(dir.path()).unwrap().damaged);
    }

    #[test]
    fn a_directory_without_a_store_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(StoreError::NoStore(_))));
    }
}
