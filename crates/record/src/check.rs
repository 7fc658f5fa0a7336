//! What a leader checks of a produced batch, from its header and its CRC alone.
//!
//! Input: the `records` field of one partition in a produce request, the topic's limits, the
//! request's version, the time. Output: the header, or a [`Rejection`] with the error code for the
//! client.
//!
//! Invariants, checked in [`check_produce`], in this order: exactly one batch, of magic 2, base
//! offset 0, within the size limits, its CRC right; only then what a flipped bit could have
//! changed: a known codec (zstd from Produce 7 on); as many records as offsets, at least one; no
//! control batch; a producer's numbers all set, or no producer id; timestamps in range. What only
//! the records themselves show is not checked.
//!
//! Source: order and codes of Kafka 4.1.1: `ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords`, `LogValidator`. Stricter than Kafka, because nothing is
//! unpacked or repaired here: bytes after the batch, a codec without a name, a transaction without
//! a producer id, timestamps of type LogAppendTime and a delete horizon are refused.

use skein_types::{ErrorCode, Millis, ProducerEpoch, ProducerId, Sequence};
use thiserror::Error;

use crate::compression::Codec;
use crate::error::BatchError;
use crate::header::{BatchHeader, HEADER_BYTES, LENGTH_AT, LENGTH_PREFIX_BYTES, TimestampType};
use crate::read::i32_at;
use crate::view::BatchView;

/// The first Produce version that may carry zstd (KIP-110).
const ZSTD_PRODUCE_VERSION: i16 = 7;
/// Fewest bytes of an uncompressed record: one for each of its seven fields.
const RECORD_MIN_BYTES: usize = 7;

/// What a topic allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducePolicy {
    /// `max.message.bytes`: largest batch, header included.
    pub max_message_bytes: usize,
    /// `segment.bytes`: a batch must fit into a segment.
    pub segment_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far timestamps may lie in the past.
    pub timestamp_before_max_ms: Millis,
    /// `message.timestamp.after.max.ms`: how far timestamps may lie in the future.
    pub timestamp_after_max_ms: Millis,
}

impl ProducePolicy {
    /// Checks the size of a batch; also to be asked before its bytes are received and a buffer is
    /// taken.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`], [`Rejection::LargerThanSegment`].
    pub const fn check_size(&self, bytes: usize) -> Result<(), Rejection> {
        let Self {
            max_message_bytes,
            segment_bytes,
            ..
        } = *self;
        if bytes > max_message_bytes {
            return Err(Rejection::TooLarge {
                bytes,
                max_message_bytes,
            });
        }
        if bytes > segment_bytes {
            return Err(Rejection::LargerThanSegment {
                bytes,
                segment_bytes,
            });
        }
        Ok(())
    }
}

/// A client is told of this many records of a batch that are refused one by one.
pub const REFUSED_RECORDS_MAX: usize = 100;

