//! The step from one segment to the next.
//!
//! Input: the offset that the next segment begins with. Output: a sealed segment and a new active
//! one.
//!
//! Invariants:
//! - the sealed segment's indexes are complete and written before the new file exists, so that a
//!   process that is killed leaves at most the last segment's indexes behind its log; so is the
//!   room behind its end gone, and no zeros are in front of another segment;
//! - those of a segment that is flushed already are flushed too: below the recovery point they are
//!   believed, and a power cut could leave an old beginning of them.
//!
//! Source: `UnifiedLog.roll`, `LocalLog.roll` of Kafka 4.1.1.

use std::sync::Arc;

use skein_types::{Millis, Offset};

use super::Log;
use super::active::{self, ActiveSegment};
use super::names::PREPARED;
use super::segment::{SealedParts, SealedSegment};
use crate::StorageError;
use crate::atomic_file;

impl Log {
    /// Ends the active segment and begins the next one. Nothing happens while the active one is
    /// empty.
    ///
    /// # Errors
    /// What the disk says; the log is as it was.
    pub fn roll(&mut self, now: Millis) -> Result<(), StorageError> {
        self.check_writable()?;
        if self.active.file.end() > 0 {
            self.roll_to(self.log_end_offset, now)?;
            self.publish_view();
        }
        Ok(())
    }

    /// Whether the next segment's file should be made now, off the path of appends.
    #[must_use]
    pub fn wants_next_segment(&self) -> bool {
        // The last eighth leaves time enough, and logs that stay small never get there.
        let enough = self.config.segment_bytes / 8 * 7;
        self.prepared.is_none() && !self.is_broken && self.active.file.end() > enough
    }

    /// Makes the next segment's file, so that the roll only gives it its name.
    ///
    /// # Errors
    /// What the disk says; the roll will try again.
    pub fn prepare_next_segment(&mut self) -> Result<(), StorageError> {
        if self.prepared.is_none() {
            let path = self.home.path.join(PREPARED);
            // A roll that failed may have left one behind that has no owner.
            atomic_file::remove(&**self.home.disk(), &path)?;
            self.prepared = Some(active::create_file(&self.home, &path, &self.config)?);
        }
        Ok(())
    }

    /// Seals the active segment; the next one begins with `base_offset`, which lies past the log's
    /// end only where compaction has left a gap.
    pub(super) fn roll_to(&mut self, base_offset: Offset, now: Millis) -> Result<(), StorageError> {
        let result = self.try_roll_to(base_offset, now);
        if let Err(error) = &result {
            let directory = &self.home.directory;
            directory.condition().on_error(directory.path(), error);
        }
        result
    }

    fn try_roll_to(&mut self, base_offset: Offset, now: Millis) -> Result<(), StorageError> {
        self.active.indexer.finish()?;
        self.write_aborted()?;
        if self.recovery_point >= self.log_end_offset {
            // No flush looks at the segment again, and no start: it believes these indexes.
            let flushed = self.active.indexer.flush();
            flushed.inspect_err(|error| self.flush_failed(error))?;
        }
        self.active.file.release_room()?;
        let prepared = self.prepared.take();
        let config = &self.config;
        let next = ActiveSegment::create(&self.home, base_offset, prepared, config, now)?;
        let mut old = std::mem::replace(&mut self.active, next);
        old.file.seal();
        let (file, indexes) = (Arc::clone(old.file.file()), old.open_indexes());
        self.flush.note_sealed(old.base_offset, file, indexes);
        self.log_end_offset = base_offset;
        self.is_snapshot_due = true;
        let parts = SealedParts {
            base_offset: old.base_offset,
            end_offset: base_offset,
            end_position: old.file.end(),
            interval_bytes: self.config.index_interval_bytes,
        };
        let file = Arc::clone(old.file.file());
        let sealed = SealedSegment::written(&self.home, parts, file, old.indexer.max_timestamp);
        if old.aborted.has_file() {
            sealed.mark_aborted();
            self.has_aborted = true;
        }
        // A new list: readers hold the old one.
        self.sealed = Arc::new(self.sealed.with(sealed));
        Ok(())
    }
}
