//! Compaction: of each key only the last record stays.
//!
//! Input: the sealed segments of a log, and up to where they may be compacted. Output: fewer and
//! smaller segments in their place, with the same offsets.
//!
//! ```text
//!   compacted before          to be compacted        not yet
//!   ├─────────────────────────┼──────────────────────┼───────────────── active ▸
//!   log start          first dirty offset     limit: last stable offset, high watermark,
//!                                             recovery point, min.compaction.lag.ms
//!
//!   1  scan    [dirty)         what became of transactions; how many keys at most
//!   2  map     [dirty)         hash of each key ─► its last offset; ends where memory does
//!   3  write   [start, dirty)  group by group: what stays ─► `.cleaned` ─► flushed
//!   4  swap    with the log    `.swap` ─► checkpoint ─► sources go ─► its place (`swap.rs`)
//! ```
//!
//! Steps 1 to 3 need no lock: sealed segments never change. They are cut into small steps, so that
//! the caller can spread them over time ([`Compaction::step`]).
//!
//! Invariants:
//! - nothing at or past the limit is looked at; no record goes whose key has none behind it, but a
//!   tombstone past its horizon (`rules.rs`);
//! - a group's last batch stays, empty if need be: a `.swap` tells by it what it replaces;
//! - what is copied or counted bears its checksum;
//! - a log that was truncated since is left alone (`swap.rs`).
//!
//! Source: `LogCleaner`, `Cleaner` and `LogCleanerManager` of Kafka 4.1.1; KIP-58, KIP-354,
//! KIP-534.

use std::path::PathBuf;
use std::sync::Arc;

use skein_record::{AbortedTxn, BatchError, ProducerStates};
use skein_types::{Millis, Offset};

use super::Log;
use super::index::IndexView;
use super::names::{self, Name};
use super::segment::{Home, SealedSegment};
use super::segment_list::SegmentList;
use super::view::LogView;
use crate::log_directory::CheckpointFile;
use crate::{LogConfig, StorageError};

mod cleaned;
mod dirty;
mod groups;
mod offset_map;
mod pass;
mod reader;
mod rules;
mod swap;

pub use cleaned::CleanedSegment;
pub use dirty::{CompactionSettings, Dirty};
pub use pass::{Compaction, CompactionBudget, CompactionStats, CompactionStep, Completion};
use rules::LastBatches;
pub use swap::Swapped;
pub(super) use swap::finish as finish_swap;

/// Bytes of one read or write. Where the kernel is not preemptible, whoever wakes up on this
/// processor waits until the call comes back: writing a megabyte to memory that a virtual machine
/// has not touched before takes more than two milliseconds.
const CALL_MAX_BYTES: usize = 32 * 1024;

/// A log as compaction needs it, as of one moment.
pub struct CompactionSource {
    home: Arc<Home>,
    config: LogConfig,
    sealed: Arc<SegmentList>,
    view: LogView,
    limits: dirty::Limits,
    truncations: u64,
    producers: LastBatches,
}

/// Why a compaction cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// The disk failed, or what is on it is not what was written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A batch whose records cannot be read.
    #[error("{} holds a batch at offset {base_offset}, byte {position}, that cannot be compacted: \
             {source}", .path.display())]
    Batch {
        /// The segment's file.
        path: PathBuf,
        /// First offset of the batch.
        base_offset: Offset,
        /// Where it begins in the file, in bytes.
        position: u64,
        /// What is wrong with it.
        source: BatchError,
    },
    /// What is left of a segment is larger than a segment may be.
    #[error("what is left of {} is too large for a segment", .path.display())]
    TooLarge {
        /// The segment's file.
        path: PathBuf,
    },
}

impl CompactionError {
    /// The first offset of the segment that cannot be compacted whatever is done. `None` where the
    /// same compaction may succeed later: there was no room, the device failed, or retention was
    /// faster.
    #[must_use]
    pub fn bad_segment(&self) -> Option<Offset> {
        let path = match self {
            Self::Storage(StorageError::Corrupt { path, .. })
            | Self::Batch { path, .. }
            | Self::TooLarge { path } => path,
            Self::Storage(_) => return None,
        };
        // What is wrong is in a file of a segment; if it were not, only a restart would help.
        let name = path.file_name().and_then(|name| name.to_str());
        match names::parse(name.unwrap_or_default()) {
            Name::Segment(base_offset, _) => Some(base_offset),
            _ => Some(Offset(i64::MAX)),
        }
    }
}

impl Log {
    /// What a compaction needs to know of the log. `producers` are those as of its end.
    #[must_use]
    pub fn compaction_source(&self, producers: Option<&ProducerStates>) -> CompactionSource {
        let home = &self.home;
        CompactionSource {
            home: Arc::clone(home),
            config: self.config,
            sealed: Arc::clone(&self.sealed),
            view: self.view(),
            limits: dirty::Limits {
                log_start_offset: self.log_start_offset,
                end: self
                    .last_stable_offset
                    .min(self.high_watermark)
                    .min(self.recovery_point),
                cleaned_end: home
                    .directory
                    .checkpointed(CheckpointFile::Cleaner, &home.partition),
            },
            truncations: self.flush.truncations(),
            producers: producers.map(rules::last_batches).unwrap_or_default(),
        }
    }
}

impl CompactionSource {
    /// The transaction indexes of these segments, of those that have one.
    fn aborted_of(
        &self,
        segments: &[Arc<SealedSegment>],
    ) -> Result<Vec<IndexView<AbortedTxn>>, StorageError> {
        let mut indexes = Vec::new();
        for segment in segments.iter().filter(|segment| segment.has_aborted()) {
            let number = self.view.segment_number(segment.base_offset);
            indexes.extend(self.view.aborted_index(number)?);
        }
        Ok(indexes)
    }

    /// What is to be compacted now; `None` if nothing may be. Opens indexes.
    ///
    /// # Errors
    /// What the disk says.
    pub fn dirty(
        &self,
        settings: &CompactionSettings,
        now: Millis,
    ) -> Result<Option<Dirty>, StorageError> {
        let segments: Vec<_> = self.sealed.iter().cloned().collect();
        let facts = dirty::Facts {
            segments: &segments,
            limits: self.limits,
        };
        facts.dirty(settings, now)
    }
}
