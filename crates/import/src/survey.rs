//! What lies in a log directory, as far as an import must know it.
//!
//! Input: the directory. Output: its partitions, each with what its files say, and its other
//! entries.
//!
//! Invariants: nothing is written; the size of a log does not matter: of a segment the first batch
//! header is read, and those behind its last index entry; only of what lies behind the last
//! snapshot of producers, after a crash, all headers.
//!
//! Source: `LogManager`, `ProducerStateManager` of Kafka 4.1.1 for names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skein_env::{Disk, EntryKind};
use skein_record::{BatchView, LeaderEpochs, ProducerStates};
use skein_storage::StorageError;
use skein_storage::inspect::{
    PartitionFiles, SegmentWalk, Step, read_checkpoint, read_small_file, topic_id,
};
use skein_types::{LeaderEpoch, Offset, TopicPartition, Uuid};

use crate::ImportError;
use crate::metadata_log::METADATA_LOG;

mod extent;

pub(crate) use extent::Extent;

/// Largest control batch that is read, in bytes.
const CONTROL_BATCH_MAX_BYTES: usize = 64 * 1024;

/// What lies in the directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Survey {
    /// By name, without the metadata log.
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionFacts>,
    /// Directories of Kafka's that are no partition: deleted, moving, stray ones.
    pub(crate) leftovers: Vec<String>,
    /// Directories that neither system knows.
    pub(crate) strangers: Vec<String>,
}

/// What a partition's files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PartitionFacts {
    /// Of `partition.metadata`.
    pub(crate) topic_id: Option<Uuid>,
    /// Number of segments.
    pub(crate) segments: usize,
    /// The newest epoch that a record has.
    pub(crate) latest_epoch: Option<LeaderEpoch>,
    /// What the segments hold; `None` while a compaction was replacing some of them.
    pub(crate) extent: Option<Extent>,
    /// All below it was flushed, as far as Kafka has told.
    pub(crate) recovery_point: Option<Offset>,
    /// Below it compaction may have taken offsets out.
    pub(crate) compacted_to: Option<Offset>,
    /// Where the first transaction begins that has not ended.
    pub(crate) open_transaction: Option<Offset>,
    /// A segment that does not begin with a batch of magic 2, and what it begins with.
    pub(crate) unreadable: Option<(PathBuf, String)>,
}

/// Looks at the directory. `was_clean`: Kafka has stopped in order.
pub(crate) fn survey(
    disk: &dyn Disk,
    directory: &Path,
    was_clean: bool,
) -> Result<Survey, ImportError> {
    let entries = disk
        .read_directory(directory)
        .map_err(|source| ImportError::io("list", directory, source))?;
    let mut survey = Survey::default();
    let checkpoint = |name| checkpoint(disk, &directory.join(name));
    let recovery_points = checkpoint("recovery-point-offset-checkpoint")?;
    let compacted = checkpoint("cleaner-offset-checkpoint")?;
    for (name, kind) in entries {
        let name = name.to_string_lossy().into_owned();
        if kind != EntryKind::Directory || name == METADATA_LOG {
            continue;
        }
        let files = PartitionFiles::list(disk, &directory.join(&name))?;
        if let Some(partition) = files.partition.clone() {
            let mut facts = look_at(disk, &files, was_clean)?;
            facts.recovery_point = recovery_points.get(&partition).copied();
            facts.compacted_to = compacted.get(&partition).copied();
            survey.partitions.insert(partition, facts);
        } else if is_leftover(&name) {
            survey.leftovers.push(name);
        } else {
            survey.strangers.push(name);
        }
    }
    Ok(survey)
}

