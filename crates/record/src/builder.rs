//! Makes batches: for the client, the coordinators, tests and simulation.
//!
//! Input: records, a codec, the producer's numbers. Output: one batch, ready to send or to append.
//!
//! Invariants, checked in [`BatchBuilder::append`]: the batch fits the 32-bit numbers of its
//! format. Records are written once, behind room for the header; without a codec they are not
//! copied again.
//!
//! Source: the Kafka protocol guide; timestamps as `MemoryRecordsBuilder` of Kafka 4.1.1 sets them.

use bytes::{BufMut, BytesMut};
use skein_types::{LeaderEpoch, Millis, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::buf::BatchBuf;
use crate::compression::{Codec, Compressor};
use crate::control::EndTxnMarker;
use crate::crc::crc32c;
use crate::error::BatchError;
use crate::header::{ATTRIBUTES_AT, Attributes, CRC_AT, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC};
use crate::varint::{put_varint, put_varlong, varint_bytes, varlong_bytes};

/// One header of a record to be written.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// The name.
    pub key: &'a str,
    /// The value, if any.
    pub value: Option<&'a [u8]>,
}

/// A batch in the making.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records, uncompressed.
    bytes: BytesMut,
    codec: Codec,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    base_timestamp: Millis,
    max_timestamp: Millis,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: Sequence,
    is_transactional: bool,
    is_control: bool,
    records_count: i32,
}

