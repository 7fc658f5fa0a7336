//! Header of a record batch, magic 2.
//!
//! Input: the first 61 bytes of a batch. Output: [`BatchHeader`], every field under its name.
//!
//! ```text
//!   0             8      12     16 17     21    23
//!   ├─────────────┼──────┼──────┼──┼──────┼─────┼────────┐
//!   │ base offset │length│leader│2 │ CRC  │attr.│last off│
//!   │             │      │epoch │  │      │     │delta   │
//!   └─────────────┴──────┴──────┴──┴──────┴─────┴────────┘
//!   27            35            43            51    53     57      61
//!   ├─────────────┼─────────────┼─────────────┼─────┼──────┼───────┼─────────
//!   │ base        │ max         │ producer id │prod.│base  │records│ records
//!   │ timestamp   │ timestamp   │             │epoch│seq.  │count  │ …
//!   └─────────────┴─────────────┴─────────────┴─────┴──────┴───────┴─────────
//!
//!   length counts from 12 to the end; the CRC covers 21 to the end
//! ```
//!
//! Invariants of what [`BatchHeader::parse`] returns:
//! - the length has room for the header;
//! - offsets are not negative, and the offset after the last one exists;
//! - there are at most as many records as offsets (compaction leaves fewer).
//!
//! Source: the Kafka protocol guide, "Record batch"; KIP-98; KIP-534 (delete horizon).

