//! Old segments go, whole ones, from the front.
//!
//! Input: the time, and the limits of the log. Output: a later log start, and files under another
//! name that the caller removes after `file.delete.delay.ms`.
//!
//! Invariants:
//! - the log start moves only to the beginning of a segment, or where `DeleteRecords` puts it;
//! - nothing at or above the high watermark goes;
//! - no segment goes before a snapshot of the producers tells what its batches told;
//! - a crash half-way leaves a log without a gap: of several segments the log start is durable
//!   before the first file goes, and the next start removes what is below it; a single file goes
//!   durably after those that went before.
//!
//! Source: `UnifiedLog.deleteOldSegments`, `deletableSegments`, `LogSegment.largestTimestamp` of
//! Kafka 4.1.1.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use skein_env::Disk;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{Millis, Offset};

use super::Log;
use super::names::{self, FileKind};
use super::segment::SealedSegment;
use super::snapshots;
use crate::StorageError;
use crate::atomic_file;
use crate::log_directory::CheckpointFile;

/// The files of a segment that has left its log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the files stay until they are removed"]
pub struct DeletedSegment {
    paths: Vec<PathBuf>,
    /// First offset of the segment.
    pub base_offset: Offset,
    /// Bytes of its log file.
    pub size_in_bytes: u64,
}

/// The files of a segment in the order in which they get their new names. The log goes first:
/// without it the others are nobody's, and the next start removes them.
const KINDS: [FileKind; 4] = [
    FileKind::Log,
    FileKind::OffsetIndex,
    FileKind::TimeIndex,
    FileKind::TxnIndex,
];

impl DeletedSegment {
    /// Removes the files. Whoever has them open can go on reading.
    ///
    /// # Errors
    /// What the disk says; the next start removes what is left.
    pub fn remove(&self, disk: &dyn Disk) -> Result<(), StorageError> {
        self.paths
            .iter()
            .try_for_each(|path| atomic_file::remove(disk, path))
    }
}

/// Most segments that one turn takes out: appends wait meanwhile. The rest is for the next turn.
const DELETED_MAX_SEGMENTS: usize = 64;

/// A segment as the limits see it.
struct Candidate {
    size: u64,
    end_offset: Offset,
    /// What its age counts from.
    newest: Millis,
}

impl Log {
    /// Takes old segments out of the log: those before the log start, and with
    /// `cleanup.policy=delete` those older than `retention.ms` and those beyond `retention.bytes`.
    /// The active segment goes too, when all others do and it is as old: one turn ends it, and the
    /// next one takes it, once [`Log::write_snapshot`] has told of its producers. Until then
    /// nothing goes. Call it again while it makes progress.
    ///
    /// # Errors
    /// What the disk says; segments that were taken out before stay out.
    pub fn delete_old_segments(
        &mut self,
        now: Millis,
    ) -> Result<Vec<DeletedSegment>, StorageError> {
        self.check_writable()?;
        if self.is_snapshot_due {
            return Ok(Vec::new());
        }
        let mut excess = self.excess_bytes();
        let mut count = 0;
        while let Some(segment) = self
            .sealed
            .get(count)
            .filter(|_| count < DELETED_MAX_SEGMENTS)
        {
            let candidate = Candidate {
                size: segment.end_position,
                end_offset: segment.end_offset,
                // Looked up only while it can matter: it opens the index.
                newest: match self.config.retention_ms {
                    Some(_) => segment.newest()?,
                    None => Millis::NONE,
                },
            };
            if !self.is_deletable(&candidate, excess, now) {
                break;
            }
            excess = excess.saturating_sub(candidate.size);
            count += 1;
        }
        let active = Candidate {
            size: self.active.file.end(),
            end_offset: self.log_end_offset,
            newest: self.active.newest()?,
        };
        if count == self.sealed.len() && active.size > 0 && self.is_deletable(&active, excess, now)
        {
            self.roll_to(self.log_end_offset, now)?;
            self.publish_view();
        }
        self.delete_front(count)
    }

