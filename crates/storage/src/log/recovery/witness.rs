//! Whether something whole lies behind bytes that are bad.
//!
//! Input: a segment's file, and where its bytes go bad. Output: the end of a whole batch behind
//! that place, if there is one.
//!
//! A torn end has nothing behind it, unless a device wrote its pages out of order. So where nobody
//! knows what was flushed, a whole batch behind bad bytes speaks for damage. Where it begins is not
//! known: the length of the bad one may be what is bad, so that every position is tried.
//!
//! Invariants:
//! - memory is bounded by what the file holds, and by [`READ_BYTES`] beyond a batch;
//! - no content makes the search compare more than [`COMPARED_MAX_BYTES`]: what has as many heads
//!   of batches in it counts as a witness.
//!
//! Source: none; `quorum/log_files/recovery.rs` looks for its witnesses in the same way.

use std::ops::Range;

use skein_record::{BatchHeader, BatchView, HEADER_BYTES};
use skein_types::Offset;

use crate::StorageError;
use crate::atomic_file::read_full;
use crate::segment_file::SegmentFile;

/// Bytes that are looked through at once.
const READ_BYTES: usize = 256 * 1024;
/// Bytes of which checksums are made, at most.
const COMPARED_MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Where a batch has its magic byte.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;

/// The end of the first whole batch behind `fault` that may follow `expected`.
pub(super) fn batch_behind(
    file: &SegmentFile,
    fault: u64,
    expected: Offset,
) -> Result<Option<Offset>, StorageError> {
    let (mut start, mut compared) = (fault + 1, 0);
    while start + (HEADER_BYTES as u64) <= file.end() {
        let left = usize::try_from(file.end() - start).unwrap_or(usize::MAX);
        let bytes = read(file, start, left.min(READ_BYTES + HEADER_BYTES))?;
        for at in 0..bytes.len().saturating_sub(HEADER_BYTES - 1) {
            let head = &bytes[at..];
            if head[MAGIC_AT] != MAGIC {
                continue;
            }
            let position = start + at as u64;
            let Some(header) = candidate(head, position..file.end(), expected) else {
                continue;
            };
            let size = header.size_in_bytes();
            compared += size as u64;
            if compared > COMPARED_MAX_BYTES || is_whole(&read(file, position, size)?) {
                return Ok(Some(header.next_offset()));
            }
        }
        // The last bytes may begin a head that goes on behind them.
        let passed = bytes.len().saturating_sub(HEADER_BYTES - 1);
        if passed == 0 {
            break;
        }
        start += passed as u64;
    }
    Ok(None)
}

/// The header that may stand at the start of `range`.
fn candidate(head: &[u8], range: Range<u64>, expected: Offset) -> Option<BatchHeader> {
    let header = BatchHeader::parse(head).ok()?;
    let fits = header.size_in_bytes() as u64 <= range.end - range.start;
    (fits && header.base_offset >= expected).then_some(header)
}

fn is_whole(bytes: &[u8]) -> bool {
    BatchView::parse(bytes).is_ok_and(|batch| batch.check_crc().is_ok())
}

fn read(file: &SegmentFile, position: u64, length: usize) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![0; length];
    let filled = read_full(&**file.file(), file.path(), &mut bytes, position)?;
    bytes.truncate(filled);
    Ok(bytes)
}