use skein_types::{LeaderEpoch, Millis, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::compression::Codec;
use crate::error::BatchError;
use crate::read::{i16_at, i32_at, i64_at, u32_at};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes before those that the length field counts: base offset and the length itself.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// The only record format there is since Kafka 4.
pub const MAGIC: i8 = 2;

/// Position in a batch of the first byte that the CRC covers; it covers all from there on.
pub const CHECKSUM_FROM: usize = ATTRIBUTES_AT;

pub(crate) const BASE_OFFSET_AT: usize = 0;
pub(crate) const LENGTH_AT: usize = 8;
pub(crate) const LEADER_EPOCH_AT: usize = 12;
pub(crate) const MAGIC_AT: usize = 16;
pub(crate) const CRC_AT: usize = 17;
/// Where the bytes begin that the CRC covers.
pub(crate) const ATTRIBUTES_AT: usize = 21;
pub(crate) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(crate) const BASE_TIMESTAMP_AT: usize = 27;
pub(crate) const MAX_TIMESTAMP_AT: usize = 35;
pub(crate) const PRODUCER_ID_AT: usize = 43;
pub(crate) const PRODUCER_EPOCH_AT: usize = 51;
pub(crate) const BASE_SEQUENCE_AT: usize = 53;
pub(crate) const RECORDS_COUNT_AT: usize = 57;

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // 49
const LENGTH_MIN: i32 = (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32;

/// What a batch says of its records as a whole. Of stranger's fields only the shape has been
/// checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record that the batch was made with.
    pub base_offset: Offset,
    /// Bytes after the length field: from [`BatchHeader::parse`] never below 49.
    pub length: i32,
    /// Epoch of the leader that appended the batch; outside of the CRC.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C as stored, not yet compared.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: Attributes,
    /// Last offset minus base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from; the delete horizon where that flag is set.
    pub base_timestamp: Millis,
    /// Largest timestamp, or the time of append.
    pub max_timestamp: Millis,
    /// The producer's id, or −1.
    pub producer_id: ProducerId,
    /// The producer's epoch, or −1.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, or −1.
    pub base_sequence: Sequence,
    /// How many records there are.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; the records need not be there.
    ///
    /// # Errors
    /// [`BatchError::TooShort`], [`BatchError::Magic`], [`BatchError::Length`],
    /// [`BatchError::OffsetRange`], [`BatchError::RecordsCount`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::read(bytes)?;
        header.check_offsets()?;
        Ok(header)
    }

    /// The same without the rules of offsets and counts, for a caller that compares the CRC first.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        // The magic comes first: of an older format nothing else would be read right.
        if let Some(&magic) = bytes.get(MAGIC_AT) {
            let magic = magic.cast_signed();
            if magic != MAGIC {
                return Err(BatchError::Magic { magic });
            }
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::TooShort { have: bytes.len() });
        };
        let header = Self {
            base_offset: Offset(i64_at(bytes, BASE_OFFSET_AT)),
            length: i32_at(bytes, LENGTH_AT),
            leader_epoch: LeaderEpoch(i32_at(bytes, LEADER_EPOCH_AT)),
            crc: u32_at(bytes, CRC_AT),
            attributes: Attributes(i16_at(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32_at(bytes, LAST_OFFSET_DELTA_AT),
            base_timestamp: Millis(i64_at(bytes, BASE_TIMESTAMP_AT)),
            max_timestamp: Millis(i64_at(bytes, MAX_TIMESTAMP_AT)),
            producer_id: ProducerId(i64_at(bytes, PRODUCER_ID_AT)),
            producer_epoch: ProducerEpoch(i16_at(bytes, PRODUCER_EPOCH_AT)),
            base_sequence: Sequence(i32_at(bytes, BASE_SEQUENCE_AT)),
            records_count: i32_at(bytes, RECORDS_COUNT_AT),
        };
        if header.length < LENGTH_MIN {
            return Err(BatchError::Length {
                length: header.length,
            });
        }
        Ok(header)
    }

    /// Offset of the last record that the batch was made with, inclusive.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(self.last_offset_delta as i64),
        )
    }

    /// The offset after the last one.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// Sequence of the last record; −1 where there are no sequences.
    ///
    /// Source: `DefaultRecordBatch.lastSequence`.
    #[must_use]
    pub const fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 == Sequence::NONE.0 {
            return Sequence::NONE;
        }
        self.base_sequence
            .wrapping_add(self.last_offset_delta.cast_unsigned())
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub const fn size_in_bytes(&self) -> usize {
        LENGTH_PREFIX_BYTES + self.length.cast_unsigned() as usize
    }

    /// Whether an idempotent or transactional producer sent the batch.
    #[must_use]
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id.0 > ProducerId::NONE.0
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`].
    pub fn codec(&self) -> Result<Codec, BatchError> {
        self.attributes.codec()
    }

    /// Until when tombstones and markers of the batch are kept, once the cleaner has set it
    /// (KIP-534).
    #[must_use]
    pub const fn delete_horizon(&self) -> Option<Millis> {
        if self.attributes.has_delete_horizon() {
            Some(self.base_timestamp)
        } else {
            None
        }
    }

    fn check_offsets(&self) -> Result<(), BatchError> {
        let end = self
            .base_offset
            .0
            .checked_add(i64::from(self.last_offset_delta));
        if self.base_offset.0 < 0
            || self.last_offset_delta < 0
            || end.is_none_or(|last_offset| last_offset == i64::MAX)
        {
            return Err(BatchError::OffsetRange {
                base_offset: self.base_offset.0,
                last_offset_delta: self.last_offset_delta,
            });
        }
        // Written so that i32::MAX + 1 needs no wider type.
        if self.records_count < 0 || self.records_count - 1 > self.last_offset_delta {
            return Err(BatchError::RecordsCount {
                records_count: self.records_count,
                last_offset_delta: self.last_offset_delta,
            });
        }
        Ok(())
    }
}

/// Whose clock the timestamps are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The leader's, at append.
    LogAppendTime,
}

/// The flags of a batch.
///
/// ```text
///   15 … 7  6               5        4              3               2 … 0
///   unused  delete horizon  control  transactional  timestamp type  codec
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