impl BatchBuilder {
    /// An empty batch at offset 0, of a producer without idempotence.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self::with_buffer(codec, BytesMut::new())
    }

    /// The same in a buffer from a pool; what is in it is dropped.
    #[must_use]
    pub fn with_buffer(codec: Codec, mut bytes: BytesMut) -> Self {
        bytes.clear();
        bytes.put_bytes(0, HEADER_BYTES);
        Self {
            bytes,
            codec,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::NONE,
            base_timestamp: Millis::NONE,
            max_timestamp: Millis::NONE,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            is_transactional: false,
            is_control: false,
            records_count: 0,
        }
    }

    /// Names the producer, for idempotence and transactions.
    pub fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
    }

    /// Says that the records belong to the producer's transaction.
    pub fn set_transactional(&mut self, is_transactional: bool) {
        self.is_transactional = is_transactional;
    }

    /// Makes this a control batch.
    pub fn set_control(&mut self, is_control: bool) {
        self.is_control = is_control;
    }

    /// Where in the log the batch is; a client leaves it at 0.
    pub fn set_base_offset(&mut self, base_offset: Offset) {
        self.base_offset = base_offset;
    }

    /// Which leader appends the batch; a client leaves it at −1.
    pub fn set_leader_epoch(&mut self, leader_epoch: LeaderEpoch) {
        self.leader_epoch = leader_epoch;
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] when the format's numbers cannot hold the batch; it is left as it
    /// was.
    pub fn append(
        &mut self,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BatchError> {
        let base_timestamp = if self.records_count == 0 {
            timestamp
        } else {
            self.base_timestamp
        };
        let timestamp_delta = timestamp.0.wrapping_sub(base_timestamp.0);
        let body = body_bytes(timestamp_delta, self.records_count, key, value, headers);
        let length = i32::try_from(body).ok();
        let bytes = self.bytes.len().saturating_add(body).saturating_add(5);
        let (Some(length), true, true) = (
            length,
            i32::try_from(bytes).is_ok(),
            self.records_count < i32::MAX,
        ) else {
            return Err(self.too_large(bytes));
        };
        let out = &mut self.bytes;
        out.reserve(body + 5);
        put_varint(out, length);
        out.put_i8(0);
        put_varlong(out, timestamp_delta);
        put_varint(out, self.records_count);
        put_nullable(out, key);
        put_nullable(out, value);
        // Each header took at least two bytes of `length`, so their number fits.
        put_varint(out, i32::try_from(headers.len()).unwrap_or(i32::MAX));
        for header in headers {
            put_nullable(out, Some(header.key.as_bytes()));
            put_nullable(out, header.value);
        }
        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.records_count += 1;
        Ok(())
    }

    /// How many records there are.
    #[must_use]
    pub const fn records_count(&self) -> i32 {
        self.records_count
    }

    /// Bytes of the batch so far, before compression.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Finishes the batch.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`], [`BatchError::Compression`], and [`BatchError::RecordsCount`] for
    /// an empty batch, which only compaction leaves behind.
    pub fn build(self) -> Result<BatchBuf, BatchError> {
        self.build_with(&mut Compressor::default())
    }

    /// The same with a compressor that is used again.
    ///
    /// # Errors
    /// As of [`Self::build`].
    pub fn build_with(mut self, compressor: &mut Compressor) -> Result<BatchBuf, BatchError> {
        let last_offset_delta = self.records_count - 1;
        if last_offset_delta < 0 {
            return Err(BatchError::RecordsCount {
                records_count: 0,
                last_offset_delta,
            });
        }
        let codec = self.codec;
        if codec != Codec::None {
            let mut compressed = Vec::with_capacity(self.bytes.len() / 2);
            compressor
                .compress(codec.into(), &self.bytes[HEADER_BYTES..], &mut compressed)
                .map_err(|source| BatchError::Compression { codec, source })?;
            self.bytes.truncate(HEADER_BYTES);
            self.bytes.extend_from_slice(&compressed);
        }
        let Ok(length) = i32::try_from(self.bytes.len() - LENGTH_PREFIX_BYTES) else {
            return Err(self.too_large(self.bytes.len()));
        };
        let attributes = Attributes::new(codec, self.is_transactional, self.is_control);
        let mut header = &mut self.bytes[..HEADER_BYTES];
        header.put_i64(self.base_offset.0);
        header.put_i32(length);
        header.put_i32(self.leader_epoch.0);
        header.put_i8(MAGIC);
        header.put_u32(0);
        header.put_i16(attributes.0);
        header.put_i32(last_offset_delta);
        header.put_i64(self.base_timestamp.0);
        header.put_i64(self.max_timestamp.0);
        header.put_i64(self.producer_id.0);
        header.put_i16(self.producer_epoch.0);
        header.put_i32(self.base_sequence.0);
        header.put_i32(self.records_count);
        let crc = crc32c(&self.bytes[ATTRIBUTES_AT..]);
        self.bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        BatchBuf::new(self.bytes)
    }

    fn too_large(&self, bytes: usize) -> BatchError {
        BatchError::TooLarge {
            bytes,
            records: self.records_count.cast_unsigned() as usize + 1,
        }
    }
}

/// The control batch that ends a transaction of `producer_id` in one partition.
///
/// # Errors
/// None that these numbers can cause; the type is the builder's.
pub fn end_txn_marker(
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    marker: EndTxnMarker,
    timestamp: Millis,
) -> Result<BatchBuf, BatchError> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_producer(producer_id, producer_epoch, Sequence::NONE);
    builder.set_transactional(true);
    builder.set_control(true);
    builder.append(timestamp, Some(&marker.key()), Some(&marker.value()), &[])?;
    builder.build()
}

fn body_bytes(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let count = i32::try_from(headers.len()).unwrap_or(i32::MAX);
    let fixed =
        1 + varlong_bytes(timestamp_delta) + varint_bytes(offset_delta) + varint_bytes(count);
    headers.iter().fold(
        fixed + nullable_bytes(key) + nullable_bytes(value),
        |sum, header| {
            sum + nullable_bytes(Some(header.key.as_bytes())) + nullable_bytes(header.value)
        },
    )
}

fn nullable_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(varint_bytes(-1), |bytes| {
        varint_bytes(i32::try_from(bytes.len()).unwrap_or(i32::MAX)) + bytes.len()
    })
}

/// The caller has checked that the whole record fits into an `i32`, so each field does.
fn put_nullable(out: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.put_slice(bytes);
        }
    }
}
