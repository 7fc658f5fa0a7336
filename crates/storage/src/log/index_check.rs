//! The proof that a segment's indexes agree with its log.
//!
//! Input: a segment and its indexes. Output: nothing, or the first entry that is wrong.
//!
//! Invariants: the ones of the formats. An offset entry names a batch by its position and last
//! offset; a time entry holds the largest timestamp so far, and an offset that has it.
//!
//! Source: `DumpLogSegments --index-sanity-check` does less.

use super::batches::Headers;
use super::index::{IndexView, OffsetEntry, TimeEntry};
use super::lookup::SegmentRef;
use super::segment_index::TimestampOffset;
use crate::StorageError;

/// Walks over the segment and compares every entry.
pub(crate) fn check_segment(
    segment: &SegmentRef,
    times: &IndexView<TimeEntry>,
) -> Result<(), StorageError> {
    let mut check = Check {
        segment,
        next_offset: 0,
        next_time: 0,
        max: TimestampOffset::NONE,
    };
    let mut headers = Headers::new(&*segment.file, &segment.path, 0..segment.end_position);
    while let Some((position, header)) = headers.next()? {
        if header.max_timestamp > check.max.timestamp {
            check.times_below(times, header.max_timestamp.0, position)?;
            check.max = TimestampOffset {
                timestamp: header.max_timestamp,
                offset: header.last_offset(),
            };
        }
        check.offset_at(position, header.last_offset().0)?;
    }
    check.times_below(times, i64::MAX, segment.end_position)?;
    if check.next_offset == segment.offsets.len() && check.next_time == times.len() {
        return Ok(());
    }
    Err(StorageError::corrupt(
        &segment.path,
        segment.end_position,
        "an index entry has no batch",
    ))
}

struct Check<'a> {
    segment: &'a SegmentRef,
    next_offset: usize,
    next_time: usize,
    max: TimestampOffset,
}

impl Check<'_> {
    /// If the next offset entry has this position, it must have this offset.
    fn offset_at(&mut self, position: u64, last_offset: i64) -> Result<(), StorageError> {
        if self.next_offset == self.segment.offsets.len() {
            return Ok(());
        }
        let OffsetEntry {
            relative_offset,
            position: entry,
        } = self.segment.offsets.get(self.next_offset)?;
        if u64::from(entry) > position {
            return Ok(());
        }
        let offset = self.segment.base_offset.0 + i64::from(relative_offset);
        if u64::from(entry) != position || offset != last_offset {
            let reason = "an offset index entry names no batch";
            return Err(StorageError::corrupt(&self.segment.path, position, reason));
        }
        self.next_offset += 1;
        Ok(())
    }

    /// The time entries below `timestamp`, which comes next, must be what was the largest so far.
    fn times_below(
        &mut self,
        times: &IndexView<TimeEntry>,
        timestamp: i64,
        position: u64,
    ) -> Result<(), StorageError> {
        while self.next_time < times.len() {
            let entry = times.get(self.next_time)?;
            if entry.timestamp >= timestamp {
                break;
            }
            let offset = self.segment.base_offset.0 + i64::from(entry.relative_offset);
            if entry.timestamp != self.max.timestamp.0 || offset != self.max.offset.0 {
                let reason = "a time index entry is not the largest timestamp";
                return Err(StorageError::corrupt(&self.segment.path, position, reason));
            }
            self.next_time += 1;
        }
        Ok(())
    }
}
