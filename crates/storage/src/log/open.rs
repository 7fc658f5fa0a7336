//! Opening a log.
//!
//! Input: a partition, and what the log directory knows of it. Output: the log, the replica's
//! tables, and a report of what had to be repaired.
//!
//! Opening is the caller's to run on first use, and for many logs in parallel. After a clean
//! shutdown it reads the directory, the last index entry and the batches behind it, whatever the
//! log's size.
//!
//! Invariants:
//! - a log is opened as clean at most once per clean shutdown: a second opening in the same run
//!   follows an unknown end, unless the log was closed in between ([`LogDirectory::begin_log`]);
//! - the tables agree with the batches up to the log's end.
//!
//! Source: `LogLoader.load`, `UnifiedLog.rebuildProducerState` of Kafka 4.1.1.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use skein_record::{LeaderEpochs, ProducerStates};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{Millis, Offset, TopicId, TopicPartition};

use super::aborted::Rebuild;
use super::active::ActiveSegment;
use super::flush::{CallHelper, FlushState, OpenIndexes};
use super::found::Found;
use super::leftovers::{self, Listing};
use super::missing;
use super::names::PREPARED;
use super::recovery::{self, Recovered};
use super::refusal;
use super::segment::Home;
use super::segment_list::SegmentList;
use super::segment_times::{self, Claims, TimesFile};
use super::snapshots::{self, Replay};
use super::view::LogView;
use super::{Log, epochs};
use crate::log_directory::{CheckpointFile, LogDirectory, check_or_write_topic_id};
use crate::{LogConfig, StorageError, atomic_file};

/// A log, and what it told about its replica.
#[derive(Debug)]
pub struct OpenedLog {
    /// The log.
    pub log: Log,
    /// The producers as of the log's end.
    pub producers: ProducerStates,
    /// The leader epochs of the log's batches.
    pub leader_epochs: LeaderEpochs,
    /// The high watermark as last checkpointed, within the log.
    pub high_watermark: Offset,
    /// What had to be repaired.
    pub recovery: Recovery,
}

/// What opening a log had to repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether the log was shut down cleanly.
    pub was_clean: bool,
    /// Segments whose batches were walked over to find the log's end.
    pub scanned_segments: usize,
    /// Log bytes whose checksums were compared.
    pub scanned_bytes: u64,
    /// Log bytes below them that a walk over their headers passed.
    pub walked_bytes: u64,
    /// What was cut off at the end.
    pub cut: Option<Cut>,
    /// The high watermark as last checkpointed, if the log ends before it: records are gone that
    /// were committed. A power cut may do that to a log that is not flushed before it is committed.
    pub lost_up_to: Option<Offset>,
    /// Offsets of segments whose files are missing between others. They were told.
    pub missing: Vec<Range<Offset>>,
}

/// A torn or corrupt tail that was cut off. It had not been flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The log's new end.
    pub log_end_offset: Offset,
    /// First offset of the segment that was cut.
    pub segment_base_offset: Offset,
    /// Where it was cut, in bytes.
    pub position: u64,
    /// Bytes that went, later segments included.
    pub bytes: u64,
    /// What was wrong.
    pub reason: &'static str,
}

