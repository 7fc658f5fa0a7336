//! Snapshots of the producers' states, and their replay from batches.
//!
//! Input: the states as of the log's end. Output: `<offset>.snapshot` files, and the states again,
//! as of any offset that the log still has.
//!
//! Invariants:
//! - a snapshot holds exactly the batches below the offset in its name (asserted when it is
//!   written);
//! - a snapshot does not outlive the batches that it tells of: when the log's end moves back, those
//!   above it are removed durably, before other batches can take their offsets;
//! - a snapshot that a former process may not have flushed is written anew before a flush counts
//!   for it: it may be in the page cache only;
//! - of the snapshots below the first segment only the newest is kept, as no offset below it can
//!   become the log's end again.
//!
//! Source: KIP-98; `ProducerStateManager` of Kafka 4.1.1.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use skein_env::Disk;
use skein_record::{AbortedTxn, CompletedTxn, LeaderEpochs, ProducerStates};
use skein_types::Offset;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};

use super::Log;
use super::batches::{BatchWalk, Visited};
use super::names::FileKind;
use super::segment::Home;
use super::view::LogView;
use crate::StorageError;
use crate::atomic_file;
use crate::segment_file::scan_frames;

impl Log {
    /// Whether segments were rolled since the last snapshot: call [`Log::write_snapshot`] as soon
    /// as the producers' states are those of the log's end.
    #[must_use]
    pub fn is_snapshot_due(&self) -> bool {
        // A log that takes nothing more gets none: its replica's states may not be those of its
        // end.
        self.is_snapshot_due && !self.is_broken
    }

    /// Writes a snapshot at the log's end. It is flushed with the log.
    ///
    /// # Errors
    /// What the disk says; an older snapshot and the batches behind it serve as well.
    ///
    /// # Panics
    /// If `producers` are not as of the log's end: a bug.
    pub fn write_snapshot(&mut self, producers: &ProducerStates) -> Result<(), StorageError> {
        self.check_writable()?;
        let offset = self.log_end_offset;
        assert!(
            producers.map_end_offset() == offset,
            "{}: producers as of {}, the log ends at {offset}",
            self.home.partition,
            producers.map_end_offset()
        );
        let path = self.home.file(offset, FileKind::Snapshot);
        let content = producers.snapshot();
        atomic_file::replace_unflushed(&**self.home.small_disk(), &path, &content, false)?;
        self.flush.note_snapshot(offset);
        self.is_snapshot_due = false;
        Ok(())
    }

    /// Writes the snapshots of a former process anew, so that the next flush takes them along.
    pub(super) fn rewrite_found_snapshots(&mut self) -> Result<(), StorageError> {
        let disk = Arc::clone(self.home.small_disk());
        while let Some(offset) = self.flush.found_snapshots.last().copied() {
            let path = self.home.file(offset, FileKind::Snapshot);
            if let Some(content) = atomic_file::read(&*disk, &path)? {
                atomic_file::replace_unflushed(&*disk, &path, &content, false)?;
                self.flush.note_snapshot(offset);
            }
            self.flush.found_snapshots.pop();
        }
        Ok(())
    }
}

/// The offsets of the snapshots in the log's directory, in order.
pub(super) fn list(home: &Home) -> Result<Vec<Offset>, StorageError> {
    let entries = home
        .disk()
        .read_directory(&home.path)
        .map_err(|source| StorageError::io("list", &home.path, source))?;
    let names = entries.iter().filter_map(|(name, _)| name.to_str());
    Ok(names
        .filter_map(|name| match super::names::parse(name) {
            super::names::Name::Segment(offset, FileKind::Snapshot) => Some(offset),
            _ => None,
        })
        .collect())
}

/// Removes snapshots above `end`, whose batches are gone, durably; and all but the newest at or
/// below `start`. Returns those that stay: to list a large directory once more takes a while.
pub(super) fn prune(home: &Home, start: Offset, end: Offset) -> Result<Vec<Offset>, StorageError> {
    let mut offsets = list(home)?;
    let base = offsets
        .iter()
        .rev()
        .find(|offset| **offset <= start)
        .copied();
    let disk = &**home.disk();
    let is_obsolete = |offset: &Offset| *offset > end || base.is_some_and(|base| *offset < base);
    for offset in &offsets {
        if is_obsolete(offset) {
            atomic_file::remove(disk, &home.file(*offset, FileKind::Snapshot))?;
        }
    }
    if offsets.last().is_some_and(|newest| *newest > end) {
        atomic_file::sync_directory(disk, &home.path)?;
    }
    offsets.retain(|offset| !is_obsolete(offset));
    Ok(offsets)
}

/// Reads the states and epochs of a log back.
pub(super) struct Replay<'a> {
    pub(super) view: &'a LogView,
    /// The snapshots that there are, in order.
    pub(super) snapshots: &'a [Offset],
}

/// What was read back.
pub(super) struct Replayed {
    /// The producers as of the view's end.
    pub(super) producers: ProducerStates,
    /// Up to where the snapshot tells of them; what lies behind only the batches tell.
    pub(super) snapshot_offset: Offset,
}

