//! Flushing a log without holding its lock.
//!
//! Input: a log that has written more than it has flushed. Output: a plan that any thread can run,
//! and after it a higher recovery point.
//!
//! ```text
//!   with the lock      without            with the lock
//!   flush_plan ──────► FlushPlan::run ──► complete_flush
//!                      (helpers: `flush/work.rs`)
//! ```
//!
//! Invariants:
//! - the recovery point passes a record only when its bytes, the name of its segment's file, the
//!   indexes of sealed segments, its leader epoch and, if it is the marker of an aborted
//!   transaction, the entry for that are on the disk;
//! - bytes that a former process wrote do not count as flushed because a flush succeeds now: the
//!   first plan writes them anew (`found.rs`);
//! - plans of a log run one after the other, and none after a failed one: the kernel tells of a
//!   failure once, so that the flush of another plan would succeed without the lost pages;
//! - an index that was sealed with its segment stays open until it is flushed, so that no failed
//!   write-back of it is forgotten;
//! - a plan made before a truncation does not move the recovery point afterwards;
//! - after a failed flush nothing is known of the unflushed bytes: the log takes no more writes
//!   ([`Log::flush_failed`]).
//!
//! Source: `UnifiedLog.flush`; "Can Applications Recover from fsync Failures?" (USENIX ATC 2020).

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use skein_env::File;
use skein_types::{Millis, Offset};

use super::Log;
use super::found::{Found, Rewrite};
use super::names::FileKind;
use super::segment::Home;
use crate::StorageError;
use crate::atomic_file;

mod work;

use work::FlushWork;
pub use work::{CallHelper, FlushHelper};

/// So many sealed segments are worth a flush of their own. A stop must flush what is left, of all
/// logs; a crash leaves it to be scanned.
const UNFLUSHED_SEGMENTS_MAX: usize = 8;

/// How much of a log to flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushScope {
    /// The sealed segments: after a roll, so that recovery need not scan them. Everything, as long
    /// as bytes of a former process are to be rewritten.
    Sealed,
    /// Everything that is written.
    All,
}

/// What has to be flushed; run it without the partition's lock.
#[must_use = "a plan flushes nothing until it is run"]
pub struct FlushPlan {
    home: Arc<Home>,
    files: Vec<(PathBuf, Arc<dyn File>)>,
    /// Small files that nobody has open; they may be gone by now.
    paths: Vec<PathBuf>,
    needs_directory: bool,
    flushed: Flushed,
    ticket: u64,
    found: Rewrite,
    rewrites: bool,
    turns: Arc<Turns>,
}

/// The plans of a log: one runs at a time.
#[derive(Default)]
struct Turns {
    /// Locked while a plan runs.
    past: Mutex<Past>,
    /// The files of the plan that runs.
    work: Mutex<Weak<FlushWork>>,
}

/// What came of the plans that have run.
#[derive(Default)]
struct Past {
    has_failed: bool,
    last: Option<Flushed>,
}

/// What a plan has made durable.
#[must_use = "tell the log with `complete_flush`"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// The end of what is on the disk.
    pub end_offset: Offset,
    truncations: u64,
    directory_changes: u64,
    epochs: u64,
    /// Sealed segments up to this one are on the disk.
    sealed: Option<Offset>,
    snapshots: Option<Offset>,
}

/// A sealed segment that is not flushed.
struct Unflushed {
    base_offset: Offset,
    log: Arc<dyn File>,
    indexes: OpenIndexes,
}

/// The index files of a segment that are open since they were written. The kernel tells of a
/// write-back that failed as long as somebody has the file open; it forgets the failure with the
/// last descriptor and the inode, and a flush of the file as it is opened then would succeed.
#[derive(Default)]
pub(crate) struct OpenIndexes {
    pub(crate) offsets: Option<Arc<dyn File>>,
    pub(crate) times: Option<Arc<dyn File>>,
    pub(crate) aborted: Option<Arc<dyn File>>,
}

impl OpenIndexes {
    fn iter(&self) -> impl Iterator<Item = (FileKind, Option<&Arc<dyn File>>)> {
        [
            (FileKind::OffsetIndex, self.offsets.as_ref()),
            (FileKind::TimeIndex, self.times.as_ref()),
            (FileKind::TxnIndex, self.aborted.as_ref()),
        ]
        .into_iter()
    }
}

/// What is written and not flushed.
#[derive(Default)]
pub(super) struct FlushState {
    /// Sealed segments that are not flushed, oldest first.
    sealed: Vec<Unflushed>,
    /// Whether somebody was told to flush them.
    is_sealed_flush_asked: bool,
    /// Snapshots of the producers that are not flushed.
    snapshots: Vec<Offset>,
    /// What a former process left, and no flush has taken along yet.
    pub(super) found: Found,
    pub(super) found_snapshots: Vec<Offset>,
    turns: Arc<Turns>,
    /// Names made in the partition's directory, and how many of them are durable.
    pub(super) directory_changes: u64,
    directory_durable: u64,
    /// Changes of the leader epochs; how many the file has; how many of them are durable.
    pub(super) epochs_version: u64,
    pub(super) epochs_written: u64,
    epochs_durable: u64,
    truncations: u64,
    last_flush: Millis,
    /// The directory's ticket for the name of the partition's own directory.
    ticket: u64,
}