    /// Moves the log start to `offset` at least, durably (`DeleteRecords`). Segments before it go
    /// with the next [`Log::delete_old_segments`].
    ///
    /// # Errors
    /// What the disk says; the log starts where it did.
    ///
    /// # Panics
    /// Past the high watermark: a bug.
    pub fn advance_log_start(&mut self, offset: Offset) -> Result<(), StorageError> {
        self.check_writable()?;
        #[cfg(feature = "mutations")]
        let offset = match mutation::has(Mutation::DeletesTooMuch) {
            true => self.high_watermark,
            false => offset,
        };
        assert!(
            offset <= self.high_watermark,
            "log start {offset} of {self:?}"
        );
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::LogStartNotKept) {
            self.set_log_start(offset.max(self.log_start_offset));
            self.publish_view();
            return Ok(());
        }
        let (directory, partition) = (&self.home.directory, &self.home.partition);
        // Also where retention was faster: a power cut may bring back what it has taken.
        let kept = directory.checkpointed(CheckpointFile::LogStartOffset, partition);
        if kept.is_none_or(|kept| kept < offset) {
            directory.set_checkpointed(CheckpointFile::LogStartOffset, partition, offset)?;
        }
        if offset > self.log_start_offset {
            self.set_log_start(offset);
            self.publish_view();
        }
        Ok(())
    }

    /// Bytes of the log beyond `retention.bytes`.
    fn excess_bytes(&self) -> u64 {
        let limit = self
            .config
            .retention_bytes
            .filter(|_| self.config.is_deleting);
        limit.map_or(0, |limit| self.size_in_bytes().saturating_sub(limit))
    }

    fn is_deletable(&self, segment: &Candidate, excess: u64, now: Millis) -> bool {
        if segment.end_offset > self.high_watermark {
            return false;
        }
        let is_old = self
            .config
            .retention_ms
            .is_some_and(|retention_ms| now.saturating_sub(segment.newest) > retention_ms);
        let is_beyond = excess > 0 && segment.size <= excess;
        #[cfg(feature = "mutations")]
        let is_beyond = is_beyond || excess > 0 && mutation::has(Mutation::RetentionTooEager);
        #[cfg(feature = "mutations")]
        let is_old = is_old
            || self.config.retention_ms.is_some() && mutation::has(Mutation::RetentionTooEager);
        segment.end_offset <= self.log_start_offset
            || self.config.is_deleting && (is_old || is_beyond)
    }

    fn delete_front(&mut self, count: usize) -> Result<Vec<DeletedSegment>, StorageError> {
        let mut deleted = Vec::with_capacity(count);
        let mut result = Ok(());
        let sealed = Arc::clone(&self.sealed);
        if let Some(last) = sealed.get(count.wrapping_sub(1)) {
            self.begin_deletion(count, last.end_offset)?;
        }
        for segment in sealed.iter().take(count) {
            match self.delete_segment(segment.base_offset) {
                Ok(paths) => deleted.push(DeletedSegment {
                    paths,
                    base_offset: segment.base_offset,
                    size_in_bytes: segment.end_position,
                }),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if deleted.is_empty() {
            return result.map(|()| deleted);
        }
        self.sealed = Arc::new(self.sealed.without_first(deleted.len()));
        let first = self
            .sealed
            .first()
            .map_or(self.active.base_offset, |first| first.base_offset);
        self.set_log_start(self.log_start_offset.max(first));
        self.publish_view();
        if let Err(error) = snapshots::prune(&self.home, first, Offset(i64::MAX)) {
            tracing::warn!(partition = %self.home.partition, %error, "old snapshots stay");
        }
        if let Err(error) = result {
            // What was taken out is out; the rest comes with the next turn.
            tracing::warn!(partition = %self.home.partition, %error, "an old segment stays");
        }
        Ok(deleted)
    }

    /// Sees to it that a power cut leaves no gap when the first `count` segments go, up to `end`.
    fn begin_deletion(&mut self, count: usize, end: Offset) -> Result<(), StorageError> {
        // An older segment must not outlive a later one, in whatever order the disk takes names.
        if count > 1 {
            let (file, home) = (CheckpointFile::LogStartOffset, &self.home);
            let start = self.log_start_offset.max(end);
            return home
                .directory
                .set_checkpointed(file, &home.partition, start);
        }
        if self.flush.needs_directory() {
            atomic_file::sync_directory(&**self.home.disk(), &self.home.path)?;
            self.flush.note_directory_synced();
        }
        Ok(())
    }

    fn delete_segment(&mut self, base_offset: Offset) -> Result<Vec<PathBuf>, StorageError> {
        let paths = self.rename_files(base_offset, false)?;
        self.flush.directory_changes += 1;
        Ok(paths)
    }

    /// Takes the files of a segment that was replaced out of the log, all of them.
    pub(super) fn take_files(
        &mut self,
        segment: &SealedSegment,
    ) -> Result<DeletedSegment, StorageError> {
        let base_offset = segment.base_offset;
        let paths = self.rename_files(base_offset, true)?;
        Ok(DeletedSegment {
            paths,
            base_offset,
            size_in_bytes: segment.end_position,
        })
    }

    /// Gives the files of a segment other names. Unless `all` must go, an index may stay: without
    /// its log it is nobody's.
    fn rename_files(&self, base_offset: Offset, all: bool) -> Result<Vec<PathBuf>, StorageError> {
        let disk = self.home.disk();
        let mut paths = Vec::with_capacity(KINDS.len());
        for kind in KINDS {
            let from = self.home.file(base_offset, kind);
            let to = names::deleted(&from);
            match disk.rename(&from, &to) {
                Ok(()) => paths.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if kind != FileKind::Log && !all => {
                    tracing::warn!(path = %from.display(), %error, "a deleted file stays");
                }
                Err(source) => return Err(StorageError::io("rename", &from, source)),
            }
        }
        Ok(paths)
    }

    /// The log starts at `offset` from now on.
    pub(super) fn set_log_start(&mut self, offset: Offset) {
        self.log_start_offset = offset;
        self.high_watermark = self.high_watermark.max(offset);
        self.last_stable_offset = self.last_stable_offset.max(offset);
        // The recovery point stays: a power cut may bring a file back that was never flushed.
        if self.leader_epochs.truncate_from_start(offset) {
            self.flush.epochs_version += 1;
        }
    }
}