impl Log {
    /// Opens the partition's log, made if there is none. `topic_id` is checked against the
    /// directory's, or written there.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] below the recovery point: nothing is cut, and the replica must go
    /// offline; [`StorageError::Format`] if the directory is another topic's; what the disk says.
    pub fn open(
        directory: &Arc<LogDirectory>,
        partition: &TopicPartition,
        topic_id: Option<TopicId>,
        config: LogConfig,
        now: Millis,
    ) -> Result<OpenedLog, StorageError> {
        let is_clean = directory.begin_log(partition)?;
        let home = Arc::new(Home {
            directory: Arc::clone(directory),
            partition: partition.clone(),
            path: directory.partition_path(partition),
            claims: Claims::default(),
        });
        let listing = leftovers::list(&home, config.is_compacting)?;
        // Also of a directory that was there: who made it may have failed, or been killed, before
        // its name was flushed.
        let ticket = directory.note_created();
        if let Some(topic_id) = topic_id {
            check_or_write_topic_id(&**home.disk(), &home.path, topic_id)?;
        }
        let refused = refusal::read(&**home.disk(), &home.path)?;
        let opening = Opening {
            home: Arc::clone(&home),
            config,
            now,
            ticket,
            refused,
        };
        let opened = if listing.segments.is_empty() {
            opening.create()
        } else {
            opening.load(listing, is_clean)
        }?;
        if refused.is_some() {
            refusal::lift(&home, opened.log.recovery_point)?;
        }
        directory.settle_recovery_point(partition);
        Ok(opened)
    }

    /// Ends the log's use: everything is written and flushed, with a snapshot of the producers, so
    /// that after [`LogDirectory::mark_clean_shutdown`] the next opening scans nothing. Returns the
    /// recovery point, which the caller checkpoints before.
    ///
    /// # Errors
    /// What the disk says; then the shutdown is not clean.
    ///
    /// # Panics
    /// If `producers` are not as of the log's end: a bug.
    pub fn close(self, producers: &ProducerStates, now: Millis) -> Result<Offset, StorageError> {
        self.close_with(producers, now, &drop)
    }

    /// As [`Log::close`]; with very many files to flush it asks `helper` for threads.
    ///
    /// # Errors
    /// As [`Log::close`].
    ///
    /// # Panics
    /// As [`Log::close`].
    pub fn close_with(
        mut self,
        producers: &ProducerStates,
        now: Millis,
        helper: CallHelper<'_>,
    ) -> Result<Offset, StorageError> {
        self.check_writable()?;
        self.join_flush(now, helper);
        self.active.indexer.finish()?;
        self.active.file.release_room()?;
        if self.prepared.take().is_some() {
            // It may have the blocks of a whole segment.
            atomic_file::remove(&**self.home.disk(), &self.home.path.join(PREPARED))?;
        }
        self.flush.directory_changes += 1;
        if self.log_end_offset > self.log_start_offset || !producers.is_empty() {
            self.write_snapshot(producers)?;
        }
        self.write_changed_epochs()?;
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::StopUnflushed) {
            self.home.directory.end_log(&self.home.partition);
            return Ok(self.log_end_offset);
        }
        self.flush_all(now, helper)?;
        self.home.directory.end_log(&self.home.partition);
        Ok(self.recovery_point)
    }
}

struct Opening {
    home: Arc<Home>,
    config: LogConfig,
    now: Millis,
    ticket: u64,
    /// Up to where the log was whole when it was refused, if it was.
    refused: Option<Offset>,
}

impl Opening {
    /// The first segment of a new log.
    fn create(self) -> Result<OpenedLog, StorageError> {
        let start = self
            .checkpointed(CheckpointFile::LogStartOffset)
            .unwrap_or(Offset::ZERO);
        if let Some(recovery_point) = self.recovery_point().filter(|point| *point > start) {
            refusal::write(&self.home, recovery_point)?;
            return Err(StorageError::corrupt(
                &self.home.path,
                0,
                "the log's segments are missing",
            ));
        }
        // A truncation that was interrupted may have left snapshots of what is gone.
        snapshots::prune(&self.home, Offset(i64::MIN), Offset(i64::MIN))?;
        segment_times::remove(&self.home)?;
        let active = ActiveSegment::create(&self.home, start, None, &self.config, self.now)?;
        let recovered = Recovered::empty(active);
        let high_watermark = self.checkpointed(CheckpointFile::HighWatermark);
        let log = self.build(recovered, start, start, LeaderEpochs::new());
        let producers = ProducerStates::starting_at(start);
        let (leader_epochs, recovery) = (
            LeaderEpochs::new(),
            Recovery {
                lost_up_to: high_watermark.filter(|committed| *committed > start),
                ..Recovery::default()
            },
        );
        Ok(OpenedLog {
            log,
            producers,
            leader_epochs,
            high_watermark: start,
            recovery,
        })
    }

