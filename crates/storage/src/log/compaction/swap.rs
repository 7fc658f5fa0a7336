//! A new segment takes the place of its sources.
//!
//! Input: a flushed `.cleaned` segment, and the log, alone. Output: the log with it; the sources'
//! files, to be removed later.
//!
//! ```text
//!   .index.cleaned ─► .index.swap, .txnindex.cleaned ─► .txnindex.swap
//!   .log.cleaned   ─► .log.swap      from here on a start finishes what follows (`leftovers.rs`)
//!   directory flushed; checkpoint: the log is compacted up to here, gaps are legal
//!   sources ─► .deleted
//!   .log.swap ─► .log, .txnindex.swap ─► .txnindex, .index.swap ─► .index
//! ```
//!
//! Invariants:
//! - a file with a gap takes its name only after the cleaner's checkpoint covers it
//!   (`recovery.rs`);
//! - no index of a source is left when the new log takes its name;
//! - who holds an old view goes on reading the old files: they are held open
//!   ([`SealedSegment::pin`]) before their names mean others;
//! - a swap that fails half-way leaves a log that takes nothing more until it is opened again,
//!   which finishes it;
//! - the transaction index has an entry for each marker of an aborted transaction that stays, and
//!   no other: of what is left behind the end of the map readers must be told, and of one whose
//!   marker is gone they must not be.
//!
//! Source: `LocalLog.replaceSegments` of Kafka 4.1.1.

use std::io;
use std::path::Path;
use std::sync::Arc;

use skein_types::Offset;

use super::super::Log;
use super::super::names::{self, FileKind};
use super::super::retention::DeletedSegment;
use super::super::segment::{SealedParts, SealedSegment};
use super::Completion;
use super::cleaned::{CleanedSegment, KINDS, cleaned_path};
use crate::log_directory::CheckpointFile;
use crate::{StorageError, atomic_file};

/// What became of a swap.
#[must_use = "the files of the sources stay until they are removed"]
#[derive(Debug)]
pub enum Swapped {
    /// The segment is in its place. These files have left the log.
    Done(Vec<DeletedSegment>),
    /// Retention or a truncation was faster: the log is as it was, and the compaction must end.
    Stale,
}

impl Log {
    /// Puts a compacted segment into the place of its sources.
    ///
    /// # Errors
    /// What the disk says. [`Log::is_broken`] tells whether the replica must go offline.
    pub fn swap_compacted(&mut self, cleaned: &CleanedSegment) -> Result<Swapped, StorageError> {
        let result = self.try_swap(cleaned);
        if !matches!(result, Ok(Swapped::Done(_))) && !self.is_broken {
            cleaned.discard();
        }
        result
    }

    /// A compaction has ended: the log is compacted up to where it came.
    ///
    /// # Errors
    /// What the disk says; then the next one does some of it again.
    pub fn complete_compaction(&mut self, completion: Completion) -> Result<(), StorageError> {
        self.check_writable()?;
        if completion.truncations == self.flush.truncations() {
            self.checkpoint_compacted(completion.end)?;
        }
        Ok(())
    }

