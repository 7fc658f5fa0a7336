//! A log directory: all logs of one device, and what they share.
//!
//! Input: a path. Output: its partitions, its checkpoints, whether it was shut down cleanly, and
//! whether it takes appends.
//!
//! ```text
//! <log.dir>/
//!   .lock                              held while this process lives
//!   .reserve                           bytes for what must be written on a full device
//!   .kafka_cleanshutdown               there only after a clean shutdown
//!   meta.properties                    whose directory this is
//!   recovery-point-offset-checkpoint   flushed end of each log
//!   replication-offset-checkpoint      high watermark of each log
//!   log-start-offset-checkpoint        first offset of each log
//!   cleaner-offset-checkpoint          how far each log is compacted
//!   <topic>-<partition>/               a log: see `log.rs`
//!   <topic>-<partition>.<id>-delete/   a log that is going away
//! ```
//!
//! Invariants:
//! - one process at a time (the lock file, in [`LogDirectory::open`]);
//! - the clean-shutdown marker is gone, durably, before the first log is opened
//!   ([`LogDirectory::begin_use`]);
//! - a checkpointed recovery point is never past what is on disk: truncation lowers it first.
//!
//! Source: `org.apache.kafka.storage.internals.log.LogManager` for names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use skein_env::{Disk, DiskSpace, EntryKind, LockGuard};
use skein_types::{BrokerEpoch, Offset, PartitionIndex, TopicId, TopicName, TopicPartition};

use crate::StorageError;
use crate::atomic_file;
use crate::create_directory;
use crate::reserve::Reserve;

mod checkpoint;
mod clean_shutdown;
mod condition;
mod file_cache;
mod meta_properties;
mod partition_metadata;
mod recovery_points;

pub(crate) use checkpoint::{Checkpoint, read as read_checkpoint};
pub use clean_shutdown::CleanShutdown;
pub(crate) use clean_shutdown::read as read_clean_shutdown;
pub(crate) use condition::Condition;
pub use condition::DirectoryState;
pub(crate) use file_cache::{Cache, Slot};
pub use meta_properties::{META_PROPERTIES, MetaProperties};
pub(crate) use partition_metadata::{
    check_or_write as check_or_write_topic_id, read as read_topic_id,
};
use recovery_points::{RECOVERY_POINTS, RecoveryPoints};

const LOCK: &str = ".lock";
const RESERVE: &str = ".reserve";
/// End of the name of a directory whose log is going away.
const DELETE_SUFFIX: &str = "-delete";

/// Kafka's end of the name of a directory that no topic owns.
const STRAY_SUFFIX: &str = "-stray";
/// Longest name of a directory entry.
const NAME_MAX_BYTES: usize = 255;

/// How many files a log directory keeps open for reading beyond the active segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Descriptors of `.log` files of cold segments.
    pub descriptors: usize,
    /// Maps of index files of cold segments.
    pub maps: usize,
}

impl Default for CacheLimits {
    /// Well below the usual limits on descriptors (65,536 after raising) and maps (65,530).
    fn default() -> Self {
        Self {
            descriptors: 4096,
            maps: 4096,
        }
    }
}

/// Which of the directory's checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointFile {
    /// Flushed end of each log: recovery begins there.
    RecoveryPoint,
    /// High watermark of each log.
    HighWatermark,
    /// First offset of each log: what `DeleteRecords` and retention left.
    LogStartOffset,
    /// How far each log is compacted.
    Cleaner,
}

/// A log directory, locked for this process.
pub struct LogDirectory {
    disk: Arc<dyn Disk>,
    /// For all that is no record.
    small_disk: Arc<dyn Disk>,
    path: PathBuf,
    condition: Arc<Condition>,
    /// Reserves on other devices.
    others: Mutex<Vec<Arc<Reserve>>>,
    recovery_points: RecoveryPoints,
    high_watermarks: Checkpoint,
    log_start_offsets: Checkpoint,
    cleaner_offsets: Checkpoint,
    clean_shutdown: Option<CleanShutdown>,
    is_marker_removed: Mutex<bool>,
    /// The logs of this run: whether they are in use, or were closed.
    logs: Mutex<BTreeMap<TopicPartition, Usage>>,
    deletions: Mutex<Deletions>,
    /// Partition directories made so far, and how many of them are durable.
    created: AtomicU64,
    created_durable: AtomicU64,
    /// Files that were flushed, and pieces that were written anew.
    flush_steps: AtomicU64,
    pub(crate) descriptors: Cache,
    pub(crate) maps: Cache,
    _lock: Box<dyn LockGuard>,
}

