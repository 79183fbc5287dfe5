//! Merges small segments into larger ones while reads and writes go on, and computes their rollups.
//!
//! - `plan`: which segments to merge next, as a function of the manifest and the clock
//! - `merge`: several sorted segments as one sorted stream; `rollup`: samples to figures of a step
//!
//! A merge is one commit: its inputs, and the rollups that it computes anew, leave with the edit that adds
//! its outputs. Rollups come with the merge of a day. In memory are one batch of rows per input and one row group per output.

mod merge;
mod plan;
mod rollup;

pub(crate) use plan::Job;

use crate::Points;
use crate::StoreError;
use crate::flush::{new_id, place};
use crate::manifest::Edit;
use crate::segment::write::{SegmentWriter, Spec};
use crate::segment::{Resolution, Segment, SegmentMeta};
use crate::state::State;
use merge::{Failed, Merge};
use model::{SeriesKey, Timestamp};
use platform::{crash_point, durable};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::info;

/// How a merge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There was nothing to merge.
    Idle,
    /// Segments were merged, or a damaged one set aside; there may be more to do.
    Progress,
    /// Stopped half-way, or the inputs changed meanwhile; nothing has changed.
    GivenUp,
}

impl State {
    /// Merges what is due at `now`, and drops what is past its age at `steady`; blocks. Stops soon after `stop`
    /// says so.
    pub(crate) fn compact(
        &self,
        now: Timestamp,
        steady: Timestamp,
        stop: &dyn Fn() -> bool,
    ) -> Result<Outcome, StoreError> {
        let Some(log) = &self.log else { return Ok(Outcome::Idle) };
        let job = plan::next(log.lock().manifest.live(), &self.config, now, steady);
        let Some(job) = job else { return Ok(Outcome::Idle) };
        let live = Arc::clone(&self.live.read().segments);
        let inputs: Vec<Arc<Segment>> =
            live.iter().filter(|segment| job.inputs.contains(&segment.meta.id)).cloned().collect();
        if inputs.len() != job.inputs.len() {
            return Ok(Outcome::GivenUp); // a commit half known: the next one settles it
        }
        let outputs = match self.merge(&job, &inputs, stop) {
            Ok(Some(outputs)) => outputs,
            Ok(None) => return Ok(Outcome::GivenUp),
            Err(Failed { input: Some(at), error }) if error.is_damage() => {
                let Some(damaged) = inputs.get(at) else { return Ok(Outcome::GivenUp) };
                // If it stays, as on a full disk, the next look must not come at once.
                return if self.set_aside(damaged, &error) {
                    Ok(Outcome::Progress)
                } else {
                    Err(error)
                };
            }
            Err(Failed { error, .. }) => return Err(error),
        };
        self.exchange(&job, outputs)
    }

    fn merge(
        &self,
        job: &Job,
        inputs: &[Arc<Segment>],
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<SegmentMeta>>, Failed> {
        let mut outputs = Outputs::create(self, job, inputs)?;
        let mut merge = match Merge::open(inputs) {
            Ok(merge) => merge,
            Err(failed) => {
                outputs.drop_files();
                return Err(failed);
            }
        };
        let mut step = || -> Result<Option<()>, Failed> {
            while let Some((id, key, points)) = merge.next_series()? {
                if stop() {
                    return Ok(None);
                }
                if !job.without.iter().any(|metric| **metric == *key.metric) {
                    outputs.add(id, &key, &points)?;
                }
            }
            Ok(Some(()))
        };
        match step() {
            Ok(Some(())) => {
                let folders = outputs.folders.clone();
                let finished = outputs.finish().inspect_err(|_| drop_files(&folders));
                Ok(Some(finished?))
            }
            Ok(None) => {
                outputs.drop_files();
                Ok(None)
            }
            Err(failed) => {
                outputs.drop_files();
                Err(failed)
            }
        }
    }

    /// Puts `outputs` in the place of the job's inputs, if all of those are still live.
    fn exchange(&self, job: &Job, outputs: Vec<SegmentMeta>) -> Result<Outcome, StoreError> {
        let Some(log) = &self.log else { return Ok(Outcome::Idle) };
        let placed = outputs.iter().try_for_each(|meta| place(&self.config.dir, meta));
        if let Err(error) = placed {
            for meta in &outputs {
                let _ = durable::remove_dir(&self.config.dir.join(&meta.folder));
                let _ = durable::remove_dir(&self.config.dir.join("tmp").join(&meta.id));
            }
            return Err(error);
        }
        let mut log = log.lock();
        let remove: Vec<String> = job.inputs.iter().chain(&job.rollups).cloned().collect();
        let all_live = remove.iter().all(|id| log.manifest.live().segments.contains_key(id));
        if !all_live {
            drop(log); // retention or damage took one meanwhile
            for meta in &outputs {
                durable::remove_dir(&self.config.dir.join(&meta.folder))?;
            }
            return Ok(Outcome::GivenUp);
        }
        let (rows, level) = (outputs.iter().map(|meta| meta.rows).sum::<u64>(), job.level);
        crash_point::pass("compaction_before_commit");
        let old = Arc::clone(&self.live.read().segments);
        let folders: Vec<PathBuf> =
            outputs.iter().map(|meta| self.config.dir.join(&meta.folder)).collect();
        let edit = Edit { add: outputs, remove: remove.clone(), ..Edit::default() };
        // Whether a commit that failed is on disk is not known before the next: until then its files stay.
        let segments =
            self.commit(&mut log, edit).inspect_err(|_| self.strays.lock().extend(folders))?;
        self.live.write().segments = segments;
        drop(log);
        crash_point::pass("compaction_after_commit");
        let gone: HashSet<&String> = remove.iter().collect();
        old.iter().filter(|segment| gone.contains(&segment.meta.id)).for_each(|s| s.doom());
        self.indexes.lock().forget(&remove);
        self.meters.compactions.inc();
        info!(inputs = job.inputs.len(), level, rows, "segments merged");
        Ok(Outcome::Progress)
    }
}

/// Bytes after which a merge begins another file.
const LARGEST: u64 = 512 << 20;

/// The segments that a merge writes: the samples, and those of a day with its rollups.
struct Outputs<'a> {
    state: &'a State,
    level: u8,
    resolution: Resolution,
    sequences: (u64, u64),
    samples: SegmentWriter,
    full: Vec<SegmentMeta>,
    rollups: Vec<(i64, SegmentWriter)>,
    folders: Vec<PathBuf>,
}

