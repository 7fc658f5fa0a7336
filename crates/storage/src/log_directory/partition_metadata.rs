//! `partition.metadata`: which topic a partition's directory belongs to.
//!
//! Input: a topic id. Output: Kafka's text file, and the id again.
//!
//! Invariants: a directory of another topic of the same name is never taken for this one's (checked
//! in [`check_or_write`]); the id is on the disk before the log's first record, so that a power cut
//! leaves no records without one. A missing or garbled file is written anew, because the name still
//! fits: somebody has removed it, or there is no record yet.
//!
//! Source: `org.apache.kafka.storage.internals.checkpoint.PartitionMetadataFile`; KIP-516.

use std::path::{Path, PathBuf};

use skein_env::Disk;
use skein_types::TopicId;

use crate::StorageError;
use crate::atomic_file;

const PARTITION_METADATA: &str = "partition.metadata";

/// The topic id in the directory `dir` of a partition; `None` if it has none that can be read.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<TopicId>, StorageError> {
    let path = path_in(dir);
    let Some(content) = atomic_file::read(disk, &path)? else {
        return Ok(None);
    };
    let id = parse(&content);
    if id.is_none() {
        tracing::warn!(path = %path.display(), "ignoring a garbled topic id");
    }
    Ok(id)
}

/// Makes sure that the directory belongs to the topic `id`.
pub(crate) fn check_or_write(disk: &dyn Disk, dir: &Path, id: TopicId) -> Result<(), StorageError> {
    match read(disk, dir)? {
        Some(found) if found == id => Ok(()),
        Some(found) => Err(StorageError::Format {
            path: path_in(dir),
            line: 2,
            reason: format!("the directory belongs to the topic id {found}, not {id}"),
        }),
        None => {
            let text = format!("version: 0\ntopic_id: {id}\n");
            // Before the first record: a log that has lost its id to a power cut would be taken for
            // that of the next topic of its name.
            atomic_file::replace(disk, &path_in(dir), text.as_bytes())
        }
    }
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join(PARTITION_METADATA)
}

fn parse(content: &[u8]) -> Option<TopicId> {
    let mut lines = std::str::from_utf8(content).ok()?.lines();
    let version = lines.next()?.strip_prefix("version:")?.trim();
    let id = lines.next()?.strip_prefix("topic_id:")?.trim();
    if version != "0" {
        return None;
    }
    id.parse().ok().filter(|id: &TopicId| !id.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fault, FaultyDisk};

    #[test]
    fn an_id_that_is_not_on_the_disk_is_no_id() {
        let directory = tempfile::TempDir::new().unwrap();
        let disk = FaultyDisk::new();
        let id = TopicId::from_random([7; 16]);
        disk.plan(&[Fault::Flush(5)]);
        check_or_write(&*disk, directory.path(), id).unwrap_err();
        assert_eq!(read(&*disk, directory.path()).unwrap(), None);
    }

    #[test]
    fn a_directory_of_another_topic_is_refused() {
        let directory = tempfile::TempDir::new().unwrap();
        let disk = FaultyDisk::new();
        let dir = directory.path();
        let id = TopicId::from_random([7; 16]);
        check_or_write(&*disk, dir, id).unwrap();
        check_or_write(&*disk, dir, id).unwrap();
        let text = std::fs::read_to_string(path_in(dir)).unwrap();
        assert_eq!(text, format!("version: 0\ntopic_id: {id}\n"));
        assert!(check_or_write(&*disk, dir, TopicId::from_random([8; 16])).is_err());
        std::fs::write(path_in(dir), "version: 0\ntopic_id: ?\n").unwrap();
        assert_eq!(read(&*disk, dir).unwrap(), None);
        check_or_write(&*disk, dir, id).unwrap();
        assert_eq!(read(&*disk, dir).unwrap(), Some(id));
    }
}
