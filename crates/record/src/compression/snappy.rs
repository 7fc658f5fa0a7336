//! Snappy, in xerial's framing (Java clients and others) or as one bare block (librdkafka).
//!
//! Input: bytes. Output: frames of 32 KiB as `SnappyOutputStream` writes them; both forms are read.
//!
//! ```text
//!   82 'SNAPPY' 00 │ version i32 = 1 │ compatible i32 = 1 │ length i32, block │ length, block │ …
//! ```
//!
//! Invariant, checked in [`append_block`]: a block's claimed size is believed only up to what its
//! bytes can hold at Snappy's best ratio and up to the caller's bound, before anything is
//! allocated.
//!
//! Source: the Snappy format description; xerial/snappy-java, `SnappyOutputStream`.

use super::{CompressionError, corrupt};
use crate::varint::Cursor;

const HEADER: [u8; 16] = [
    0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
];
const MAGIC_BYTES: usize = 8;
/// Uncompressed bytes of each block that we write.
const BLOCK_BYTES: usize = 32 * 1024;
/// The best that Snappy can do is a copy of 64 bytes in three: 64 / 3, rounded up.
const RATIO_MAX: usize = 22;

pub(super) fn compress(data: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut encoder = snap::raw::Encoder::new();
    out.extend_from_slice(&HEADER);
    for block in data.chunks(BLOCK_BYTES) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder
            .compress(block, &mut out[at + 4..])
            .map_err(corrupt)?;
        let length = u32::try_from(written).map_err(corrupt)?;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        out.truncate(at + 4 + written);
    }
    Ok(())
}

pub(super) fn decompress(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    if !data.starts_with(&HEADER[..MAGIC_BYTES]) {
        append_block(&mut out, data, max_bytes)?;
        return Ok(out);
    }
    let mut cursor = Cursor::new(data);
    cursor
        .take(HEADER.len())
        .ok_or_else(|| corrupt("the framing's header is cut off"))?;
    while !cursor.is_empty() {
        // Java's stream takes a second header where files were joined.
        if cursor.rest().starts_with(&HEADER[..MAGIC_BYTES]) {
            cursor
                .take(HEADER.len())
                .ok_or_else(|| corrupt("a second header is cut off"))?;
            continue;
        }
        let length = cursor
            .take(4)
            .ok_or_else(|| corrupt("a block's length is cut off"))?;
        let length = usize::try_from(crate::read::u32_at(length, 0)).map_err(corrupt)?;
        let block = cursor
            .take(length)
            .ok_or_else(|| corrupt("a block is cut off"))?;
        append_block(&mut out, block, max_bytes)?;
    }
    Ok(out)
}

fn append_block(out: &mut Vec<u8>, block: &[u8], max_bytes: usize) -> Result<(), CompressionError> {
    let claimed = snap::raw::decompress_len(block).map_err(corrupt)?;
    if claimed > block.len().saturating_mul(RATIO_MAX) {
        return Err(corrupt("a block claims more than its bytes can hold"));
    }
    let at = out.len();
    if claimed > max_bytes.saturating_sub(at) {
        return Err(CompressionError::TooLarge { max_bytes });
    }
    out.resize(at + claimed, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[at..])
        .map_err(corrupt)?;
    out.truncate(at + written);
    Ok(())
}