/// What a checkpoint says; nothing if it is missing or garbled, as for a node that starts.
fn checkpoint(
    disk: &dyn Disk,
    path: &Path,
) -> Result<BTreeMap<TopicPartition, Offset>, ImportError> {
    match read_checkpoint(disk, path) {
        Ok(offsets) => Ok(offsets.unwrap_or_default()),
        Err(StorageError::Format { .. }) => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}

/// Whether Kafka gives such names: a topic that is being deleted, a replica that moves between
/// directories, one that no topic has, the cache of tiered storage.
fn is_leftover(name: &str) -> bool {
    let of_a_partition = ["-delete", "-future", "-stray"];
    name == "remote-log-index-cache" || of_a_partition.iter().any(|end| name.ends_with(end))
}

fn look_at(
    disk: &dyn Disk,
    files: &PartitionFiles,
    was_clean: bool,
) -> Result<PartitionFacts, ImportError> {
    let mut facts = PartitionFacts {
        topic_id: topic_id(disk, &files.directory)?,
        segments: files.segments.len(),
        ..PartitionFacts::default()
    };
    let epochs = files.directory.join("leader-epoch-checkpoint");
    if let Some(content) = read_small_file(disk, &epochs)?
        && let Ok(epochs) = LeaderEpochs::decode(&content)
    {
        facts.latest_epoch = epochs.latest().map(|entry| entry.epoch);
    }
    for base in &files.segments {
        let path = files.log_path(*base);
        let mut walk = SegmentWalk::open(disk, &path)?.without_checksums();
        if let Some(Step::Fault { reason, .. }) = walk.next()? {
            // A torn first batch of the newest segment is what a crash leaves, and no old format.
            let is_torn = !was_clean && files.segments.last() == Some(base);
            if !is_torn || reason.contains("magic") {
                facts.unreadable = Some((path, reason));
                break;
            }
        }
    }
    let is_swap = |path: &PathBuf| path.extension().is_some_and(|end| end == "swap");
    if facts.unreadable.is_none() && !files.files.iter().any(is_swap) {
        facts.extent = Some(Extent::of(disk, files)?);
    }
    facts.open_transaction = open_transaction(disk, files, was_clean)?;
    Ok(facts)
}

/// Where the first transaction begins that the log does not end.
fn open_transaction(
    disk: &dyn Disk,
    files: &PartitionFiles,
    was_clean: bool,
) -> Result<Option<Offset>, ImportError> {
    let first = files.segments.first().copied().unwrap_or(Offset::ZERO);
    let mut producers = ProducerStates::starting_at(first);
    for offset in files.snapshots.iter().rev() {
        let path = files
            .directory
            .join(format!("{:020}.snapshot", offset.get()));
        let content = read_small_file(disk, &path)?.unwrap_or_default();
        if let Ok(loaded) = ProducerStates::load(&content, *offset) {
            producers = loaded;
            break;
        }
    }
    if !was_clean {
        replay(disk, files, &mut producers)?;
    }
    Ok(producers.first_undecided_offset())
}

/// Brings the producers to the end of the log, or to where it is torn.
fn replay(
    disk: &dyn Disk,
    files: &PartitionFiles,
    producers: &mut ProducerStates,
) -> Result<(), ImportError> {
    let start = producers.map_end_offset();
    let holds_start = files.segments.iter().rposition(|base| *base <= start);
    for base in &files.segments[holds_start.unwrap_or(0).min(files.segments.len())..] {
        let path = files.log_path(*base);
        let mut walk = SegmentWalk::open(disk, &path)?.without_checksums();
        while let Some(Step::Batch(batch)) = walk.next()? {
            let header = batch.header;
            if header.base_offset < producers.map_end_offset() {
                continue;
            }
            if !header.attributes.is_control() {
                drop(producers.reserve(&header, header.base_offset));
                continue;
            }
            let bytes = walk
                .read(&batch, CONTROL_BATCH_MAX_BYTES)?
                .unwrap_or_default();
            let replayed = BatchView::parse(&bytes)
                .ok()
                .and_then(|view| producers.replay(&view).ok());
            if replayed.is_none() {
                // The log ends here for who recovers it.
                return Ok(());
            }
        }
    }
    Ok(())
}