/// Deletions of this run, so that nothing that was known of a log before is written down after.
#[derive(Debug, Default)]
struct Deletions {
    count: u64,
    /// The number of the last deletion of each name.
    last: BTreeMap<TopicPartition, u64>,
}

/// How far the use of a log has come in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    Open,
    Closed,
}

/// A partition's directory that waits to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedDirectory {
    path: PathBuf,
}

impl LogDirectory {
    /// Opens the directory at `path`, made if missing, and locks it.
    ///
    /// # Errors
    /// [`StorageError::Locked`] while another process has it; what the disk says.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        limits: CacheLimits,
    ) -> Result<Arc<Self>, StorageError> {
        create_directory(&*disk, path)?;
        let lock = lock(&*disk, path)?;
        let checkpoint = |name| Checkpoint::open(&*disk, path.join(name));
        let recovery_points = RecoveryPoints::open(&*disk, path.join(RECOVERY_POINTS), || {
            Ok(list(&*disk, path)?.0)
        })?;
        let clean_shutdown = clean_shutdown::read(&*disk, path)?;
        let reserve = Reserve::new(Arc::clone(&disk), path.join(RESERVE));
        let condition = Arc::new(Condition::default());
        let directory = Self {
            small_disk: reserve.disk(),
            path: path.to_path_buf(),
            condition,
            others: Mutex::default(),
            recovery_points,
            high_watermarks: checkpoint("replication-offset-checkpoint")?,
            log_start_offsets: checkpoint("log-start-offset-checkpoint")?,
            cleaner_offsets: checkpoint("cleaner-offset-checkpoint")?,
            is_marker_removed: Mutex::new(clean_shutdown.is_none()),
            clean_shutdown,
            logs: Mutex::new(BTreeMap::new()),
            deletions: Mutex::new(Deletions::default()),
            created: AtomicU64::new(0),
            created_durable: AtomicU64::new(0),
            flush_steps: AtomicU64::new(0),
            descriptors: Cache::new(limits.descriptors),
            maps: Cache::new(limits.maps),
            _lock: lock,
            disk,
        };
        // A process that was killed may have made names which nobody flushed: from here on they
        // count as flushed.
        atomic_file::sync_directory(&*directory.disk, path)?;
        directory.watch(reserve);
        Ok(Arc::new(directory))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// How many files of cold segments are open now, and how many of their indexes mapped; never
    /// more than the limits.
    #[must_use]
    pub fn cold_files(&self) -> CacheLimits {
        CacheLimits {
            descriptors: self.descriptors.len(),
            maps: self.maps.len(),
        }
    }

    /// Has the directory refuse records while the bytes of `reserve`, which is on its device, are
    /// spent.
    pub fn watch(&self, reserve: Arc<Reserve>) {
        // The condition holds the reserve.
        let (condition, path) = (Arc::downgrade(&self.condition), self.path.clone());
        reserve.when_spent(move || {
            if let Some(condition) = condition.upgrade() {
                condition.on_shortage(&path);
            }
        });
        self.condition.add_reserve(reserve);
    }

    /// Sees to it that a reserve on another device is filled again; its lack of room is nothing to
    /// this one.
    pub fn keep(&self, reserve: Arc<Reserve>) {
        self.others.lock().push(reserve);
    }

    /// Whether it is full, or a reserve is spent: then [`LogDirectory::look_for_room`] is due.
    #[must_use]
    pub fn wants_room(&self) -> bool {
        let others = self.others.lock();
        self.condition.wants_room() || others.iter().any(|reserve| reserve.is_spent())
    }

    /// Fills the reserves, and takes records again or refuses them, as there is room. Blocks.
    pub fn look_for_room(&self) {
        self.condition.look_for_room(&*self.disk, &self.path);
        let others = self.others.lock().clone();
        for reserve in &others {
            reserve.fill();
        }
    }

    /// Whether it takes appends.
    #[must_use]
    pub fn state(&self) -> DirectoryState {
        self.condition.state()
    }

    /// Has `listener` called when the directory goes offline, or at once if it is: every log in it
    /// must take no more appends.
    pub fn when_offline(&self, listener: impl FnOnce() + Send + 'static) {
        self.condition.when_offline(Box::new(listener));
    }

    /// Room on the device.
    ///
    /// # Errors
    /// What the disk says.
    pub fn space(&self) -> Result<DiskSpace, StorageError> {
        self.disk
            .space(&self.path)
            .map_err(|source| StorageError::io("stat", &self.path, source))
    }

    /// The marker of the last run, if it ended cleanly.
    #[must_use]
    pub fn clean_shutdown(&self) -> Option<CleanShutdown> {
        self.clean_shutdown
    }

    /// The partitions that have a directory here, and the directories that wait to be removed.
    ///
    /// # Errors
    /// What the disk says.
    pub fn list(&self) -> Result<(Vec<TopicPartition>, Vec<DeletedDirectory>), StorageError> {
        list(&*self.disk, &self.path)
    }

    /// The topic id that the partition's directory was made for.
    ///
    /// # Errors
    /// What the disk says.
    pub fn topic_id(&self, partition: &TopicPartition) -> Result<Option<TopicId>, StorageError> {
        partition_metadata::read(&*self.disk, &self.partition_path(partition))
    }

    /// The partition's offset in a checkpoint, as last written.
    #[must_use]
    pub fn checkpointed(&self, file: CheckpointFile, partition: &TopicPartition) -> Option<Offset> {
        match self.checkpoint(file) {
            Some(checkpoint) => checkpoint.get(partition),
            None => self.recovery_points.get(partition),
        }
    }

    /// Writes offsets into a checkpoint, durably; partitions that are not named keep theirs.
    ///
    /// A recovery point must come from [`crate::Log::recovery_point`].
    ///
    /// # Errors
    /// What the disk says; then the file is as it was.
    pub fn write_checkpoint(
        &self,
        file: CheckpointFile,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), StorageError> {
        let changes = offsets
            .iter()
            .map(|(partition, offset)| (partition.clone(), Some(*offset)));
        self.update(file, changes)
    }

    /// How many logs were deleted in this run. Who collects offsets for a checkpoint asks first,
    /// and hands the answer to [`LogDirectory::write_collected`].
    #[must_use]
    pub fn deletions(&self) -> u64 {
        self.deletions.lock().count
    }

    /// As [`LogDirectory::write_checkpoint`], but leaves logs out that were deleted since there
    /// were `deletions`: their entries were removed, and the next log of the name must not inherit
    /// one.
    ///
    /// # Errors
    /// What the disk says; then the file is as it was.
    pub fn write_collected(
        &self,
        file: CheckpointFile,
        deletions: u64,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), StorageError> {
        // Looked up under the checkpoint's lock, which the removal of an entry takes later than it
        // counts the deletion.
        let is_there = |partition: &TopicPartition| {
            let last = self.deletions.lock().last.get(partition).copied();
            last.is_none_or(|number| number <= deletions)
        };
        let changes = offsets
            .iter()
            .filter(|(partition, _)| is_there(partition))
            .map(|(partition, offset)| (partition.clone(), Some(*offset)));
        self.update(file, changes)
    }

    /// Ends the run: every log has been closed with [`crate::Log::close`], every checkpoint
    /// written.
    ///
    /// # Errors
    /// What the disk says; the next run then recovers.
    pub fn mark_clean_shutdown(&self, broker_epoch: BrokerEpoch) -> Result<(), StorageError> {
        clean_shutdown::write(&*self.small_disk, &self.path, broker_epoch)
    }

    /// Removes the marker of the last clean shutdown, durably. Opening a log does it too.
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin_use(&self) -> Result<(), StorageError> {
        let mut is_removed = self.is_marker_removed.lock();
        if !*is_removed {
            clean_shutdown::remove(&*self.disk, &self.path)?;
            *is_removed = true;
        }
        Ok(())
    }

    /// Removes the partitions' entries from every checkpoint, durably: their logs are going away,
    /// and a later log of the same name must not inherit them.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget(&self, partitions: &[TopicPartition]) -> Result<(), StorageError> {
        for partition in partitions {
            self.recovery_points.settle(partition);
        }
        for file in [
            CheckpointFile::RecoveryPoint,
            CheckpointFile::HighWatermark,
            CheckpointFile::LogStartOffset,
            CheckpointFile::Cleaner,
        ] {
            let changes = partitions.iter().map(|partition| (partition.clone(), None));
            self.update(file, changes)?;
        }
        Ok(())
    }

    /// Takes the partition's log out of use, durably: its checkpoint entries go, and its directory
    /// gets another name. `id` must be random. The caller removes the directory later; who deletes
    /// many partitions calls [`LogDirectory::forget`] for all of them first.
    ///
    /// # Errors
    /// What the disk says; `NotFound` if the partition has no directory here.
    pub fn delete_partition(
        &self,
        partition: &TopicPartition,
        id: [u8; 16],
    ) -> Result<DeletedDirectory, StorageError> {
        let path = self.move_away(partition, id, DELETE_SUFFIX)?;
        Ok(DeletedDirectory { path })
    }

    /// Takes a log out of use of which nobody knows that it was deleted, durably, as
    /// [`LogDirectory::delete_partition`] does; returns where it stays for somebody to decide on.
    ///
    /// # Errors
    /// What the disk says; `NotFound` if the partition has no directory here.
    pub fn set_aside(
        &self,
        partition: &TopicPartition,
        id: [u8; 16],
    ) -> Result<PathBuf, StorageError> {
        self.move_away(partition, id, STRAY_SUFFIX)
    }

    fn move_away(
        &self,
        partition: &TopicPartition,
        id: [u8; 16],
        suffix: &str,
    ) -> Result<PathBuf, StorageError> {
        {
            let mut deletions = self.deletions.lock();
            deletions.count += 1;
            let number = deletions.count;
            deletions.last.insert(partition.clone(), number);
        }
        // In this order: a crash in between costs a longer recovery, the other one a false alarm.
        self.forget(std::slice::from_ref(partition))?;
        let from = self.partition_path(partition);
        let suffix = format!(".{:032x}{suffix}", u128::from_be_bytes(id));
        let mut name = partition.to_string();
        name.truncate(NAME_MAX_BYTES - suffix.len());
        let path = self.path.join(name + &suffix);
        self.small_disk
            .rename(&from, &path)
            .map_err(|source| StorageError::io("rename", &from, source))?;
        // Else a power cut may bring it back after a topic of the same name was made.
        atomic_file::sync_directory(&*self.disk, &self.path)?;
        self.logs.lock().remove(partition);
        Ok(path)
    }

    /// Removes what [`LogDirectory::delete_partition`] renamed, with all that is in it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove_deleted(&self, deleted: &DeletedDirectory) -> Result<(), StorageError> {
        match self.disk.remove_directory(&deleted.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StorageError::io(
                "remove the directory",
                &deleted.path,
                source,
            )),
            _ => Ok(()),
        }
    }

    /// Whether the partition's log was there before this run and its recovery point was not, so
    /// that nobody knows what of it was flushed.
    pub(crate) fn is_recovery_point_lost(&self, partition: &TopicPartition) -> bool {
        self.recovery_points.is_lost(partition)
    }

    /// The partition's log was opened, or refused in writing: its recovery point is lost no more.
    pub(crate) fn settle_recovery_point(&self, partition: &TopicPartition) {
        self.recovery_points.settle(partition);
    }

    /// Begins the use of a partition's log. Returns whether its files are as a clean end left them.
    pub(crate) fn begin_log(&self, partition: &TopicPartition) -> Result<bool, StorageError> {
        self.begin_use()?;
        let before = self.logs.lock().insert(partition.clone(), Usage::Open);
        Ok(match before {
            None => self.clean_shutdown.is_some(),
            Some(usage) => usage == Usage::Closed,
        })
    }

    /// Ends the use of a partition's log, cleanly.
    pub(crate) fn end_log(&self, partition: &TopicPartition) {
        self.logs.lock().insert(partition.clone(), Usage::Closed);
    }

    /// The disk for small files and indexes, which may take from the reserve.
    pub(crate) fn small_disk(&self) -> &Arc<dyn Disk> {
        &self.small_disk
    }

    pub(crate) fn condition(&self) -> &Condition {
        &self.condition
    }

    pub(crate) fn partition_path(&self, partition: &TopicPartition) -> PathBuf {
        self.path.join(partition.to_string())
    }

    pub(crate) fn set_checkpointed(
        &self,
        file: CheckpointFile,
        partition: &TopicPartition,
        offset: Offset,
    ) -> Result<(), StorageError> {
        self.update(file, [(partition.clone(), Some(offset))])
    }

    /// Notes a new partition directory; its name is durable after [`LogDirectory::sync_created`] of
    /// the ticket.
    pub(crate) fn note_created(&self) -> u64 {
        self.created.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How many files the flushes of this run have brought to the disk, and how many pieces they
    /// have written anew: whether one that takes long gets on.
    #[must_use]
    pub fn flush_steps(&self) -> u64 {
        self.flush_steps.load(Ordering::Relaxed)
    }

    pub(crate) fn note_flush_step(&self) {
        self.flush_steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes the name of the directory with `ticket` durable. One flush serves all that came
    /// before.
    pub(crate) fn sync_created(&self, ticket: u64) -> Result<(), StorageError> {
        if self.created_durable.load(Ordering::SeqCst) >= ticket {
            return Ok(());
        }
        let created = self.created.load(Ordering::SeqCst);
        atomic_file::sync_directory(&*self.disk, &self.path)?;
        self.created_durable.fetch_max(created, Ordering::SeqCst);
        Ok(())
    }

    fn update(
        &self,
        file: CheckpointFile,
        changes: impl IntoIterator<Item = (TopicPartition, Option<Offset>)>,
    ) -> Result<(), StorageError> {
        match self.checkpoint(file) {
            Some(checkpoint) => checkpoint.update(&*self.small_disk, changes),
            None => self.recovery_points.update(&*self.small_disk, changes),
        }
    }

    /// The file, if it is one of those that nobody misses.
    fn checkpoint(&self, file: CheckpointFile) -> Option<&Checkpoint> {
        match file {
            CheckpointFile::RecoveryPoint => None,
            CheckpointFile::HighWatermark => Some(&self.high_watermarks),
            CheckpointFile::LogStartOffset => Some(&self.log_start_offsets),
            CheckpointFile::Cleaner => Some(&self.cleaner_offsets),
        }
    }
}

/// Locks the log directory at `path` for this process, without opening it.
///
/// # Errors
/// [`StorageError::Locked`] while another process has it, be it Kafka; what the disk says.
pub fn lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn LockGuard>, StorageError> {
    let path = path.join(LOCK);
    disk.lock(&path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => StorageError::Locked { path },
        _ => StorageError::io("lock", &path, source),
    })
}

