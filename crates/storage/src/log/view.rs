//! What readers see of a log: an immutable view, exchanged as a whole.
//!
//! Input: what the writer publishes. Output: ranges of files that hold the records asked for.
//!
//! ```text
//!  LogView ──► sealed segments   one list, new on roll, retention and truncation only
//!          ──► active segment    its file, its end, its index entries
//!          ──► log start ≤ last stable ≤ high watermark ≤ log end
//! ```
//!
//! Invariants:
//! - a view never changes; a reader and the writer share no lock;
//! - a read never passes its `up_to`, nor what was written when the view was published;
//! - an old view stays safe: its files are never rewritten, at worst they end earlier.
//!
//! Source: `UnifiedLog.read`, `LocalLog.read` of Kafka 4.1.1.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use skein_env::{File, Residency};
use skein_record::AbortedTxn;
use skein_types::Offset;

use super::index::{IndexView, OffsetEntry, TimeEntry};
use super::lookup::{SegmentRef, walk_range};
use super::missing;
use super::names::FileKind;
use super::segment::Home;
use super::segment_index::TimestampOffset;
use super::segment_list::SegmentList;
use crate::StorageError;

/// A log as of one moment.
pub struct LogView {
    pub(crate) home: Arc<Home>,
    pub(crate) sealed: Arc<SegmentList>,
    pub(crate) active: ActiveView,
    /// Whether a sealed segment may have a transaction index.
    pub(crate) has_aborted: bool,
    /// The first offset that may be read.
    pub log_start_offset: Offset,
    /// The end of what belongs to no open transaction, nor follows one.
    pub last_stable_offset: Offset,
    /// The end of what is committed.
    pub high_watermark: Offset,
    /// The end of what is written.
    pub log_end_offset: Offset,
}

/// The segment that grows, as of one moment.
#[derive(Clone)]
pub(crate) struct ActiveView {
    pub(crate) base_offset: Offset,
    pub(crate) file: Arc<dyn File>,
    pub(crate) end_position: u64,
    pub(crate) offsets: IndexView<OffsetEntry>,
    pub(crate) times: IndexView<TimeEntry>,
    pub(crate) aborted: IndexView<AbortedTxn>,
    pub(crate) max_timestamp: TimestampOffset,
}

/// A part of a segment file that answers a read.
#[derive(Clone)]
pub struct FileRange {
    /// The file.
    pub file: Arc<dyn File>,
    /// Where the first batch begins, in bytes.
    pub position: u64,
    /// Bytes to send. The last batch may be cut off by the size limit of the read.
    pub length: u64,
    /// First offset of the first batch; at or before the offset asked for.
    pub base_offset: Offset,
    /// Bytes of the first batch; the range may be too short for it.
    pub first_batch_bytes: u64,
    /// Records from the offset asked for on that are sent. Of a range that the size limit cuts, an
    /// estimate: as many per byte as in all that could be read of the segment.
    pub records: u64,
    /// First offset of the segment.
    pub segment_base_offset: Offset,
    /// Log bytes that were walked over to find the first batch.
    pub scanned_bytes: u64,
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log does not hold the offset.
    #[error("offset {offset} is out of range [{log_start_offset}, {log_end_offset}]")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first offset that may be read.
        log_start_offset: Offset,
        /// The end of what is written.
        log_end_offset: Offset,
    },
    /// The disk failed, or what is on it is not what was written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ReadError {
    /// Whether a file of the view has gone since it was published: a newer view has the answer.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_not_found())
    }
}

impl LogView {
    /// Where the records from `offset` on are: at most `max_bytes`, none of them at or past
    /// `up_to`. With `min_one_batch` the first batch comes whole, whatever its size. `None` if
    /// there is nothing to read yet.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] outside of the log; what the disk says.
    pub fn read(
        &self,
        offset: Offset,
        max_bytes: u64,
        up_to: Offset,
        min_one_batch: bool,
    ) -> Result<Option<FileRange>, ReadError> {
        if offset < self.log_start_offset || offset > self.log_end_offset {
            return Err(ReadError::OutOfRange {
                offset,
                log_start_offset: self.log_start_offset,
                log_end_offset: self.log_end_offset,
            });
        }
        let up_to = up_to.min(self.log_end_offset);
        if offset >= up_to {
            return Ok(None);
        }
        // More than one segment is looked at only where compaction has left nothing at the end of
        // one, or the next one's file is missing.
        for number in self.segment_number(offset)..=self.sealed.len() {
            if self.base_offset(number) >= up_to {
                break;
            }
            let segment = self.segment(number)?;
            let Some(first) = segment.find_batch(offset)? else {
                if let Some(sealed) = &segment.sealed {
                    missing::tell_read(sealed, offset);
                }
                continue;
            };
            if first.header.last_offset() >= up_to {
                break;
            }
            let end = self.end_before(number, &segment, up_to)?;
            let mut length = max_bytes.min(end - first.position);
            if min_one_batch {
                length = length.max(first.header.size_in_bytes() as u64);
            }
            let offsets = Range {
                start: offset.max(first.header.base_offset),
                end: up_to.min(self.end_offset(number)),
            };
            return Ok(Some(FileRange {
                records: share(offsets, length, end - first.position),
                file: segment.file,
                position: first.position,
                length,
                base_offset: first.header.base_offset,
                first_batch_bytes: first.header.size_in_bytes() as u64,
                segment_base_offset: segment.base_offset,
                scanned_bytes: first.scanned_bytes,
            }));
        }
        Ok(None)
    }

