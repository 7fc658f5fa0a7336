//! Kafka's metadata log on disk: its newest snapshot, and the records behind it.
//!
//! ```text
//!   00000000000000004200-0000000007.checkpoint   all records below offset 4200
//!   00000000000000000000.log                     batches: records, and marks of the quorum
//!   00000000000000006100.log                     the last may end in a batch that is torn
//! ```
//!
//! Input: the directory `__cluster_metadata-0`. Output: the metadata, with who votes in the quorum.
//!
//! Invariants:
//! - offsets are dense from the snapshot's end, or from 0, to the end of the log;
//! - every batch bears its checksum; a snapshot begins with its header and ends with its footer;
//! - only the end of the last segment may be torn, and never after a clean stop
//!   (`metadata_tail.rs`).
//!
//! Source: KIP-595, KIP-630; `KafkaMetadataLog`, `Snapshots`, `RecordsIterator` of Kafka 4.1.1.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use skein_env::{Disk, EntryKind};
use skein_protocol::{Decoder, MetadataRecord};
use skein_record::{BatchView, Record};
use skein_storage::inspect::{FileName, InspectedBatch, SegmentWalk, Step};
use skein_types::Offset;

use crate::ImportError;
use crate::kafka_metadata::{KafkaMetadata, Replay};
use crate::metadata_tail;

/// The directory of Kafka's metadata log.
pub(crate) const METADATA_LOG: &str = "__cluster_metadata-0";
/// Largest batch that Kafka writes there, in bytes, and some more.
pub(crate) const BATCH_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most that a packed batch unpacks to, in bytes.
const UNPACKED_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Types of control records of a quorum.
const LEADER_CHANGE: i16 = 2;
const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;
const KRAFT_VERSION: i16 = 5;
const KRAFT_VOTERS: i16 = 6;

/// What the log holds.
#[derive(Debug)]
pub(crate) struct MetadataLog {
    pub(crate) metadata: KafkaMetadata,
    /// The offset behind the last record.
    pub(crate) end_offset: i64,
    /// Bytes that a crash has left behind the last whole batch.
    pub(crate) torn_bytes: u64,
    /// Whether the last metadata transaction did not end.
    pub(crate) has_open_transaction: bool,
}

/// A snapshot by its file's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SnapshotName {
    end_offset: i64,
    epoch: i32,
    path: PathBuf,
}

/// Reads the log in `directory`. `was_clean`: Kafka has stopped in order.
pub(crate) fn read(
    disk: &dyn Disk,
    directory: &Path,
    was_clean: bool,
) -> Result<MetadataLog, ImportError> {
    let (segments, snapshot) = list(disk, directory)?;
    let mut reader = Reader {
        replay: Replay::default(),
        voters: BTreeSet::new(),
        from_offset: snapshot.as_ref().map_or(0, |name| name.end_offset),
        marks: Vec::new(),
    };
    if let Some(name) = &snapshot {
        reader.read_snapshot(disk, &name.path)?;
    }
    let mut end = None;
    let mut torn_bytes = 0;
    let last = segments.len().saturating_sub(1);
    for (number, (base, path)) in segments.iter().enumerate() {
        let start = end.unwrap_or(*base);
        if start != *base {
            let what = format!("the segment begins at {base}, the one before ends at {start}");
            return Err(ImportError::corrupt(path, 0, what));
        }
        if end.is_none() && start > reader.from_offset {
            let from = reader.from_offset;
            let what = format!("the log begins at {start}, and nothing reaches there from {from}");
            return Err(ImportError::corrupt(path, 0, what));
        }
        let may_be_torn = number == last && !was_clean;
        let (read_to, torn) = reader.read_segment(disk, path, start, may_be_torn)?;
        end = Some(read_to);
        torn_bytes = torn;
    }
    let end_offset = end.unwrap_or(0);
    if end_offset < reader.from_offset {
        let what = format!(
            "the snapshot ends at {}, the log at {end_offset}",
            reader.from_offset
        );
        return Err(ImportError::corrupt(directory, 0, what));
    }
    let (mut metadata, has_open_transaction) = reader.replay.finish();
    metadata.voters = reader.voters;
    Ok(MetadataLog {
        metadata,
        end_offset,
        torn_bytes,
        has_open_transaction,
    })
}