/// The partitions that have a directory in the log directory at `path`, and the directories there
/// that wait to be removed.
fn list(
    disk: &dyn Disk,
    path: &Path,
) -> Result<(Vec<TopicPartition>, Vec<DeletedDirectory>), StorageError> {
    let entries = disk
        .read_directory(path)
        .map_err(|source| StorageError::io("list", path, source))?;
    let (mut partitions, mut deleted) = (Vec::new(), Vec::new());
    for (name, kind) in entries {
        let Some(name) = name.to_str().filter(|_| kind == EntryKind::Directory) else {
            continue;
        };
        if name.ends_with(DELETE_SUFFIX) {
            deleted.push(DeletedDirectory {
                path: path.join(name),
            });
        } else if let Some(partition) = parse_partition(name) {
            partitions.push(partition);
        } else {
            // The metadata log lives here by default; what else does is not ours to judge.
            tracing::debug!(path = %path.join(name).display(), "not a partition");
        }
    }
    Ok((partitions, deleted))
}

/// The partition whose directory is called `name`.
pub(crate) fn parse_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let topic = TopicName::new(topic).ok()?;
    let index: i32 = partition.parse().ok()?;
    let parsed = TopicPartition {
        topic,
        partition: PartitionIndex(index),
    };
    // "a-01" and "a-+1" are nobody's: a partition has one name.
    (index >= 0 && parsed.to_string() == name).then_some(parsed)
}

#[cfg(test)]
mod tests;
