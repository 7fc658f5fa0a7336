//! Where a partition's segments end.
//!
//! Input: the segments' files. Output: the end of the log, and offsets that are missing between two
//! segments.
//!
//! Invariant: of each segment little more is read than what lies behind its last index entry.
//!
//! Source: `LogSegment.readNextOffset` of Kafka 4.1.1.

use std::ops::Range;

use skein_env::Disk;
use skein_storage::StorageError;
use skein_storage::inspect::{IndexEntry, IndexFile, PartitionFiles, SegmentWalk, Step};
use skein_types::Offset;

/// What the segments' files hold together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Extent {
    /// The end of the last whole batch.
    pub(crate) log_end_offset: Offset,
    /// The last offsets that no segment has, with segments on both sides.
    pub(crate) gap: Option<Range<Offset>>,
}

impl Extent {
    pub(super) fn of(disk: &dyn Disk, files: &PartitionFiles) -> Result<Self, StorageError> {
        let mut extent = Self::default();
        for base in &files.segments {
            let end = extent.log_end_offset;
            if end < *base && files.segments.first() != Some(base) {
                extent.gap = Some(end..*base);
            }
            extent.log_end_offset = segment_end(disk, files, *base)?;
        }
        Ok(extent)
    }
}

/// The end of the segment's last whole batch.
fn segment_end(
    disk: &dyn Disk,
    files: &PartitionFiles,
    base: Offset,
) -> Result<Offset, StorageError> {
    let path = files.log_path(base);
    let open = || SegmentWalk::open(disk, &path).map(SegmentWalk::without_checksums);
    if let Some(position) = last_entry(disk, files, base)?
        && let Some(end) = end_of(open()?.starting_at(position))?
    {
        return Ok(end);
    }
    Ok(end_of(open()?)?.unwrap_or(base))
}

/// Where the last batch begins that the segment's index names.
fn last_entry(
    disk: &dyn Disk,
    files: &PartitionFiles,
    base: Offset,
) -> Result<Option<u64>, StorageError> {
    let path = files.log_path(base).with_extension("index");
    let Some(mut index) = IndexFile::of_path(disk, &path)? else {
        return Ok(None);
    };
    match index.len().checked_sub(1).map(|last| index.get(last)) {
        Some(Ok(Some(IndexEntry::Offset { position, .. }))) => Ok(Some(position)),
        Some(Err(error)) => Err(error),
        _ => Ok(None),
    }
}

/// The end of the last whole batch of the walk; `None` if it begins with none.
fn end_of(mut walk: SegmentWalk) -> Result<Option<Offset>, StorageError> {
    let mut end = None;
    while let Some(Step::Batch(batch)) = walk.next()? {
        end = Some(batch.header.next_offset());
    }
    Ok(end)
}
