//! A batch on its way into the log: uniquely owned, patched in place.
//!
//! Input: the receive buffer of one batch. Output: the same bytes with the leader's fields set.
//!
//! Invariants, held by the type: the buffer holds exactly one batch (checked in [`BatchBuf::new`]),
//! no one else can see it while it is patched, and `header` says what the bytes say. Record bytes
//! are never copied: the buffer that came from the socket is the one that goes to the disk.
//!
//! Source: DefaultRecordBatch of Kafka 4.1.1 for which fields a leader sets.

use bytes::{Bytes, BytesMut};
use skein_types::{LeaderEpoch, Millis, Offset};

use crate::crc::crc32c;
use crate::error::BatchError;
use crate::header::{
    ATTRIBUTES_AT, BASE_OFFSET_AT, BatchHeader, CRC_AT, LEADER_EPOCH_AT, MAX_TIMESTAMP_AT,
};
use crate::view::BatchView;

/// Exactly one batch, owned by nobody else.
#[derive(Debug)]
pub struct BatchBuf {
    bytes: BytesMut,
    header: BatchHeader,
}

impl BatchBuf {
    /// Takes over `bytes`, which must be one whole batch and nothing more. The CRC is not compared.
    ///
    /// # Errors
    /// Those of [`BatchHeader::parse`], and [`BatchError::Size`].
    pub fn new(bytes: BytesMut) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        if header.size_in_bytes() != bytes.len() {
            return Err(BatchError::Size {
                expected: header.size_in_bytes(),
                actual: bytes.len(),
            });
        }
        Ok(Self { bytes, header })
    }

    /// The header as it stands in the bytes now.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole batch, to read its records.
    #[must_use]
    pub fn view(&self) -> BatchView<'_> {
        BatchView::of_parsed(self.header, &self.bytes)
    }

    /// Gives the batch its place in the log. Outside of the CRC.
    ///
    /// # Panics
    /// When the range does not end before `i64::MAX`: the caller owns the offset space.
    pub fn set_base_offset(&mut self, base_offset: Offset) {
        let last_offset = base_offset.checked_add(i64::from(self.header.last_offset_delta));
        assert!(
            base_offset >= Offset::ZERO && last_offset.is_some_and(|last| last.0 < i64::MAX),
            "no offsets left at {base_offset}"
        );
        self.patch(BASE_OFFSET_AT, &base_offset.0.to_be_bytes());
        self.header.base_offset = base_offset;
    }

    /// Says which leader appended the batch. Outside of the CRC.
    pub fn set_leader_epoch(&mut self, leader_epoch: LeaderEpoch) {
        self.patch(LEADER_EPOCH_AT, &leader_epoch.0.to_be_bytes());
        self.header.leader_epoch = leader_epoch;
    }

    /// Stamps the batch with the time of append (`message.timestamp.type=LogAppendTime`).
    ///
    /// The only patch inside of the CRC, which is computed anew; the records stay as they are.
    pub fn set_log_append_time(&mut self, now: Millis) {
        let attributes = self.header.attributes.with_log_append_time();
        self.patch(ATTRIBUTES_AT, &attributes.0.to_be_bytes());
        self.patch(MAX_TIMESTAMP_AT, &now.0.to_be_bytes());
        let crc = crc32c(&self.bytes[ATTRIBUTES_AT..]);
        self.patch(CRC_AT, &crc.to_be_bytes());
        self.header.attributes = attributes;
        self.header.max_timestamp = now;
        self.header.crc = crc;
    }

    /// The buffer, for its pool.
    #[must_use]
    pub fn into_inner(self) -> BytesMut {
        self.bytes
    }

    /// The batch as shared bytes, no longer patchable.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        self.bytes.freeze()
    }

    fn patch(&mut self, at: usize, field: &[u8]) {
        self.bytes[at..at + field.len()].copy_from_slice(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::BatchBuilder;
    use crate::compression::Codec;
    use crate::header::TimestampType;

    fn batch() -> BatchBuf {
        let mut builder = BatchBuilder::new(Codec::None);
        builder
            .append(Millis(5), Some(b"key"), Some(b"value"), &[])
            .unwrap();
        builder.append(Millis(9), None, Some(b"more"), &[]).unwrap();
        builder.build().unwrap()
    }

    #[test]
    fn leaders_fields_leave_the_crc_valid_and_the_buffer_in_place() {
        let mut batch = batch();
        let address = batch.as_slice().as_ptr();
        let before = batch.as_slice()[ATTRIBUTES_AT..].to_vec();
        batch.set_base_offset(Offset(1_000));
        batch.set_leader_epoch(LeaderEpoch(7));
        assert_eq!(batch.as_slice().as_ptr(), address);
        assert_eq!(batch.as_slice()[ATTRIBUTES_AT..], before);
        let parsed = BatchView::parse(batch.as_slice()).unwrap();
        parsed.check_crc().unwrap();
        assert_eq!(parsed.header(), batch.header());
        assert_eq!(parsed.header().last_offset(), Offset(1_001));
        assert_eq!(parsed.header().leader_epoch, LeaderEpoch(7));
    }

    #[test]
    fn log_append_time_rewrites_the_crc_and_not_the_records() {
        let mut batch = batch();
        let address = batch.as_slice().as_ptr();
        let records = batch.as_slice()[61..].to_vec();
        batch.set_log_append_time(Millis(77));
        assert_eq!(batch.as_slice().as_ptr(), address);
        assert_eq!(batch.as_slice()[61..], records);
        let parsed = BatchView::parse(batch.as_slice()).unwrap();
        parsed.check_crc().unwrap();
        assert_eq!(parsed.header(), batch.header());
        assert_eq!(
            parsed.header().attributes.timestamp_type(),
            TimestampType::LogAppendTime
        );
        let set = parsed.records(1_000).unwrap();
        assert!(
            set.iter()
                .all(|record| record.unwrap().timestamp == Millis(77))
        );
    }

    #[test]
    fn buffer_must_hold_exactly_one_batch() {
        let whole = batch().into_inner();
        let mut longer = whole.clone();
        longer.extend_from_slice(&[0]);
        assert!(matches!(
            BatchBuf::new(longer),
            Err(BatchError::Size { .. })
        ));
        let shorter = BytesMut::from(&whole[..whole.len() - 1]);
        assert!(matches!(
            BatchBuf::new(shorter),
            Err(BatchError::Size { .. })
        ));
        assert!(BatchBuf::new(whole).is_ok());
    }

    #[test]
    #[should_panic(expected = "no offsets left")]
    fn offset_space_does_not_wrap() {
        batch().set_base_offset(Offset(i64::MAX - 1));
    }
}
