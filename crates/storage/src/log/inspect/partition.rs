//! The files of a partition, and what the checkpoints of its log directory say of it.
//!
//! Input: a directory. Output: its segments in order, the other files, the checkpointed offsets.
//!
//! Invariants: none of the files is opened by listing them; a name that means nothing is told, not
//! left out.
//!
//! Source: `log/names.rs`, the head of `log_directory.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use skein_env::{Disk, EntryKind};
use skein_types::{Offset, TopicId, TopicPartition};

use crate::atomic_file;
use crate::log::names::{self, FileKind, Name};
use crate::log::refusal;
use crate::log::segment_times::SEGMENT_TIMESTAMPS;
use crate::log_directory::{META_PROPERTIES, parse_partition, read_clean_shutdown, read_topic_id};
use crate::{Severity, StorageError};

/// The checkpoints of a log directory: names, and what their offsets are.
pub const CHECKPOINTS: [(&str, &str); 4] = [
    ("recovery-point-offset-checkpoint", "recovery point"),
    ("replication-offset-checkpoint", "high watermark"),
    ("log-start-offset-checkpoint", "log start"),
    ("cleaner-offset-checkpoint", "compacted up to"),
];

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileName {
    /// Batches.
    Log(Offset),
    /// Offsets to positions.
    OffsetIndex(Offset),
    /// Timestamps to offsets.
    TimeIndex(Offset),
    /// Aborted transactions.
    TxnIndex(Offset),
    /// Producers as of this offset.
    Snapshot(Offset),
    /// Where each leader epoch began.
    LeaderEpochs,
    /// The largest timestamps of segments.
    SegmentTimes,
    /// The topic id.
    PartitionMetadata,
    /// One of [`CHECKPOINTS`].
    Checkpoint,
    /// Whose directory it is.
    MetaProperties,
    /// What an interrupted step left behind.
    Leftover,
    /// Something else.
    Other,
}

impl FileName {
    /// What the file at `path` is.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Self::Other;
        };
        match (names::parse(name), name) {
            (Name::Segment(base, FileKind::Log), _) => Self::Log(base),
            (Name::Segment(base, FileKind::OffsetIndex), _) => Self::OffsetIndex(base),
            (Name::Segment(base, FileKind::TimeIndex), _) => Self::TimeIndex(base),
            (Name::Segment(base, FileKind::TxnIndex), _) => Self::TxnIndex(base),
            (Name::Segment(base, FileKind::Snapshot), _) => Self::Snapshot(base),
            (Name::Leftover(_), _) => Self::Leftover,
            (Name::Other, "leader-epoch-checkpoint") => Self::LeaderEpochs,
            (Name::Other, SEGMENT_TIMESTAMPS) => Self::SegmentTimes,
            (Name::Other, "partition.metadata") => Self::PartitionMetadata,
            (Name::Other, META_PROPERTIES) => Self::MetaProperties,
            (Name::Other, name) if CHECKPOINTS.iter().any(|(file, _)| *file == name) => {
                Self::Checkpoint
            }
            (Name::Other, _) => Self::Other,
        }
    }
}

/// The files of one partition.
#[derive(Clone, Debug)]
pub struct PartitionFiles {
    /// The directory.
    pub directory: PathBuf,
    /// The partition, if the directory has the name of one.
    pub partition: Option<TopicPartition>,
    /// Where its segments begin.
    pub segments: Vec<Offset>,
    /// The offsets of its snapshots.
    pub snapshots: Vec<Offset>,
    /// Every file of the directory, by name.
    pub files: BTreeSet<PathBuf>,
    /// What has the name of one of its files, and is none.
    pub misplaced: Vec<PathBuf>,
}

