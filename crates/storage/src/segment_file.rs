//! An append-only file of frames; it knows nothing of Kafka.
//!
//! Input: pieces of memory to append, positions to cut at. Output: the positions where they are,
//! and the file for readers.
//!
//! ```text
//! 0                                    end            a crash may leave more behind it
//! ├── frame ──┼─ frame ─┼─── frame ────┤╌╌╌╌ torn, or zeros ╌╌╌╌
//! ```
//!
//! Invariants:
//! - bytes below [`SegmentFile::end`] never change. After a failed or short write the file is cut
//!   back to it; if that fails too, the file takes no more writes (checked in
//!   [`SegmentFile::append`]);
//! - a position that a reader may have seen never holds a second value: a file that was cut is
//!   sealed, and appending to a sealed file is a bug (asserted). Only [`SegmentFile::recover`],
//!   before anybody reads, cuts and goes on;
//! - a cut is durable when the call returns;
//! - behind the end of a file that grows there may be zeros (`room.rs`), behind that of a sealed
//!   one there is nothing.
//!
//! Source: `pwritev(2)`; none for the rest.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_env::{Disk, File, OpenMode};

use crate::StorageError;

mod room;
mod scan;

use room::{Append, Room};
pub use scan::{Frames, Head, Scan, scan_frames};

/// What is rewritten at once, in bytes: a multiple of any block.
const REWRITE_PIECE_BYTES: u64 = 1024 * 1024;

/// Where the piece ends that is rewritten from `start` on: where a block does, so that none is
/// written twice.
pub(crate) fn piece_end(start: u64) -> u64 {
    (start + 1).next_multiple_of(REWRITE_PIECE_BYTES)
}

/// Most pieces that one write takes: the kernel's `IOV_MAX`.
pub const APPEND_MAX_PIECES: usize = 1024;

/// One append-only file.
pub struct SegmentFile {
    path: PathBuf,
    file: Arc<dyn File>,
    end: u64,
    condition: Condition,
    room: Room,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Takes appends.
    Open,
    /// Complete: a later file goes on.
    Sealed,
    /// A cut failed: what is behind `end` is unknown.
    Broken,
}

/// A failed append. Nothing of it counts as written.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct AppendError {
    /// Why the append failed.
    #[source]
    pub cause: StorageError,
    /// Why the file could not be cut back to its former end; if set, the file takes no more writes.
    pub cut_back: Option<Box<StorageError>>,
}

impl AppendError {
    /// An append that failed before it touched the file.
    #[must_use]
    pub fn untouched(cause: StorageError) -> Self {
        Self {
            cause,
            cut_back: None,
        }
    }

    /// Whether the file is as it was before the append; otherwise its owner must go offline.
    #[must_use]
    pub fn is_cut_back(&self) -> bool {
        self.cut_back.is_none()
    }
}

impl SegmentFile {
    /// Makes the file at `path`, empty. Its name is durable only after the directory is flushed.
    ///
    /// # Errors
    /// What the disk says, also if the file exists.
    pub fn create(disk: &dyn Disk, path: &Path) -> Result<Self, StorageError> {
        let file = disk
            .open(path, OpenMode::CreateNew)
            .map_err(|source| StorageError::io("create", path, source))?;
        Ok(Self::from_parts(path, file, 0))
    }

