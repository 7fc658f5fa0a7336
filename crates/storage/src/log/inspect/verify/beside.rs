//! What lies beside the segments: epochs, snapshots, aborted transactions, the topic id.
//!
//! Input: the files that are no segments, and where the log ends. Output: those that can't be read
//! or speak of offsets that the log does not have.
//!
//! Invariants: a file that is gone when it is opened makes no finding.
//!
//! Source: `log/epochs.rs`, `log/snapshots.rs`, `log_directory/checkpoint.rs`.

use std::path::{Path, PathBuf};

use skein_record::{ABORTED_TXN_BYTES, AbortedTxn, LeaderEpochs, ProducerStates};
use skein_types::Offset;

use super::{REMEDY_INDEX, REMEDY_LEFTOVER, REMEDY_MISSING, Verify, Weight};
use crate::StorageError;
use crate::log::inspect::partition::{FileName, read_small_file, topic_id};
use crate::log::segment_times::{self, SEGMENT_TIMESTAMPS, SegmentTimestamp};

const REMEDY_SNAPSHOT: &str = "stop the node and remove the file; producers are read from an older \
                               snapshot and the batches behind it";
const REMEDY_TXN_INDEX: &str = "nothing: a node makes it anew from the log at its first use; \
                                without the file it would take no transaction for aborted";
const REMEDY_MISPLACED: &str =
    "move it away, and restore the file from a backup or another replica";
const REMEDY_TOPIC_ID: &str = "nothing: the next start of the node writes it anew, with the id of \
                               the topic that has the directory's name; check that it is this one";
const REMEDY_CHECKPOINT: &str = "acknowledged records are gone from the end of the log: restore \
                                 its last segment from a backup or another replica";

