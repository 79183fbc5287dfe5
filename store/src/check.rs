//! Looks through a data directory that no process writes to, and mends what can be mended.
//!
//! A check changes nothing. A repair takes back segments that a damaged manifest has forgotten, sets aside
//! those that cannot be read, and cuts the log where it is torn. It deletes nothing: what it takes out of
//! use lies in `quarantine/`.

use crate::info::InfoTable;
use crate::manifest::{self, Edit, Manifest};
use crate::segment::read::{SegmentStream, describe};
use crate::segment::{Resolution, Segment, SegmentMeta, day_folder};
use crate::series::SeriesIndex;
use crate::wal::replay::{Access, replay};
use crate::{Replayed, StoreConfig, StoreError};
use platform::durable;
use platform::lock::DirLock;
use runtime::Clock;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use telemetry::Registry;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Sound segments in use.
    pub segments: usize,
    /// Samples in them.
    pub samples: u64,
    /// What the log holds.
    pub log: Replayed,
    /// Each thing that is not as it should be.
    pub faults: Vec<Fault>,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file or folder.
    pub place: PathBuf,
    /// What is wrong.
    pub what: String,
    /// What a repair does about it, or did.
    pub remedy: String,
}

/// Reads everything in `dir` and reports. Changes nothing.
///
/// # Errors
/// A process writes to it, there is no store in it, it is of another version, or a file could not be read.
pub fn check(dir: &Path) -> Result<Report, StoreError> {
    must_be_a_store(dir)?;
    let _lock = DirLock::shared(&dir.join("LOCK"))?;
    let mut report = Report::default();
    let read = manifest::read(dir)?;
    if read.damaged {
        report.fault(
            dir.join("CURRENT"),
            "the manifest is damaged",
            "what it has lost is taken back",
        );
    }
    let known = known(dir, read.live.segments.values());
    for meta in read.live.segments.values() {
        let segment = Segment::new(dir, meta.clone(), false);
        match read_whole(&segment) {
            Ok(()) => report.sound(meta),
            Err(error) if error.is_damage() => {
                report.fault(
                    segment.path(),
                    &error.to_string(),
                    "is set aside, the rest is served",
                );
            }
            Err(error) => return Err(error),
        }
    }
    for folder in folders(dir)?.into_iter().filter(|folder| !known.contains(folder)) {
        report.fault(folder, "no segment of the manifest", "is taken back if it can be read");
    }
    let index = SeriesIndex::new(&StoreConfig::default());
    report.log =
        replay(dir, read.live.flushed, Access::Read, &index, &InfoTable::default(), |_, _| Ok(()))?;
    report.log_faults(dir);
    Ok(report)
}

/// Mends `dir` and reports what it did.
///
/// # Errors
/// A process uses it, it is of another version, or a file operation failed.
pub fn repair(dir: &Path, clock: Clock) -> Result<Report, StoreError> {
    must_be_a_store(dir)?;
    let mut report = Report::default();
    {
        let _lock = DirLock::exclusive(&dir.join("LOCK"), "forerunner store repair")?;
        let mut manifest = match manifest::read(dir) {
            Ok(read) => {
                if read.damaged {
                    report.fault(dir.join("CURRENT"), "the manifest was damaged", "written anew");
                }
                Manifest::open(dir, read)?
            }
            Err(StoreError::NoStore(_) | StoreError::Corrupt { .. }) => {
                report.fault(dir.join("CURRENT"), "no manifest could be read", "written anew");
                Manifest::create(dir)?
            }
            Err(StoreError::Platform(_)) => {
                report.fault(dir.join("CURRENT"), "names a manifest that is gone", "written anew");
                Manifest::create(dir)?
            }
            Err(error) => return Err(error),
        };
        let edit = mend(dir, &manifest, &mut report)?;
        manifest.begin_anew(edit)?;
    }
    // The rest is what every start does: cut the log's torn tail, write what it holds to segments.
    // How long samples are kept is for the monitor to say that will use it: nothing is deleted here for its age or size.
    let config = StoreConfig::keeping_all(dir);
    let opened = crate::open(config, clock, &Registry::new())?;
    report.log = opened.replayed;
    report.log_faults(dir);
    opened.upkeep.flush_now()?;
    for segment in opened.reader.segment_list() {
        report.segments += 1;
        report.samples += segment.samples;
    }
    Ok(report)
}

/// A mistyped directory is told as such, and no store is begun in it.
fn must_be_a_store(dir: &Path) -> Result<(), StoreError> {
    let is_one = dir.join("LOCK").exists() || dir.join("CURRENT").exists();
    if is_one { Ok(()) } else { Err(StoreError::NoStore(dir.to_owned())) }
}

