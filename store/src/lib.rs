//! Durability: what was acknowledged survives `kill -9`, and is read back exactly once.
//!
//! The way of a batch: [`Writer::append`] → WAL → memtable, later [`flush`](Upkeep::run_flush) →
//! segment → manifest, and then only is the WAL cut. Reading takes a [`Snapshot`], one consistent cut
//! through memtable and segments. The store knows nothing of HTTP, SQL, targets or alerts.
//!
//! - `batch`, `series`, `points`: what comes in, what identifies it, what goes out
//! - `ingest`: the write path in one function, and opening a data directory
//! - `frame`, `codec`, `wal/`: the log as bytes, written, replayed
//! - `memtable`, `block`: recent samples, compressed; `segment/`: Parquet files; `manifest`: which of them are live
//! - `info`: type, unit and help of metrics; `clean`: the mark of a clean end
//! - `flush`: from memtable to segment; `compaction/`: from segments to fewer; `retention`: what to delete
//! - `reader`: snapshots and scans; `check`: looks through a directory offline, and mends it

mod batch;
mod block;
mod check;
mod clean;
mod codec;
mod compaction;
mod config;
mod error;
mod flush;
mod frame;
mod info;
mod ingest;
mod manifest;
mod memtable;
mod points;
mod reader;
mod reserve;
mod retention;
mod segment;
mod series;
mod state;
mod wal;

pub use batch::{Batch, Times};
pub use check::{Fault, Report, check, repair};
pub use config::{RetentionRule, StoreConfig};
pub use error::StoreError;
pub use flush::Upkeep;
pub use info::Infos;
pub use ingest::{Appended, Opened, Writer, open, open_read_only};
pub use points::Points;
pub use reader::{Chunk, Reader, Scan, SegmentSummary, SeriesSummary, Snapshot};
pub use segment::Resolution;
pub use series::{Cardinality, Series, series_id};
pub use wal::replay::Replayed;

/// Readers of bytes from disk, for the fuzzer.
#[cfg(fuzzing)]
pub mod fuzzing {
    use crate::{StoreError, frame, manifest, wal};

    /// A file of frames: the log's records, and the manifest's edits.
    pub fn frames(bytes: &[u8]) {
        let damage = frame::scan(bytes, 0, |frame| {
            wal::record::take(frame.kind, &frame.payload);
            Ok::<_, StoreError>(())
        });
        assert!(damage.is_ok_and(|damage| damage.torn_at.is_none_or(|at| at <= bytes.len())));
    }

    /// The payload of one frame of the log or the manifest, whose checksum would hide it from the fuzzer.
    pub fn payload(kind: u8, payload: &[u8]) {
        wal::record::take(kind, payload);
        if let Some(edit) = manifest::take_edit(payload) {
            assert_eq!(manifest::take_edit(&manifest::put_edit(&edit)), Some(edit));
        }
    }
}