impl PartitionFiles {
    /// Lists the directory `directory`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn list(disk: &dyn Disk, directory: &Path) -> Result<Self, StorageError> {
        let name = directory.file_name().and_then(|name| name.to_str());
        let mut found = Self {
            directory: directory.to_path_buf(),
            partition: name.and_then(parse_partition),
            segments: Vec::new(),
            snapshots: Vec::new(),
            files: BTreeSet::new(),
            misplaced: Vec::new(),
        };
        for (name, kind) in entries(disk, directory)? {
            let path = directory.join(name);
            let meaning = FileName::of(&path);
            if !matches!(kind, EntryKind::File(_)) {
                if !matches!(meaning, FileName::Other) {
                    found.misplaced.push(path);
                }
                continue;
            }
            match meaning {
                FileName::Log(base) => found.segments.push(base),
                FileName::Snapshot(offset) => found.snapshots.push(offset),
                _ => {}
            }
            found.files.insert(path);
        }
        found.segments.sort_unstable();
        found.snapshots.sort_unstable();
        Ok(found)
    }

    pub(super) fn path(&self, base_offset: Offset, kind: FileKind) -> PathBuf {
        names::path(&self.directory, base_offset, kind)
    }

    /// The path of a segment's log file.
    #[must_use]
    pub fn log_path(&self, base_offset: Offset) -> PathBuf {
        self.path(base_offset, FileKind::Log)
    }

    /// What the checkpoints in the directory above say of the partition.
    ///
    /// # Errors
    /// What a failing device says. A checkpoint that cannot be read says nothing.
    pub fn offsets(&self, disk: &dyn Disk) -> Result<Offsets, StorageError> {
        let (Some(partition), Some(above)) = (&self.partition, self.directory.parent()) else {
            return Ok(Offsets::default());
        };
        let mut found = [None; CHECKPOINTS.len()];
        for (offset, (name, _)) in found.iter_mut().zip(CHECKPOINTS) {
            match read_checkpoint(disk, &above.join(name)) {
                Ok(offsets) => {
                    *offset = offsets.and_then(|offsets| offsets.get(partition).copied());
                }
                // Garbled, or no file: `verify_log_directory` tells that once, for all partitions.
                Err(error) if error.severity() != Severity::Directory => {}
                Err(error) => return Err(error),
            }
        }
        let [recovery_point, high_watermark, log_start, compacted_to] = found;
        let refused = match refusal::read(disk, &self.directory) {
            Ok(refused) => refused,
            Err(error) if error.severity() != Severity::Directory => None,
            Err(error) => return Err(error),
        };
        Ok(Offsets {
            recovery_point: recovery_point.max(refused),
            high_watermark,
            log_start,
            compacted_to,
        })
    }
}

/// What the checkpoints of a log directory say of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// All below it is flushed.
    pub recovery_point: Option<Offset>,
    /// All below it is on every replica in sync.
    pub high_watermark: Option<Offset>,
    /// All below it is deleted, though it may lie in a file.
    pub log_start: Option<Offset>,
    /// Below it compaction may have taken offsets out.
    pub compacted_to: Option<Offset>,
}

/// The entries of a checkpoint file; `None` if there is none.
///
/// # Errors
/// What the disk says; [`StorageError::Format`] for garbage.
pub fn read_checkpoint(
    disk: &dyn Disk,
    path: &Path,
) -> Result<Option<BTreeMap<TopicPartition, Offset>>, StorageError> {
    crate::log_directory::read_checkpoint(disk, path)
}

/// The content of a small file; `None` if there is none.
///
/// # Errors
/// What the disk says; [`StorageError::Corrupt`] if it is not small.
pub fn read_small_file(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    atomic_file::read(disk, path)
}

/// The topic id in the directory of a partition; `None` if it has none that can be read.
///
/// # Errors
/// What the disk says.
pub fn topic_id(disk: &dyn Disk, directory: &Path) -> Result<Option<TopicId>, StorageError> {
    read_topic_id(disk, directory)
}

/// Whether the last process that used the log directory has stopped in order.
///
/// # Errors
/// What the disk says.
pub fn has_clean_shutdown(disk: &dyn Disk, directory: &Path) -> Result<bool, StorageError> {
    Ok(read_clean_shutdown(disk, directory)?.is_some())
}

/// The directories of partitions in the log directory `directory`, by name.
///
/// # Errors
/// What the disk says.
pub fn partitions(disk: &dyn Disk, directory: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut found: Vec<_> = entries(disk, directory)?
        .into_iter()
        .filter(|(name, kind)| {
            *kind == EntryKind::Directory && name.to_str().and_then(parse_partition).is_some()
        })
        .map(|(name, _)| directory.join(name))
        .collect();
    found.sort();
    Ok(found)
}

/// Whether `directory` holds partitions rather than a partition's files.
///
/// # Errors
/// What the disk says.
pub fn is_log_directory(disk: &dyn Disk, directory: &Path) -> Result<bool, StorageError> {
    let entries = entries(disk, directory)?;
    let has = |is_it: &dyn Fn(FileName) -> bool| {
        entries
            .iter()
            .any(|(name, _)| is_it(FileName::of(Path::new(name))))
    };
    let is_a_logs = |name| matches!(name, FileName::Log(_) | FileName::PartitionMetadata);
    let is_a_directorys = |name| matches!(name, FileName::Checkpoint | FileName::MetaProperties);
    Ok(!has(&is_a_logs) && (has(&is_a_directorys) || !partitions(disk, directory)?.is_empty()))
}

fn entries(
    disk: &dyn Disk,
    directory: &Path,
) -> Result<Vec<(std::ffi::OsString, EntryKind)>, StorageError> {
    disk.read_directory(directory)
        .map_err(|source| StorageError::io("list", directory, source))
}
