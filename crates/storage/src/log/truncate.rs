//! Cutting off the end of a log.
//!
//! Input: the offset that the log shall end at. Output: a log that ends there, in a new segment,
//! and the tables of the replica as of there.
//!
//! ```text
//!  before   [ 0 ─────── 120 ][ 120 ──────────── 200 ▸
//!  to 150   [ 0 ─────── 120 ][ 120 ── 150 ][ 150 ▸
//!                              cut, sealed   new file
//! ```
//!
//! Invariants:
//! - a position of a file never holds two values: the cut segment is sealed, an emptied one
//!   unlinked, and what follows goes to a new file;
//! - an index that a reader may have mapped is not shortened: it is left to it, and written anew;
//! - every step is durable before the next begins, newest records first, so that a crash leaves a
//!   log which ends somewhere between the new end and the old one;
//! - the checkpointed recovery point is lowered first, or the missing records would look like
//!   corruption; so is how far the log was compacted, or records that are lost later would look
//!   like what compaction took out.
//!
//! Source: KIP-101; `UnifiedLog.truncateTo`, with files that are never reused.

use std::sync::Arc;

use skein_record::{AbortedTxn, LeaderEpochs, ProducerStates};
use skein_types::{Millis, Offset};

use super::Log;
use super::aborted;
use super::active::ActiveSegment;
use super::flush::OpenIndexes;
use super::index::{IndexView, OffsetEntry, TimeEntry};
use super::lookup::SegmentRef;
use super::names::FileKind;
use super::segment::{Home, SealedParts, SealedSegment};
use super::segment_index::SegmentIndexer;
use super::segment_list::SegmentList;
use super::snapshots::{self, Replay};
use crate::atomic_file;
use crate::log_directory::CheckpointFile;
use crate::segment_file::SegmentFile;
use crate::{LogConfig, StorageError};

/// A log and its replica's tables after a truncation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The log's new end: what was asked for, or the beginning of the batch that it lay in.
    pub log_end_offset: Offset,
    /// The producers as of there.
    pub producers: ProducerStates,
    /// The leader epochs as of there.
    pub leader_epochs: LeaderEpochs,
}

impl Log {
    /// Cuts off everything from `offset` on, durably. A batch that holds the offset goes as a
    /// whole. `None` if the log ends before it.
    ///
    /// # Errors
    /// What the disk says; then the log takes no more writes, and the replica must go offline.
    pub fn truncate_to(
        &mut self,
        offset: Offset,
        now: Millis,
    ) -> Result<Option<Truncated>, StorageError> {
        self.check_writable()?;
        if offset >= self.log_end_offset {
            return Ok(None);
        }
        let view = self.view();
        if offset < self.log_start_offset || offset < view.base_offset(0) {
            return self.restart_at(offset, now).map(Some);
        }
        let number = view.segment_number(offset);
        let segment = view.segment(number)?;
        let batch = segment.find_batch(offset)?;
        let position = batch.map_or(segment.end_position, |batch| batch.position);
        let end = batch.map_or(offset, |batch| offset.min(batch.header.base_offset));

        self.begin_truncation(end)?;
        if number == 0 && position == 0 {
            // For a moment there will be no segment: the next start must know where the log begins.
            self.checkpoint_log_start(end)?;
        }
        self.remove_segments(number + 1)?;
        let mut kept: Vec<_> = self.sealed.iter().take(number).cloned().collect();
        if position == 0 {
            self.home.unlink_segment(segment.base_offset)?;
        } else {
            kept.push(self.cut_segment(number, segment, position, end)?);
        }
        self.sealed = Arc::new(kept.into_iter().collect());
        self.end_truncation(end, now).map(Some)
    }

