//! Zstandard.
//!
//! Input: bytes. Output: one frame; on reading, any number of them one after the other.
//!
//! Invariant: the bound of [`read_bounded`]; besides that the decoder keeps a window, of which it
//! touches no more than what it has decoded, and which [`WINDOW_LOG_MAX`] limits.
//!
//! Source: RFC 8878; KIP-110.

use super::{CompressionError, corrupt, read_bounded};

/// Level 3, the default of Kafka's clients and of zstd.
const LEVEL: i32 = 3;
/// Largest window accepted, 128 MiB: what zstd's highest level asks for, so any client's batch is
/// read.
const WINDOW_LOG_MAX: u32 = 27;

/// A compressor of one level.
pub(super) struct Compressor {
    compressor: ::zstd::bulk::Compressor<'static>,
}

impl Compressor {
    pub(super) fn new(level: Option<i32>) -> Result<Self, CompressionError> {
        let compressor = ::zstd::bulk::Compressor::new(level.unwrap_or(LEVEL)).map_err(corrupt)?;
        Ok(Self { compressor })
    }

    /// Appends one frame.
    pub(super) fn compress(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        // At once, not as a stream: of a known length, tables and window are no larger than a batch
        // needs, for its readers too.
        let frame = self.compressor.compress(data).map_err(corrupt)?;
        out.extend_from_slice(&frame);
        Ok(())
    }
}

pub(super) fn decompress(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut decoder = ::zstd::stream::read::Decoder::with_buffer(data).map_err(corrupt)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(corrupt)?;
    read_bounded(decoder, max_bytes)
}
