//! Several sorted segments as one sorted stream of series, each series whole.

use crate::StoreError;
use crate::points::{Points, Run};
use crate::segment::Segment;
use crate::segment::read::{IndexEntry, SegmentStream};
use model::SeriesKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// What went wrong, and reading which input, if it was reading.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) input: Option<usize>,
    pub(super) error: StoreError,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self { input: None, error }
    }
}

/// A k-way merge by (metric, labels). Of equal times the segment with the higher sequences wins.
pub(super) struct Merge {
    streams: Vec<Stream>,
    /// The key of each stream's next series; streams of equal keys come oldest first.
    heads: BinaryHeap<Reverse<(Arc<SeriesKey>, usize)>>,
}

struct Stream {
    /// Its place in the list of inputs.
    input: usize,
    stream: SegmentStream,
    next: Option<(IndexEntry, Points)>,
}

impl Merge {
    pub(super) fn open(inputs: &[Arc<Segment>]) -> Result<Self, Failed> {
        let mut order: Vec<(usize, &Arc<Segment>)> = inputs.iter().enumerate().collect();
        order.sort_by_key(|(_, segment)| segment.meta.sequences);
        let mut merge = Self { streams: Vec::new(), heads: BinaryHeap::new() };
        for (input, segment) in order {
            let stream = segment.verify().and_then(|()| SegmentStream::open(segment));
            let stream = stream.map_err(|error| Failed { input: Some(input), error })?;
            merge.streams.push(Stream { input, stream, next: None });
        }
        for at in 0..merge.streams.len() {
            merge.advance(at)?;
        }
        Ok(merge)
    }

    /// Reads the next series of a stream and returns the one before.
    fn advance(&mut self, at: usize) -> Result<Option<(IndexEntry, Points)>, Failed> {
        let Some(stream) = self.streams.get_mut(at) else { return Ok(None) };
        let read = stream.stream.next_series();
        let read = read.map_err(|error| Failed { input: Some(stream.input), error })?;
        if let Some((entry, _)) = &read {
            self.heads.push(Reverse((Arc::clone(&entry.key), at)));
        }
        Ok(std::mem::replace(&mut stream.next, read))
    }

    /// The next series with its points of all inputs.
    pub(super) fn next_series(&mut self) -> Result<Option<(u64, Arc<SeriesKey>, Points)>, Failed> {
        let Some(Reverse((key, at))) = self.heads.pop() else { return Ok(None) };
        let Some((entry, points)) = self.advance(at)? else { return Ok(None) };
        let mut runs = vec![points];
        while let Some(Reverse((next, at))) = self.heads.peek()
            && *next == key
        {
            let at = *at;
            self.heads.pop();
            runs.extend(self.advance(at)?.map(|(_, points)| points));
        }
        let points = match runs.len() {
            1 => runs.pop().unwrap_or_default(),
            _ => {
                let runs: Vec<Run> =
                    runs.into_iter().map(|points| Run::Open(Arc::new(points))).collect();
                Points::merge(&runs)
            }
        };
        Ok(Some((entry.id, key, points)))
    }
}