type Segments = Vec<(i64, PathBuf)>;

fn list(
    disk: &dyn Disk,
    directory: &Path,
) -> Result<(Segments, Option<SnapshotName>), ImportError> {
    let entries = disk
        .read_directory(directory)
        .map_err(|source| ImportError::io("list", directory, source))?;
    let (mut segments, mut newest) = (Vec::new(), None);
    for (name, kind) in entries {
        if !matches!(kind, EntryKind::File(_)) {
            continue;
        }
        let path = directory.join(&name);
        if let FileName::Log(base) = FileName::of(&path) {
            segments.push((base.get(), path));
        } else if let Some(snapshot) = name.to_str().and_then(|name| parse_snapshot(name, path)) {
            newest = newest.max(Some(snapshot));
        }
    }
    segments.sort();
    if segments.is_empty() {
        let what = "there is no segment of the metadata log in it";
        return Err(ImportError::unfit(
            directory,
            what,
            "restore it from a backup",
        ));
    }
    Ok((segments, newest))
}

/// `<end offset, 20 digits>-<epoch, 10 digits>.checkpoint`.
fn parse_snapshot(name: &str, path: PathBuf) -> Option<SnapshotName> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    let is_number =
        |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(offset, 20) && is_number(epoch, 10)).then_some(())?;
    Some(SnapshotName {
        end_offset: offset.parse().ok()?,
        epoch: epoch.parse().ok()?,
        path,
    })
}

struct Reader {
    replay: Replay,
    voters: BTreeSet<i32>,
    /// Records below are in the snapshot.
    from_offset: i64,
    /// Types of the control records so far.
    marks: Vec<i16>,
}

impl Reader {
    fn read_snapshot(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), ImportError> {
        let mut walk = SegmentWalk::open(disk, path)?;
        let mut expected = Offset::ZERO;
        while let Some(step) = walk.next()? {
            let batch = match step {
                Step::Batch(batch) if batch.header.base_offset == expected => batch,
                Step::Batch(batch) => {
                    let what = format!("{expected} was to come, not {}", batch.header.base_offset);
                    return Err(ImportError::corrupt(path, batch.position, what));
                }
                Step::Room { position, .. } => {
                    return Err(ImportError::corrupt(
                        path,
                        position,
                        "the snapshot ends in zeros",
                    ));
                }
                Step::Fault {
                    position, reason, ..
                } => return Err(ImportError::corrupt(path, position, reason)),
            };
            if self.marks.last() == Some(&SNAPSHOT_FOOTER) {
                let what = "something follows the end of the snapshot";
                return Err(ImportError::corrupt(path, batch.position, what));
            }
            self.read_batch(&walk, path, &batch, 0)?;
            expected = batch.header.next_offset();
            if self.marks.first() != Some(&SNAPSHOT_HEADER) {
                let what = "the snapshot does not begin with its header";
                return Err(ImportError::corrupt(path, batch.position, what));
            }
        }
        if self.marks.last() != Some(&SNAPSHOT_FOOTER) {
            let what = "the snapshot has no end";
            return Err(ImportError::corrupt(path, walk.file_bytes(), what));
        }
        Ok(())
    }

    /// Returns the offset behind the segment, and the bytes of a torn end.
    fn read_segment(
        &mut self,
        disk: &dyn Disk,
        path: &Path,
        start: i64,
        may_be_torn: bool,
    ) -> Result<(i64, u64), ImportError> {
        let mut walk = SegmentWalk::open(disk, path)?;
        let mut expected = start;
        while let Some(step) = walk.next()? {
            let (position, reason) = match step {
                Step::Batch(batch) => {
                    let base = batch.header.base_offset.get();
                    if base != expected {
                        let what = format!("offset {expected} was to come, not {base}");
                        return Err(ImportError::corrupt(path, batch.position, what));
                    }
                    self.read_batch(&walk, path, &batch, self.from_offset)?;
                    expected = batch.header.next_offset().get();
                    continue;
                }
                Step::Room { position, .. } => (position, "zeros".to_owned()),
                Step::Fault {
                    position, reason, ..
                } => (position, reason),
            };
            if !may_be_torn {
                return Err(ImportError::corrupt(path, position, reason));
            }
            let bytes = metadata_tail::check_torn(disk, path, position, Offset(expected))?;
            return Ok((expected, bytes));
        }
        Ok((expected, 0))
    }