    fn load(self, mut listing: Listing, is_clean: bool) -> Result<OpenedLog, StorageError> {
        self.finish_retention(&mut listing)?;
        let first = listing
            .segments
            .keys()
            .next()
            .copied()
            .unwrap_or(Offset::ZERO);
        let or_first = |checkpointed: Option<Offset>| checkpointed.unwrap_or(first).max(first);
        let start = or_first(self.checkpointed(CheckpointFile::LogStartOffset));
        let checkpointed = self.recovery_point();
        let recovery_point = or_first(checkpointed);
        if !is_clean && recovery_point > checkpointed.unwrap_or(Offset::ZERO) {
            // What retention took out may come back with a power cut, empty if it was not flushed:
            // the recovery point must not lie above it then.
            atomic_file::sync_directory(&**self.home.disk(), &self.home.path)?;
        }
        let high_watermark = self.checkpointed(CheckpointFile::HighWatermark);
        let (directory, partition) = (&self.home.directory, &self.home.partition);
        let recovered = recovery::recover(
            &self.home,
            &self.config,
            &listing.segments,
            recovery::Start {
                is_clean,
                checkpointed,
                is_lost: checkpointed.is_none() && directory.is_recovery_point_lost(partition),
                recovery_point,
                cleaned_end: self
                    .checkpointed(CheckpointFile::Cleaner)
                    .unwrap_or(Offset::ZERO),
                log_start_offset: start,
                now: self.now,
            },
        )?;
        let mut recovery = recovered.report.clone();
        // After a clean shutdown all of the log is known to be good.
        let known_end = if recovery.was_clean {
            recovered.log_end_offset
        } else {
            recovery_point
        };
        let now = self.now;
        let with_aborted = listing.with_aborted;
        let (mut log, mut producers, missing) =
            self.restore(recovered, start, known_end, &with_aborted)?;
        recovery.missing = missing;
        if start > log.log_end_offset {
            let (partition, end) = (&log.home.partition, log.log_end_offset);
            tracing::warn!(%partition, %start, %end, "all records are gone; the log begins anew");
            producers = log.restart_at(start, now)?.producers;
        }
        // What lay below the log's start nobody misses.
        recovery.lost_up_to = high_watermark.filter(|committed| *committed > log.log_end_offset);
        let high_watermark = high_watermark
            .unwrap_or(log.log_start_offset)
            .clamp(log.log_start_offset, log.log_end_offset);
        log.publish(high_watermark, high_watermark);
        let leader_epochs = log.leader_epochs.clone();
        Ok(OpenedLog {
            log,
            producers,
            leader_epochs,
            high_watermark,
            recovery,
        })
    }

    /// Removes the segments that end at or below the log start: a crash may have come between their
    /// end and that of others.
    fn finish_retention(&self, listing: &mut Listing) -> Result<(), StorageError> {
        let Some(start) = self.checkpointed(CheckpointFile::LogStartOffset) else {
            return Ok(());
        };
        let holds_start = listing.segments.range(..=start).next_back();
        let Some(holds_start) = holds_start.map(|(base_offset, _)| *base_offset) else {
            return Ok(());
        };
        let kept = listing.segments.split_off(&holds_start);
        for base_offset in std::mem::replace(&mut listing.segments, kept).into_keys() {
            tracing::info!(
                partition = %self.home.partition,
                %base_offset,
                log_start_offset = %start,
                "removing a segment below the log start"
            );
            self.home.unlink_segment(base_offset)?;
        }
        Ok(())
    }

