//! Single batches of a range that a read has found.
//!
//! Input: a range and offsets. Output: where the batches are that hold these offsets, and their
//! bytes.
//!
//! Invariants, checked by tests of `tests/reading.rs`:
//! - a batch is found by any offset from its base to its last one, and named once;
//! - an offset between two batches, which compaction has left there, names neither;
//! - markers of transactions are not named: they are no records.
//!
//! Source: own design; the lookup is that of a read.

use skein_record::BatchBuf;
use skein_types::Offset;

use super::names::FileKind;
use super::view::{FileRange, LogView};
use crate::StorageError;
use crate::atomic_file::read_full;

/// Where a batch is in the file of a [`FileRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// Its first byte.
    pub position: u64,
    /// Its length in bytes.
    pub length: u64,
}

impl BatchPlace {
    /// Where the batch behind it begins.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.position + self.length
    }
}

impl LogView {
    /// The batches that begin in `range` and hold one of `offsets`, in their order. The range must
    /// be one of this view; `offsets` must be sorted, and none below the range. The last batch may
    /// pass the range's end.
    ///
    /// # Errors
    /// What the disk says.
    pub fn batches_with(
        &self,
        range: &FileRange,
        offsets: &[Offset],
    ) -> Result<Vec<BatchPlace>, StorageError> {
        let segment = self.segment(self.segment_number(range.segment_base_offset))?;
        let mut places = Vec::new();
        let mut passed = Offset::ZERO;
        for &offset in offsets {
            if offset < passed {
                continue;
            }
            let Some(batch) = segment.find_batch(offset)? else {
                break;
            };
            if batch.position >= range.position + range.length {
                break;
            }
            let header = &batch.header;
            if offset < header.base_offset {
                continue;
            }
            passed = header.next_offset();
            if !header.attributes.is_control() {
                places.push(BatchPlace {
                    position: batch.position,
                    length: header.size_in_bytes() as u64,
                });
            }
        }
        Ok(places)
    }

    /// The batch at a place of `range`, whose checksum is right.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] where it is no batch any more; what the disk says.
    pub fn read_batch(
        &self,
        range: &FileRange,
        place: BatchPlace,
    ) -> Result<BatchBuf, StorageError> {
        let path = self.home.file(range.segment_base_offset, FileKind::Log);
        let corrupt = |reason| StorageError::corrupt(&path, place.position, reason);
        // Its header was read: it is not longer than its segment.
        let length = usize::try_from(place.length).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let filled = read_full(&*range.file, &path, &mut bytes, place.position)?;
        bytes.truncate(filled);
        let batch = BatchBuf::new(bytes.as_slice().into())
            .map_err(|_| corrupt("there is no whole batch"))?;
        (batch.view().check_crc()).map_err(|_| corrupt("the batch's checksum is wrong"))?;
        Ok(batch)
    }
}
