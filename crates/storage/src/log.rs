//! The log of one partition.
//!
//! Input: batches whose offsets are decided. Output: their bytes at the end of the last segment,
//! and a view of it all for readers.
//!
//! ```text
//! <topic>-<partition>/
//!   00000000000000000000.log .index .timeindex      sealed: never written again
//!   00000000000000001200.log .index .timeindex      active: grows at its end
//!   00000000000000001200.txnindex                   the transactions whose abort lies there
//!   00000000000000001207.snapshot                   producer states at that offset
//!   leader-epoch-checkpoint   partition.metadata   segment-timestamps
//!   refused-recovery-point                          only of a log that does not open
//!
//!   log start        recovery point            log end
//!   ├────────────────┼─────────────────────────┤
//!        deleted at its front by retention        appended here
//!                    └─ scanned after a crash ─┘
//! ```
//!
//! Invariants, checked in [`Log::check`] unless another place is named:
//! - segments follow one another without overlap; the active one is the last;
//! - log start ≤ last stable ≤ high watermark ≤ log end, and recovery point ≤ log end;
//! - an append is one write to one segment, all or nothing (`active.rs`, `segment_file.rs`);
//! - what is published is written (`publish` is the only place that stores a view).
//!
//! What the file system must do: bring the names of one directory to the device in the order in
//! which they were made, as those do that journal their metadata. Else a power cut could take the
//! first segment's name and leave a later one's, where nothing was flushed: the log would begin
//! there, as if retention had been at work. Nothing relies on an order between directories.
//!
//! Source: `UnifiedLog` and `LocalLog` of Kafka 4.1.1.

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use skein_record::{BatchHeader, LeaderEpochs};
use skein_types::{Millis, Offset, TopicPartition};
use smallvec::SmallVec;

use crate::segment_file::{APPEND_MAX_PIECES, AppendError};
use crate::{LogConfig, StorageError};

mod aborted;
mod active;
mod batch_places;
mod batches;
mod compaction;
mod epochs;
mod flush;
mod found;
mod index;
mod index_check;
pub mod inspect;
mod leftovers;
mod lookup;
mod missing;
mod names;
mod open;
mod recovery;
mod refusal;
mod retention;
mod roll;
mod segment;
mod segment_index;
mod segment_list;
mod segment_times;
mod snapshots;
mod time_lookup;
mod truncate;
mod unread;
mod view;

use active::ActiveSegment;
pub use batch_places::BatchPlace;
pub use compaction::{
    CleanedSegment, Compaction, CompactionBudget, CompactionError, CompactionSettings,
    CompactionSource, CompactionStats, CompactionStep, Completion, Dirty, Swapped,
};
use flush::FlushState;
pub use flush::{CallHelper, FlushHelper, FlushPlan, FlushScope, Flushed};
pub use open::{Cut, OpenedLog, Recovery};
pub use retention::DeletedSegment;
use segment::Home;
pub use segment_index::TimestampOffset;
use segment_list::SegmentList;
use segment_times::TimesFile;
pub use time_lookup::{FoundRecord, LOOKUP_UNPACKED_MAX_BYTES};
pub use truncate::Truncated;
pub use unread::Unread;
pub use view::{FileRange, LogView, ReadError};

use crate::segment_file::SegmentFile;

/// Most bytes of an append of more than one batch.
pub const APPEND_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Headers and pieces of one append that need no allocation.
const INLINE_BATCHES: usize = 8;

/// The writer of one partition's log.
pub struct Log {
    home: Arc<Home>,
    config: LogConfig,
    sealed: Arc<SegmentList>,
    active: ActiveSegment,
    /// The file of the segment to come, if it was made ahead.
    prepared: Option<SegmentFile>,
    log_start_offset: Offset,
    last_stable_offset: Offset,
    high_watermark: Offset,
    log_end_offset: Offset,
    recovery_point: Offset,
    leader_epochs: LeaderEpochs,
    flush: FlushState,
    times_file: TimesFile,
    /// A sealed segment has or had a transaction index.
    has_aborted: bool,
    /// A sealed segment has batches of which no snapshot of the producers tells.
    is_snapshot_due: bool,
    /// A step failed half-way: nothing more is written until the log is opened again.
    is_broken: bool,
    published: Arc<LogView>,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// How many of the batches were written: those at the front that fit into one write.
    pub batches: usize,
    /// Bytes that were written.
    pub bytes: u64,
    /// The log's new end.
    pub log_end_offset: Offset,
    /// Whether a new segment was begun for them.
    pub is_rolled: bool,
}

