//! What can be wrong with the bytes of a batch.
//!
//! Input: a check that failed. Output: an error that names the numbers involved.
//!
//! Invariant: these describe bytes from outside; none of them is a bug of ours.

use thiserror::Error;

use crate::compression::{Codec, CompressionError};

/// Bytes that are no sound record batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Fewer bytes than a batch header.
    #[error("{have} bytes are too few for a record batch")]
    TooShort {
        /// The bytes there are.
        have: usize,
    },
    /// The length field leaves no room for the header.
    #[error("batch length {length} is below the smallest possible")]
    Length {
        /// The length field.
        length: i32,
    },
    /// A magic other than 2.
    #[error("magic {magic} is not 2")]
    Magic {
        /// The magic byte.
        magic: i8,
    },
    /// Base offset and last offset delta make no range of offsets.
    #[error(
        "base offset {base_offset} and last offset delta {last_offset_delta} are no offset range"
    )]
    OffsetRange {
        /// The base offset field.
        base_offset: i64,
        /// The last offset delta field.
        last_offset_delta: i32,
    },
    /// A record count below zero, or one that is larger than the offset range.
    #[error("record count {records_count} with last offset delta {last_offset_delta}")]
    RecordsCount {
        /// The record count field.
        records_count: i32,
        /// The last offset delta field.
        last_offset_delta: i32,
    },
    /// The buffer is not exactly as long as its batch says.
    #[error("a batch of {expected} bytes in a buffer of {actual} bytes")]
    Size {
        /// What the length field asks for, prefix included.
        expected: usize,
        /// The bytes there are.
        actual: usize,
    },
    /// The checksum does not match.
    #[error("stored CRC {stored:#010x} is not the computed {computed:#010x}")]
    Crc {
        /// The CRC field.
        stored: u32,
        /// CRC-32C from the attributes to the end.
        computed: u32,
    },
    /// A compression type that the format does not define.
    #[error("compression type {id} is unknown")]
    UnknownCodec {
        /// The lowest three bits of the attributes.
        id: u8,
    },
    /// The records don't decompress, or to more than allowed.
    #[error("cannot decompress {codec} records: {source}")]
    Compression {
        /// The batch's codec.
        codec: Codec,
        /// What went wrong.
        #[source]
        source: CompressionError,
    },
    /// A record that does not fit its batch.
    #[error("record {index}: {reason}")]
    Record {
        /// Place of the record in its batch, from 0.
        index: u32,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A batch that ends before the one in front of it.
    #[error("last offset {last_offset} is below the expected offset {expected}")]
    OutOfOrder {
        /// The batch's last offset.
        last_offset: i64,
        /// The smallest that could follow.
        expected: i64,
    },
    /// A batch that its length field cannot describe.
    #[error("a batch of {bytes} bytes and {records} records is too large for the format")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// Its records.
        records: usize,
    },
}
