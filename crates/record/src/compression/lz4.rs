//! LZ4 frames.
//!
//! Input: bytes. Output: one frame as Kafka's clients write it: blocks of 64 KiB, independent,
//! without checksums of blocks or content.
//!
//! Invariant: the bound of [`read_bounded`]; besides that the decoder keeps two blocks, whose size
//! the format limits to 4 MiB (8 MiB in legacy frames, which are refused here).
//!
//! Source: the LZ4 frame format 1.6; `Lz4BlockOutputStream` of Kafka 4.1.1.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{CompressionError, corrupt, read_bounded};

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

pub(super) fn compress(data: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(data).map_err(corrupt)?;
    encoder.finish().map_err(corrupt)?;
    Ok(())
}

pub(super) fn decompress(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    if !data.starts_with(&MAGIC) {
        return Err(corrupt("no LZ4 frame"));
    }
    read_bounded(FrameDecoder::new(data), max_bytes)
}