    /// Drops everything; the log goes on, empty, at `offset` (a follower that is too far behind, or
    /// records that were deleted before they came).
    ///
    /// # Errors
    /// As [`Log::truncate_to`].
    pub fn restart_at(&mut self, offset: Offset, now: Millis) -> Result<Truncated, StorageError> {
        self.check_writable()?;
        self.begin_truncation(offset)?;
        self.flush.found.forget_from(Offset(i64::MIN));
        self.checkpoint_log_start(offset)?;
        self.remove_segments(0)?;
        self.sealed = Arc::new(SegmentList::default());
        self.leader_epochs.clear();
        snapshots::prune(&self.home, Offset(i64::MIN), Offset(i64::MIN))?;
        self.log_start_offset = offset;
        self.end_truncation(offset, now)
    }

    fn begin_truncation(&mut self, end: Offset) -> Result<(), StorageError> {
        self.forget_segment_times()?;
        let home = &self.home;
        for file in [CheckpointFile::RecoveryPoint, CheckpointFile::Cleaner] {
            let checkpointed = home.directory.checkpointed(file, &home.partition);
            if checkpointed.is_some_and(|checkpointed| checkpointed > end) {
                home.directory
                    .set_checkpointed(file, &home.partition, end)?;
            }
        }
        if end < self.log_start_offset {
            // The log start lay within the batch that goes.
            self.checkpoint_log_start(end)?;
        }
        // From here on a failure leaves the log between two states.
        self.is_broken = true;
        self.recovery_point = self.recovery_point.min(end);
        self.flush.note_truncated(end);
        Ok(())
    }

    fn checkpoint_log_start(&self, offset: Offset) -> Result<(), StorageError> {
        let (file, home) = (CheckpointFile::LogStartOffset, &self.home);
        home.directory
            .set_checkpointed(file, &home.partition, offset)
    }

    /// Unlinks the active segment and the sealed ones from `number` on, newest first. If `number`
    /// is the active segment's own, or past it, nothing happens to it.
    fn remove_segments(&mut self, number: usize) -> Result<(), StorageError> {
        let disk = Arc::clone(self.home.disk());
        if number > self.sealed.len() {
            return Ok(());
        }
        self.home.unlink_segment(self.active.base_offset)?;
        let from_last = self.sealed.iter().rev();
        for segment in from_last.take(self.sealed.len() - number) {
            // One at a time: a later log must not survive an earlier one.
            atomic_file::sync_directory(&*disk, &self.home.path)?;
            self.home.unlink_segment(segment.base_offset)?;
        }
        Ok(())
    }

    /// Cuts the segment `number` to `position` and makes its indexes anew.
    fn cut_segment(
        &mut self,
        number: usize,
        segment: SegmentRef,
        position: u64,
        end: Offset,
    ) -> Result<Arc<SealedSegment>, StorageError> {
        let home = Arc::clone(&self.home);
        let times = match self.sealed.get(number) {
            Some(sealed) => IndexView::clone(&*sealed.time_index()?),
            None => self.active.indexer.times.view().clone(),
        };
        let segment = SegmentRef {
            end_position: position,
            ..segment
        };
        let mut indexer = shortened_indexes(&home, &self.config, &segment, &times)?;
        let aborted = self.shortened_aborted(number, end)?;
        self.flush.found.cut(segment.base_offset, position);
        match self.sealed.get(number) {
            Some(_) => {
                let path = home.file(segment.base_offset, FileKind::Log);
                SegmentFile::open(&**home.disk(), &path)?.truncate(position)?;
            }
            None => self.active.file.truncate(position)?,
        }
        indexer.finish()?;
        // The recovery point may be this segment's end: then nobody will look whether they are
        // whole.
        indexer.flush()?;
        let parts = SealedParts {
            base_offset: segment.base_offset,
            end_offset: end,
            end_position: position,
            interval_bytes: self.config.index_interval_bytes,
        };
        let file = Arc::clone(&segment.file);
        // Its indexes are flushed.
        let indexes = OpenIndexes::default();
        self.flush.note_sealed(segment.base_offset, file, indexes);
        let cut = SealedSegment::written(&home, parts, segment.file, indexer.max_timestamp);
        if let Some(entries) = aborted {
            aborted::replace(&home, cut.base_offset, &entries)?;
            cut.mark_aborted();
            self.has_aborted = true;
        }
        Ok(cut)
    }

