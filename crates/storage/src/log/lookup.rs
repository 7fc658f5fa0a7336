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
//! Invariants: the walk passes less than one index interval and one batch (row M12; counted in
//! [`BatchAt::scanned_bytes`] and bounded by a test).
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
use crate::StorageError;
use crate::atomic_file::read_full;

/// One segment, opened for lookups.
pub(crate) struct SegmentRef {
    pub(crate) path: PathBuf,
    pub(crate) base_offset: Offset,
    pub(crate) end_position: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) offsets: IndexView<OffsetEntry>,
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
        let start = walk_range(&self.offsets, relative, self.end_position)?.start;
        self.walk(start, |header| header.last_offset() >= target)
    }

    /// Where the walk to a batch that ends strictly after every entry below `offset` begins.
    pub(crate) fn position_before(&self, offset: Offset) -> Result<u64, StorageError> {
        let relative = offset.0.saturating_sub(self.base_offset.0);
        let below = |entry: OffsetEntry| i64::from(entry.relative_offset) < relative;
        entry_position(&self.offsets, self.offsets.partition_point(below)?)
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
    let not_past = |entry: OffsetEntry| i64::from(entry.relative_offset) <= relative_offset;
    let count = offsets.partition_point(not_past)?;
    let end = if count < offsets.len() {
        u64::from(offsets.get(count)?.position) + HEADER_BYTES as u64
    } else {
        end_position
    };
    Ok(entry_position(offsets, count)?..end.min(end_position))
}

/// Position of the last of the first `count` entries; 0 if there is none.
fn entry_position(offsets: &IndexView<OffsetEntry>, count: usize) -> Result<u64, StorageError> {
    match count.checked_sub(1) {
        Some(last) => Ok(u64::from(offsets.get(last)?.position)),
        None => Ok(0),
    }
}