/// Sets aside what cannot be read, takes back what is not in the manifest, and returns the change to commit.
fn mend(dir: &Path, manifest: &Manifest, report: &mut Report) -> Result<Edit, StoreError> {
    let mut edit = Edit::default();
    let known = known(dir, manifest.live().segments.values());
    for meta in manifest.live().segments.values() {
        let segment = Segment::new(dir, meta.clone(), false);
        match read_whole(&segment) {
            Ok(()) => {}
            Err(error) if error.is_damage() => {
                set_aside(dir, segment.path(), &meta.id)?;
                report.fault(segment.path(), &error.to_string(), "set aside in quarantine");
                edit.remove.push(meta.id.clone());
            }
            Err(error) => return Err(error),
        }
    }
    let quarantined = durable_list(&dir.join("quarantine"))?.into_iter().filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-"))
    });
    let strays = folders(dir)?.into_iter().filter(|folder| !known.contains(folder));
    for folder in strays.chain(quarantined.collect::<Vec<_>>()) {
        let in_quarantine = folder.starts_with(dir.join("quarantine"));
        match take_back(dir, &folder) {
            Ok(meta) if manifest.live().segments.contains_key(&meta.id) => {}
            Ok(meta) => {
                report.fault(folder, "was in no manifest", "taken back");
                edit.add.push(meta);
            }
            Err(error) if error.is_damage() && in_quarantine => {}
            Err(error) if error.is_damage() => {
                let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                set_aside(dir, &folder, &id)?;
                report.fault(folder, &error.to_string(), "set aside in quarantine");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(edit)
}

/// Describes a segment from its own files and moves it to where it belongs.
fn take_back(dir: &Path, folder: &Path) -> Result<SegmentMeta, StoreError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let id = name.strip_prefix("segment-").unwrap_or(&name).to_owned();
    let mut meta = describe(folder, &id)?;
    read_whole(&Segment::at(folder, meta.clone()))?;
    meta.folder = day_folder(meta.resolution, meta.span.0).join(&id);
    let target = dir.join(&meta.folder);
    if target != folder {
        if let Some(parent) = meta.folder.parent() {
            durable::create_dir_in(dir, parent)?;
        }
        durable::rename(folder, &target)?;
    }
    Ok(meta)
}

/// Compares checksums and reads every row: times must ascend within each series.
fn read_whole(segment: &Segment) -> Result<(), StoreError> {
    segment.verify()?;
    let mut stream = SegmentStream::open(segment)?;
    while let Some((entry, points)) = stream.next_series()? {
        let ascends = points.times.iter().zip(points.times.iter().skip(1)).all(|(a, b)| a < b);
        if !ascends || points.span() != Some(entry.span) {
            let cause = format!("the times of {} are not those of its index", entry.key);
            return Err(StoreError::Corrupt { id: segment.meta.id.clone(), cause });
        }
    }
    Ok(())
}

fn known<'a>(dir: &Path, metas: impl Iterator<Item = &'a SegmentMeta>) -> HashSet<PathBuf> {
    metas.map(|meta| dir.join(&meta.folder)).collect()
}

/// Every folder that lies where segments do.
pub(crate) fn folders(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    for resolution in [Resolution::Raw].into_iter().chain(Resolution::ROLLUPS) {
        for day in durable_list(&dir.join("seg").join(resolution.name()))? {
            found.extend(durable_list(&day)?);
        }
    }
    Ok(found)
}

fn durable_list(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if path.is_dir() { Ok(durable::list(path)?) } else { Ok(Vec::new()) }
}

/// Moves a segment to the quarantine, if it is there, and returns where it lies then.
pub(crate) fn set_aside(dir: &Path, folder: &Path, id: &str) -> Result<PathBuf, StoreError> {
    let quarantine = durable::create_dir_in(dir, Path::new("quarantine"))?;
    let target = quarantine.join(format!("segment-{id}"));
    if folder.exists() {
        durable::rename(folder, &target)?;
    }
    Ok(target)
}

impl Report {
    fn sound(&mut self, meta: &SegmentMeta) {
        self.segments += 1;
        self.samples += meta.rows;
    }

    fn fault(&mut self, place: impl Into<PathBuf>, what: &str, remedy: &str) {
        let (place, what, remedy) = (place.into(), what.to_owned(), remedy.to_owned());
        self.faults.push(Fault { place, what, remedy });
    }

    fn log_faults(&mut self, dir: &Path) {
        let log = self.log;
        let place = dir.join("wal");
        if log.torn_bytes > 0 {
            let what = format!("{} bytes of a torn or corrupt tail", log.torn_bytes);
            self.fault(&place, &what, "cut off, copied to quarantine");
        }
        if log.damaged_bytes > 0 {
            let what = format!("{} bytes of damage with sound records after it", log.damaged_bytes);
            self.fault(&place, &what, "stepped over, copied to quarantine");
        }
        if log.unusable_frames > 0 {
            let what = format!("{} records name what the damage took", log.unusable_frames);
            self.fault(&place, &what, "left out");
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Fault { place, what, remedy } in &self.faults {
            writeln!(f, "{}: {what}; {remedy}", place.display())?;
        }
        writeln!(f, "{} sound segments with {} samples", self.segments, self.samples)?;
        let Replayed { files, samples, last_sequence, .. } = self.log;
        write!(
            f,
            "{files} log files with {samples} samples not in segments, last sequence {last_sequence}"
        )
    }
}

#[cfg(test)]
mod tests;