    /// Brings the tables to the log's end. Epochs from `known_end` on are read from the batches.
    fn restore(
        self,
        recovered: Recovered,
        start: Offset,
        known_end: Offset,
        with_aborted: &BTreeSet<Offset>,
    ) -> Result<(Log, ProducerStates, Vec<Range<Offset>>), StorageError> {
        let home = Arc::clone(&self.home);
        let (end, was_clean) = (recovered.log_end_offset, recovered.report.was_clean);
        let snapshots = snapshots::prune(&home, Offset(i64::MIN), end)?;
        let (scanned, first_marker) = (recovered.report.scanned_segments, recovered.first_marker);
        let known_epochs = epochs::read(&**home.disk(), &home)?;
        let (times_file, missing) = segment_times::read(
            &home,
            &recovered.sealed,
            recovered.active.base_offset,
            known_epochs.as_ref(),
            known_end.min(end),
        )?;
        missing::tell(&home, &missing);
        let start = start.min(end);
        let mut log = self.build(recovered, start, known_end.min(end), LeaderEpochs::new());
        log.times_file = times_file;
        if !was_clean {
            let found = snapshots.iter().filter(|offset| **offset >= known_end);
            log.flush.found_snapshots = found.copied().collect();
        }
        log.mark_aborted(with_aborted);
        let view = log.view();
        let first = log.segment_count() - scanned;
        let rebuild = Rebuild::begin(&view, first, known_end, first_marker)?;
        let epochs_from = match known_epochs {
            Some(_) => known_end.min(end),
            None => view.base_offset(0),
        };
        let mut leader_epochs = known_epochs.unwrap_or_default();
        leader_epochs.truncate_from_end(epochs_from);
        let replay = Replay {
            view: &view,
            snapshots: &snapshots,
        };
        let replayed = replay.run(Some((epochs_from, &mut leader_epochs)))?;
        leader_epochs.truncate_from_start(start);
        log.leader_epochs = leader_epochs;
        let aborted = replay.aborted_in(rebuild.from()..end)?;
        rebuild.finish(&mut log, &aborted)?;
        log.is_snapshot_due = replayed.snapshot_offset < log.active.base_offset;
        Ok((log, replayed.producers, missing))
    }

    /// Up to where the log is known to have been flushed.
    fn recovery_point(&self) -> Option<Offset> {
        self.checkpointed(CheckpointFile::RecoveryPoint)
            .max(self.refused)
    }

    fn checkpointed(&self, file: CheckpointFile) -> Option<Offset> {
        self.home.directory.checkpointed(file, &self.home.partition)
    }

    fn build(
        self,
        recovered: Recovered,
        log_start_offset: Offset,
        recovery_point: Offset,
        leader_epochs: LeaderEpochs,
    ) -> Log {
        let Recovered {
            sealed,
            active,
            log_end_offset,
            unflushed,
            found,
            ..
        } = recovered;
        let sealed: Arc<SegmentList> = Arc::new(sealed.into_iter().collect());
        let mut flush = FlushState::new(self.ticket, self.now);
        flush.found = Found::new(found);
        for (base_offset, file) in unflushed {
            // Perhaps thousands: too many descriptors to keep those of their indexes too.
            flush.note_sealed(base_offset, file, OpenIndexes::default());
        }
        // The file may lack epochs that were read from batches: the first flush writes it.
        flush.epochs_version += 1;
        let view = LogView {
            home: Arc::clone(&self.home),
            sealed: Arc::clone(&sealed),
            active: active.view(),
            has_aborted: false,
            log_start_offset,
            last_stable_offset: log_start_offset,
            high_watermark: log_start_offset,
            log_end_offset,
        };
        Log {
            home: self.home,
            config: self.config,
            sealed,
            active,
            prepared: None,
            log_start_offset,
            last_stable_offset: log_start_offset,
            high_watermark: log_start_offset,
            log_end_offset,
            recovery_point,
            leader_epochs,
            flush,
            times_file: TimesFile::default(),
            has_aborted: false,
            is_snapshot_due: false,
            is_broken: false,
            published: Arc::new(view),
        }
    }
}
