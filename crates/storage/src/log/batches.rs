//! Record batches as the frames of a segment file.
//!
//! Input: a segment's bytes. Output: batch after batch to a visitor, as far as they are good.
//!
//! Invariants, checked for every batch:
//! - offsets rise, stay within the segment, and leave no gap where none may be;
//! - from `verify_from` on the checksum is right.
//!
//! Source: the Kafka protocol guide, "Record batch".

use std::ops::Range;
use std::path::Path;

use skein_env::File;
use skein_record::{BatchHeader, BatchView, HEADER_BYTES};
use skein_types::Offset;

use crate::StorageError;
use crate::atomic_file::read_full;
use crate::segment_file::{Frames, Head};

/// Bytes read at once while looking for a batch: the usual index interval.
const READ_BYTES: usize = 4096;

/// A batch that a walk has come to.
pub(crate) struct Visited<'a> {
    /// Where it begins in the file, in bytes.
    pub(crate) position: u64,
    pub(crate) header: &'a BatchHeader,
    /// The whole batch where it was read: control batches, and those that are verified.
    pub(crate) batch: Option<BatchView<'a>>,
}

/// What a walk over batches expects of them.
pub(crate) struct BatchWalk<V> {
    /// Offset that the next batch must not be below.
    pub(crate) expected: Offset,
    /// From this offset on no offset may be missing between batches; below, compaction may have
    /// taken some out.
    pub(crate) dense_from: Offset,
    /// First offset of the next segment.
    pub(crate) end: Offset,
    /// Batches that end at or after this offset are read in full, and their checksums compared.
    pub(crate) verify_from: Offset,
    /// Sees each good batch; an error ends the walk before it.
    pub(crate) visit: V,
}

impl<V> Frames for BatchWalk<V>
where
    V: FnMut(Visited<'_>) -> Result<(), &'static str>,
{
    fn head_bytes(&self) -> usize {
        HEADER_BYTES
    }

    fn head(&mut self, _: u64, head: &[u8]) -> Head {
        let Ok(header) = BatchHeader::parse(head) else {
            return Head::Bad("there is no batch header");
        };
        if header.base_offset < self.expected {
            return Head::Bad("the batch's offset lies before the end of the batch before it");
        }
        if header.last_offset() >= self.end {
            return Head::Bad("the batch's offset lies in the next segment");
        }
        let is_verified = header.last_offset() >= self.verify_from;
        if header.base_offset > self.expected.max(self.dense_from) {
            return Head::Bad("offsets are missing before the batch");
        }
        let length = header.size_in_bytes() as u64;
        if is_verified || header.attributes.is_control() {
            Head::Read(length)
        } else {
            Head::Skip(length)
        }
    }

    fn body(&mut self, position: u64, frame: &[u8]) -> Result<(), &'static str> {
        let header = BatchHeader::parse(frame).map_err(|_| "there is no batch header")?;
        let batch = BatchView::parse(frame).ok();
        if header.last_offset() >= self.verify_from {
            let batch = batch.as_ref().ok_or("the batch is cut off")?;
            batch
                .check_crc()
                .map_err(|_| "the batch's checksum is wrong")?;
        }
        (self.visit)(Visited {
            position,
            header: &header,
            batch,
        })?;
        self.expected = header.next_offset();
        Ok(())
    }
}

/// Header after header of a range that is known to hold whole batches.
pub(crate) struct Headers<'a> {
    file: &'a dyn File,
    path: &'a Path,
    position: u64,
    end: u64,
    buffer: [u8; READ_BYTES],
    /// Position in the file of the buffer's first byte, and how much of it is filled.
    start: u64,
    filled: usize,
}

impl<'a> Headers<'a> {
    /// The headers in `range`, which begins with one.
    pub(crate) fn new(file: &'a dyn File, path: &'a Path, range: Range<u64>) -> Self {
        let Range {
            start: position,
            end,
        } = range;
        Self {
            file,
            path,
            position,
            end,
            buffer: [0; READ_BYTES],
            start: 0,
            filled: 0,
        }
    }

    /// The next header and its position; `None` at the end of the range.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, BatchHeader)>, StorageError> {
        let position = self.position;
        if position >= self.end {
            return Ok(None);
        }
        let corrupt = |reason| StorageError::corrupt(self.path, position, reason);
        let buffered = self.start + self.filled as u64;
        if position < self.start || position + HEADER_BYTES as u64 > buffered {
            let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
            let wanted = left.min(READ_BYTES);
            self.filled = 0;
            self.filled = read_full(self.file, self.path, &mut self.buffer[..wanted], position)?;
            self.start = position;
        }
        let at = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        let head = self.buffer[..self.filled].get(at..).unwrap_or_default();
        let header = BatchHeader::parse(head).map_err(|_| corrupt("there is no batch header"))?;
        let next = position + header.size_in_bytes() as u64;
        if next > self.end {
            return Err(corrupt("the batch passes the end of the segment"));
        }
        self.position = next;
        Ok(Some((position, header)))
    }
}