    /// Whether a step failed half-way: the log takes nothing more until it is opened again.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    fn try_swap(&mut self, cleaned: &CleanedSegment) -> Result<Swapped, StorageError> {
        self.check_writable()?;
        let Some(at) = self.place_of(cleaned) else {
            return Ok(Swapped::Stale);
        };
        let view = self.view();
        for (number, source) in (at..).zip(&cleaned.sources) {
            source.pin(view.aborted_index(number)?)?;
        }
        self.forget_segment_times()?;
        let home = Arc::clone(&self.home);
        if !cleaned.has_aborted {
            // What an earlier swap left that failed is not this one's: a start would take it.
            let left = names::swap(&home.file(cleaned.base_offset, FileKind::TxnIndex));
            atomic_file::remove(&**home.disk(), &left)?;
        }
        let has_file = |kind: &FileKind| cleaned.has_aborted || *kind != FileKind::TxnIndex;
        for kind in KINDS.into_iter().filter(has_file) {
            let from = cleaned_path(&home, cleaned.base_offset, kind);
            let to = names::swap(&home.file(cleaned.base_offset, kind));
            self.rename(&from, &to)?;
        }
        // From here on only a start can tell how far this came.
        self.is_broken = true;
        self.flush_names()?;
        self.checkpoint_compacted(cleaned.cleaned_end)?;
        let mut deleted = Vec::with_capacity(cleaned.sources.len());
        for source in &cleaned.sources {
            deleted.push(self.take_files(source)?);
        }
        for kind in KINDS.into_iter().rev().filter(has_file) {
            let to = home.file(cleaned.base_offset, kind);
            self.rename(&names::swap(&to), &to)?;
        }
        atomic_file::sync_directory(&**home.disk(), &home.path)?;
        self.flush.note_directory_synced();
        self.put(at, cleaned);
        self.is_broken = false;
        self.publish_view();
        Ok(Swapped::Done(deleted))
    }

    /// Else a power cut may leave the sources as they were, and the checkpoint, in another
    /// directory, ahead of them. No record would be lost at once. But what lies below the
    /// checkpoint is not compared with itself again: a tombstone there would go in time, and the
    /// value before it, not taken, would be the last one of its key. (`tests/compaction_crash.rs`
    /// cuts the power here.)
    fn flush_names(&self) -> Result<(), StorageError> {
        atomic_file::sync_directory(&**self.home.disk(), &self.home.path)
    }

    /// Where the sources are in the log; `None` if not all of them are any more.
    fn place_of(&self, cleaned: &CleanedSegment) -> Option<usize> {
        let first = cleaned.sources.first()?;
        let is_first = |segment: &Arc<SealedSegment>| Arc::ptr_eq(segment, first);
        let at = self.sealed.iter().position(is_first)?;
        let is_same = (cleaned.sources.iter().zip(at..)).all(|(source, number)| {
            let there = self.sealed.get(number);
            there.is_some_and(|there| Arc::ptr_eq(there, source))
        });
        (is_same && cleaned.truncations == self.flush.truncations()).then_some(at)
    }

    fn put(&mut self, at: usize, cleaned: &CleanedSegment) {
        let parts = SealedParts {
            base_offset: cleaned.base_offset,
            end_offset: cleaned.end_offset,
            end_position: cleaned.size,
            interval_bytes: cleaned.interval_bytes,
        };
        let file = Arc::clone(&cleaned.file);
        let segment = SealedSegment::written(&self.home, parts, file, cleaned.max_timestamp);
        if cleaned.has_aborted {
            segment.mark_aborted();
        }
        let before = self.sealed.iter().take(at);
        let behind = self.sealed.iter().skip(at + cleaned.sources.len());
        let segments = before.chain([&segment]).chain(behind);
        self.sealed = Arc::new(segments.cloned().collect());
    }

    /// The cleaner's checkpoint never goes back but by truncation.
    fn checkpoint_compacted(&self, end: Offset) -> Result<(), StorageError> {
        let (file, home) = (CheckpointFile::Cleaner, &self.home);
        let known = home.directory.checkpointed(file, &home.partition);
        if known == Some(end) {
            return Ok(());
        }
        home.directory.set_checkpointed(file, &home.partition, end)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        (self.home.disk())
            .rename(from, to)
            .map_err(|source| StorageError::io("rename", from, source))
    }
}

/// Finishes a swap that a crash has interrupted: the files of the replaced segments go first, so
/// that none is left when the new log takes its name.
pub(in crate::log) fn finish(
    home: &super::Home,
    base_offset: Offset,
    replaced: &[Offset],
) -> Result<(), StorageError> {
    let disk = &**home.disk();
    let to = home.file(base_offset, FileKind::Log);
    let from = names::swap(&to);
    // It counts from here on: it must be there if what it replaces is not.
    atomic_file::sync_directory(disk, &home.path)?;
    for replaced in replaced.iter().rev().filter(|base| **base != base_offset) {
        home.unlink_segment(*replaced)?;
    }
    for kind in [
        FileKind::OffsetIndex,
        FileKind::TimeIndex,
        FileKind::TxnIndex,
    ] {
        atomic_file::remove(disk, &home.file(base_offset, kind))?;
    }
    disk.rename(&from, &to)
        .map_err(|source| StorageError::io("rename", &from, source))?;
    let to = home.file(base_offset, FileKind::TxnIndex);
    let from = names::swap(&to);
    match disk.rename(&from, &to) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(StorageError::io("rename", &from, source));
        }
        _ => {}
    }
    atomic_file::sync_directory(disk, &home.path)
}
