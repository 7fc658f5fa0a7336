//! gzip.
//!
//! Input: bytes. Output: one gzip member; on reading, any number of them one after the other.
//!
//! Invariant: the bound of [`read_bounded`].
//!
//! Source: RFC 1952; Java's `GZIPInputStream` reads several members too.

use std::io::Write;

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{CompressionError, corrupt, read_bounded};

/// The highest level.
const LEVEL_MAX: u32 = 9;

pub(super) fn compress(
    data: &[u8],
    level: Option<i32>,
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let level = level.and_then(|level| u32::try_from(level).ok());
    let level = level.map_or_else(Compression::default, |level| {
        Compression::new(level.min(LEVEL_MAX))
    });
    let mut encoder = GzEncoder::new(out, level);
    encoder.write_all(data).map_err(corrupt)?;
    encoder.finish().map_err(corrupt)?;
    Ok(())
}

pub(super) fn decompress(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    read_bounded(MultiGzDecoder::new(data), max_bytes)
}
