//! Checkpoints of a log directory: one offset per partition.
//!
//! Input: offsets by partition. Output: Kafka's text file, and the offsets again.
//!
//! ```text
//! 0                    version
//! 2                    number of entries
//! orders 0 1200        topic, partition, offset
//! orders 1 0
//! ```
//!
//! Invariants:
//! - a checkpoint is replaced as a whole and durably (`atomic_file`);
//! - each is safe when stale or missing, so a garbled one is reported and read as missing (what a
//!   missing recovery point means, `recovery_points.rs` knows);
//! - a partition that is not open keeps its entry when others are written.
//!
//! Source: `org.apache.kafka.storage.internals.checkpoint.OffsetCheckpointFile`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use skein_env::Disk;
use skein_types::{Offset, PartitionIndex, TopicName, TopicPartition};

use crate::StorageError;
use crate::atomic_file;

const VERSION: &str = "0";

/// The offsets of one checkpoint file.
pub(crate) struct Checkpoint {
    path: PathBuf,
    was_whole: bool,
    state: Mutex<State>,
}

struct State {
    offsets: BTreeMap<TopicPartition, Offset>,
    /// Whether they are not those of the file.
    is_ahead: bool,
}

impl Checkpoint {
    /// Reads the file at `path`; a missing or garbled one is empty.
    pub(crate) fn open(disk: &dyn Disk, path: PathBuf) -> Result<Self, StorageError> {
        let offsets = match read(disk, &path) {
            Ok(offsets) => offsets,
            Err(StorageError::Format { path, line, reason }) => {
                tracing::warn!(
                    path = %path.display(),
                    line,
                    reason,
                    "ignoring a garbled checkpoint; it will be rebuilt"
                );
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            path,
            was_whole: offsets.is_some(),
            state: Mutex::new(State {
                offsets: offsets.unwrap_or_default(),
                is_ahead: false,
            }),
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file was there and could be read.
    pub(crate) fn was_whole(&self) -> bool {
        self.was_whole
    }

    /// The partition's offset as last written, or remembered.
    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<Offset> {
        self.state.lock().offsets.get(partition).copied()
    }

    /// Changes entries (`None` removes one) and writes the file, unless nothing changes.
    pub(crate) fn update(
        &self,
        disk: &dyn Disk,
        changes: impl IntoIterator<Item = (TopicPartition, Option<Offset>)>,
    ) -> Result<(), StorageError> {
        // The lock is held over the write, so that the file never goes back to an older state.
        let mut state = self.state.lock();
        let mut changed = state.offsets.clone();
        apply(&mut changed, changes);
        if changed == state.offsets && !state.is_ahead {
            return Ok(());
        }
        atomic_file::replace(disk, &self.path, encode(&changed).as_bytes())?;
        *state = State {
            offsets: changed,
            is_ahead: false,
        };
        Ok(())
    }

    /// Changes entries in this process only; the next [`Checkpoint::update`] writes them too.
    pub(crate) fn remember(
        &self,
        changes: impl IntoIterator<Item = (TopicPartition, Option<Offset>)>,
    ) {
        let mut state = self.state.lock();
        apply(&mut state.offsets, changes);
        state.is_ahead = true;
    }

    /// Writes the file as it is.
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<(), StorageError> {
        self.state.lock().is_ahead = true;
        self.update(disk, [])
    }
}

fn apply(
    offsets: &mut BTreeMap<TopicPartition, Offset>,
    changes: impl IntoIterator<Item = (TopicPartition, Option<Offset>)>,
) {
    for (partition, offset) in changes {
        match offset {
            Some(offset) => offsets.insert(partition, offset),
            None => offsets.remove(&partition),
        };
    }
}

/// The entries of the checkpoint at `path`; `None` if there is no file. Garbage is an error here.
pub(crate) fn read(
    disk: &dyn Disk,
    path: &Path,
) -> Result<Option<BTreeMap<TopicPartition, Offset>>, StorageError> {
    let parsed = match atomic_file::read(disk, path) {
        Ok(None) => return Ok(None),
        // Kafka makes the file long before it has something to write there.
        Ok(Some(content)) if content.is_empty() => Ok(BTreeMap::new()),
        Ok(Some(content)) => parse(&content),
        Err(StorageError::Corrupt { reason, .. }) => Err(Garbage { line: 1, reason }),
        Err(error) => return Err(error),
    };
    parsed.map(Some).map_err(|garbage| StorageError::Format {
        path: path.to_path_buf(),
        line: garbage.line,
        reason: garbage.reason.to_owned(),
    })
}

/// What is wrong with a text, and where.
#[derive(Debug, PartialEq, Eq)]
struct Garbage {
    line: usize,
    reason: &'static str,
}

fn encode(offsets: &BTreeMap<TopicPartition, Offset>) -> String {
    let mut text = format!("{VERSION}\n{}\n", offsets.len());
    for (TopicPartition { topic, partition }, offset) in offsets {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    text
}

fn parse(content: &[u8]) -> Result<BTreeMap<TopicPartition, Offset>, Garbage> {
    let at = |line, reason| Garbage { line, reason };
    let text = std::str::from_utf8(content).map_err(|_| at(1, "the file is not text"))?;
    let mut lines = text.lines();
    if lines.next().map(str::trim) != Some(VERSION) {
        return Err(at(1, "the version is not 0"));
    }
    let count: usize = lines
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| at(2, "the number of entries is missing"))?;
    let mut offsets = BTreeMap::new();
    let mut last_line = 2;
    for text in lines {
        last_line += 1;
        let (partition, offset) = parse_entry(text)
            .ok_or_else(|| at(last_line, "this is not: topic partition offset"))?;
        offsets.insert(partition, offset);
    }
    if offsets.len() != count {
        return Err(at(
            last_line,
            "the number of entries is not what line 2 says",
        ));
    }
    Ok(offsets)
}

fn parse_entry(line: &str) -> Option<(TopicPartition, Offset)> {
    let mut words = line.split_ascii_whitespace();
    let topic = TopicName::new(words.next()?).ok()?;
    let partition = words
        .next()?
        .parse()
        .ok()
        .filter(|partition| *partition >= 0)?;
    let offset = words.next()?.parse().ok().filter(|offset| *offset >= 0)?;
    if words.next().is_some() {
        return None;
    }
    Some((
        TopicPartition {
            topic,
            partition: PartitionIndex(partition),
        },
        Offset(offset),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::FaultyDisk;

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicName::new(topic).unwrap(),
            partition: PartitionIndex(partition),
        }
    }

    #[test]
    fn the_text_is_kafkas() {
        let offsets = BTreeMap::from([
            (partition("orders", 0), Offset(1200)),
            (partition("orders", 1), Offset(0)),
        ]);
        let text = "0\n2\norders 0 1200\norders 1 0\n";
        assert_eq!(encode(&offsets), text);
        assert_eq!(parse(text.as_bytes()), Ok(offsets));
    }

    #[test]
    fn garbage_is_named_by_its_line() {
        for (text, line) in [
            ("", 1),
            ("1\n0\n", 1),
            ("0\nx\n", 2),
            ("0\n2\na 0 5\n", 3),
            ("0\n1\na 0 5 6\n", 3),
            ("0\n1\na -1 5\n", 3),
            ("0\n1\na/b 0 5\n", 3),
            ("0\n2\na 0 5\na 1 -5\n", 4),
            ("\u{0}\u{0}", 1),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn entries_of_others_are_kept_and_garbage_is_replaced() {
        let directory = tempfile::TempDir::new().unwrap();
        let disk = FaultyDisk::new();
        let path = directory.path().join("recovery-point-offset-checkpoint");
        std::fs::write(&path, "garbage").unwrap();
        let checkpoint = Checkpoint::open(&*disk, path.clone()).unwrap();
        checkpoint
            .update(&*disk, [(partition("a", 0), Some(Offset(5)))])
            .unwrap();
        checkpoint
            .update(&*disk, [(partition("b", 0), Some(Offset(7)))])
            .unwrap();
        let again = Checkpoint::open(&*disk, path.clone()).unwrap();
        assert_eq!(again.get(&partition("a", 0)), Some(Offset(5)));
        again.update(&*disk, [(partition("a", 0), None)]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n1\nb 0 7\n");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