    /// Takes in the records from `from` on; control records all.
    fn read_batch(
        &mut self,
        walk: &SegmentWalk,
        path: &Path,
        batch: &InspectedBatch,
        from: i64,
    ) -> Result<(), ImportError> {
        let corrupt = |what: String| ImportError::corrupt(path, batch.position, what);
        if batch.is_checksum_wrong() {
            return Err(corrupt("the batch does not bear its checksum".into()));
        }
        let bytes = walk
            .read(batch, BATCH_MAX_BYTES)?
            .ok_or_else(|| corrupt(format!("the batch has more than {BATCH_MAX_BYTES} bytes")))?;
        let view = BatchView::parse(&bytes).map_err(|error| corrupt(error.to_string()))?;
        let records = view
            .records(UNPACKED_MAX_BYTES)
            .map_err(|error| corrupt(error.to_string()))?;
        let mut count = 0;
        for record in &records {
            let record = record.map_err(|error| corrupt(error.to_string()))?;
            count += 1;
            if batch.header.attributes.is_control() {
                self.control(&record).map_err(corrupt)?;
            } else if record.offset.get() >= from {
                let offset = record.offset;
                self.record(&record)
                    .map_err(|what| corrupt(format!("the record at offset {offset}: {what}")))?;
            }
        }
        // Nothing compacts this log: a batch has a record for each of its offsets.
        if count != i64::from(batch.header.last_offset_delta) + 1 {
            return Err(corrupt(format!("the batch has {count} records")));
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        let value = record.value.ok_or("it is empty")?;
        let record = MetadataRecord::decode(&Bytes::copy_from_slice(value))
            .map_err(|error| error.to_string())?;
        self.replay.replay(record)
    }

    fn control(&mut self, record: &Record<'_>) -> Result<(), String> {
        // Version and type, two bytes each.
        let kind = match record.key {
            Some([_, _, high, low]) => i16::from_be_bytes([*high, *low]),
            _ => return Err("a control record without a type".into()),
        };
        let value = Bytes::copy_from_slice(record.value.unwrap_or_default());
        match kind {
            LEADER_CHANGE => {
                self.voters = leader_change(&value).map_err(|error| error.to_string())?;
            }
            KRAFT_VOTERS => self.voters = voters(&value).map_err(|error| error.to_string())?,
            SNAPSHOT_HEADER | SNAPSHOT_FOOTER | KRAFT_VERSION => {}
            kind => return Err(format!("control record of type {kind} is unknown")),
        }
        self.marks.push(kind);
        Ok(())
    }
}

/// The voters that a `LeaderChangeMessage` names.
fn leader_change(value: &Bytes) -> Result<BTreeSet<i32>, skein_protocol::DecodeError> {
    let mut d = Decoder::new(value);
    let version = d.i16()?;
    let _leader = d.i32()?;
    let voters = d.array(true, 5, |d| {
        let id = d.i32()?;
        if version >= 1 {
            d.uuid()?;
        }
        d.skip_tags()?;
        Ok(id)
    })?;
    Ok(voters.into_iter().collect())
}

/// The voters that a `VotersRecord` names.
fn voters(value: &Bytes) -> Result<BTreeSet<i32>, skein_protocol::DecodeError> {
    let mut d = Decoder::new(value);
    let _version = d.i16()?;
    let voters = d.array(true, 27, |d| {
        let id = d.i32()?;
        d.uuid()?;
        d.array(true, 5, |d| {
            d.string(true)?;
            d.string(true)?;
            d.u16()?;
            d.skip_tags()
        })?;
        // The versions of the protocol that it speaks.
        d.i16()?;
        d.i16()?;
        d.skip_tags()?;
        d.skip_tags()?;
        Ok(id)
    })?;
    Ok(voters.into_iter().collect())
}

#[cfg(test)]
mod tests;
