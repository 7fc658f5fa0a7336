//! Both indexes of a segment while it grows, by append or by recovery.
//!
//! Input: batch headers with their positions, in order. Output: an entry in each index at most
//! every `index.interval.bytes`.
//!
//! Invariants:
//! - a batch gets an entry when more than one interval has been written since the last entry, so
//!   that a lookup walks over less than an interval and one batch;
//! - a time entry holds the largest timestamp of all batches up to and with the batch of the offset
//!   entry made at the same moment; the last one of a finished segment holds that of the segment.
//!
//! Source: `LogSegment.append` and `onBecomeInactiveSegment` of Kafka 4.1.1.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_env::Disk;
use skein_record::{BatchHeader, HEADER_BYTES};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{Millis, Offset};

use super::batches::Headers;
use super::index::{Entry, IndexWriter, OffsetEntry, TimeEntry};
use super::lookup::SegmentRef;
use super::names::{self, FileKind};
use crate::StorageError;
use crate::atomic_file;

/// A timestamp and an offset that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// In ms; [`Millis::NONE`] if there is none.
    pub timestamp: Millis,
    /// The offset.
    pub offset: Offset,
}

impl TimestampOffset {
    /// "No timestamp".
    pub const NONE: Self = Self {
        timestamp: Millis::NONE,
        offset: Offset::NONE,
    };
}

/// The writer of a segment's indexes.
pub(crate) struct SegmentIndexer {
    base_offset: Offset,
    pub(crate) offsets: IndexWriter<OffsetEntry>,
    pub(crate) times: IndexWriter<TimeEntry>,
    pub(crate) bytes_since_entry: u64,
    /// The largest timestamp so far, and the last offset of the first batch that has it.
    pub(crate) max_timestamp: TimestampOffset,
}

impl SegmentIndexer {
    /// Indexes for a new segment in the directory `dir`.
    pub(crate) fn new(disk: &Arc<dyn Disk>, dir: &Path, base_offset: Offset) -> Self {
        Self::at(disk, base_offset, |kind| {
            names::path(dir, base_offset, kind)
        })
    }

    /// Indexes for a new segment, each at its `path`.
    pub(crate) fn at(
        disk: &Arc<dyn Disk>,
        base_offset: Offset,
        path: impl Fn(FileKind) -> PathBuf,
    ) -> Self {
        Self {
            base_offset,
            offsets: IndexWriter::new(Arc::clone(disk), path(FileKind::OffsetIndex)),
            times: IndexWriter::new(Arc::clone(disk), path(FileKind::TimeIndex)),
            bytes_since_entry: 0,
            max_timestamp: TimestampOffset::NONE,
        }
    }

    /// Goes on with the indexes of a segment, from the batch of the last offset entry on, which
    /// must be added again.
    pub(crate) fn of(
        base_offset: Offset,
        offsets: IndexWriter<OffsetEntry>,
        times: IndexWriter<TimeEntry>,
    ) -> Self {
        let max_timestamp = times.last().map_or(TimestampOffset::NONE, |last| {
            timestamp_of(base_offset, last)
        });
        Self {
            base_offset,
            offsets,
            times,
            bytes_since_entry: 0,
            max_timestamp,
        }
    }

