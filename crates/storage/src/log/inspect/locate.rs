//! How an offset or a timestamp is found in a partition's files.
//!
//! Input: the files, an offset or a timestamp. Output: the batch, and each step on the way to it:
//! the segment, the index entry, how much of the log was read.
//!
//! It goes the way that a fetch goes (`log/lookup.rs`, `log/time_lookup.rs`), and tells it. An
//! entry that the log does not bear out is told as well, and the way then begins at the segment's
//! beginning.
//!
//! Invariants: checked by a test against the log's own lookups; what was read is at most one index
//! interval and one batch, unless an index is missing, short or wrong.
//!
//! Source: `LogSegment.translateOffset`, `UnifiedLog.fetchOffsetByTimestamp`.

use std::path::PathBuf;

use skein_env::Disk;
use skein_record::{BatchView, HEADER_BYTES};
use skein_types::{Millis, Offset};

use super::index_file::{IndexEntry, IndexFile};
use super::partition::PartitionFiles;
use super::walk::{InspectedBatch, SegmentWalk, Step};
use crate::StorageError;
use crate::log::names::FileKind;

/// An index that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStep {
    /// The file.
    pub path: PathBuf,
    /// How many entries it has.
    pub entries: u64,
    /// How many of them the search looked at.
    pub probes: u32,
    /// The entry that was used, with its number; `None` if none fits.
    pub used: Option<(u64, IndexEntry)>,
    /// Whether the log does not bear the entry out.
    pub is_wrong: bool,
}

/// How something was found, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// How many segments the partition has.
    pub segments: usize,
    /// The log file that was read last.
    pub segment: Option<PathBuf>,
    /// Segments that were passed before it, because their newest record is too old.
    pub passed_segments: usize,
    /// The indexes that were asked, in order.
    pub indexes: Vec<IndexStep>,
    /// Where the walk over headers began, in bytes.
    pub walk_start: u64,
    /// Batches that the walk saw, the one found included.
    pub walked_batches: u64,
    /// Bytes of the log from the walk's start through the header of the batch found.
    pub walked_bytes: u64,
    /// The batch; `None` if there is none.
    pub batch: Option<InspectedBatch>,
    /// Offset and timestamp of the record.
    pub record: Option<(Offset, Millis)>,
    /// Why the record is not told although the batch is, or why the walk ended early.
    pub note: Option<String>,
}

/// Finds the first record at or behind `target`.
///
/// # Errors
/// What the disk says.
pub fn locate_offset(
    disk: &dyn Disk,
    files: &PartitionFiles,
    target: Offset,
    unpacked_max_bytes: usize,
) -> Result<Located, StorageError> {
    let mut located = Located {
        segments: files.segments.len(),
        ..Located::default()
    };
    let behind = files.segments.partition_point(|base| *base <= target);
    // Compaction may have taken the offset out, and the rest of its segment with it.
    for base in &files.segments[behind.saturating_sub(1)..] {
        let start = start_of(disk, files, *base, target, &mut located)?;
        located.segment = Some(files.log_path(*base));
        let is_it = |batch: &InspectedBatch| batch.header.last_offset() >= target;
        walk(disk, files, *base, start, is_it, &mut located)?;
        if located.batch.is_some() || located.note.is_some() {
            break;
        }
    }
    find_record(disk, &mut located, unpacked_max_bytes, |offset, _| {
        offset >= target
    })?;
    Ok(located)
}

/// Finds the first record that is not older than `target`.
///
/// # Errors
/// What the disk says.
pub fn locate_timestamp(
    disk: &dyn Disk,
    files: &PartitionFiles,
    target: Millis,
    unpacked_max_bytes: usize,
) -> Result<Located, StorageError> {
    let mut located = Located {
        segments: files.segments.len(),
        ..Located::default()
    };
    for (number, base) in files.segments.iter().enumerate() {
        let is_last = number + 1 == files.segments.len();
        located.indexes.clear();
        let Some(start) = start_by_time(disk, files, *base, target, is_last, &mut located)? else {
            located.passed_segments += 1;
            continue;
        };
        located.segment = Some(files.log_path(*base));
        let is_it = |batch: &InspectedBatch| batch.header.max_timestamp >= target;
        walk(disk, files, *base, start, is_it, &mut located)?;
        if located.batch.is_some() || located.note.is_some() {
            break;
        }
        located.passed_segments += 1;
    }
    find_record(disk, &mut located, unpacked_max_bytes, |_, timestamp| {
        timestamp >= target
    })?;
    Ok(located)
}