impl FlushState {
    pub(super) fn new(ticket: u64, now: Millis) -> Self {
        // Names of an earlier run may not be durable: the first flush takes care of them.
        Self {
            directory_changes: 1,
            last_flush: now,
            ticket,
            ..Self::default()
        }
    }

    pub(super) fn note_sealed(
        &mut self,
        base_offset: Offset,
        log: Arc<dyn File>,
        indexes: OpenIndexes,
    ) {
        self.sealed.push(Unflushed {
            base_offset,
            log,
            indexes,
        });
        // The sealed segment's indexes, and the file of the next segment.
        self.directory_changes += 1;
    }

    pub(super) fn note_snapshot(&mut self, offset: Offset) {
        self.snapshots.push(offset);
        self.directory_changes += 1;
    }

    /// Whether the partition's directory has names that are not durable.
    pub(super) fn needs_directory(&self) -> bool {
        self.directory_durable < self.directory_changes
    }

    /// The names in the partition's directory are durable as they are.
    pub(super) fn note_directory_synced(&mut self) {
        self.directory_durable = self.directory_changes;
    }

    /// How often the log's end has moved back.
    pub(super) fn truncations(&self) -> u64 {
        self.truncations
    }

    /// Everything from `end_offset` on is gone, durably.
    pub(super) fn note_truncated(&mut self, end_offset: Offset) {
        self.truncations += 1;
        // The flush that was asked for may not count any more.
        self.is_sealed_flush_asked = false;
        self.sealed
            .retain(|segment| segment.base_offset < end_offset);
        self.snapshots.retain(|offset| *offset <= end_offset);
        self.found.forget_from(end_offset);
        self.found_snapshots.retain(|offset| *offset <= end_offset);
    }

    fn complete(&mut self, flushed: &Flushed, now: Millis) {
        self.last_flush = now;
        self.is_sealed_flush_asked = false;
        self.directory_durable = self.directory_durable.max(flushed.directory_changes);
        self.epochs_durable = self.epochs_durable.max(flushed.epochs);
        self.sealed
            .retain(|segment| flushed.sealed.is_none_or(|last| segment.base_offset > last));
        self.snapshots
            .retain(|offset| flushed.snapshots.is_none_or(|last| *offset > last));
        self.found.note_flushed();
    }
}

impl Log {
    /// Whether `flush.messages` or `flush.ms` asks for a flush.
    #[must_use]
    pub fn is_flush_due(&self, now: Millis) -> bool {
        let unflushed = self.log_end_offset.0.saturating_sub(self.recovery_point.0);
        let Ok(unflushed) = u64::try_from(unflushed) else {
            return false;
        };
        let config = &self.config;
        let by_count = config
            .flush_messages
            .is_some_and(|messages| unflushed >= messages);
        let age = now.saturating_sub(self.flush.last_flush);
        let by_age = config.flush_ms.is_some_and(|flush_ms| age >= flush_ms);
        // A broken log has no plan to give.
        !self.is_broken && unflushed > 0 && (by_count || by_age)
    }

    /// Whether so many sealed segments are not flushed that [`FlushScope::Sealed`] is due. It is
    /// said once until a flush completes.
    pub fn take_sealed_flush_due(&mut self) -> bool {
        let state = &mut self.flush;
        let is_due = state.sealed.len() >= UNFLUSHED_SEGMENTS_MAX && !state.is_sealed_flush_asked;
        state.is_sealed_flush_asked |= is_due;
        is_due && !self.is_broken
    }

    /// What to flush now; `None` if all of it is on the disk.
    ///
    /// # Errors
    /// What the disk says of small files that must be written first; then nothing changed.
    pub fn flush_plan(&mut self, scope: FlushScope) -> Result<Option<FlushPlan>, StorageError> {
        self.check_writable()?;
        let scope = if self.flush.found.is_empty() {
            scope
        } else {
            FlushScope::All
        };
        let end_offset = match scope {
            FlushScope::Sealed => self.active.base_offset,
            FlushScope::All => self.log_end_offset,
        };
        if end_offset <= self.recovery_point {
            self.tell_segment_times();
            return Ok(None);
        }
        self.plan(scope, end_offset).map(Some)
    }

