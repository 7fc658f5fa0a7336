//! What lies beside the partitions: the checkpoints of their log directory, and whose it is.
//!
//! Input: the log directory. Output: files that can't be read, partitions that have gone.
//!
//! Invariants: a partition that a node deletes meanwhile makes no finding: its entries leave the
//! checkpoints before its directory goes.
//!
//! Source: `log_directory/checkpoint.rs`, `log_directory/meta_properties.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use skein_env::Disk;
use skein_types::{Offset, TopicPartition};

use super::{Finding, Weight};
use crate::StorageError;
use crate::log::inspect::partition::{CHECKPOINTS, read_checkpoint};
use crate::log_directory::MetaProperties;

/// What to do about each of [`CHECKPOINTS`] that is garbage: a start reads it as missing.
const REMEDIES_GARBLED: [&str; CHECKPOINTS.len()] = [
    "nothing: the next start of the node writes it anew; after an unclean stop it scans all of \
     every log first, which costs time, and cuts off a damaged end with nothing whole behind it; \
     check the device",
    "nothing: the next start of the node writes it anew; readers of a partition wait until its \
     replicas have told how far they are; check the device",
    "restore the file from a backup, or delete the records once more (DeleteRecords): from the \
     next start of the node on those that are deleted can be read where their segments are left",
    "nothing: the next compaction of each log compares all of its records again, which costs time, \
     and writes the file anew; check the device",
];
const REMEDY_NOT_OURS: &str = "restore the file from a backup: without it no node starts here";
const REMEDY_GONE: &str = "restore the directory from a backup or another replica before the next \
                           start, which does not open the partition without it";

/// Looks at the small files of the log directory `directory`, and whether the partitions are there
/// of which they say that they have records. Returns how much damage there is.
///
/// # Errors
/// What the disk says of the directory itself.
pub fn verify_log_directory(
    disk: &dyn Disk,
    directory: &Path,
    tell: &mut dyn FnMut(Finding),
) -> Result<u64, StorageError> {
    let mut damages = 0;
    let mut add = |finding| {
        damages += 1;
        tell(finding);
    };
    if let Err(error) = MetaProperties::read(disk, directory) {
        add(Finding::unreadable(&error, REMEDY_NOT_OURS));
    }
    for ((name, _), remedy) in CHECKPOINTS.into_iter().zip(REMEDIES_GARBLED) {
        if let Err(error) = read_checkpoint(disk, &directory.join(name)) {
            add(Finding::unreadable(&error, remedy));
        }
    }
    let gone = gone(disk, directory)?;
    // Still named: it was not being deleted.
    let named = recovery_points(disk, directory);
    for (partition, recovery_point) in gone {
        if named.contains_key(&partition) {
            add(Finding {
                weight: Weight::Damage,
                path: directory.join(partition.to_string()),
                position: None,
                offset: Some(Offset::ZERO),
                what: format!("it is missing, and its recovery point is {recovery_point}"),
                remedy: REMEDY_GONE,
            });
        }
    }
    Ok(damages)
}

/// The partitions that have records by their recovery point, and no directory.
fn gone(
    disk: &dyn Disk,
    directory: &Path,
) -> Result<BTreeMap<TopicPartition, Offset>, StorageError> {
    let mut gone = recovery_points(disk, directory);
    if gone.is_empty() {
        return Ok(gone);
    }
    let entries = disk.read_directory(directory);
    let entries = entries.map_err(|source| StorageError::io("list", directory, source))?;
    for (name, _) in entries {
        let partition = name
            .to_str()
            .and_then(crate::log_directory::parse_partition);
        partition.map(|partition| gone.remove(&partition));
    }
    Ok(gone)
}

/// A checkpoint that cannot be read says nothing.
fn recovery_points(disk: &dyn Disk, directory: &Path) -> BTreeMap<TopicPartition, Offset> {
    let [(recovery_points, _), ..] = CHECKPOINTS;
    let read = read_checkpoint(disk, &directory.join(recovery_points));
    let mut read = read.ok().flatten().unwrap_or_default();
    read.retain(|_, offset| *offset > Offset::ZERO);
    read
}