/// Where the walk to the batch of `target` begins, by the offset index.
fn start_of(
    disk: &dyn Disk,
    files: &PartitionFiles,
    base: Offset,
    target: Offset,
    located: &mut Located,
) -> Result<u64, StorageError> {
    let path = files.path(base, FileKind::OffsetIndex);
    let Some(mut index) = IndexFile::open(disk, &path, base, FileKind::OffsetIndex)? else {
        return Ok(0);
    };
    let (count, probes) = index.partition_point(
        |entry| matches!(entry, IndexEntry::Offset { offset, .. } if offset <= target),
    )?;
    let used = match count.checked_sub(1) {
        Some(number) => index.get(number)?.map(|entry| (number, entry)),
        None => None,
    };
    let start = match used {
        Some((_, IndexEntry::Offset { offset, position })) => {
            is_batch_at(disk, files, base, position, offset)?.then_some(position)
        }
        _ => Some(0),
    };
    located.indexes.push(IndexStep {
        path,
        entries: index.len(),
        probes,
        used,
        is_wrong: start.is_none(),
    });
    Ok(start.unwrap_or(0))
}

/// As [`start_of`], for a timestamp; `None` if every record of the segment is older.
fn start_by_time(
    disk: &dyn Disk,
    files: &PartitionFiles,
    base: Offset,
    target: Millis,
    is_last: bool,
    located: &mut Located,
) -> Result<Option<u64>, StorageError> {
    let path = files.path(base, FileKind::TimeIndex);
    let Some(mut index) = IndexFile::open(disk, &path, base, FileKind::TimeIndex)? else {
        return Ok(Some(0));
    };
    let (count, probes) = index.partition_point(
        |entry| matches!(entry, IndexEntry::Time { timestamp, .. } if timestamp < target),
    )?;
    let used = index.get(count)?.map(|entry| (count, entry));
    if used.is_none() && !is_last && !index.is_empty() {
        return Ok(None);
    }
    located.indexes.push(IndexStep {
        path,
        entries: index.len(),
        probes,
        used,
        is_wrong: false,
    });
    let start = match used {
        // The batch wanted lies at or before the entry's, and behind the offset entry below it.
        Some((_, IndexEntry::Time { offset, .. })) => {
            let below = Offset(offset.0.saturating_sub(1));
            start_of(disk, files, base, below, located)?
        }
        // Behind the last entry of the segment that grows.
        _ if is_last => start_of(disk, files, base, Offset(i64::MAX), located)?,
        _ => 0,
    };
    Ok(Some(start))
}

/// Whether a batch begins at `position` that does not pass `last_offset`.
fn is_batch_at(
    disk: &dyn Disk,
    files: &PartitionFiles,
    base: Offset,
    position: u64,
    last_offset: Offset,
) -> Result<bool, StorageError> {
    let walk = SegmentWalk::open(disk, &files.log_path(base))?;
    match walk.without_checksums().starting_at(position).next()? {
        Some(Step::Batch(InspectedBatch { header, .. })) => {
            Ok(header.base_offset >= base && header.last_offset() <= last_offset)
        }
        _ => Ok(false),
    }
}

fn walk(
    disk: &dyn Disk,
    files: &PartitionFiles,
    base: Offset,
    start: u64,
    is_it: impl Fn(&InspectedBatch) -> bool,
    located: &mut Located,
) -> Result<(), StorageError> {
    let walk = SegmentWalk::open(disk, &files.log_path(base))?;
    let mut walk = walk.without_checksums().starting_at(start);
    located.walk_start = start;
    located.walked_batches = 0;
    located.walked_bytes = 0;
    while let Some(step) = walk.next()? {
        match step {
            Step::Batch(batch) => {
                located.walked_batches += 1;
                located.walked_bytes = batch.position - start + HEADER_BYTES as u64;
                if is_it(&batch) {
                    located.batch = Some(batch);
                    break;
                }
            }
            Step::Room { .. } => break,
            Step::Fault {
                position, reason, ..
            } => {
                located.note = Some(format!("the walk ended at byte {position}: {reason}"));
                break;
            }
        }
    }
    Ok(())
}

/// The first record of the batch found that `is_it`.
fn find_record(
    disk: &dyn Disk,
    located: &mut Located,
    unpacked_max_bytes: usize,
    is_it: impl Fn(Offset, Millis) -> bool,
) -> Result<(), StorageError> {
    let (Some(batch), Some(path)) = (located.batch, &located.segment) else {
        return Ok(());
    };
    let walk = SegmentWalk::open(disk, path)?;
    let Some(bytes) = walk.read(&batch, unpacked_max_bytes)? else {
        located.note = Some(format!(
            "the batch has more than {unpacked_max_bytes} bytes"
        ));
        return Ok(());
    };
    let records = BatchView::parse(&bytes).and_then(|view| view.records(unpacked_max_bytes));
    let records = match records {
        Ok(records) => records,
        Err(error) => {
            located.note = Some(format!("the batch does not unpack: {error}"));
            return Ok(());
        }
    };
    for record in &records {
        match record {
            Ok(record) if is_it(record.offset, record.timestamp) => {
                located.record = Some((record.offset, record.timestamp));
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => {
                located.note = Some(format!("the batch does not unpack: {error}"));
                return Ok(());
            }
        }
    }
    located.note = Some("no record of the batch is the one, though its header says so".into());
    Ok(())
}