impl Log {
    /// Writes as many of `batches` as one write to one segment takes, at least one; the caller
    /// comes again with the rest. Each is one whole batch, its offsets and leader epoch set and
    /// following one another. A group within [`Log::group_max_bytes`] and [`APPEND_MAX_PIECES`] is
    /// always written as a whole. Readers see nothing of it before [`Log::publish`].
    ///
    /// # Errors
    /// What the disk says. Then nothing was appended; if the error says that the file could not be
    /// cut back, the replica must go offline.
    ///
    /// # Panics
    /// For no batches, for bytes that are no batch, and for offsets below the log's end: bugs.
    pub fn append(&mut self, batches: &[&[u8]], now: Millis) -> Result<Appended, AppendError> {
        self.check_writable().map_err(AppendError::untouched)?;
        let first = self.header(
            batches.first().copied().unwrap_or_default(),
            self.log_end_offset,
        );
        // A file that a former process wrote is left alone until it is rewritten.
        let is_rolled = self.flush.found.is_in(self.active.base_offset)
            || self.active.should_roll(&first, &self.config, now);
        if is_rolled {
            self.roll_to(first.base_offset, now)
                .map_err(AppendError::untouched)?;
        }
        let mut headers: SmallVec<[BatchHeader; INLINE_BATCHES]> = SmallVec::new();
        let mut pieces: SmallVec<[IoSlice<'_>; INLINE_BATCHES]> = SmallVec::new();
        let (mut bytes, mut end) = (0, self.log_end_offset);
        let max_bytes = self.group_max_bytes();
        for batch in batches.iter().take(APPEND_MAX_PIECES) {
            let header = self.header(batch, end);
            let size = batch.len() as u64;
            let fits = bytes + size <= max_bytes && self.active.can_index(&header);
            if !headers.is_empty() && !fits {
                break;
            }
            bytes += size;
            end = header.next_offset();
            headers.push(header);
            pieces.push(IoSlice::new(batch));
        }
        self.write(&headers, &pieces, bytes)?;
        self.log_end_offset = end;
        Ok(Appended {
            batches: headers.len(),
            bytes,
            log_end_offset: end,
            is_rolled,
        })
    }

    /// Bytes of a group that [`Log::append`] writes as a whole, as long as the first of its batches
    /// does not need a new segment; a group that begins a new one may have [`APPEND_MAX_BYTES`], a
    /// segment, or what its indexes take, whichever is smallest. A single batch may always be
    /// larger.
    #[must_use]
    pub fn group_max_bytes(&self) -> u64 {
        let LogConfig {
            segment_bytes,
            segment_index_bytes,
            index_interval_bytes,
            ..
        } = self.config;
        let indexed = self
            .active
            .indexer
            .room_bytes(segment_index_bytes, index_interval_bytes);
        segment_bytes
            .saturating_sub(self.active.file.end())
            .min(indexed)
            .min(APPEND_MAX_BYTES)
    }

    /// The log holds batches that its replica does not count, and they cannot be taken back: it
    /// takes nothing more, until it is opened again and recovered with them.
    pub fn abandon(&mut self) {
        self.is_broken = true;
    }

    /// Shows readers the log as it is now, up to these offsets.
    ///
    /// # Panics
    /// If the offsets are not in order: a bug.
    pub fn publish(&mut self, high_watermark: Offset, last_stable_offset: Offset) {
        self.high_watermark = high_watermark;
        self.last_stable_offset = last_stable_offset;
        self.publish_view();
    }

    /// Whether there is room ahead of the log's end that only a fast log needs.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.active.file.has_passing_room()
    }