impl<'a> Outputs<'a> {
    fn create(state: &'a State, job: &Job, inputs: &[Arc<Segment>]) -> Result<Self, StoreError> {
        let firsts = inputs.iter().map(|segment| segment.meta.sequences.0).min();
        let lasts = inputs.iter().map(|segment| segment.meta.sequences.1).max();
        let sequences = (firsts.unwrap_or(0), lasts.unwrap_or(0));
        let mut folders = Vec::new();
        let mut writer = |resolution| writer(state, resolution, job.level, sequences, &mut folders);
        let resolution = inputs.first().map_or(Resolution::Raw, |input| input.meta.resolution);
        let samples = writer(resolution)?;
        let mut rollups = Vec::new();
        if job.roll_up {
            for resolution in Resolution::ROLLUPS {
                rollups.push((resolution.step().unwrap_or(1), writer(resolution)?));
            }
        }
        let (level, full) = (job.level, Vec::new());
        Ok(Self { state, level, resolution, sequences, samples, full, rollups, folders })
    }

    fn add(&mut self, id: u64, key: &SeriesKey, points: &Points) -> Result<(), StoreError> {
        self.samples.add(id, key, points)?;
        for (step, writer) in &mut self.rollups {
            for (stat, points) in rollup::rollup(points, *step) {
                let key = rollup::key(key, stat);
                writer.add(crate::series_id(&key), &key, &points)?;
            }
        }
        // Days alone: a window that is two segments would be merged again and again.
        if self.level == 2 && self.samples.bytes() > LARGEST {
            let next =
                writer(self.state, self.resolution, self.level, self.sequences, &mut self.folders)?;
            let full = std::mem::replace(&mut self.samples, next);
            self.full.extend(full.finish()?);
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<SegmentMeta>, StoreError> {
        let mut metas = self.full;
        metas.extend(self.samples.finish()?);
        for (_, writer) in self.rollups {
            metas.extend(writer.finish()?);
        }
        Ok(metas)
    }

    /// Removes what was written so far; what stays is removed at the next start.
    fn drop_files(&self) {
        drop_files(&self.folders);
    }
}

fn drop_files(folders: &[PathBuf]) {
    for folder in folders {
        if let Err(error) = durable::remove_dir(folder) {
            tracing::warn!(%error, "files of a merge that was given up stay until the next start");
        }
    }
}

fn writer(
    state: &State,
    resolution: Resolution,
    level: u8,
    sequences: (u64, u64),
    folders: &mut Vec<PathBuf>,
) -> Result<SegmentWriter, StoreError> {
    let (data, id) = (state.config.dir.as_path(), new_id(state.clock));
    folders.push(data.join("tmp").join(&id));
    SegmentWriter::create(&Spec { data, id: &id, resolution, level, sequences })
}
