//! Whether the end of a metadata log is torn, or damaged.
//!
//! ```text
//!   … whole batch │ part of a batch ┊            torn: the write came as far as this
//!   … whole batch │ zeros           ┊            torn: the length is there, the bytes are not
//!   … whole batch │ damaged │ whole batch ┊      damaged: what follows was written later
//!   … whole batch │ whole, but for its checksum, length or offset ┊     damaged
//! ```
//!
//! Input: the bytes behind the last whole batch. Output: how many they are, or an error if they
//! were once whole.
//!
//! Invariant: a batch that was once whole is never taken for torn because of one damaged byte.
//! Kafka flushes each batch before it counts, so that what is torn was never acknowledged.
//!
//! Source: own design; the layout of batches is the Kafka protocol guide's.

use std::path::Path;

use skein_env::{Disk, OpenMode};
use skein_record::{BatchHeader, BatchView, CHECKSUM_FROM, HEADER_BYTES, MAGIC, crc32c};
use skein_types::Offset;

use crate::ImportError;
use crate::metadata_log::BATCH_MAX_BYTES;

/// Where a batch has its magic.
const MAGIC_AT: usize = 16;

/// The bytes from `position` to the end of the file, if they are the torn end of a log whose next
/// offset is `expected`.
pub(crate) fn check_torn(
    disk: &dyn Disk,
    path: &Path,
    position: u64,
    expected: Offset,
) -> Result<u64, ImportError> {
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(|source| ImportError::io("open", path, source))?;
    let length = file
        .length()
        .map_err(|source| ImportError::io("stat", path, source))?;
    let bytes = length.saturating_sub(position);
    let room = usize::try_from(bytes).unwrap_or(usize::MAX);
    if room > BATCH_MAX_BYTES {
        let what = format!("{bytes} bytes are no batch, and too many for a torn one");
        return Err(ImportError::corrupt(path, position, what));
    }
    let mut rest = vec![0; room];
    let mut filled = 0;
    while filled < rest.len() {
        match file.read_at(&mut rest[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(source) => return Err(ImportError::io("read", path, source)),
        }
    }
    rest.truncate(filled);
    match judge(&rest, expected) {
        Ok(()) => Ok(bytes),
        Err(what) => Err(ImportError::corrupt(path, position, what)),
    }
}

/// Whether `rest` may be the beginning of a batch at `expected` that was never whole.
fn judge(rest: &[u8], expected: Offset) -> Result<(), &'static str> {
    if rest.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    if follows_whole_batch(rest, expected) {
        return Err("bytes are damaged: whole batches follow them");
    }
    if rest
        .first_chunk::<8>()
        .is_some_and(|offset| i64::from_be_bytes(*offset) != expected.get())
    {
        return Err("the offset of the last batch is damaged");
    }
    if rest
        .get(MAGIC_AT)
        .is_some_and(|magic| magic.cast_signed() != MAGIC)
    {
        return Err("the last batch is damaged: it has another magic");
    }
    if rest.len() < HEADER_BYTES {
        return Ok(());
    }
    match BatchHeader::parse(rest) {
        Err(_) => Err("the header of the last batch is damaged"),
        Ok(header) if header.size_in_bytes() <= rest.len() => {
            Err("the last batch does not bear its checksum")
        }
        // The checksum does not cover the length: all of it may be there.
        Ok(header) if crc32c(&rest[CHECKSUM_FROM..]) == header.crc => {
            Err("the length of the last batch is damaged")
        }
        Ok(_) => Ok(()),
    }
}

fn follows_whole_batch(rest: &[u8], expected: Offset) -> bool {
    let starts = 1..rest.len().saturating_sub(HEADER_BYTES).saturating_add(1);
    starts
        .filter(|start| rest.get(start + MAGIC_AT).copied() == Some(MAGIC.cast_unsigned()))
        .filter_map(|start| BatchView::parse(&rest[start..]).ok())
        .any(|batch| batch.header().base_offset > expected && batch.check_crc().is_ok())
}