    /// Gives that room back.
    ///
    /// # Errors
    /// What the disk says; the log is as it was.
    pub fn release_room(&mut self) -> Result<(), StorageError> {
        self.check_writable()?;
        self.active.file.release_passing_room()
    }

    /// What readers may see: the view as last published.
    #[must_use]
    pub fn published(&self) -> Arc<LogView> {
        Arc::clone(&self.published)
    }

    /// The view as it is now, published or not: for the replica's own reads.
    #[must_use]
    pub fn view(&self) -> LogView {
        LogView {
            home: Arc::clone(&self.home),
            sealed: Arc::clone(&self.sealed),
            active: self.active.view(),
            has_aborted: self.has_aborted,
            log_start_offset: self.log_start_offset,
            last_stable_offset: self.last_stable_offset,
            high_watermark: self.high_watermark,
            log_end_offset: self.log_end_offset,
        }
    }

    /// Which partition's it is.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.home.partition
    }

    /// The settings that count now.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings, from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset
    }

    /// The offset of the next record.
    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    /// The end of what is known to be on the disk.
    #[must_use]
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// How many segments there are, the active one included.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.sealed.len() + 1
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_in_bytes(&self) -> u64 {
        self.sealed.size_in_bytes() + self.active.file.end()
    }

    /// Asserts what must always hold.
    ///
    /// # Panics
    /// When it does not: a bug.
    pub fn check(&self) {
        let Self {
            log_start_offset,
            last_stable_offset,
            high_watermark,
            log_end_offset,
            ..
        } = self;
        assert!(
            log_start_offset <= last_stable_offset
                && last_stable_offset <= high_watermark
                && high_watermark <= log_end_offset
                && self.recovery_point <= *log_end_offset
                && self.active.base_offset <= *log_end_offset,
            "{self:?}"
        );
        let last_sealed = self.sealed.last().map(|segment| segment.end_offset);
        assert!(
            last_sealed.is_none_or(|end| end == self.active.base_offset),
            "{self:?}"
        );
    }

    fn write(
        &mut self,
        headers: &[BatchHeader],
        pieces: &[IoSlice<'_>],
        bytes: u64,
    ) -> Result<(), AppendError> {
        let directory = &self.home.directory;
        directory
            .condition()
            .before_append(&**directory.disk(), directory.path(), bytes)
            .map_err(AppendError::untouched)?;
        if let Err(error) = self.active.append(headers, pieces, &self.config) {
            directory
                .condition()
                .on_error(directory.path(), &error.cause);
            self.is_broken = !error.is_cut_back();
            return Err(error);
        }
        directory.condition().on_append(directory.path());
        for header in headers {
            self.note_leader_epoch(header.leader_epoch, header.base_offset);
        }
        Ok(())
    }

    fn header(&self, batch: &[u8], expected: Offset) -> BatchHeader {
        match BatchHeader::parse(batch) {
            Ok(header) if header.size_in_bytes() == batch.len() => {
                assert!(
                    header.base_offset >= expected,
                    "{}: batch at offset {} while the log ends at {expected}",
                    self.home.partition,
                    header.base_offset
                );
                header
            }
            other => panic!(
                "{}: append of what is no batch: {other:?}",
                self.home.partition
            ),
        }
    }

    fn check_writable(&self) -> Result<(), StorageError> {
        if self.is_broken {
            return Err(StorageError::Broken {
                path: self.home.path.clone(),
            });
        }
        Ok(())
    }

    fn publish_view(&mut self) {
        self.check();
        self.published = Arc::new(self.view());
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("partition", &self.home.partition)
            .field("sealed", &self.sealed.len())
            .field("active", &self.active.base_offset)
            .field("log_start_offset", &self.log_start_offset)
            .field("last_stable_offset", &self.last_stable_offset)
            .field("high_watermark", &self.high_watermark)
            .field("log_end_offset", &self.log_end_offset)
            .field("recovery_point", &self.recovery_point)
            .field("is_broken", &self.is_broken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