    fn plan(&mut self, scope: FlushScope, end_offset: Offset) -> Result<FlushPlan, StorageError> {
        self.write_changed_epochs()?;
        self.rewrite_found_snapshots()?;
        self.write_aborted()?;
        let state = &self.flush;
        let (mut files, mut paths) = (Vec::new(), Vec::new());
        for segment in &state.sealed {
            let path = |kind| self.home.file(segment.base_offset, kind);
            files.push((path(FileKind::Log), Arc::clone(&segment.log)));
            for (kind, file) in segment.indexes.iter() {
                match file {
                    Some(file) => files.push((path(kind), Arc::clone(file))),
                    None => paths.push(path(kind)),
                }
            }
        }
        if self.active.aborted.has_file() {
            let base_offset = self.active.base_offset;
            paths.push(self.home.file(base_offset, FileKind::TxnIndex));
        }
        for offset in &state.snapshots {
            paths.push(self.home.file(*offset, FileKind::Snapshot));
        }
        if state.epochs_durable < state.epochs_written {
            paths.push(self.home.leader_epochs_path());
        }
        if scope == FlushScope::All {
            let path = self.active.file.path().to_path_buf();
            files.push((path, Arc::clone(self.active.file.file())));
        }
        Ok(FlushPlan {
            home: Arc::clone(&self.home),
            files,
            paths,
            needs_directory: state.needs_directory(),
            flushed: Flushed {
                end_offset,
                truncations: state.truncations,
                directory_changes: state.directory_changes,
                epochs: state.epochs_written,
                sealed: state.sealed.last().map(|segment| segment.base_offset),
                snapshots: state.snapshots.iter().max().copied(),
            },
            ticket: state.ticket,
            found: state.found.rest(),
            rewrites: !state.found.is_empty(),
            turns: Arc::clone(&state.turns),
        })
    }

    /// Takes note of a plan that has run. Returns the recovery point.
    pub fn complete_flush(&mut self, flushed: &Flushed, now: Millis) -> Offset {
        // After a truncation the plan's files and offsets mean something else.
        if flushed.truncations == self.flush.truncations {
            self.flush.complete(flushed, now);
            self.recovery_point = self.recovery_point.max(flushed.end_offset);
            self.check();
            self.tell_segment_times();
        }
        self.recovery_point
    }

    /// A plan failed: the log takes no more writes, and its replica must go offline.
    pub fn flush_failed(&mut self, error: &StorageError) {
        self.is_broken = true;
        let directory = &self.home.directory;
        directory.condition().on_error(directory.path(), error);
    }

    /// Flushes everything that is written, at once.
    ///
    /// # Errors
    /// What the disk says; then the log takes no more writes.
    pub fn flush(&mut self, now: Millis) -> Result<Offset, StorageError> {
        if let Some(plan) = self.flush_plan(FlushScope::All)? {
            let flushed = plan.run().inspect_err(|error| self.flush_failed(error))?;
            self.complete_flush(&flushed, now);
        }
        Ok(self.recovery_point)
    }

    /// Flushes batches, indexes and small files, also where no record is unflushed.
    pub(super) fn flush_all(
        &mut self,
        now: Millis,
        helper: CallHelper<'_>,
    ) -> Result<Offset, StorageError> {
        let plan = self.plan(FlushScope::All, self.log_end_offset)?;
        self.active.indexer.flush()?;
        let flushed = plan
            .run_with(helper)
            .inspect_err(|error| self.flush_failed(error))?;
        self.complete_flush(&flushed, now);
        Ok(self.recovery_point)
    }

    /// Helps the plan that runs, waits for its end, and takes note of it: whoever began it may not
    /// come back to the log, and all of its files would be flushed once more.
    pub(super) fn join_flush(&mut self, now: Millis, helper: CallHelper<'_>) {
        let turns = Arc::clone(&self.flush.turns);
        let work = turns.work.lock().upgrade();
        if let Some(work) = work {
            work.call(helper);
            work.take_part();
        }
        let last = turns.past.lock().last.take();
        if let Some(flushed) = last {
            self.complete_flush(&flushed, now);
        }
    }
}

impl FlushPlan {
    /// The end of what will be on the disk.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.flushed.end_offset
    }

    /// Whether the plan was asked to write anew what a former process left, which takes as long as
    /// writing it.
    #[must_use]
    pub fn rewrites(&self) -> bool {
        self.rewrites
    }

    /// Makes it all durable. Blocks for as long as the device takes.
    ///
    /// # Errors
    /// What the disk says. Call [`Log::flush_failed`] then: the unflushed bytes may be lost.
    pub fn run(self) -> Result<Flushed, StorageError> {
        self.run_with(&drop)
    }

    /// As [`FlushPlan::run`]; with very many files it asks `helper` for threads.
    ///
    /// # Errors
    /// As [`FlushPlan::run`].
    pub fn run_with(self, helper: CallHelper<'_>) -> Result<Flushed, StorageError> {
        let turns = Arc::clone(&self.turns);
        let mut past = turns.past.lock();
        if past.has_failed {
            let path = self.home.path.clone();
            return Err(StorageError::Broken { path });
        }
        let result = self.run_alone(helper);
        match &result {
            Ok(flushed) => past.last = Some(flushed.clone()),
            Err(_) => past.has_failed = true,
        }
        result
    }

    fn run_alone(self, helper: CallHelper<'_>) -> Result<Flushed, StorageError> {
        self.found.run(&self.home)?;
        let work = FlushWork::new(Arc::clone(&self.home), self.files, self.paths);
        *self.turns.work.lock() = Arc::downgrade(&work);
        work.call(helper);
        work.run()?;
        if self.needs_directory {
            atomic_file::sync_directory(&**self.home.disk(), &self.home.path)?;
        }
        self.home.directory.sync_created(self.ticket)?;
        Ok(self.flushed)
    }
}