impl Replay<'_> {
    /// The producers by the newest good snapshot and the batches behind it. If `epochs` is given,
    /// epochs from its offset on are noted as well.
    pub(super) fn run(
        &self,
        mut epochs: Option<(Offset, &mut LeaderEpochs)>,
    ) -> Result<Replayed, StorageError> {
        let mut producers = self.newest_snapshot(self.view.log_end_offset)?;
        let snapshot_offset = producers.map_end_offset();
        let mut start = snapshot_offset;
        if let Some((from, _)) = &epochs {
            start = start.min(*from);
        }
        let end = self.view.log_end_offset;
        let first = if start >= end {
            self.view.sealed.len() + 1
        } else {
            self.view.segment_number(start)
        };
        for number in first..=self.view.sealed.len() {
            self.walk(number, start, |visited| {
                if let Some((from, epochs)) = &mut epochs
                    && visited.header.base_offset >= *from
                {
                    epochs.assign(visited.header.leader_epoch, visited.header.base_offset);
                }
                replay_batch(&mut producers, visited).map(drop)
            })?;
        }
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::ProducerSnapshotLost) {
            producers = ProducerStates::starting_at(end);
        }
        // Compaction may have removed the last batches before the end.
        producers.on_log_start(end);
        Ok(Replayed {
            producers,
            snapshot_offset,
        })
    }

    /// The transactions that markers in this range have aborted. Not asked of [`Replay::run`]: the
    /// newest snapshot may lie above the first marker, and an older one may lack producers whose
    /// records are deleted.
    pub(super) fn aborted_in(
        &self,
        markers: Range<Offset>,
    ) -> Result<Vec<AbortedTxn>, StorageError> {
        let mut aborted = Vec::new();
        if markers.is_empty() {
            return Ok(aborted);
        }
        let mut producers = self.newest_snapshot(markers.start)?;
        let start = producers.map_end_offset();
        for number in self.view.segment_number(start)..=self.view.sealed.len() {
            if self.view.base_offset(number) >= markers.end {
                break;
            }
            self.walk(number, start, |visited| {
                let completed = replay_batch(&mut producers, visited)?;
                let txn = completed.and_then(|completed| completed.aborted());
                aborted.extend(txn.filter(|txn| markers.contains(&txn.last_offset)));
                Ok(())
            })?;
        }
        Ok(aborted)
    }

    fn walk(
        &self,
        number: usize,
        start: Offset,
        mut visit: impl FnMut(&Visited<'_>) -> Result<(), &'static str>,
    ) -> Result<(), StorageError> {
        let segment = self.view.segment(number)?;
        let Some(first) = segment.find_batch(start.max(segment.base_offset))? else {
            return Ok(());
        };
        let mut walk = BatchWalk {
            expected: segment.base_offset,
            dense_from: Offset(i64::MAX),
            end: self.view.end_offset(number),
            verify_from: Offset(i64::MAX),
            visit: |visited: Visited<'_>| visit(&visited),
        };
        let range = first.position..segment.end_position;
        let scan = scan_frames(&*segment.file, &segment.path, range, &mut walk)?;
        match scan.fault {
            Some(reason) => Err(StorageError::corrupt(&segment.path, scan.end, reason)),
            None => Ok(()),
        }
    }

    /// The producers by the newest good snapshot up to `limit`.
    fn newest_snapshot(&self, limit: Offset) -> Result<ProducerStates, StorageError> {
        let home = &self.view.home;
        let first = self.view.base_offset(0);
        for offset in self
            .snapshots
            .iter()
            .rev()
            .filter(|offset| **offset <= limit)
        {
            let path = home.file(*offset, FileKind::Snapshot);
            if let Some(mut producers) = self.load(&path, *offset)? {
                producers.on_log_start(first);
                return Ok(producers);
            }
        }
        Ok(ProducerStates::starting_at(first))
    }

    fn load(&self, path: &Path, offset: Offset) -> Result<Option<ProducerStates>, StorageError> {
        let disk: &dyn Disk = &**self.view.home.disk();
        let Some(content) = atomic_file::read(disk, path)? else {
            return Ok(None);
        };
        match ProducerStates::load(&content, offset) {
            Ok(producers) => Ok(Some(producers)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "using an older snapshot instead");
                Ok(None)
            }
        }
    }
}

/// Takes in a batch unless the snapshot had it. Returns the transaction that it ends.
fn replay_batch(
    producers: &mut ProducerStates,
    visited: &Visited<'_>,
) -> Result<Option<CompletedTxn>, &'static str> {
    let header = visited.header;
    if header.base_offset < producers.map_end_offset() {
        return Ok(None);
    }
    match &visited.batch {
        Some(batch) => {
            let replayed = producers.replay(batch);
            replayed
                .map(|(_, completed)| completed)
                .map_err(|_| "the producers' states cannot take in the batch")
        }
        None => {
            drop(producers.reserve(header, header.base_offset));
            Ok(None)
        }
    }
}