/// Why a produced batch is refused; the text is the client's error message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// No whole batch.
    #[error("the records hold no whole batch: {have} bytes")]
    NoBatch {
        /// The bytes there are.
        have: usize,
    },
    /// More than one batch, or something else behind it.
    #[error("the records must hold exactly one batch: {trailing} bytes follow the first")]
    MoreThanOneBatch {
        /// Bytes behind the first batch.
        trailing: usize,
    },
    /// A format that Kafka 4 has dropped (KIP-896).
    #[error("record format {magic} is no longer supported: only record batches of magic 2 are")]
    OldMagic {
        /// 0 or 1.
        magic: i8,
    },
    /// The header makes no sense, or the CRC does not match.
    #[error("the batch is corrupt: {0}")]
    Corrupt(#[source] BatchError),
    /// A codec without a name.
    #[error("compression type {id} is unknown")]
    UnknownCodec {
        /// 5, 6 or 7.
        id: u8,
    },
    /// zstd from a client that says it is too old for it.
    #[error("zstd needs Produce version 7, not {produce_version}")]
    ZstdTooEarly {
        /// The request's version.
        produce_version: i16,
    },
    /// A client that assigns offsets.
    #[error("the base offset must be 0, not {base_offset}")]
    BaseOffset {
        /// The base offset field.
        base_offset: i64,
    },
    /// Larger than `max.message.bytes`.
    #[error("the batch has {bytes} bytes; max.message.bytes is {max_message_bytes}")]
    TooLarge {
        /// The batch's bytes.
        bytes: usize,
        /// The topic's limit.
        max_message_bytes: usize,
    },
    /// Larger than a segment.
    #[error("the batch has {bytes} bytes; segment.bytes is {segment_bytes}")]
    LargerThanSegment {
        /// The batch's bytes.
        bytes: usize,
        /// The topic's limit.
        segment_bytes: usize,
    },
    /// Another number of records than of offsets, or none.
    #[error("{records_count} records for {offsets} offsets")]
    RecordsCount {
        /// The record count field.
        records_count: i32,
        /// Last offset delta plus one.
        offsets: i64,
    },
    /// More records than the bytes could hold.
    #[error("{records_count} records cannot fit into {payload_bytes} bytes")]
    RecordsDontFit {
        /// The record count field.
        records_count: i32,
        /// The bytes behind the header.
        payload_bytes: usize,
    },
    /// A marker from a client.
    #[error("clients are not allowed to write control records")]
    Control,
    /// A flag that only compaction sets.
    #[error("clients are not allowed to set a delete horizon")]
    DeleteHorizon,
    /// Some of a producer's numbers are missing.
    #[error(
        "producer id {producer_id}, epoch {producer_epoch} and sequence {base_sequence} \
         must all be set, or the id be -1"
    )]
    Producer {
        /// The producer id field.
        producer_id: ProducerId,
        /// The producer epoch field.
        producer_epoch: ProducerEpoch,
        /// The base sequence field.
        base_sequence: Sequence,
    },
    /// A transaction of nobody.
    #[error("a transactional batch needs a producer id")]
    TransactionWithoutProducer,
    /// A client that claims to be the log.
    #[error("producers must not set the timestamp type to LogAppendTime")]
    TimestampType,
    /// A timestamp too far away.
    #[error("timestamp {timestamp} is out of range: it must be within [{earliest}, {latest}]")]
    Timestamp {
        /// The first or the largest timestamp of the batch.
        timestamp: Millis,
        /// The smallest allowed.
        earliest: Millis,
        /// The largest allowed.
        latest: Millis,
    },
    /// Records without keys on a compacted topic.
    #[error("a compacted topic takes no records without keys: {count} of the batch have none")]
    KeysMissing {
        /// How many they are.
        count: usize,
        /// The places in the batch of the first ones, from 0; [`REFUSED_RECORDS_MAX`] at most.
        indexes: Vec<i32>,
    },
}

impl Rejection {
    /// The error code for the client: Kafka's, except that an unknown codec is named as such (Kafka
    /// fails with UNKNOWN_SERVER_ERROR).
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Corrupt(_) => ErrorCode::CorruptMessage,
            Self::UnknownCodec { .. } | Self::ZstdTooEarly { .. } => {
                ErrorCode::UnsupportedCompressionType
            }
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            Self::TimestampType | Self::Timestamp { .. } => ErrorCode::InvalidTimestamp,
            Self::NoBatch { .. }
            | Self::MoreThanOneBatch { .. }
            | Self::OldMagic { .. }
            | Self::BaseOffset { .. }
            | Self::RecordsCount { .. }
            | Self::RecordsDontFit { .. }
            | Self::Control
            | Self::DeleteHorizon
            | Self::Producer { .. }
            | Self::TransactionWithoutProducer
            | Self::KeysMissing { .. } => ErrorCode::InvalidRecord,
        }
    }
}

/// Checks `records`, the whole field of one partition. Nothing of it is copied or changed.
///
/// # Errors
/// The first rule that the batch breaks.
pub fn check_produce(
    records: &[u8],
    policy: &ProducePolicy,
    produce_version: i16,
    now: Millis,
) -> Result<BatchHeader, Rejection> {
    let header = check_one_batch(records)?;
    if header.base_offset.0 != 0 {
        return Err(Rejection::BaseOffset {
            base_offset: header.base_offset.0,
        });
    }
    policy.check_size(records.len())?;
    BatchView::of_parsed(header, records)
        .check_crc()
        .map_err(Rejection::Corrupt)?;
    check_codec(&header, produce_version)?;
    check_count(&header)?;
    if header.attributes.is_control() {
        return Err(Rejection::Control);
    }
    if header.attributes.has_delete_horizon() {
        return Err(Rejection::DeleteHorizon);
    }
    check_producer(&header)?;
    check_timestamps(&header, policy, now)?;
    Ok(header)
}

