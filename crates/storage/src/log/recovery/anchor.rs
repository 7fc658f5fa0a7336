//! Where the walk over the headers of a segment may begin.
//!
//! Input: the indexes that a former process left with the segment of the recovery point. Output:
//! their entries below it, and the batch that the last one names; or nothing, where they leave a
//! doubt: then the walk begins at the segment's start, and the indexes are made anew.
//!
//! ```text
//!   offsets   e0 ─── e1 ─── e2 ─── e3 ───    each made with the time entry below it, if the
//!   times     t0 ──────────  t1              largest timestamp had grown
//!                            │    ▲ recovery point
//!   anchor                   e2: a time entry is there that was made with it or later
//! ```
//!
//! An index is written in groups, and that of a segment which still grew was never flushed. A kill
//! leaves a beginning of it, a power cut a beginning or a hole of zeros. An offset index that ends
//! early only means a longer walk. A time index that does would tell too small a largest timestamp,
//! so the anchor is an offset entry from which on a time entry still follows.
//!
//! Invariants, for an anchor to be taken:
//! - the entries of both files rise, without a hole;
//! - all time entries that were made up to the anchor are there;
//! - the batch of the anchor is whole, bears its checksum, and ends at the offset of its entry;
//! - the last time entry up to there holds what its batch tells, and no less than the anchor's.
//!
//! Source: none; Kafka 4.1.1 walks from the start of the segment.

use std::sync::Arc;

use skein_record::{BatchHeader, BatchView};
use skein_types::{Millis, Offset};

use super::Run;
use crate::StorageError;
use crate::log::batches::Headers;
use crate::log::index::{Entry, IndexView, OffsetEntry, TimeEntry};
use crate::log::lookup::{BatchAt, SegmentRef};
use crate::log::names::FileKind;
use crate::log::segment::does_rise;
use crate::log::segment_index::SegmentIndexer;
use crate::segment_file::SegmentFile;

/// The last batch below the recovery point that the indexes name, and what they tell up to it.
pub(super) struct Anchor {
    offsets: IndexView<OffsetEntry>,
    offset_count: usize,
    times: IndexView<TimeEntry>,
    time_count: usize,
    /// Where the batch begins in the file, in bytes.
    pub(super) position: u64,
    pub(super) base_offset: Offset,
    /// Largest timestamp of the segment's first batch.
    pub(super) first_timestamp: Millis,
}

impl Anchor {
    /// Puts the entries in front of those to come. The batch at the anchor is to be added again.
    pub(super) fn fill(&self, indexer: &mut SegmentIndexer) -> Result<(), StorageError> {
        for number in 0..self.offset_count {
            indexer.offsets.push(self.offsets.get(number)?);
        }
        for number in 0..self.time_count {
            indexer.push_time_entry(self.times.get(number)?);
        }
        Ok(())
    }
}

impl Run<'_> {
    /// The segment's anchor, if there is one.
    pub(super) fn anchor(
        &self,
        base_offset: Offset,
        file: &SegmentFile,
    ) -> Result<Option<Anchor>, StorageError> {
        match self.find_anchor(base_offset, file) {
            // The walk from the start tells what is wrong, and whether it may be cut.
            Err(StorageError::Corrupt { .. }) => Ok(None),
            found => found,
        }
    }

    fn find_anchor(
        &self,
        base_offset: Offset,
        file: &SegmentFile,
    ) -> Result<Option<Anchor>, StorageError> {
        let recovery_point = self.start.recovery_point;
        if recovery_point <= base_offset {
            return Ok(None);
        }
        let offsets = self.rising_index::<OffsetEntry>(base_offset, FileKind::OffsetIndex)?;
        let times = self.rising_index::<TimeEntry>(base_offset, FileKind::TimeIndex)?;
        let (Some(offsets), Some(times)) = (offsets, times) else {
            return Ok(None);
        };
        let Some(newest) = times.last()? else {
            return Ok(None);
        };
        let offset_count = offsets.partition_point(|entry| {
            base_offset.0 + i64::from(entry.relative_offset) < recovery_point.0
                && entry.relative_offset <= newest.relative_offset
        })?;
        let Some(last) = offset_count.checked_sub(1) else {
            return Ok(None);
        };
        let last = offsets.get(last)?;
        let time_count =
            times.partition_point(|entry| entry.relative_offset <= last.relative_offset)?;
        let segment = SegmentRef {
            path: file.path().to_path_buf(),
            base_offset,
            end_position: file.end(),
            file: Arc::clone(file.file()),
            offsets: offsets.clone(),
            sealed: None,
        };
        let Some(header) = batch_of(&segment, last)? else {
            return Ok(None);
        };
        let time = time_count.checked_sub(1).map(|last| times.get(last));
        let does_agree = match time.transpose()? {
            Some(time) => header.max_timestamp.0 <= time.timestamp && is_told(&segment, time)?,
            None => header.max_timestamp < Millis(0),
        };
        let first = Headers::new(&*segment.file, &segment.path, 0..segment.end_position).next()?;
        let Some((_, first)) = first.filter(|_| does_agree) else {
            return Ok(None);
        };
        Ok(Some(Anchor {
            offsets,
            offset_count,
            times,
            time_count,
            position: u64::from(last.position),
            base_offset: header.base_offset,
            first_timestamp: first.max_timestamp,
        }))
    }

    /// An index as it was found, if its entries rise.
    fn rising_index<E: Entry>(
        &self,
        base_offset: Offset,
        kind: FileKind,
    ) -> Result<Option<IndexView<E>>, StorageError> {
        let view = self.index::<E>(base_offset, kind)?;
        let rises = view.as_ref().map(does_rise).transpose()?;
        Ok(view.filter(|_| rises == Some(true)))
    }
}

/// The header of the entry's batch, if the batch is what the entry says, and whole.
fn batch_of(segment: &SegmentRef, entry: OffsetEntry) -> Result<Option<BatchHeader>, StorageError> {
    let position = u64::from(entry.position);
    let range = position..segment.end_position;
    let Some((_, header)) = Headers::new(&*segment.file, &segment.path, range).next()? else {
        return Ok(None);
    };
    if header.last_offset().0 != segment.base_offset.0 + i64::from(entry.relative_offset) {
        return Ok(None);
    }
    let bytes = segment.read_batch(&BatchAt {
        position,
        header,
        scanned_bytes: 0,
    })?;
    let is_whole = BatchView::parse(&bytes).is_ok_and(|batch| batch.check_crc().is_ok());
    Ok(is_whole.then_some(header))
}

/// Whether the batch at the entry's offset has its timestamp.
fn is_told(segment: &SegmentRef, entry: TimeEntry) -> Result<bool, StorageError> {
    let offset = Offset(segment.base_offset.0 + i64::from(entry.relative_offset));
    let batch = segment.find_batch(offset)?;
    Ok(batch.is_some_and(|batch| {
        batch.header.last_offset() == offset && batch.header.max_timestamp.0 == entry.timestamp
    }))
}
