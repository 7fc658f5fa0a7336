//! The sealed segments of a log, oldest first.
//!
//! Input: segments as they are sealed, taken out and replaced. Output: the same ones by their
//! number, by an offset, and by a timestamp.
//!
//! ```text
//!   [ 61 ][ 64 ][ 64 ] … [ 64 ][ fewer than 64 ]
//!     │     └── full chunks ─┘        └─ tail: copied by a roll
//!     └─ has lost some at its front
//! ```
//!
//! Readers hold a list, so it never changes; the next one shares its full chunks. A roll copies a
//! tail, and once in 64 times a pointer per chunk. It must not copy a pointer per segment: 10,000
//! reference counts that lie all over the memory are most of what a roll would cost.
//!
//! Each chunk knows its largest timestamp, once somebody has asked. Timestamps need not rise from
//! one segment to the next, so that no binary search finds the first segment that reaches one: a
//! lookup passes the chunks, and then the segments of one.
//!
//! Invariants: all chunks but the first are full, so that a number is found by a division; the
//! list is what a vector would be (model test).
//!
//! Source: the radix-balanced trees of P. Bagwell and T. Rompf (2011), two levels of them.

use std::sync::{Arc, OnceLock};

use skein_types::{Millis, Offset};

use super::segment::SealedSegment;
use super::segment_index::TimestampOffset;
use crate::StorageError;

/// Segments of a full chunk. Few in tests, so that small logs have several.
const CHUNK_SEGMENTS: usize = if cfg!(test) { 3 } else { 64 };

/// Sealed segments in the order of their offsets.
#[derive(Default)]
pub(crate) struct SegmentList {
    full: Arc<Vec<Arc<Chunk>>>,
    tail: Chunk,
}

/// Neighbouring segments.
#[derive(Default)]
struct Chunk {
    segments: Vec<Arc<SealedSegment>>,
    bytes: u64,
    newest: OnceLock<TimestampOffset>,
}