impl Attributes {
    /// Attributes of a new batch.
    #[must_use]
    pub const fn new(codec: Codec, is_transactional: bool, is_control: bool) -> Self {
        let mut bits = codec.id() as i16;
        if is_transactional {
            bits |= TRANSACTIONAL;
        }
        if is_control {
            bits |= CONTROL;
        }
        Self(bits)
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`] for 5, 6 and 7.
    pub fn codec(self) -> Result<Codec, BatchError> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // three bits
        let id = (self.0 & CODEC_MASK) as u8;
        Codec::from_id(id).ok_or(BatchError::UnknownCodec { id })
    }

    /// Whose clock the timestamps are from.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the records belong to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// Whether the records are markers of ours, not a client's.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Whether the base timestamp is a delete horizon (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    /// The same with the timestamp type [`TimestampType::LogAppendTime`].
    #[must_use]
    pub const fn with_log_append_time(self) -> Self {
        Self(self.0 | LOG_APPEND_TIME)
    }

    /// The same with another codec.
    #[must_use]
    pub const fn with_codec(self, codec: Codec) -> Self {
        Self((self.0 & !CODEC_MASK) | codec.id() as i16)
    }

    /// The same, with a delete horizon in place of the base timestamp.
    #[must_use]
    pub(crate) const fn with_delete_horizon(self) -> Self {
        Self(self.0 | DELETE_HORIZON)
    }

    /// The same without a delete horizon.
    #[must_use]
    pub(crate) const fn without_delete_horizon(self) -> Self {
        Self(self.0 & !DELETE_HORIZON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(length: i32, base_offset: i64, last_offset_delta: i32, count: i32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[LENGTH_AT..12].copy_from_slice(&length.to_be_bytes());
        bytes[MAGIC_AT] = 2;
        bytes[LAST_OFFSET_DELTA_AT..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        bytes[RECORDS_COUNT_AT..].copy_from_slice(&count.to_be_bytes());
        bytes
    }

    #[test]
    fn length_must_have_room_for_the_header() {
        assert!(BatchHeader::parse(&bytes_of(49, 0, 0, 1)).is_ok());
        for length in [48, 0, -1, i32::MIN] {
            let bytes = bytes_of(length, 0, 0, 1);
            assert_eq!(
                BatchHeader::parse(&bytes),
                Err(BatchError::Length { length })
            );
        }
    }

    #[test]
    fn offsets_must_be_a_range_with_an_end() {
        assert!(BatchHeader::parse(&bytes_of(49, i64::MAX - 2, 1, 2)).is_ok());
        for (base, delta) in [
            (-1, 0),
            (0, -1),
            (i64::MAX, 0),
            (i64::MAX - 1, 1),
            (i64::MIN, -1),
        ] {
            let result = BatchHeader::parse(&bytes_of(49, base, delta, 0));
            assert!(
                matches!(result, Err(BatchError::OffsetRange { .. })),
                "{base} {delta}"
            );
        }
    }

    #[test]
    fn there_are_no_more_records_than_offsets() {
        assert!(BatchHeader::parse(&bytes_of(49, 0, 3, 0)).is_ok());
        assert!(BatchHeader::parse(&bytes_of(49, 0, i32::MAX, i32::MAX)).is_ok());
        for (delta, count) in [(0, 2), (0, -1), (3, 5), (0, i32::MAX), (0, i32::MIN)] {
            let result = BatchHeader::parse(&bytes_of(49, 0, delta, count));
            assert!(
                matches!(result, Err(BatchError::RecordsCount { .. })),
                "{delta} {count}"
            );
        }
    }

    #[test]
    fn older_magic_is_named_even_when_little_is_there() {
        let mut bytes = bytes_of(14, 0, 0, 1);
        bytes[MAGIC_AT] = 1;
        assert_eq!(
            BatchHeader::parse(&bytes[..20]),
            Err(BatchError::Magic { magic: 1 })
        );
        assert_eq!(
            BatchHeader::parse(&bytes[..3]),
            Err(BatchError::TooShort { have: 3 })
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_make_a_sane_header_or_none(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Some(magic) = bytes.get_mut(MAGIC_AT) {
                *magic = 2;
            }
            if let Ok(header) = BatchHeader::parse(&bytes) {
                prop_assert!(header.size_in_bytes() >= HEADER_BYTES);
                prop_assert!(header.last_offset() >= header.base_offset);
                prop_assert!(header.next_offset() > header.last_offset());
            }
        }
    }
}