impl Verify<'_> {
    pub(super) fn compare_checkpoints(&mut self) {
        let end = self.verified.end_offset;
        let path = self.files.directory.clone();
        if self.files.segments.is_empty() {
            let recovery_point = self.offsets.recovery_point;
            if let Some(offset) = recovery_point.filter(|offset| *offset > Offset::ZERO) {
                let what = format!("its segments are missing, and its recovery point is {offset}");
                let at = (None, Some(Offset::ZERO));
                self.add(Weight::Damage, &path, at, what, REMEDY_MISSING);
            }
            return;
        }
        if self.is_broken {
            return;
        }
        let offsets = [
            ("recovery point", self.offsets.recovery_point),
            ("high watermark", self.offsets.high_watermark),
            ("log start", self.offsets.log_start),
        ];
        for (name, offset) in offsets {
            if let Some(offset) = offset.filter(|offset| *offset > end) {
                let what = format!("the {name} is {offset}, and the log ends at {end}");
                self.add(
                    Weight::Damage,
                    &path,
                    (None, Some(end)),
                    what,
                    REMEDY_CHECKPOINT,
                );
            }
        }
    }

    pub(super) fn epochs_path(&self) -> PathBuf {
        self.files.directory.join("leader-epoch-checkpoint")
    }

    pub(super) fn read_epochs(&mut self) -> Result<(), StorageError> {
        let path = self.epochs_path();
        if !self.files.files.contains(&path) {
            return Ok(());
        }
        match read_small_file(self.disk, &path)?.map(|content| LeaderEpochs::decode(&content)) {
            None => {}
            Some(Ok(epochs)) => self.epochs = Some(epochs),
            Some(Err(error)) => {
                self.add(
                    Weight::Damage,
                    &path,
                    (None, None),
                    error.to_string(),
                    super::REMEDY_EPOCHS,
                );
            }
        }
        Ok(())
    }

    pub(super) fn misplaced(&mut self) {
        for path in &self.files.misplaced {
            let what = "it is no file, and stands in the place of one";
            self.add(Weight::Damage, path, (None, None), what, REMEDY_MISPLACED);
        }
    }

    /// The files that are no segments.
    pub(super) fn others(&mut self) -> Result<(), StorageError> {
        let files = self.files;
        for path in &files.files {
            match FileName::of(path) {
                FileName::Snapshot(offset) => self.snapshot(path, offset)?,
                FileName::TxnIndex(base) => self.txn_index(path, base)?,
                FileName::SegmentTimes => self.segment_times(path)?,
                FileName::PartitionMetadata => self.topic_id(path)?,
                FileName::OffsetIndex(base) | FileName::TimeIndex(base)
                    if files.segments.binary_search(&base).is_err() =>
                {
                    let what = "an index without its log";
                    self.add(
                        Weight::Note,
                        path,
                        (None, Some(base)),
                        what,
                        REMEDY_LEFTOVER,
                    );
                }
                FileName::Leftover => {
                    let what = "an interrupted step left this file behind";
                    self.add(Weight::Note, path, (None, None), what, REMEDY_LEFTOVER);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn topic_id(&mut self, path: &Path) -> Result<(), StorageError> {
        if topic_id(self.disk, &self.files.directory)?.is_none() && self.is_there(path)? {
            let what = "there is no topic id in it";
            self.add(Weight::Note, path, (None, None), what, REMEDY_TOPIC_ID);
        }
        Ok(())
    }

    fn is_there(&self, path: &Path) -> Result<bool, StorageError> {
        Ok(read_small_file(self.disk, path)?.is_some())
    }

    pub(super) fn segment_times_path(&self) -> PathBuf {
        self.files.directory.join(SEGMENT_TIMESTAMPS)
    }

    /// What the file says now; nothing without it. What is torn a node makes anew.
    pub(super) fn read_segment_times(&self) -> Result<Vec<SegmentTimestamp>, StorageError> {
        let path = self.segment_times_path();
        if !self.files.files.contains(&path) {
            return Ok(Vec::new());
        }
        let content = read_small_file(self.disk, &path)?;
        Ok(content.map_or_else(Vec::new, |content| segment_times::decode(&content).0))
    }

    /// Damage is what a node would believe: of a segment of the same size.
    fn segment_times(&mut self, path: &Path) -> Result<(), StorageError> {
        let still = self.read_segment_times()?;
        for entry in std::mem::take(&mut self.segment_times) {
            let base_offset = entry.base_offset;
            let is_still_said = still
                .binary_search_by_key(&base_offset, |entry| entry.base_offset)
                .is_ok_and(|number| still[number] == entry);
            if !is_still_said {
                continue;
            }
            let Some((size, newest)) = self.whole_segments.get(&entry.base_offset).copied() else {
                continue;
            };
            if size == entry.size && newest != entry.newest.timestamp {
                let what = format!(
                    "it says that the segment's largest timestamp is {}, and it is {newest}: \
                     lookups by time miss records",
                    entry.newest.timestamp
                );
                let at = (None, Some(entry.base_offset));
                self.add(Weight::Damage, path, at, what, REMEDY_INDEX);
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, path: &Path, offset: Offset) -> Result<(), StorageError> {
        let Some(content) = read_small_file(self.disk, path)? else {
            return Ok(());
        };
        if let Err(error) = ProducerStates::load(&content, offset) {
            let at = (None, Some(offset));
            self.add(Weight::Damage, path, at, error.to_string(), REMEDY_SNAPSHOT);
        } else if offset > self.verified.end_offset && !self.is_broken {
            let what = format!("it lies above the log's end, {}", self.verified.end_offset);
            self.add(
                Weight::Damage,
                path,
                (None, Some(offset)),
                what,
                REMEDY_SNAPSHOT,
            );
        }
        Ok(())
    }

    fn txn_index(&mut self, path: &Path, base: Offset) -> Result<(), StorageError> {
        let Some(content) = read_small_file(self.disk, path)? else {
            return Ok(());
        };
        let behind = self.files.segments.iter().find(|other| **other > base);
        let markers = base..behind.copied().unwrap_or(Offset(i64::MAX));
        for (number, entry) in AbortedTxn::decode_all(&content).enumerate() {
            let position = Some((number * ABORTED_TXN_BYTES) as u64);
            let what = match entry {
                Ok(entry) if markers.contains(&entry.last_offset) => continue,
                Ok(entry) => format!("the transaction ends at {}", entry.last_offset),
                Err(error) => error.to_string(),
            };
            self.add(
                Weight::Damage,
                path,
                (position, Some(base)),
                what,
                REMEDY_TXN_INDEX,
            );
        }
        Ok(())
    }
}