/// Checks that every record has a key, as compacted topics demand. The only check that unpacks the
/// records, to at most `max_bytes`.
///
/// # Errors
/// [`Rejection::KeysMissing`], or [`Rejection::Corrupt`] where the records cannot be read.
pub fn check_keys(batch: &BatchView<'_>, max_bytes: usize) -> Result<(), Rejection> {
    let records = batch.records(max_bytes).map_err(Rejection::Corrupt)?;
    let (mut count, mut indexes) = (0, Vec::new());
    for (index, record) in (0..).zip(&records) {
        if record.map_err(Rejection::Corrupt)?.key.is_none() {
            count += 1;
            if indexes.len() < REFUSED_RECORDS_MAX {
                indexes.push(index);
            }
        }
    }
    match count {
        0 => Ok(()),
        _ => Err(Rejection::KeysMissing { count, indexes }),
    }
}

fn check_one_batch(records: &[u8]) -> Result<BatchHeader, Rejection> {
    let have = records.len();
    let header = BatchHeader::read(records).map_err(|error| match error {
        BatchError::Magic {
            magic: magic @ (0 | 1),
        } => Rejection::OldMagic { magic },
        // A length below the smallest is corrupt, a cut-off batch is none at all.
        BatchError::TooShort { .. } => match too_short_length(records) {
            Some(length) => Rejection::Corrupt(BatchError::Length { length }),
            None => Rejection::NoBatch { have },
        },
        error => Rejection::Corrupt(error),
    })?;
    match have.checked_sub(header.size_in_bytes()) {
        Some(0) => Ok(header),
        Some(trailing) => Err(Rejection::MoreThanOneBatch { trailing }),
        None => Err(Rejection::NoBatch { have }),
    }
}

/// The length field of bytes that are too few for a header, where it claims that they are enough.
fn too_short_length(records: &[u8]) -> Option<i32> {
    let prefix = records.get(..LENGTH_PREFIX_BYTES)?;
    let length = i32_at(prefix, LENGTH_AT);
    let header_bytes = i64::try_from(HEADER_BYTES - LENGTH_PREFIX_BYTES).ok()?;
    (i64::from(length) < header_bytes).then_some(length)
}

fn check_codec(header: &BatchHeader, produce_version: i16) -> Result<(), Rejection> {
    match header.codec() {
        Ok(Codec::Zstd) if produce_version < ZSTD_PRODUCE_VERSION => {
            Err(Rejection::ZstdTooEarly { produce_version })
        }
        Ok(_) => Ok(()),
        Err(BatchError::UnknownCodec { id }) => Err(Rejection::UnknownCodec { id }),
        Err(error) => Err(Rejection::Corrupt(error)),
    }
}

/// A batch that says more than it holds would burn offsets which nobody can use again.
fn check_count(header: &BatchHeader) -> Result<(), Rejection> {
    let records_count = header.records_count;
    let offsets = i64::from(header.last_offset_delta) + 1;
    if records_count <= 0 || i64::from(records_count) != offsets {
        return Err(Rejection::RecordsCount {
            records_count,
            offsets,
        });
    }
    let payload_bytes = header.size_in_bytes() - HEADER_BYTES;
    let records = records_count.cast_unsigned() as usize;
    if header.codec() == Ok(Codec::None) && records.saturating_mul(RECORD_MIN_BYTES) > payload_bytes
    {
        return Err(Rejection::RecordsDontFit {
            records_count,
            payload_bytes,
        });
    }
    Ok(())
}

fn check_producer(header: &BatchHeader) -> Result<(), Rejection> {
    let BatchHeader {
        producer_id,
        producer_epoch,
        base_sequence,
        ..
    } = *header;
    let set = producer_id.0 >= 0 && producer_epoch.0 >= 0 && base_sequence.0 >= 0;
    // Without an id the other two mean nothing: franz-go counts its sequence all the same.
    let unset = producer_id == ProducerId::NONE;
    if !set && !unset {
        return Err(Rejection::Producer {
            producer_id,
            producer_epoch,
            base_sequence,
        });
    }
    if unset && header.attributes.is_transactional() {
        return Err(Rejection::TransactionWithoutProducer);
    }
    Ok(())
}

/// The first and the largest timestamp stand for all. With LogAppendTime they are not looked at,
/// because the leader's clock replaces them.
fn check_timestamps(
    header: &BatchHeader,
    policy: &ProducePolicy,
    now: Millis,
) -> Result<(), Rejection> {
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(Rejection::TimestampType);
    }
    if policy.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let earliest = now.saturating_sub(policy.timestamp_before_max_ms);
    let latest = now.saturating_add(policy.timestamp_after_max_ms);
    for timestamp in [header.base_timestamp, header.max_timestamp] {
        if timestamp != Millis::NONE && (timestamp < earliest || timestamp > latest) {
            return Err(Rejection::Timestamp {
                timestamp,
                earliest,
                latest,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
