//! What is known of all targets, on disk: a head, then one frame a target, so that neither side holds it twice.
//!
//! Frame: length and crc32c of the payload, each 4 bytes, little-endian; payload: zstd of the target in postcard's
//! form. The file is a shortcut: without it, or if it was written by another version or for other settings, the same
//! is learned from stored history.

use super::rule::BUILTIN;
use super::{Target, Watch};
use crate::{AnalyzerConfig, AnalyzerError};
use platform::durable::{self, AppendFile};
use serde::{Deserialize, Serialize};
use std::io::{BufReader, Read};
use std::path::Path;
use tracing::warn;

const FILE: &str = "detectors.state";
const PARTIAL: &str = "detectors.partial";

/// Of this file and of everything in it; to be raised with any change of a detector's state.
const VERSION: u32 = 2;

/// A frame longer than this is damage.
const MOST: usize = 1 << 30;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    version: u32,
    settings: u32,
    until: i64,
    targets: usize,
}

/// Writes all of it to `dir`.
///
/// # Errors
/// It could not be written; what was there before stays.
pub(crate) fn save(watch: &Watch, dir: &Path) -> Result<(), AnalyzerError> {
    let partial = dir.join(PARTIAL);
    durable::remove_file(&partial)?;
    let mut file = AppendFile::create(&partial)?;
    let head = Head {
        version: VERSION,
        settings: settings(&watch.config),
        until: watch.until,
        targets: watch.targets.len(),
    };
    let unfit = || AnalyzerError::State(dir.to_owned());
    file.append(&frame(&head).ok_or_else(unfit)?)?;
    for target in watch.targets.values() {
        file.append(&frame(target).ok_or_else(unfit)?)?;
    }
    file.sync()?;
    drop(file);
    durable::rename(&partial, &dir.join(FILE))?;
    Ok(())
}

/// Reads what was saved in `dir`; `None` where there is nothing of use.
pub(crate) fn load(dir: &Path, config: &AnalyzerConfig) -> Option<Watch> {
    let mut file = BufReader::new(std::fs::File::open(dir.join(FILE)).ok()?);
    let head: Head = read(&mut file)?;
    if head.version != VERSION || head.settings != settings(config) {
        return None;
    }
    let mut watch = Watch::new(config.clone(), head.until);
    watch.detect_from = i64::MIN;
    let targets = std::iter::from_fn(|| read::<Target>(&mut file)).take(head.targets);
    watch.targets = targets.map(|target| (target.labels(), target)).collect();
    if watch.targets.len() < head.targets {
        warn!(dir = %dir.display(), "the state of the detectors is damaged; it is learned anew from stored history");
        return None;
    }
    Some(watch)
}

/// What the state depends on besides samples.
fn settings(config: &AnalyzerConfig) -> u32 {
    let AnalyzerConfig { builtin, watch, false_alarms_per_series_day, .. } = config;
    crc32c::crc32c(
        format!("{builtin} {BUILTIN:?} {watch:?} {false_alarms_per_series_day}").as_bytes(),
    )
}

fn frame(of: &impl Serialize) -> Option<Vec<u8>> {
    let plain = postcard::to_allocvec(of).ok().filter(|plain| plain.len() <= MOST)?;
    let payload = zstd::bulk::compress(&plain, 1).ok()?;
    let mut frame = Vec::with_capacity(payload.len() + 12);
    frame.extend(u32::try_from(payload.len()).ok()?.to_le_bytes());
    frame.extend(crc32c::crc32c(&payload).to_le_bytes());
    frame.extend(payload);
    Some(frame)
}

fn read<T: for<'a> Deserialize<'a>>(file: &mut impl Read) -> Option<T> {
    let mut number = [0; 4];
    file.read_exact(&mut number).ok()?;
    let len = u32::from_le_bytes(number) as usize;
    file.read_exact(&mut number).ok()?;
    let crc = u32::from_le_bytes(number);
    if len > MOST {
        return None;
    }
    let mut payload = Vec::new();
    file.take(len as u64).read_to_end(&mut payload).ok()?;
    if payload.len() != len || crc32c::crc32c(&payload) != crc {
        return None;
    }
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(payload.as_slice()).ok()?;
    decoder.take(MOST as u64).read_to_end(&mut plain).ok()?;
    postcard::from_bytes(&plain).ok()
}
