//! The five codecs, for clients, tools and compaction: the broker's produce path does not
//! decompress.
//!
//! Input: bytes and a codec. Output: the bytes, compressed or not.
//!
//! Invariant, checked in [`read_bounded`] and `snappy.rs`: decompression yields at most as many
//! bytes as the caller allows, and memory grows with the bytes that really came out, never with a
//! length that the input claims. (A decoder's own window is bounded by its format: `lz4.rs`,
//! `zstd.rs`.)
//!
//! Source: the Kafka protocol guide; `org.apache.kafka.common.record.CompressionType` for ids and
//! names.

use std::fmt;
use std::io::Read;

use thiserror::Error;

mod gzip;
mod lz4;
mod snappy;
mod zstd;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks, in xerial's framing or bare.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878 (KIP-110).
    Zstd = 4,
}

/// Why bytes could not be compressed or decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompressionError {
    /// There is more than the caller allows.
    #[error("more than {max_bytes} bytes after decompression")]
    TooLarge {
        /// The caller's bound.
        max_bytes: usize,
    },
    /// The codec cannot make sense of the bytes.
    #[error("{reason}")]
    Corrupt {
        /// What the codec said.
        reason: String,
    },
}

impl Codec {
    /// Every codec, by id.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with the id of a batch's attributes.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The id in a batch's attributes.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// Kafka's name, as in `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec with Kafka's name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec, and how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The codec.
    pub codec: Codec,
    /// Of gzip 1 to 9, of zstd -131072 to 22; snappy has none, and LZ4 is written at one level.
    /// `None` is the codec's own default.
    pub level: Option<i32>,
}

impl From<Codec> for Compression {
    /// At the codec's own level.
    fn from(codec: Codec) -> Self {
        Self { codec, level: None }
    }
}

/// Compresses one batch after the other with the same working memory: to set it up costs more than
/// to compress a small batch. It has what its codecs need, up to some MB, from the first use on.
#[derive(Default)]
pub struct Compressor {
    gzip: Option<OfLevel<gzip::Compressor>>,
    zstd: Option<OfLevel<zstd::Compressor>>,
}

/// A codec's working memory, which is set up for one level.
struct OfLevel<C> {
    level: Option<i32>,
    compressor: C,
}

impl<C> OfLevel<C> {
    /// The one that is kept if it is of this level, else one that `make` makes.
    fn of(
        kept: &mut Option<Self>,
        level: Option<i32>,
        make: impl FnOnce(Option<i32>) -> Result<C, CompressionError>,
    ) -> Result<&mut C, CompressionError> {
        let of_level = match kept.take() {
            Some(of_level) if of_level.level == level => of_level,
            _ => Self {
                level,
                compressor: make(level)?,
            },
        };
        Ok(&mut kept.insert(of_level).compressor)
    }
}

impl Compressor {
    /// Appends `data`, compressed, to `out`.
    ///
    /// # Errors
    /// [`CompressionError::Corrupt`] with the reason of a codec that failed.
    pub fn compress(
        &mut self,
        compression: Compression,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        let Compression { codec, level } = compression;
        match codec {
            Codec::None => {
                out.extend_from_slice(data);
                Ok(())
            }
            Codec::Gzip => {
                let new = |level| Ok(gzip::Compressor::new(level));
                OfLevel::of(&mut self.gzip, level, new)?.compress(data, out)
            }
            Codec::Snappy => snappy::compress(data, out),
            Codec::Lz4 => lz4::compress(data, out),
            Codec::Zstd => {
                OfLevel::of(&mut self.zstd, level, zstd::Compressor::new)?.compress(data, out)
            }
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("gzip", &self.gzip.is_some())
            .field("zstd", &self.zstd.is_some())
            .finish()
    }
}

/// Appends `data`, compressed, to `out`; every codec at its default level.
///
/// # Errors
/// [`CompressionError::Corrupt`] with the reason of a codec that failed.
pub fn compress(codec: Codec, data: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    compress_with(codec.into(), data, out)
}

/// Appends `data`, compressed, to `out`.
///
/// # Errors
/// [`CompressionError::Corrupt`] with the reason of a codec that failed.
pub fn compress_with(
    compression: Compression,
    data: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    Compressor::default().compress(compression, data, out)
}

/// Decompresses `data` to at most `max_bytes`.
///
/// # Errors
/// [`CompressionError::TooLarge`] beyond the bound, [`CompressionError::Corrupt`].
pub fn decompress(
    codec: Codec,
    data: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Codec::None if data.len() > max_bytes => Err(CompressionError::TooLarge { max_bytes }),
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => gzip::decompress(data, max_bytes),
        Codec::Snappy => snappy::decompress(data, max_bytes),
        Codec::Lz4 => lz4::decompress(data, max_bytes),
        Codec::Zstd => zstd::decompress(data, max_bytes),
    }
}

/// Reads a decoder to its end, or until it has given more than `max_bytes`.
fn read_bounded(decoder: impl Read, max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    let limit = u64::try_from(max_bytes)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    decoder.take(limit).read_to_end(&mut out).map_err(corrupt)?;
    if out.len() > max_bytes {
        return Err(CompressionError::TooLarge { max_bytes });
    }
    Ok(out)
}

fn corrupt(reason: impl fmt::Display) -> CompressionError {
    CompressionError::Corrupt {
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
