//! Finding a batch in one segment.
//!
//! Input: an offset. Output: the first batch that ends at or after it, by a binary search in the
//! index and a walk over headers.
//!
//! ```text
//!  index   (last offset, position) ─┐ largest one not past the target
//!                                   ▼
//!  log     ──┼───┼──────┼──┼────────┼───┼────┼──●──┼──
//!                                   └── walk ──▶ found
//! ```
//!
//! Invariants:
//! - the walk passes less than one index interval and one batch (row M12; counted in
//!   [`BatchAt::scanned_bytes`] and bounded by a test);
//! - an entry of a sealed segment is believed only where the log bears it out; else a walk from the
//!   segment's beginning tells what it should have said, once, and the index is made anew
//!   ([`SegmentRef::entry_position`]).
//!
//! Source: `LogSegment.translateOffset`.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use skein_env::File;
use skein_record::{BatchHeader, HEADER_BYTES};
use skein_types::Offset;

use super::batches::Headers;
use super::index::{IndexView, OffsetEntry};
use super::segment::SealedSegment;
use crate::StorageError;
use crate::atomic_file::read_full;

/// One segment, opened for lookups.
pub(crate) struct SegmentRef {
    pub(crate) path: PathBuf,
    pub(crate) base_offset: Offset,
    pub(crate) end_position: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) offsets: IndexView<OffsetEntry>,
    /// Whose indexes these are; `None` for the segment that grows, which wrote its own.
    pub(crate) sealed: Option<Arc<SealedSegment>>,
}

/// A batch in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchAt {
    /// Where it begins in the file, in bytes.
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
    /// Log bytes that the walk went over to find it, its own header included.
    pub(crate) scanned_bytes: u64,
}

impl SegmentRef {
    /// The first batch whose last offset is at or after `target`; `None` if the segment ends
    /// before.
    pub(crate) fn find_batch(&self, target: Offset) -> Result<Option<BatchAt>, StorageError> {
        let relative = target.0.saturating_sub(self.base_offset.0);
        let start = self.entry_position(self.offsets.partition_point(not_past(relative))?)?;
        self.walk(start, |header| header.last_offset() >= target)
    }

    /// Where the walk to a batch that ends strictly after every entry below `offset` begins.
    pub(crate) fn position_before(&self, offset: Offset) -> Result<u64, StorageError> {
        let relative = offset.0.saturating_sub(self.base_offset.0);
        let below = |entry: OffsetEntry| i64::from(entry.relative_offset) < relative;
        self.entry_position(self.offsets.partition_point(below)?)
    }

    /// Position of the last of the first `count` entries; 0 if there is none. Where the log does
    /// not bear the entry out, the position of the first batch that does not end before its offset.
    fn entry_position(&self, count: usize) -> Result<u64, StorageError> {
        let position = position_of(&self.offsets, count)?;
        let (Some(sealed), Some(number)) = (&self.sealed, count.checked_sub(1)) else {
            return Ok(position);
        };
        let entry = self.offsets.get(number)?;
        let offset = Offset(self.base_offset.0 + i64::from(entry.relative_offset));
        if self.is_batch_at(position, offset)? {
            return Ok(position);
        }
        // A fault on this way is the log's: then the index is not to blame.
        let first = self.walk(0, |header| header.last_offset() >= offset)?;
        sealed.on_bad_offset(&self.offsets, entry);
        Ok(first.map_or(self.end_position, |first| first.position))
    }

    /// Whether a batch of this segment begins at `position` that does not pass `last_offset`: then
    /// all batches before it end below that offset. Kafka before 4.0 names the first batch of an
    /// append with the offset of the last one.
    pub(crate) fn is_batch_at(
        &self,
        position: u64,
        last_offset: Offset,
    ) -> Result<bool, StorageError> {
        let range = position..self.end_position;
        match Headers::new(&*self.file, &self.path, range).next() {
            Ok(Some((_, header))) => {
                Ok(header.base_offset >= self.base_offset && header.last_offset() <= last_offset)
            }
            Ok(None) | Err(StorageError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The first batch from `start` on that `is_it` accepts.
    pub(crate) fn walk(
        &self,
        start: u64,
        mut is_it: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<Option<BatchAt>, StorageError> {
        let mut headers = Headers::new(&*self.file, &self.path, start..self.end_position);
        while let Some((position, header)) = headers.next()? {
            if is_it(&header) {
                let scanned_bytes = position - start + HEADER_BYTES as u64;
                return Ok(Some(BatchAt {
                    position,
                    header,
                    scanned_bytes,
                }));
            }
        }
        Ok(None)
    }

    /// The bytes of a batch that was found here.
    pub(crate) fn read_batch(&self, at: &BatchAt) -> Result<Vec<u8>, StorageError> {
        // The header was checked against the end of the segment: these bytes are there.
        let mut bytes = vec![0; at.header.size_in_bytes()];
        let filled = read_full(&*self.file, &self.path, &mut bytes, at.position)?;
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// The part of a segment that the walk to the batch of an offset reads at most: from the last entry
/// that is not past it up to the header of the batch that the next one names. `relative_offset`
/// counts from the segment's base offset, `end_position` is the segment's end.
pub(crate) fn walk_range(
    offsets: &IndexView<OffsetEntry>,
    relative_offset: i64,
    end_position: u64,
) -> Result<Range<u64>, StorageError> {
    let count = offsets.partition_point(not_past(relative_offset))?;
    let end = if count < offsets.len() {
        u64::from(offsets.get(count)?.position) + HEADER_BYTES as u64
    } else {
        end_position
    };
    Ok(position_of(offsets, count)?..end.min(end_position))
}

fn not_past(relative_offset: i64) -> impl Fn(OffsetEntry) -> bool {
    move |entry| i64::from(entry.relative_offset) <= relative_offset
}

/// Position of the last of the first `count` entries; 0 if there is none.
fn position_of(offsets: &IndexView<OffsetEntry>, count: usize) -> Result<u64, StorageError> {
    match count.checked_sub(1) {
        Some(last) => Ok(u64::from(offsets.get(last)?.position)),
        None => Ok(0),
    }
}
