//! The leader epochs of a log and their file.
//!
//! Input: the epochs of what is appended, and those the replica knows. Output:
//! `leader-epoch-checkpoint`.
//!
//! Invariants: the file holds every epoch below the recovery point: it is written before a flush
//! that moves the recovery point past one, and flushed with it. Above, recovery reads the epochs
//! from the batches.
//!
//! Source: KIP-101, KIP-279; `LeaderEpochFileCache`.

use std::path::PathBuf;

use skein_env::Disk;
use skein_record::LeaderEpochs;
use skein_types::{LeaderEpoch, Offset};

use super::Log;
use super::segment::Home;
use crate::StorageError;
use crate::atomic_file;

const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";

impl Log {
    /// The epochs of the log's batches, and those assigned ahead of them.
    #[must_use]
    pub fn leader_epochs(&self) -> &LeaderEpochs {
        &self.leader_epochs
    }

    /// Takes over the replica's epochs and writes `leader-epoch-checkpoint`. A power cut may lose
    /// the write; then the epochs are read from the batches again.
    ///
    /// # Errors
    /// What the disk says; the file is then as it was.
    pub fn write_leader_epochs(&mut self, epochs: &LeaderEpochs) -> Result<(), StorageError> {
        self.check_writable()?;
        if self.leader_epochs != *epochs {
            self.leader_epochs = epochs.clone();
            self.flush.epochs_version += 1;
        }
        self.write_changed_epochs()
    }

    /// Notes the epoch of a batch that was appended.
    pub(super) fn note_leader_epoch(&mut self, epoch: LeaderEpoch, start_offset: Offset) {
        if self.leader_epochs.assign(epoch, start_offset) {
            self.flush.epochs_version += 1;
        }
    }

    /// Writes the file if it lacks a change. It is not flushed.
    pub(super) fn write_changed_epochs(&mut self) -> Result<(), StorageError> {
        if self.flush.epochs_written == self.flush.epochs_version {
            return Ok(());
        }
        let text = self.leader_epochs.encode();
        let path = self.home.leader_epochs_path();
        atomic_file::replace_unflushed(&**self.home.small_disk(), &path, text.as_bytes(), false)?;
        self.flush.epochs_written = self.flush.epochs_version;
        self.flush.directory_changes += 1;
        Ok(())
    }
}

impl Home {
    pub(super) fn leader_epochs_path(&self) -> PathBuf {
        self.path.join(LEADER_EPOCH_CHECKPOINT)
    }
}

/// The epochs in the log's checkpoint; `None` if it is missing or garbled.
pub(super) fn read(disk: &dyn Disk, home: &Home) -> Result<Option<LeaderEpochs>, StorageError> {
    let path = home.leader_epochs_path();
    let Some(content) = atomic_file::read(disk, &path)? else {
        return Ok(None);
    };
    if !content.ends_with(b"\n") {
        // It was never flushed: the last number may lack digits.
        let path = path.display();
        tracing::warn!(%path, "reading the leader epochs from the batches instead");
        return Ok(None);
    }
    match LeaderEpochs::decode(&content) {
        Ok(epochs) => Ok(Some(epochs)),
        Err(error) => {
            tracing::warn!(
                path = %path.display(),
                %error,
                "reading the leader epochs from the batches instead"
            );
            Ok(None)
        }
    }
}
