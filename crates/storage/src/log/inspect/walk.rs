//! Batch after batch of a segment file, however damaged.
//!
//! Input: a `.log` file. Output: the header of each batch, whether its checksum is right, and how
//! the file ends: with its last batch, with zeros, or with bytes that are no batch.
//!
//! Invariants: a batch passes in pieces, so that a length field which lies costs no memory; each
//! step advances by a header at least; zeros are room only if nothing else follows them.
//!
//! Source: the head of `segment_file/room.rs` for the zeros.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_env::{Disk, File, OpenMode};
use skein_record::{BatchHeader, CHECKSUM_FROM, Crc32c, HEADER_BYTES};

use super::PIECE_BYTES;
use crate::StorageError;
use crate::atomic_file::read_full;

/// A batch as it lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedBatch {
    /// Where it begins in the file, in bytes.
    pub position: u64,
    /// What it says of itself.
    pub header: BatchHeader,
    /// The checksum of its bytes, where the walk computes it.
    pub computed_crc: Option<u32>,
}

impl InspectedBatch {
    /// Whether the checksum was computed and is not the stored one.
    #[must_use]
    pub fn is_checksum_wrong(&self) -> bool {
        self.computed_crc
            .is_some_and(|computed| computed != self.header.crc)
    }

    /// Position of the first byte behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + self.header.size_in_bytes() as u64
    }
}

/// What a walk comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A batch that is there in full.
    Batch(InspectedBatch),
    /// From here on the file holds zeros only: room ahead of a log that grows.
    Room {
        /// The first zero.
        position: u64,
        /// How many there are.
        bytes: u64,
    },
    /// The bytes from here on are no batch.
    Fault {
        /// The first of them.
        position: u64,
        /// What is wrong with them.
        reason: String,
        /// How many follow up to the end of the file.
        bytes: u64,
    },
}

/// A walk over one segment file. After room or a fault it has ended.
pub struct SegmentWalk {
    file: Arc<dyn File>,
    path: PathBuf,
    position: u64,
    end: u64,
    computes_crc: bool,
    has_ended: bool,
    /// A part of the file, and where it begins.
    piece: Vec<u8>,
    piece_at: u64,
}

impl SegmentWalk {
    /// A walk over the file at `path` as long as it is now.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StorageError> {
        let file = disk
            .open(path, OpenMode::Read)
            .map_err(|source| StorageError::io("open", path, source))?;
        let mut walk = Self {
            file,
            path: path.to_path_buf(),
            position: 0,
            end: 0,
            computes_crc: true,
            has_ended: false,
            piece: Vec::new(),
            piece_at: 0,
        };
        walk.look_again()?;
        Ok(walk)
    }

    /// The same, which reads headers only.
    #[must_use]
    pub fn without_checksums(mut self) -> Self {
        self.computes_crc = false;
        self
    }

    /// The same from `position` on, where a batch should begin.
    #[must_use]
    pub fn starting_at(mut self, position: u64) -> Self {
        self.position = position;
        self
    }

    /// Bytes of the file that the walk looks at.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.end
    }

    /// Goes on where the walk has ended, with the file as it is now: a node may have been writing
    /// there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn look_again(&mut self) -> Result<(), StorageError> {
        self.end = self
            .file
            .length()
            .map_err(|source| StorageError::io("stat", &self.path, source))?;
        self.has_ended = false;
        self.piece.clear();
        Ok(())
    }

    /// The next batch, or how the file ends; `None` behind its last batch.
    ///
    /// # Errors
    /// What the disk says.
    #[allow(clippy::should_implement_trait)] // it can fail, and is no iterator of results
    pub fn next(&mut self) -> Result<Option<Step>, StorageError> {
        if self.has_ended || self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let head = self.bytes_at(position, HEADER_BYTES)?;
        let is_zero = head.iter().all(|byte| *byte == 0);
        let header = BatchHeader::parse(head);
        if is_zero && self.is_zero_from(position)? {
            self.has_ended = true;
            let bytes = self.end - position;
            return Ok(Some(Step::Room { position, bytes }));
        }
        let header = match header {
            Ok(header) => header,
            Err(error) => return Ok(Some(self.fault(format!("there is no batch: {error}")))),
        };
        let size = header.size_in_bytes() as u64;
        let left = self.end - position;
        if size > left {
            let reason = format!("the batch has {size} bytes, and the file ends after {left}");
            return Ok(Some(self.fault(reason)));
        }
        let computed_crc = if self.computes_crc {
            Some(self.checksum(position + CHECKSUM_FROM as u64, position + size)?)
        } else {
            None
        };
        self.position += size;
        Ok(Some(Step::Batch(InspectedBatch {
            position,
            header,
            computed_crc,
        })))
    }

    /// Goes back to `batch`, which was the last step: [`SegmentWalk::look_again`] reads it anew.
    pub fn step_back(&mut self, batch: &InspectedBatch) {
        self.position = batch.position;
    }

    /// The bytes of a batch; `None` if they are more than `max_bytes`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(
        &self,
        batch: &InspectedBatch,
        max_bytes: usize,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let size = batch.header.size_in_bytes();
        if size > max_bytes {
            return Ok(None);
        }
        let mut bytes = vec![0; size];
        let filled = read_full(&*self.file, &self.path, &mut bytes, batch.position)?;
        bytes.truncate(filled);
        Ok(Some(bytes))
    }

    fn fault(&mut self, reason: String) -> Step {
        self.has_ended = true;
        Step::Fault {
            position: self.position,
            reason,
            bytes: self.end - self.position,
        }
    }

    fn is_zero_from(&mut self, position: u64) -> Result<bool, StorageError> {
        let mut at = position;
        while at < self.end {
            let piece = self.bytes_at(at, PIECE_BYTES)?;
            if piece.is_empty() || piece.iter().any(|byte| *byte != 0) {
                return Ok(piece.is_empty());
            }
            at += piece.len() as u64;
        }
        Ok(true)
    }

    fn checksum(&mut self, from: u64, to: u64) -> Result<u32, StorageError> {
        let mut crc = Crc32c::new();
        let mut at = from;
        while at < to {
            let wanted = usize::try_from(to - at).unwrap_or(PIECE_BYTES);
            let piece = self.bytes_at(at, wanted.min(PIECE_BYTES))?;
            if piece.is_empty() {
                // The file has become shorter: no checksum is right.
                return Ok(!crc.value());
            }
            crc.update(piece);
            at += piece.len() as u64;
        }
        Ok(crc.value())
    }

    /// Up to `wanted` bytes at `position`, fewer at the end of the file.
    fn bytes_at(&mut self, position: u64, wanted: usize) -> Result<&[u8], StorageError> {
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left).min(PIECE_BYTES);
        let piece_end = self.piece_at + self.piece.len() as u64;
        if position < self.piece_at || position + wanted as u64 > piece_end {
            self.piece.resize(PIECE_BYTES.min(left), 0);
            let filled = read_full(&*self.file, &self.path, &mut self.piece, position)?;
            self.piece.truncate(filled);
            self.piece_at = position;
        }
        let from = usize::try_from(position - self.piece_at).unwrap_or(usize::MAX);
        let rest = self.piece.get(from..).unwrap_or_default();
        Ok(&rest[..wanted.min(rest.len())])
    }
}
