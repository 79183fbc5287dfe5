//! Segments: immutable folders with two Parquet files, `samples.parquet` sorted by (series, time) and
//! `series.parquet`, the index into it. See `docs/format/segment.md`.

pub(crate) mod read;
pub(crate) mod scaled;
pub(crate) mod schema;
pub(crate) mod write;

use crate::StoreError;
use crate::segment::read::Index;
use model::Timestamp;
use platform::PlatformError;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The samples' file within a segment.
pub(crate) const SAMPLES: &str = "samples.parquet";
/// The index' file within a segment.
pub(crate) const SERIES: &str = "series.parquet";

/// Sizes and checksums of both, for whoever has no manifest.
pub(crate) const SUMS: &str = "SUMS";

/// The content of `SUMS`: a line each, name, size and crc32c in hexadecimal digits.
pub(crate) fn sums(files: [(u64, u32); 2]) -> String {
    let line = |(name, (size, crc))| format!("{name} {size} {crc:08x}\n");
    [SAMPLES, SERIES].into_iter().zip(files).map(line).collect()
}

/// How fine the samples of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// As they came.
    Raw,
    /// Figures of five minutes each.
    FiveMinutes,
    /// Figures of one hour each.
    Hour,
}

impl Resolution {
    /// Those of rollups.
    pub const ROLLUPS: [Self; 2] = [Self::FiveMinutes, Self::Hour];

    /// The word in paths and metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
        }
    }

    /// Milliseconds that one row stands for; `None` for raw samples.
    pub fn step(self) -> Option<i64> {
        match self {
            Self::Raw => None,
            Self::FiveMinutes => Some(300_000),
            Self::Hour => Some(3_600_000),
        }
    }

    /// The number in the manifest.
    pub(crate) fn number(self) -> u64 {
        self as u64
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Raw, Self::FiveMinutes, Self::Hour].into_iter().find(|it| it.name() == name)
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        [Self::Raw, Self::FiveMinutes, Self::Hour].into_iter().find(|it| it.number() == number)
    }
}

/// What the manifest keeps of a segment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SegmentMeta {
    /// A ULID, also the folder's name.
    pub(crate) id: String,
    /// The folder relative to the data directory.
    pub(crate) folder: PathBuf,
    pub(crate) resolution: Resolution,
    /// 0 as flushed, 1 merged within a window, 2 within a day.
    pub(crate) level: u8,
    /// First and last time.
    pub(crate) span: (i64, i64),
    pub(crate) rows: u64,
    pub(crate) series: u64,
    /// First and last WAL sequence.
    pub(crate) sequences: (u64, u64),
    /// Size and crc32c of the samples' and of the index' file.
    pub(crate) files: [(u64, u32); 2],
    /// The metrics in it, ascending by name.
    pub(crate) metrics: Arc<[MetricMeta]>,
}

/// A metric with the names of its labels: the columns of its table, known without opening a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetricMeta {
    pub(crate) name: Arc<str>,
    pub(crate) labels: Vec<Arc<str>>,
}

impl SegmentMeta {
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|(size, _)| size).sum()
    }

    /// Milliseconds since the epoch when it was begun, from its name.
    pub(crate) fn created(&self) -> i64 {
        let ulid = ulid::Ulid::from_string(&self.id).map_or(0, |ulid| ulid.timestamp_ms());
        i64::try_from(ulid).unwrap_or(i64::MAX)
    }

    /// The metric of that name, if it is in here.
    pub(crate) fn metric(&self, name: &str) -> Option<&MetricMeta> {
        let at = self.metrics.binary_search_by(|have| have.name.as_ref().cmp(name)).ok()?;
        self.metrics.get(at)
    }
}

/// Two hours of UTC; no segment of fresh samples reaches over one's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Window(i64);

impl Window {
    /// Its length in milliseconds.
    pub(crate) const LEN: i64 = 7_200_000;

    /// The one that `time` lies in.
    pub(crate) fn of(time: i64) -> Self {
        Self(time.div_euclid(Self::LEN))
    }

    /// First and last time.
    pub(crate) fn span(self) -> (i64, i64) {
        let first = self.0.saturating_mul(Self::LEN);
        (first, first.saturating_add(Self::LEN - 1))
    }

    /// Whether `time` lies in it.
    pub(crate) fn holds(self, time: i64) -> bool {
        let (first, last) = self.span();
        (first..=last).contains(&time)
    }
}

/// The folder for segments of one UTC day, relative to the data directory.
pub(crate) fn day_folder(resolution: Resolution, time: i64) -> PathBuf {
    let day = Timestamp(Timestamp(time).day().saturating_mul(86_400_000)).to_string();
    let date = day.split('T').next().unwrap_or("unknown").replace(' ', "");
    Path::new("seg").join(resolution.name()).join(date)
}

/// A segment that a version of the store holds. It stays on disk as long as anyone holds it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) meta: SegmentMeta,
    path: PathBuf,
    verified: AtomicBool,
    doomed: AtomicBool,
}

impl Segment {
    /// `sound` when this process wrote it and need not compare checksums.
    pub(crate) fn new(data: &Path, meta: SegmentMeta, sound: bool) -> Self {
        let path = data.join(&meta.folder);
        Self { meta, path, verified: AtomicBool::new(sound), doomed: AtomicBool::new(false) }
    }

    /// One that lies elsewhere than its manifest entry says.
    pub(crate) fn at(path: &Path, meta: SegmentMeta) -> Self {
        let (verified, doomed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { meta, path: path.to_owned(), verified, doomed }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder once the last holder lets go. Call after the manifest has forgotten it.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    /// Compares both files with their checksums in the manifest; the second call is free.
    ///
    /// # Errors
    /// A file is missing, cut or changed.
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        if self.verified.load(Ordering::Acquire) {
            return Ok(());
        }
        self.compare()?;
        self.verified.store(true, Ordering::Release);
        Ok(())
    }

    /// Compares the files with their checksums now, whatever was found before.
    ///
    /// # Errors
    /// As [`Segment::verify`].
    pub(crate) fn compare(&self) -> Result<(), StoreError> {
        for (name, (size, crc)) in [SAMPLES, SERIES].into_iter().zip(self.meta.files) {
            let corrupt = |cause: String| StoreError::Corrupt { id: self.meta.id.clone(), cause };
            let path = self.path.join(name);
            let (found, sum) = checksum(&path).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => corrupt(format!("{name} is missing")),
                _ => PlatformError::File { attempt: "read", path, source }.into(),
            })?;
            if found != size {
                return Err(corrupt(format!("{name} has {found} bytes instead of {size}")));
            }
            if sum != crc {
                return Err(corrupt(format!("{name} fails its checksum")));
            }
        }
        Ok(())
    }

    /// Reads the index.
    ///
    /// # Errors
    /// The segment is damaged.
    pub(crate) fn index(&self) -> Result<Index, StoreError> {
        self.verify()?;
        Index::read(self)
    }
}

/// Size and crc32c of a file, read piece by piece.
pub(crate) fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = std::fs::File::open(path)?;
    let mut piece = vec![0; 256 << 10];
    let (mut size, mut crc) = (0, 0);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((size, crc)),
            count => {
                size += count as u64;
                crc = crc32c::crc32c_append(crc, piece.get(..count).unwrap_or_default());
            }
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire)
            && let Err(error) = platform::durable::remove_dir(&self.path)
        {
            tracing::warn!(%error, "a segment that is no longer used stays on disk until the next start");
        }
    }
}
