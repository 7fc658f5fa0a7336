//! gzip.
//!
//! Input: bytes. Output: one gzip member; on reading, any number of them one after the other.
//!
//! Invariant: the bound of [`read_bounded`].
//!
//! Source: RFC 1952; Java's `GZIPInputStream` reads several members too.

use flate2::bufread::MultiGzDecoder;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::{CompressionError, corrupt, read_bounded};

/// The highest level.
const LEVEL_MAX: u32 = 9;
/// The window that every reader has: 32 KiB.
const WINDOW_BITS: u8 = 15;
/// By how much the output grows at a time, at least.
const GROWTH_BYTES: usize = 512;

/// A compressor of one level.
pub(super) struct Compressor {
    compress: Compress,
}

impl Compressor {
    pub(super) fn new(level: Option<i32>) -> Self {
        let number = level.and_then(|level| u32::try_from(level).ok());
        let number = number.map_or_else(Compression::default, |number| {
            Compression::new(number.min(LEVEL_MAX))
        });
        Self {
            compress: Compress::new_gzip(number, WINDOW_BITS),
        }
    }

    /// Appends one member.
    pub(super) fn compress(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        self.compress.reset();
        let mut rest = data;
        // Each turn has room for some output, so each but the last makes some.
        loop {
            out.reserve(GROWTH_BYTES.max(rest.len() / 2));
            let before = self.compress.total_in();
            let status = self
                .compress
                .compress_vec(rest, out, FlushCompress::Finish)
                .map_err(corrupt)?;
            if status == Status::StreamEnd {
                return Ok(());
            }
            let taken = usize::try_from(self.compress.total_in() - before).map_err(corrupt)?;
            rest = &rest[taken..];
        }
    }
}

pub(super) fn decompress(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    read_bounded(MultiGzDecoder::new(data), max_bytes)
}
