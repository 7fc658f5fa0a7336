//! How far each log of a directory is flushed, and of which nobody knows any more.
//!
//! Input: the checkpoint as it is found, and the partitions that are there. Output: recovery
//! points; and whether a log without one was never flushed, or its point is *lost*.
//!
//! ```text
//!   the file                      a log without an entry
//!   whole                         was never flushed: the file is made before the first log
//!   missing or garbled            lost, of every log that is there
//! ```
//!
//! A log whose point is lost may be damaged anywhere, so that recovery takes no damage for a torn
//! end unless nothing speaks against it (`recovery.rs`).
//!
//! Invariants:
//! - the file is not written as long as there is a log whose point is lost: it would then be whole,
//!   and that log one that was never flushed. A log stays one until it was opened, or refused in
//!   writing (`refusal.rs`), or is gone ([`RecoveryPoints::settle`]);
//! - changes meanwhile count in this run, and are written with the first that come after.
//!
//! Source: none; for Kafka 4.1.1 a log without an entry was never flushed, and it is cut.

use std::collections::BTreeSet;
use std::path::PathBuf;

use parking_lot::Mutex;
use skein_env::Disk;
use skein_types::{Offset, TopicPartition};

use super::checkpoint::Checkpoint;
use crate::StorageError;

/// The name of the file.
pub(super) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";

/// The recovery points of a log directory.
pub(super) struct RecoveryPoints {
    checkpoint: Checkpoint,
    /// The logs whose recovery point nobody knows.
    lost: Mutex<BTreeSet<TopicPartition>>,
}

impl RecoveryPoints {
    /// Reads the file at `path`, which is made if there is none of the `partitions`.
    pub(super) fn open(
        disk: &dyn Disk,
        path: PathBuf,
        partitions: impl FnOnce() -> Result<Vec<TopicPartition>, StorageError>,
    ) -> Result<Self, StorageError> {
        let checkpoint = Checkpoint::open(disk, path)?;
        let mut lost = BTreeSet::new();
        if !checkpoint.was_whole() {
            lost.extend(partitions()?);
            if lost.is_empty() {
                checkpoint.write(disk)?;
            } else {
                tracing::warn!(
                    path = %checkpoint.path().display(),
                    logs = lost.len(),
                    "the recovery points are lost; every log is scanned, and none is cut that may \
                     be damaged below its own"
                );
            }
        }
        Ok(Self {
            checkpoint,
            lost: Mutex::new(lost),
        })
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Option<Offset> {
        self.checkpoint.get(partition)
    }

    /// Whether the log was there when its recovery point was not.
    pub(super) fn is_lost(&self, partition: &TopicPartition) -> bool {
        self.lost.lock().contains(partition)
    }

    /// What is known of the log from here on is known without the file.
    pub(super) fn settle(&self, partition: &TopicPartition) {
        self.lost.lock().remove(partition);
    }

    /// As [`Checkpoint::update`], but writes nothing while there are logs whose point is lost.
    pub(super) fn update(
        &self,
        disk: &dyn Disk,
        changes: impl IntoIterator<Item = (TopicPartition, Option<Offset>)>,
    ) -> Result<(), StorageError> {
        if self.lost.lock().is_empty() {
            self.checkpoint.update(disk, changes)
        } else {
            self.checkpoint.remember(changes);
            Ok(())
        }
    }
}
