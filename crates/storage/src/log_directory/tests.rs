//! Checkpoints, markers, locks and identities of a log directory.
//!
//! Input: logs on a temporary or simulated disk. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use super::*;
use crate::testing::FaultyDisk;

fn partition(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new(topic).unwrap(),
        partition: PartitionIndex(partition),
    }
}

fn open(path: &Path) -> Result<Arc<LogDirectory>, StorageError> {
    LogDirectory::open(FaultyDisk::new(), path, CacheLimits::default())
}

#[test]
fn a_second_process_is_refused_and_told_why() {
    let temporary = tempfile::TempDir::new().unwrap();
    let path = temporary.path().join("data/logs");
    let first = open(&path).unwrap();
    let error = open(&path).err().unwrap();
    assert!(matches!(&error, StorageError::Locked { .. }));
    assert!(
        error
            .to_string()
            .contains(".lock is locked by another process"),
        "{error}"
    );
    drop(first);
    open(&path).unwrap();
}

#[test]
fn only_directories_with_a_partitions_name_are_partitions() {
    let temporary = tempfile::TempDir::new().unwrap();
    let directory = open(temporary.path()).unwrap();
    for name in [
        "a-0",
        "a-b-12",
        "a-01",
        "a--1",
        "a",
        "-1",
        "b-0.00ff-delete",
        "c-2147483648",
    ] {
        std::fs::create_dir(temporary.path().join(name)).unwrap();
    }
    std::fs::write(temporary.path().join("file-0"), "").unwrap();
    let (partitions, deleted) = directory.list().unwrap();
    // "a--1" is partition 1 of the topic "a-".
    assert_eq!(
        partitions,
        [
            partition("a-", 1),
            partition("a-0".trim_end_matches("-0"), 0),
            partition("a-b", 12)
        ]
    );
    assert_eq!(deleted.len(), 1);
    directory.remove_deleted(&deleted[0]).unwrap();
    assert!(directory.list().unwrap().1.is_empty());
}

#[test]
fn a_deleted_partition_leaves_its_name_and_its_checkpoints() {
    let temporary = tempfile::TempDir::new().unwrap();
    let directory = open(temporary.path()).unwrap();
    let long = partition(&"x".repeat(249), 0);
    std::fs::create_dir(temporary.path().join(long.to_string())).unwrap();
    directory
        .set_checkpointed(CheckpointFile::HighWatermark, &long, Offset(9))
        .unwrap();
    let deleted = directory.delete_partition(&long, [0xab; 16]).unwrap();
    let name = deleted
        .path
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        name.ends_with(&format!(".{}-delete", "ab".repeat(16))),
        "{name}"
    );
    assert!(name.len() <= NAME_MAX_BYTES);
    assert_eq!(
        directory.checkpointed(CheckpointFile::HighWatermark, &long),
        None
    );
    assert_eq!(directory.list().unwrap(), (vec![], vec![deleted.clone()]));
    directory.remove_deleted(&deleted).unwrap();
    assert!(
        directory
            .delete_partition(&long, [0; 16])
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn a_stray_partition_leaves_its_name_and_stays() {
    let temporary = tempfile::TempDir::new().unwrap();
    let directory = open(temporary.path()).unwrap();
    let stray = partition("stray", 3);
    let path = temporary.path().join(stray.to_string());
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("records"), "r").unwrap();
    let moved = directory.set_aside(&stray, [0xab; 16]).unwrap();
    assert!(moved.ends_with(format!("stray-3.{}-stray", "ab".repeat(16))));
    assert_eq!(std::fs::read(moved.join("records")).unwrap(), b"r");
    // Neither a partition, nor something to remove.
    assert_eq!(directory.list().unwrap(), (vec![], vec![]));
}

#[test]
fn the_marker_is_gone_once_the_directory_is_used() {
    let temporary = tempfile::TempDir::new().unwrap();
    let directory = open(temporary.path()).unwrap();
    assert_eq!(directory.clean_shutdown(), None);
    directory.mark_clean_shutdown(BrokerEpoch(3)).unwrap();
    drop(directory);
    for _ in 0..2 {
        // Merely opening keeps it.
        let directory = open(temporary.path()).unwrap();
        assert_eq!(
            directory.clean_shutdown().map(|marker| marker.broker_epoch),
            Some(BrokerEpoch(3))
        );
    }
    open(temporary.path()).unwrap().begin_use().unwrap();
    assert_eq!(open(temporary.path()).unwrap().clean_shutdown(), None);
}

#[test]
fn what_was_collected_before_a_deletion_is_not_written_after_it() {
    let temporary = tempfile::TempDir::new().unwrap();
    let directory = open(temporary.path()).unwrap();
    let (gone, other) = (partition("a", 0), partition("a", 1));
    std::fs::create_dir(temporary.path().join("a-0")).unwrap();
    let recovery_point =
        |partition| directory.checkpointed(CheckpointFile::RecoveryPoint, partition);

    let deletions = directory.deletions();
    let collected = BTreeMap::from([(gone.clone(), Offset(7)), (other.clone(), Offset(8))]);
    let _deleted = directory.delete_partition(&gone, [1; 16]).unwrap();
    let file = CheckpointFile::RecoveryPoint;
    directory
        .write_collected(file, deletions, &collected)
        .unwrap();
    assert_eq!(recovery_point(&gone), None);
    assert_eq!(recovery_point(&other), Some(Offset(8)));

    // The next log of the name is collected later.
    let deletions = directory.deletions();
    directory
        .write_collected(file, deletions, &collected)
        .unwrap();
    assert_eq!(recovery_point(&gone), Some(Offset(7)));
}
