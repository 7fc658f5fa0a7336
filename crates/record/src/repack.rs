//! A batch in another codec, for topics whose `compression.type` forces one.
//!
//! Input: a batch, the codec and the level that it shall have. Output: the same records under the
//! same header, but for length, codec and CRC; nothing where the batch has that codec already,
//! whatever its level.
//!
//! Invariants, checked in [`repack`]: every record is read on the way, so that what does not unpack
//! or holds another number of records than its header says is refused; unpacking stops at the
//! caller's bound.
//!
//! Source: `LogValidator` of Kafka 4.1.1.

use bytes::{BufMut, BytesMut};

use crate::buf::BatchBuf;
use crate::compression::{Compression, compress_with};
use crate::crc::crc32c;
use crate::error::BatchError;
use crate::header::{ATTRIBUTES_AT, CRC_AT, HEADER_BYTES, LENGTH_AT, LENGTH_PREFIX_BYTES};
use crate::view::BatchView;

/// The batch with its records packed by `compression`; `None` if they are already.
///
/// # Errors
/// What is wrong with the records, or [`BatchError::Compression`] beyond `max_bytes`.
pub fn repack(
    batch: &BatchView<'_>,
    compression: Compression,
    max_bytes: usize,
) -> Result<Option<BatchBuf>, BatchError> {
    let header = batch.header();
    let codec = compression.codec;
    if header.codec()? == codec {
        return Ok(None);
    }
    let records = batch.records(max_bytes)?;
    let mut count = 0;
    for record in &records {
        record?;
        count += 1;
    }
    if count != header.records_count {
        return Err(BatchError::RecordsCount {
            records_count: count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    let mut packed = Vec::with_capacity(batch.payload().len());
    compress_with(compression, records.payload(), &mut packed)
        .map_err(|source| BatchError::Compression { codec, source })?;
    let size = HEADER_BYTES + packed.len();
    let Ok(length) = i32::try_from(size - LENGTH_PREFIX_BYTES) else {
        return Err(BatchError::TooLarge {
            bytes: size,
            records: count.cast_unsigned() as usize,
        });
    };
    let mut bytes = BytesMut::with_capacity(size);
    bytes.put_slice(&batch.as_slice()[..HEADER_BYTES]);
    bytes.put_slice(&packed);
    let mut set = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    set(LENGTH_AT, &length.to_be_bytes());
    let attributes = header.attributes.with_codec(codec);
    set(ATTRIBUTES_AT, &attributes.0.to_be_bytes());
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    BatchBuf::new(bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use skein_types::{Millis, ProducerEpoch, ProducerId, Sequence};

    use super::*;
    use crate::builder::BatchBuilder;
    use crate::compression::Codec;

    const MAX_BYTES: usize = 1 << 20;

    fn batch(codec: Codec) -> BatchBuf {
        let mut builder = BatchBuilder::new(codec);
        builder.set_producer(ProducerId(7), ProducerEpoch(1), Sequence(40));
        for number in 0..100 {
            let value = format!("a value that repeats itself {number}");
            builder
                .append(Millis(1_000 - number), None, Some(value.as_bytes()), &[])
                .unwrap();
        }
        builder.build().unwrap()
    }

    fn plain(codec: Codec) -> Compression {
        Compression { codec, level: None }
    }

    #[test]
    fn every_codec_becomes_every_other_and_nothing_else_changes() {
        let original = batch(Codec::None);
        for from in Codec::ALL {
            for to in Codec::ALL {
                let packed = repack(&batch(from).view(), plain(to), MAX_BYTES).unwrap();
                if from == to {
                    assert!(packed.is_none());
                    continue;
                }
                let packed = packed.unwrap();
                packed.view().check_crc().unwrap();
                assert_eq!(packed.header().codec(), Ok(to));
                let records = packed.view().records(MAX_BYTES).unwrap();
                let expected = original.view().records(MAX_BYTES).unwrap();
                assert_eq!(records.payload(), expected.payload());
                let mut header = *packed.header();
                header.attributes = original.header().attributes;
                header.length = original.header().length;
                header.crc = original.header().crc;
                assert_eq!(header, *original.header());
            }
        }
    }

    #[test]
    fn levels_are_obeyed() {
        for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Zstd, -1000, 19)] {
            let size = |level| {
                let level = Some(level);
                let compression = Compression { codec, level };
                let packed = repack(&batch(Codec::None).view(), compression, MAX_BYTES);
                packed.unwrap().unwrap().as_slice().len()
            };
            assert!(size(high) < size(low), "{codec}");
        }
    }

    #[test]
    fn what_does_not_unpack_is_refused() {
        let packed = batch(Codec::Gzip);
        let too_much = repack(&packed.view(), plain(Codec::None), 1_000);
        assert!(matches!(too_much, Err(BatchError::Compression { .. })));
        let mut bytes = packed.into_inner();
        bytes[HEADER_BYTES + 20] ^= 0xff;
        let damaged = BatchBuf::new(bytes).unwrap();
        assert!(repack(&damaged.view(), plain(Codec::None), MAX_BYTES).is_err());
    }

    #[test]
    fn a_batch_that_holds_fewer_records_than_it_says_is_refused() {
        let mut bytes = batch(Codec::None).into_inner();
        let mut records = BytesMut::from(&bytes[HEADER_BYTES..]);
        records.truncate(records.len() / 2);
        bytes.truncate(HEADER_BYTES + records.len());
        let length = i32::try_from(bytes.len() - LENGTH_PREFIX_BYTES).unwrap();
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
        let short = BatchBuf::new(bytes).unwrap();
        assert!(repack(&short.view(), plain(Codec::Gzip), MAX_BYTES).is_err());
    }
}