    /// As [`SegmentIndexer::new`], without the files that an earlier run may have left.
    pub(crate) fn rebuild(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        base_offset: Offset,
    ) -> Result<Self, StorageError> {
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
            atomic_file::remove(&**disk, &names::path(dir, base_offset, kind))?;
        }
        Ok(Self::new(disk, dir, base_offset))
    }

    /// Takes in the batch at `position`.
    pub(crate) fn add(&mut self, header: &BatchHeader, position: u64, interval_bytes: u64) {
        let last_offset = header.last_offset();
        if header.max_timestamp > self.max_timestamp.timestamp {
            self.max_timestamp = TimestampOffset {
                timestamp: header.max_timestamp,
                offset: last_offset,
            };
        }
        let relative_offset = u32::try_from(last_offset.0 - self.base_offset.0);
        if self.bytes_since_entry > interval_bytes
            && let (Ok(relative_offset), Ok(position)) = (relative_offset, u32::try_from(position))
        {
            #[cfg(feature = "mutations")]
            let position = match mutation::has(Mutation::IndexOffByOne) {
                // The batch behind it: the header's length does not count its first 12 bytes.
                true => position.saturating_add(12 + header.length.unsigned_abs()),
                false => position,
            };
            self.offsets.push(OffsetEntry {
                relative_offset,
                position,
            });
            self.push_time();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.size_in_bytes() as u64;
    }

    /// Takes in the batches of `segment` from `start` on. If the last offset entry is that of the
    /// batch at `start`, the indexes come out as if they had seen the segment from its beginning.
    pub(crate) fn add_all(
        &mut self,
        segment: &SegmentRef,
        start: u64,
        interval_bytes: u64,
    ) -> Result<(), StorageError> {
        let range = start..segment.end_position;
        let mut headers = Headers::new(&*segment.file, &segment.path, range);
        while let Some((position, header)) = headers.next()? {
            self.add(&header, position, interval_bytes);
        }
        Ok(())
    }

    /// Takes over a time entry, with the largest timestamp that it tells.
    pub(crate) fn push_time_entry(&mut self, entry: TimeEntry) {
        self.times.push(entry);
        self.max_timestamp = timestamp_of(self.base_offset, entry);
    }

    /// Ends the segment: the largest timestamp gets an entry, and everything is written.
    pub(crate) fn finish(&mut self) -> Result<(), StorageError> {
        self.push_time();
        self.write()
    }

    /// Writes what is not written.
    pub(crate) fn write(&mut self) -> Result<(), StorageError> {
        self.offsets.write_tail()?;
        self.times.write_tail()
    }

    /// Makes what is written durable.
    pub(crate) fn flush(&self) -> Result<(), StorageError> {
        self.offsets.flush()?;
        self.times.flush()
    }

    /// Whether an index would grow beyond `max_bytes`.
    pub(crate) fn is_full(&self, max_bytes: u64) -> bool {
        self.room(max_bytes) == 0
    }

    /// Bytes of batches that surely lead to no more entries than indexes of `max_bytes` have room
    /// for.
    pub(crate) fn room_bytes(&self, max_bytes: u64, interval_bytes: u64) -> u64 {
        // Between two entries lie more than an interval and at least a batch, and behind the last
        // one the batch that it names.
        let between = interval_bytes.saturating_add(1).max(HEADER_BYTES as u64);
        self.room(max_bytes).saturating_mul(between)
    }

    /// Entries that still fit into indexes of `max_bytes`; the time index keeps room for its last
    /// one.
    fn room(&self, max_bytes: u64) -> u64 {
        let offsets = max_bytes.saturating_sub(self.offsets.size_in_bytes());
        let times = max_bytes.saturating_sub(self.times.size_in_bytes());
        let (offset_bytes, time_bytes) = (OffsetEntry::BYTES as u64, TimeEntry::BYTES as u64);
        (offsets / offset_bytes).min((times / time_bytes).saturating_sub(1))
    }

    fn push_time(&mut self) {
        let TimestampOffset { timestamp, offset } = self.max_timestamp;
        let last = self
            .times
            .last()
            .map_or(Millis::NONE.0, |last| last.timestamp);
        if timestamp.0 > last
            && let Ok(relative_offset) = u32::try_from(offset.0 - self.base_offset.0)
        {
            self.times.push(TimeEntry {
                timestamp: timestamp.0,
                relative_offset,
            });
        }
    }
}

fn timestamp_of(base_offset: Offset, entry: TimeEntry) -> TimestampOffset {
    TimestampOffset {
        timestamp: Millis(entry.timestamp),
        offset: Offset(base_offset.0 + i64::from(entry.relative_offset)),
    }
}