    /// Whether a read from `offset` finds its first batch without waiting for the device: in the
    /// segment that grows, whose index was written last, and there where the page cache has what
    /// the lookup walks over.
    #[must_use]
    pub fn is_lookup_hot(&self, offset: Offset) -> bool {
        let active = &self.active;
        if offset < active.base_offset {
            return false;
        }
        let relative_offset = offset.0 - active.base_offset.0;
        walk_range(&active.offsets, relative_offset, active.end_position).is_ok_and(|walk| {
            let length = walk.end.saturating_sub(walk.start);
            active.file.residency(walk.start, length) == Residency::Hot
        })
    }

    /// First offset of the oldest segment.
    #[must_use]
    pub fn first_segment_base_offset(&self) -> Offset {
        let sealed = self.sealed.first();
        sealed.map_or(self.active.base_offset, |segment| segment.base_offset)
    }

    /// How many segments there are, the active one included.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.sealed.len() + 1
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_in_bytes(&self) -> u64 {
        self.sealed.size_in_bytes() + self.active.end_position
    }

    /// Checks both indexes of every segment against the log, entry by entry. For tools and tests:
    /// it walks over the whole log.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] with the log's position that an index is wrong about; what the
    /// disk says.
    pub fn check_indexes(&self) -> Result<(), StorageError> {
        for number in 0..=self.sealed.len() {
            let times = self.times(number)?;
            super::index_check::check_segment(&self.segment(number)?, &times)?;
        }
        Ok(())
    }

    /// Number of the segment that `offset` belongs to; the active one comes last.
    pub(crate) fn segment_number(&self, offset: Offset) -> usize {
        if offset >= self.active.base_offset {
            return self.sealed.len();
        }
        // Offsets below the first segment belong to it.
        self.sealed.begun_by(offset).saturating_sub(1)
    }

    pub(crate) fn base_offset(&self, number: usize) -> Offset {
        self.sealed
            .get(number)
            .map_or(self.active.base_offset, |segment| segment.base_offset)
    }

    pub(crate) fn end_offset(&self, number: usize) -> Offset {
        self.sealed
            .get(number)
            .map_or(self.log_end_offset, |segment| segment.end_offset)
    }

    pub(crate) fn segment(&self, number: usize) -> Result<SegmentRef, StorageError> {
        match self.sealed.get(number) {
            Some(segment) => segment.open(),
            None => Ok(SegmentRef {
                path: self.home.file(self.active.base_offset, FileKind::Log),
                base_offset: self.active.base_offset,
                end_position: self.active.end_position,
                file: Arc::clone(&self.active.file),
                offsets: self.active.offsets.clone(),
                sealed: None,
            }),
        }
    }

    pub(crate) fn times(&self, number: usize) -> Result<IndexView<TimeEntry>, StorageError> {
        match self.sealed.get(number) {
            Some(segment) => Ok(IndexView::clone(&*segment.time_index()?)),
            None => Ok(self.active.times.clone()),
        }
    }

    /// Position in the segment of the first batch that does not end before `up_to`.
    pub(super) fn end_before(
        &self,
        number: usize,
        segment: &SegmentRef,
        up_to: Offset,
    ) -> Result<u64, StorageError> {
        if up_to >= self.end_offset(number) {
            return Ok(segment.end_position);
        }
        let beyond = segment.find_batch(up_to)?;
        Ok(beyond.map_or(segment.end_position, |batch| batch.position))
    }
}

/// How many of `offsets`, which take `all` bytes, are in `length` of them.
fn share(offsets: Range<Offset>, length: u64, all: u64) -> u64 {
    let offsets = u64::try_from(offsets.end.get() - offsets.start.get()).unwrap_or(0);
    if length >= all {
        return offsets;
    }
    let share = u128::from(offsets) * u128::from(length) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(offsets)
}

impl fmt::Debug for LogView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogView")
            .field("partition", &self.home.partition)
            .field("segments", &self.segment_count())
            .field("log_start_offset", &self.log_start_offset)
            .field("last_stable_offset", &self.last_stable_offset)
            .field("high_watermark", &self.high_watermark)
            .field("log_end_offset", &self.log_end_offset)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FileRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRange")
            .field("position", &self.position)
            .field("length", &self.length)
            .field("base_offset", &self.base_offset)
            .field("segment_base_offset", &self.segment_base_offset)
            .finish_non_exhaustive()
    }
}