    /// The entries of the segment's transaction index whose markers lie before `end`; `None` if it
    /// has no index. Nobody writes the file from here on but the caller.
    fn shortened_aborted(
        &self,
        number: usize,
        end: Offset,
    ) -> Result<Option<Vec<AbortedTxn>>, StorageError> {
        let has_index = match self.sealed.get(number) {
            Some(sealed) => {
                sealed.retire_aborted();
                sealed.has_aborted()
            }
            None => self.active.aborted.last().is_some(),
        };
        let index = self.view().aborted_index(number)?.filter(|_| has_index);
        let Some(index) = index else { return Ok(None) };
        let count = index.partition_point(|txn| txn.last_offset < end)?;
        let entries: Result<_, _> = (0..count).map(|number| index.get(number)).collect();
        entries.map(Some)
    }

    /// Begins the new segment and brings everything else to the new end.
    fn end_truncation(&mut self, end: Offset, now: Millis) -> Result<Truncated, StorageError> {
        let home = Arc::clone(&self.home);
        // The names that went must be gone before one of them comes again.
        atomic_file::sync_directory(&**home.disk(), &home.path)?;
        let prepared = self.prepared.take();
        self.active = ActiveSegment::create(&home, end, prepared, &self.config, now)?;
        self.log_end_offset = end;
        self.log_start_offset = self.log_start_offset.min(end);
        self.high_watermark = self.high_watermark.clamp(self.log_start_offset, end);
        self.last_stable_offset = self
            .last_stable_offset
            .clamp(self.log_start_offset, self.high_watermark);
        let snapshots = snapshots::prune(&home, Offset(i64::MIN), end)?;
        self.leader_epochs.truncate_from_end(end);
        self.flush.epochs_version += 1;
        self.write_changed_epochs()?;
        atomic_file::sync_directory(&**home.disk(), &home.path)?;
        let view = self.view();
        let replay = Replay {
            view: &view,
            snapshots: &snapshots,
        };
        let producers = replay.run(None)?.producers;
        self.is_broken = false;
        self.is_snapshot_due = true;
        self.publish_view();
        let leader_epochs = self.leader_epochs.clone();
        Ok(Truncated {
            log_end_offset: end,
            producers,
            leader_epochs,
        })
    }
}

impl Home {
    /// Unlinks a segment's files, the log first: without it the others are nobody's.
    pub(super) fn unlink_segment(&self, base_offset: Offset) -> Result<(), StorageError> {
        for kind in [
            FileKind::Log,
            FileKind::OffsetIndex,
            FileKind::TimeIndex,
            FileKind::TxnIndex,
        ] {
            atomic_file::remove(&**self.disk(), &self.file(base_offset, kind))?;
        }
        Ok(())
    }
}

/// Indexes of the part of a segment that stays; nothing is written yet.
fn shortened_indexes(
    home: &Home,
    config: &LogConfig,
    segment: &SegmentRef,
    times: &IndexView<TimeEntry>,
) -> Result<SegmentIndexer, StorageError> {
    let mut indexer = SegmentIndexer::new(home.small_disk(), &home.path, segment.base_offset);
    let stays = |entry: OffsetEntry| u64::from(entry.position) < segment.end_position;
    let count = segment.offsets.partition_point(stays)?;
    let Some(last) = count
        .checked_sub(1)
        .map(|last| segment.offsets.get(last))
        .transpose()?
    else {
        // Less than an interval is left.
        indexer.add_all(segment, 0, config.index_interval_bytes)?;
        return Ok(indexer);
    };
    for number in 0..count {
        indexer.offsets.push(segment.offsets.get(number)?);
    }
    let below = |entry: TimeEntry| entry.relative_offset <= last.relative_offset;
    for number in 0..times.partition_point(below)? {
        indexer.push_time_entry(times.get(number)?);
    }
    indexer.add_all(
        segment,
        u64::from(last.position),
        config.index_interval_bytes,
    )?;
    Ok(indexer)
}