impl SegmentList {
    pub(crate) fn len(&self) -> usize {
        self.number_of(self.full.len()) + self.tail.segments.len()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Arc<SealedSegment>> {
        let (chunk, at) = self.place(number)?;
        self.chunk(chunk)?.segments.get(at)
    }

    pub(crate) fn first(&self) -> Option<&Arc<SealedSegment>> {
        self.get(0)
    }

    pub(crate) fn last(&self) -> Option<&Arc<SealedSegment>> {
        let full = self.full.last().and_then(|chunk| chunk.segments.last());
        self.tail.segments.last().or(full)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<SealedSegment>> + Clone {
        let full = self.full.iter().flat_map(|chunk| &chunk.segments);
        full.chain(&self.tail.segments)
    }

    /// Bytes of the log files.
    pub(crate) fn size_in_bytes(&self) -> u64 {
        self.full.iter().map(|chunk| chunk.bytes).sum::<u64>() + self.tail.bytes
    }

    /// This list, and `segment` behind it.
    pub(crate) fn with(&self, segment: Arc<SealedSegment>) -> Self {
        let mut tail = Vec::with_capacity(self.tail.segments.len() + 1);
        tail.extend(self.tail.segments.iter().cloned());
        tail.push(segment);
        if tail.len() < CHUNK_SEGMENTS {
            return Self {
                full: Arc::clone(&self.full),
                tail: Chunk::new(tail),
            };
        }
        let mut full = Vec::with_capacity(self.full.len() + 1);
        full.extend(self.full.iter().cloned());
        full.push(Arc::new(Chunk::new(tail)));
        Self {
            full: Arc::new(full),
            tail: Chunk::default(),
        }
    }

    /// This list without its first `count` segments, which it must have.
    pub(crate) fn without_first(&self, count: usize) -> Self {
        let (chunk, at) = self.place(count).unwrap_or((self.full.len(), 0));
        let Some(cut) = self.full.get(chunk) else {
            return Self {
                full: Arc::default(),
                tail: Chunk::new(self.tail.segments[at..].to_vec()),
            };
        };
        let first = match at {
            0 => Arc::clone(cut),
            _ => Arc::new(Chunk::new(cut.segments[at..].to_vec())),
        };
        let mut full = vec![first];
        full.extend(self.full[chunk + 1..].iter().cloned());
        Self {
            full: Arc::new(full),
            tail: Chunk::new(self.tail.segments.clone()),
        }
    }

    /// How many segments begin at or below `offset`.
    pub(crate) fn begun_by(&self, offset: Offset) -> usize {
        let begins = |segment: &Arc<SealedSegment>| segment.base_offset <= offset;
        let chunk = (self.full).partition_point(|chunk| chunk.segments.last().is_some_and(begins));
        let within = self.chunk(chunk).map_or(0, |chunk| {
            chunk.segments.partition_point(|segment| begins(segment))
        });
        self.number_of(chunk) + within
    }

    /// Number of the first segment from `from` on whose largest timestamp is at least `timestamp`.
    pub(crate) fn first_reaching(
        &self,
        from: usize,
        timestamp: Millis,
    ) -> Result<Option<usize>, StorageError> {
        for (number, chunk, rest) in self.chunks_from(from) {
            if chunk.newest()?.timestamp < timestamp {
                continue;
            }
            for (at, segment) in rest.iter().enumerate() {
                if segment.max_timestamp()?.timestamp >= timestamp {
                    return Ok(Some(number + at));
                }
            }
        }
        Ok(None)
    }

    /// The largest timestamp of the segments from `from` on; the first of those that have it.
    pub(crate) fn newest(&self, from: usize) -> Result<TimestampOffset, StorageError> {
        let mut newest = TimestampOffset::NONE;
        for (_, chunk, rest) in self.chunks_from(from) {
            let of_rest = match rest.len() == chunk.segments.len() {
                true => chunk.newest()?,
                false => newest_of(rest)?,
            };
            if of_rest.timestamp > newest.timestamp {
                newest = of_rest;
            }
        }
        Ok(newest)
    }

    /// The chunks with segments from `from` on: those segments, and the number of the first one.
    fn chunks_from(
        &self,
        from: usize,
    ) -> impl Iterator<Item = (usize, &Chunk, &[Arc<SealedSegment>])> {
        let (first, skipped) = self.place(from).unwrap_or((usize::MAX, 0));
        let chunks = self.full.iter().map(Arc::as_ref).chain([&self.tail]);
        let chunks = chunks.enumerate().skip(first);
        chunks.filter_map(move |(number, chunk)| {
            let at = if number == first { skipped } else { 0 };
            let rest = chunk.segments.get(at..).filter(|rest| !rest.is_empty())?;
            Some((self.number_of(number) + at, chunk, rest))
        })
    }

    /// The chunk of the segment `number`, and its place there. The segment may be past the end.
    fn place(&self, number: usize) -> Option<(usize, usize)> {
        let lost = self.lost();
        let number = number.checked_add(lost)?;
        match (number / CHUNK_SEGMENTS, number % CHUNK_SEGMENTS) {
            (0, at) => Some((0, at - lost)),
            place => Some(place),
        }
    }

    /// Number of a chunk's first segment.
    fn number_of(&self, chunk: usize) -> usize {
        (chunk * CHUNK_SEGMENTS).saturating_sub(self.lost())
    }

    /// The tail is the last chunk.
    fn chunk(&self, number: usize) -> Option<&Chunk> {
        match self.full.get(number) {
            Some(chunk) => Some(chunk),
            None => (number == self.full.len()).then_some(&self.tail),
        }
    }

    /// How many segments the first full chunk has lost.
    fn lost(&self) -> usize {
        let first = self.full.first();
        first.map_or(0, |first| CHUNK_SEGMENTS - first.segments.len())
    }
}

impl FromIterator<Arc<SealedSegment>> for SegmentList {
    fn from_iter<I: IntoIterator<Item = Arc<SealedSegment>>>(segments: I) -> Self {
        let (mut full, mut tail) = (Vec::new(), Vec::new());
        for segment in segments {
            tail.push(segment);
            if tail.len() == CHUNK_SEGMENTS {
                full.push(Arc::new(Chunk::new(std::mem::take(&mut tail))));
            }
        }
        Self {
            full: Arc::new(full),
            tail: Chunk::new(tail),
        }
    }
}

#[cfg(test)]
impl std::ops::Index<usize> for SegmentList {
    type Output = Arc<SealedSegment>;

    fn index(&self, number: usize) -> &Arc<SealedSegment> {
        self.get(number).unwrap()
    }
}

impl Chunk {
    fn new(segments: Vec<Arc<SealedSegment>>) -> Self {
        let bytes = segments.iter().map(|segment| segment.end_position).sum();
        Self {
            segments,
            bytes,
            newest: OnceLock::new(),
        }
    }

    fn newest(&self) -> Result<TimestampOffset, StorageError> {
        // What was made of wrong claims is as wrong as they are.
        let first = self.segments.first();
        let has_wrong_claims = first.is_some_and(|first| first.claims().are_wrong());
        if let Some(known) = self.newest.get().filter(|_| !has_wrong_claims) {
            return Ok(*known);
        }
        let newest = newest_of(&self.segments)?;
        let _ = self.newest.set(newest);
        Ok(newest)
    }
}

fn newest_of(segments: &[Arc<SealedSegment>]) -> Result<TimestampOffset, StorageError> {
    let mut newest = TimestampOffset::NONE;
    for segment in segments {
        let max = segment.max_timestamp()?;
        if max.timestamp > newest.timestamp {
            newest = max;
        }
    }
    Ok(newest)
}
