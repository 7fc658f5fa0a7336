//! The entries of an offset or time index, read from its file.
//!
//! Input: an `.index` or `.timeindex` file. Output: its entries by number, with whole offsets.
//!
//! Invariants: entries are read in pieces; zeros at the end are no entries, as Kafka lengthens the
//! indexes of a segment that grows in advance.
//!
//! Source: the head of `log/index.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_env::{Disk, File, OpenMode};
use skein_types::{Millis, Offset};

use super::PIECE_BYTES;
use crate::StorageError;
use crate::atomic_file::read_full;
use crate::log::index::{Entry, OffsetEntry, TimeEntry};
use crate::log::names::FileKind;

/// An entry of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexEntry {
    /// The batch at `position` ends with `offset`.
    Offset {
        /// The batch's last offset.
        offset: Offset,
        /// Where it begins in the log, in bytes.
        position: u64,
    },
    /// Up to the batch that ends with `offset` no timestamp is larger.
    Time {
        /// The largest timestamp so far.
        timestamp: Millis,
        /// Last offset of the first batch that has it.
        offset: Offset,
    },
}

/// An index file, open for reading.
pub struct IndexFile {
    file: Arc<dyn File>,
    path: PathBuf,
    base_offset: Offset,
    is_time: bool,
    count: u64,
    /// Bytes behind the last whole entry.
    odd_bytes: u64,
    piece: Vec<u8>,
    piece_at: u64,
}

impl IndexFile {
    /// The index at `path`, of the segment that begins at `base_offset`; `None` if there is none.
    pub(super) fn open(
        disk: &dyn Disk,
        path: &Path,
        base_offset: Offset,
        kind: FileKind,
    ) -> Result<Option<Self>, StorageError> {
        let file = match disk.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StorageError::io("open", path, source)),
        };
        let length = file
            .length()
            .map_err(|source| StorageError::io("stat", path, source))?;
        let mut index = Self {
            file,
            path: path.to_path_buf(),
            base_offset,
            is_time: kind == FileKind::TimeIndex,
            count: 0,
            odd_bytes: 0,
            piece: Vec::new(),
            piece_at: 0,
        };
        index.count = length / index.entry_bytes() as u64;
        index.odd_bytes = length % index.entry_bytes() as u64;
        index.leave_out_zeros()?;
        Ok(Some(index))
    }

    /// The index whose path is `path`, by its name.
    ///
    /// # Errors
    /// What the disk says.
    pub fn of_path(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, StorageError> {
        match super::FileName::of(path) {
            super::FileName::OffsetIndex(base) => {
                Self::open(disk, path, base, FileKind::OffsetIndex)
            }
            super::FileName::TimeIndex(base) => Self::open(disk, path, base, FileKind::TimeIndex),
            _ => Ok(None),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes at the end that are no whole entry.
    #[must_use]
    pub const fn odd_bytes(&self) -> u64 {
        self.odd_bytes
    }

    /// Bytes of an entry.
    #[must_use]
    pub const fn entry_bytes(&self) -> usize {
        if self.is_time {
            TimeEntry::BYTES
        } else {
            OffsetEntry::BYTES
        }
    }

    /// The entry `number`; `None` at the end, also if the file has become shorter.
    ///
    /// # Errors
    /// What the disk says.
    pub fn get(&mut self, number: u64) -> Result<Option<IndexEntry>, StorageError> {
        if number >= self.count {
            return Ok(None);
        }
        let (base, is_time) = (self.base_offset.0, self.is_time);
        let offset = |relative: u32| Offset(base.saturating_add(i64::from(relative)));
        let Some(bytes) = self.bytes_of(number)? else {
            return Ok(None);
        };
        Ok(Some(if is_time {
            let entry = TimeEntry::decode(bytes);
            IndexEntry::Time {
                timestamp: Millis(entry.timestamp),
                offset: offset(entry.relative_offset),
            }
        } else {
            let entry = OffsetEntry::decode(bytes);
            IndexEntry::Offset {
                offset: offset(entry.relative_offset),
                position: u64::from(entry.position),
            }
        }))
    }

    /// How many entries at the front satisfy `before`, by binary search, and in how many steps.
    pub(super) fn partition_point(
        &mut self,
        before: impl Fn(IndexEntry) -> bool,
    ) -> Result<(u64, u32), StorageError> {
        let (mut low, mut high, mut steps) = (0, self.count, 0);
        while low < high {
            let middle = low + (high - low) / 2;
            steps += 1;
            match self.get(middle)? {
                Some(entry) if before(entry) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok((low, steps))
    }

    /// Takes zeros at the end off the count.
    fn leave_out_zeros(&mut self) -> Result<(), StorageError> {
        while let Some(last) = self.count.checked_sub(1) {
            match self.bytes_of(last)? {
                Some(bytes) if bytes.iter().any(|byte| *byte != 0) => break,
                _ => self.count = last,
            }
        }
        Ok(())
    }

    fn bytes_of(&mut self, number: u64) -> Result<Option<&[u8]>, StorageError> {
        let length = self.entry_bytes();
        let at = number * length as u64;
        let end = self.piece_at + self.piece.len() as u64;
        if at < self.piece_at || at + length as u64 > end {
            // The piece that holds the entry, cut at whole entries: forward and backward walks and
            // the last steps of a search all stay in one.
            let piece_bytes = (PIECE_BYTES / length * length) as u64;
            self.piece_at = at / piece_bytes * piece_bytes;
            let left = (self.count * length as u64).saturating_sub(self.piece_at);
            let wanted = usize::try_from(left.min(piece_bytes)).unwrap_or(PIECE_BYTES);
            self.piece.resize(wanted, 0);
            let filled = read_full(&*self.file, &self.path, &mut self.piece, self.piece_at)?;
            self.piece.truncate(filled);
        }
        let from = usize::try_from(at - self.piece_at).unwrap_or(usize::MAX);
        Ok(self.piece.get(from..).and_then(|rest| rest.get(..length)))
    }
}
