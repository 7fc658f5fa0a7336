//! Whole batches of a sealed segment, one after the other.
//!
//! Input: a segment, and how much to read at once. Output: its batches, each with its position.
//!
//! Invariants: the buffer is as long as one read or one batch, whichever is longer, and a batch
//! that claims to pass the end of its segment is not read; every batch bears its checksum.
//!
//! Source: none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_env::File;
use skein_record::{BatchHeader, BatchView, HEADER_BYTES};

use super::super::names::FileKind;
use super::super::segment::SealedSegment;
use super::{CALL_MAX_BYTES, CompactionError};
use crate::StorageError;
use crate::atomic_file::read_full;

/// The batches of a segment.
pub(super) struct BatchReader {
    file: Arc<dyn File>,
    path: PathBuf,
    position: u64,
    end: u64,
    /// Bytes read at once.
    read_bytes: usize,
    buffer: Vec<u8>,
    /// Where the buffer's bytes are in the file.
    start: u64,
}

impl BatchReader {
    pub(super) fn new(segment: &SealedSegment, read_bytes: usize) -> Result<Self, StorageError> {
        Ok(Self {
            file: segment.log()?,
            path: segment.path(FileKind::Log),
            position: 0,
            end: segment.end_position,
            read_bytes: read_bytes.max(HEADER_BYTES),
            buffer: Vec::new(),
            start: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next batch and its position; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, BatchView<'_>)>, CompactionError> {
        let position = self.position;
        if position >= self.end {
            return Ok(None);
        }
        let corrupt = |path: &Path, reason| StorageError::corrupt(path, position, reason);
        let head = self.get(position, HEADER_BYTES)?;
        let header = BatchHeader::parse(head)
            .map_err(|_| corrupt(&self.path, "there is no batch header"))?;
        let size = header.size_in_bytes();
        if size as u64 > self.end - position {
            let reason = "the batch passes the end of the segment";
            return Err(corrupt(&self.path, reason).into());
        }
        self.position = position + size as u64;
        let path = self.path.clone();
        let bytes = self.get(position, size)?;
        let batch = BatchView::parse(bytes).and_then(|batch| batch.check_crc().map(|()| batch));
        let batch = batch.map_err(|source| CompactionError::Batch {
            path,
            base_offset: header.base_offset,
            position,
            source,
        })?;
        Ok(Some((position, batch)))
    }

    /// The next batch is the one at `position`, which was the last one.
    pub(super) fn go_back_to(&mut self, position: u64) {
        self.position = position;
    }

    /// The `length` bytes at `position`, or as many as there are.
    fn get(&mut self, position: u64, length: usize) -> Result<&[u8], StorageError> {
        let buffered = self.start + self.buffer.len() as u64;
        if position < self.start || position + length as u64 > buffered {
            let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
            self.buffer.clear();
            self.buffer.resize(length.max(self.read_bytes).min(left), 0);
            let mut filled = 0;
            for piece in self.buffer.chunks_mut(CALL_MAX_BYTES) {
                let at = position + filled as u64;
                let count = read_full(&*self.file, &self.path, piece, at)?;
                filled += count;
                if count < piece.len() {
                    break;
                }
            }
            self.buffer.truncate(filled);
            self.start = position;
        }
        let from = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        let rest = self.buffer.get(from..).unwrap_or_default();
        Ok(&rest[..rest.len().min(length)])
    }
}