    /// Opens the file at `path`. Its end is the file's length: call [`SegmentFile::recover`] unless
    /// the file is known to be whole.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StorageError> {
        let file = disk
            .open(path, OpenMode::ReadWrite)
            .map_err(|source| StorageError::io("open", path, source))?;
        let end = file
            .length()
            .map_err(|source| StorageError::io("stat", path, source))?;
        Ok(Self::from_parts(path, file, end))
    }

    fn from_parts(path: &Path, file: Arc<dyn File>, end: u64) -> Self {
        Self {
            path: path.to_path_buf(),
            file,
            end,
            condition: Condition::Open,
            room: Room::none_at(end),
        }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The written end in bytes: where the next append goes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The file, for readers and flushers; it outlives a later rename or unlink.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Whether the file takes no more appends because it is complete.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.condition == Condition::Sealed
    }

    /// Appends `pieces`, one after the other, in one write, and returns the position of the first.
    ///
    /// # Errors
    /// What the disk says; then nothing was appended, and the error tells whether the file could be
    /// cut back.
    ///
    /// # Panics
    /// If the file is sealed, or for more than [`APPEND_MAX_PIECES`] pieces: bugs of the caller.
    pub fn append(&mut self, pieces: &[IoSlice<'_>]) -> Result<u64, AppendError> {
        assert!(
            self.condition != Condition::Sealed,
            "append to the sealed {}",
            self.path.display()
        );
        assert!(
            pieces.len() <= APPEND_MAX_PIECES,
            "{} pieces in one append",
            pieces.len()
        );
        if self.condition == Condition::Broken {
            let path = self.path.clone();
            return Err(AppendError::untouched(StorageError::Broken { path }));
        }
        let position = self.end;
        let wanted: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let cause = match self.file.write_at(pieces, position) {
            Ok(written) if written as u64 == wanted => {
                self.end = position + wanted;
                return Ok(position);
            }
            Ok(written) => StorageError::ShortWrite {
                path: self.path.clone(),
                position,
                written: written as u64,
                wanted,
            },
            Err(source) => StorageError::io_at("write", &self.path, position, source),
        };
        // No flush here: nobody was told of these bytes, and recovery cuts what a crash brings
        // back.
        let cut_back = self.set_length(position).err().map(Box::new);
        Err(AppendError { cause, cut_back })
    }

    /// Makes an append of `bytes` cheaper if the file grows fast; it may grow to `limit`, and is
    /// filled ahead once it has grown by `fill_after`. See `room.rs`.
    pub(crate) fn make_room(&mut self, bytes: u64, limit: u64, fill_after: Option<u64>) {
        if self.condition == Condition::Open {
            let append = Append {
                end: self.end,
                bytes,
            };
            self.room.make(&*self.file, append, limit, fill_after);
        }
    }

    /// Reserves the blocks up to `limit`, which stay until the file is sealed or closed; none where
    /// the device can't or is nearly full.
    pub(crate) fn preallocate(&mut self, limit: u64) {
        if self.condition == Condition::Open {
            self.room.preallocate(&*self.file, self.end, limit);
        }
    }

    /// Whether there is room behind the end.
    pub(crate) fn has_room(&self) -> bool {
        self.room.reaches_past(self.end)
    }

    /// Whether there is room behind the end that the file has only because it grows fast.
    pub(crate) fn has_passing_room(&self) -> bool {
        self.room.passes(self.end)
    }

    /// Gives back the room that the file has only because it grows fast.
    ///
    /// # Errors
    /// What the disk says; the file is as it was.
    pub(crate) fn release_passing_room(&mut self) -> Result<(), StorageError> {
        let preallocated = self.room.preallocated();
        self.release_room()?;
        if let Some(limit) = preallocated {
            self.preallocate(limit);
        }
        Ok(())
    }

    /// Gives back the room behind the end; not durably: what a power cut brings back is zeros.
    ///
    /// # Errors
    /// What the disk says; the file is as it was.
    pub(crate) fn release_room(&mut self) -> Result<(), StorageError> {
        if self.has_room() {
            self.file
                .set_length(self.end)
                .map_err(|source| StorageError::io_at("cut", &self.path, self.end, source))?;
            self.room = Room::none_at(self.end);
        }
        Ok(())
    }

    /// Walks the frames from `from` on to the end, changing nothing.
    ///
    /// # Errors
    /// What the disk says. A bad or torn frame is no error: the result tells where it is.
    pub fn scan(&self, from: u64, frames: &mut dyn Frames) -> Result<Scan, StorageError> {
        scan_frames(&*self.file, &self.path, from..self.end, frames)
    }

    /// Whether there is nothing but zeros from `position` on.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn is_zero_from(&self, position: u64) -> Result<bool, StorageError> {
        scan::is_zero(&*self.file, &self.path, position..self.end)
    }

    /// Cuts off the zeros from `position` on; not durably, as they mean nothing.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn drop_zeros_from(&mut self, position: u64) -> Result<(), StorageError> {
        self.set_length(position)?;
        self.end = position;
        Ok(())
    }

    /// Gives back the blocks that a former process may have reserved behind the end: this one knows
    /// of none.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn drop_reserved(&mut self) -> Result<(), StorageError> {
        self.set_length(self.end)
    }

    /// Walks the frames from `from` on and cuts off, durably, what comes after the last whole one.
    ///
    /// For the time before anybody reads the file: it goes on taking appends.
    ///
    /// # Errors
    /// What the disk says.
    pub fn recover(&mut self, from: u64, frames: &mut dyn Frames) -> Result<Scan, StorageError> {
        let scan = self.scan(from, frames)?;
        if scan.end < self.end {
            self.cut(scan.end)?;
        }
        Ok(scan)
    }

    /// Cuts the file to `end` durably and seals it: what follows goes to a new file, so that no
    /// position that was read ever holds other bytes.
    ///
    /// # Errors
    /// What the disk says; then the file takes no more writes.
    ///
    /// # Panics
    /// If `end` is past the end of the file: a bug of the caller.
    pub fn truncate(&mut self, end: u64) -> Result<(), StorageError> {
        assert!(end <= self.end, "cannot cut {} bytes to {end}", self.end);
        self.cut(end)?;
        self.condition = Condition::Sealed;
        Ok(())
    }

    /// Ends the file: a later one goes on.
    ///
    /// # Panics
    /// If it has room that was not released: a bug.
    pub fn seal(&mut self) {
        assert!(!self.has_room(), "{} has room", self.path.display());
        if self.condition == Condition::Open {
            self.condition = Condition::Sealed;
        }
    }

    /// Makes everything below [`SegmentFile::end`] durable. A file made since the last flush of its
    /// directory needs that too.
    ///
    /// # Errors
    /// What the disk says. After an error unflushed bytes may be lost, and a second flush would not
    /// tell: the owner must go offline.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.file
            .sync_data()
            .map_err(|source| StorageError::io("flush", &self.path, source))
    }

    /// Brings what lies between `start` and [`SegmentFile::end`] to the device, durably, whatever
    /// the page cache believes to be there: for a file that a former process wrote. Nobody may
    /// append meanwhile. If it is interrupted, zeros may follow the end.
    ///
    /// # Errors
    /// What the disk says; then the owner must go offline.
    pub fn rewrite_from(&self, mut start: u64) -> Result<(), StorageError> {
        let mut scratch = Vec::new();
        while start < self.end {
            let end = piece_end(start).min(self.end);
            self.file
                .rewrite(start..end, &mut scratch)
                .map_err(|source| StorageError::io_at("rewrite", &self.path, start, source))?;
            start = end;
        }
        self.flush()
    }

    /// Gives the file another name in the same directory.
    pub(crate) fn rename(&mut self, disk: &dyn Disk, to: &Path) -> Result<(), StorageError> {
        disk.rename(&self.path, to)
            .map_err(|source| StorageError::io("rename", &self.path, source))?;
        self.path = to.to_path_buf();
        Ok(())
    }

    /// Cuts the file to `end`, durably. It goes on taking appends: for recovery only.
    pub(crate) fn cut(&mut self, end: u64) -> Result<(), StorageError> {
        self.set_length(end)?;
        self.end = end;
        self.flush()
            .inspect_err(|_| self.condition = Condition::Broken)
    }

    fn set_length(&mut self, end: u64) -> Result<(), StorageError> {
        self.file.set_length(end).map_err(|source| {
            self.condition = Condition::Broken;
            StorageError::io_at("cut", &self.path, end, source)
        })?;
        self.room = Room::none_at(end);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
