//! Each header check by itself: a good batch with one thing wrong.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::builder::{BatchBuilder, end_txn_marker};
use crate::control::{EndTxnMarker, TxnResult};
use crate::crc::crc32c;
use crate::header::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, CRC_AT, LAST_OFFSET_DELTA_AT, MAGIC_AT, PRODUCER_EPOCH_AT,
    PRODUCER_ID_AT, RECORDS_COUNT_AT,
};

const NOW: Millis = Millis(1_700_000_000_000);
const HOUR: Millis = Millis(3_600_000);

fn policy() -> ProducePolicy {
    ProducePolicy {
        max_message_bytes: 1_000,
        segment_bytes: 2_000,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: Millis(i64::MAX),
        timestamp_after_max_ms: HOUR,
    }
}

fn batch_at(codec: Codec, timestamps: &[i64]) -> BytesMut {
    let mut builder = BatchBuilder::new(codec);
    for timestamp in timestamps {
        builder
            .append(Millis(*timestamp), Some(b"k"), Some(b"value"), &[])
            .unwrap();
    }
    builder.build().unwrap().into_inner()
}

fn batch() -> BytesMut {
    batch_at(Codec::None, &[NOW.0, NOW.0 + 1])
}

/// Writes `field` at `at` and makes the CRC right again.
fn patched(at: usize, field: &[u8]) -> BytesMut {
    let mut bytes = batch();
    bytes[at..at + field.len()].copy_from_slice(field);
    seal(&mut bytes);
    bytes
}

fn seal(bytes: &mut BytesMut) {
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

fn check(bytes: &[u8]) -> Result<BatchHeader, Rejection> {
    check_produce(bytes, &policy(), 11, NOW)
}

fn refused(bytes: &[u8]) -> (Rejection, ErrorCode) {
    let rejection = check(bytes).unwrap_err();
    let code = rejection.code();
    (rejection, code)
}

#[test]
fn good_batch_passes_with_every_codec() {
    for codec in Codec::ALL {
        let header = check(&batch_at(codec, &[NOW.0; 20])).unwrap();
        assert_eq!(header.records_count, 20);
        assert_eq!(header.codec(), Ok(codec));
    }
}

#[test]
fn no_batch_at_all_is_refused() {
    for bytes in [&[][..], &[0; 11]] {
        assert_eq!(refused(bytes).1, ErrorCode::InvalidRecord);
    }
}

#[test]
fn cut_off_batch_is_refused() {
    let whole = batch();
    for length in LENGTH_PREFIX_BYTES..whole.len() {
        let (rejection, code) = refused(&whole[..length]);
        assert_eq!(rejection, Rejection::NoBatch { have: length });
        assert_eq!(code, ErrorCode::InvalidRecord);
    }
}

#[test]
fn second_batch_is_refused() {
    let mut two = batch();
    let second = two.clone();
    two.extend_from_slice(&second);
    let (rejection, code) = refused(&two);
    assert_eq!(
        rejection,
        Rejection::MoreThanOneBatch {
            trailing: second.len()
        }
    );
    assert_eq!(code, ErrorCode::InvalidRecord);
    let mut trailing = batch();
    trailing.extend_from_slice(b"x");
    assert_eq!(
        refused(&trailing).0,
        Rejection::MoreThanOneBatch { trailing: 1 }
    );
}

#[test]
fn older_formats_are_refused_by_name() {
    for magic in [0, 1] {
        let (rejection, code) = refused(&patched(MAGIC_AT, &[magic]));
        assert_eq!(
            rejection,
            Rejection::OldMagic {
                magic: magic.cast_signed()
            }
        );
        assert_eq!(code, ErrorCode::InvalidRecord);
        assert!(rejection.to_string().contains("magic 2"));
    }
    // A message of format 1 is shorter than a header of format 2.
    let mut message = [0; 36];
    message[11] = 24;
    message[MAGIC_AT] = 1;
    assert_eq!(refused(&message).0, Rejection::OldMagic { magic: 1 });
}

#[test]
fn unknown_magic_is_corrupt() {
    for magic in [3, 0x7f, 0xff] {
        assert_eq!(
            refused(&patched(MAGIC_AT, &[magic])).1,
            ErrorCode::CorruptMessage
        );
    }
}

#[test]
fn length_without_room_for_the_header_is_corrupt() {
    for length in [48_i32, 0, -1, i32::MIN] {
        let bytes = patched(LENGTH_AT, &length.to_be_bytes());
        assert_eq!(
            refused(&bytes).0,
            Rejection::Corrupt(BatchError::Length { length })
        );
        assert_eq!(refused(&bytes[..12]).1, ErrorCode::CorruptMessage);
    }
    let longer = patched(LENGTH_AT, &i32::MAX.to_be_bytes());
    assert!(matches!(refused(&longer).0, Rejection::NoBatch { .. }));
}

#[test]
fn flipped_bit_is_corrupt() {
    let good = batch();
    for at in CRC_AT..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        let (rejection, code) = refused(&bytes);
        assert!(
            matches!(rejection, Rejection::Corrupt(BatchError::Crc { .. })),
            "{at}"
        );
        assert_eq!(code, ErrorCode::CorruptMessage);
    }
}

#[test]
fn base_offset_must_be_zero() {
    for base_offset in [1_i64, -1, i64::MAX] {
        let (rejection, code) = refused(&patched(0, &base_offset.to_be_bytes()));
        assert_eq!(rejection, Rejection::BaseOffset { base_offset });
        assert_eq!(code, ErrorCode::InvalidRecord);
    }
}

#[test]
fn count_must_be_that_of_the_offsets() {
    for (delta, count) in [
        (1, 1),
        (1, 3),
        (0, 0),
        (-1, 0),
        (-1, 1),
        (i32::MAX, 2),
        (i32::MIN, 2),
    ] {
        let mut bytes = batch();
        bytes[LAST_OFFSET_DELTA_AT..27].copy_from_slice(&i32::to_be_bytes(delta));
        bytes[RECORDS_COUNT_AT..61].copy_from_slice(&i32::to_be_bytes(count));
        seal(&mut bytes);
        let (rejection, code) = refused(&bytes);
        assert!(
            matches!(rejection, Rejection::RecordsCount { .. }),
            "{delta} {count}"
        );
        assert_eq!(code, ErrorCode::InvalidRecord);
    }
}

#[test]
fn uncompressed_batch_cannot_burn_the_offset_space() {
    let mut bytes = batch();
    bytes[LAST_OFFSET_DELTA_AT..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    bytes[RECORDS_COUNT_AT..61].copy_from_slice(&i32::MAX.to_be_bytes());
    seal(&mut bytes);
    let (rejection, code) = refused(&bytes);
    assert!(matches!(
        rejection,
        Rejection::RecordsDontFit {
            records_count: i32::MAX,
            ..
        }
    ));
    assert_eq!(code, ErrorCode::InvalidRecord);
}

#[test]
fn control_batch_is_refused() {
    let marker = EndTxnMarker {
        result: TxnResult::Commit,
        coordinator_epoch: 1,
    };
    let batch = end_txn_marker(ProducerId(1), ProducerEpoch(0), marker, NOW).unwrap();
    assert_eq!(
        refused(batch.as_slice()),
        (Rejection::Control, ErrorCode::InvalidRecord)
    );
}

#[test]
fn delete_horizon_is_refused() {
    let bytes = patched(ATTRIBUTES_AT, &0x40_i16.to_be_bytes());
    assert_eq!(
        refused(&bytes),
        (Rejection::DeleteHorizon, ErrorCode::InvalidRecord)
    );
}

#[test]
fn unknown_codec_is_refused() {
    for id in [5_u8, 6, 7] {
        let (rejection, code) = refused(&patched(ATTRIBUTES_AT, &i16::from(id).to_be_bytes()));
        assert_eq!(rejection, Rejection::UnknownCodec { id });
        assert_eq!(code, ErrorCode::UnsupportedCompressionType);
    }
}

#[test]
fn zstd_needs_produce_7() {
    let bytes = batch_at(Codec::Zstd, &[NOW.0]);
    let rejection = check_produce(&bytes, &policy(), 6, NOW).unwrap_err();
    assert_eq!(rejection, Rejection::ZstdTooEarly { produce_version: 6 });
    assert_eq!(rejection.code(), ErrorCode::UnsupportedCompressionType);
    assert!(check_produce(&bytes, &policy(), 7, NOW).is_ok());
    assert!(check_produce(&batch_at(Codec::Lz4, &[NOW.0]), &policy(), 3, NOW).is_ok());
}

#[test]
fn producers_numbers_are_all_set_or_there_is_no_id() {
    for set in 0..8_u8 {
        let mut bytes = batch();
        let value = |bit: u8| i64::from(set >> bit & 1) * 8 - 1;
        bytes[PRODUCER_ID_AT..51].copy_from_slice(&value(0).to_be_bytes());
        bytes[PRODUCER_EPOCH_AT..53].copy_from_slice(&value(1).to_be_bytes()[6..]);
        bytes[BASE_SEQUENCE_AT..57].copy_from_slice(&value(2).to_be_bytes()[4..]);
        seal(&mut bytes);
        if set == 7 || set & 1 == 0 {
            assert!(check(&bytes).is_ok(), "{set}");
            continue;
        }
        let (rejection, code) = refused(&bytes);
        assert!(matches!(rejection, Rejection::Producer { .. }), "{set}");
        assert_eq!(code, ErrorCode::InvalidRecord);
    }
    let below = patched(PRODUCER_ID_AT, &(-2_i64).to_be_bytes());
    assert!(matches!(refused(&below).0, Rejection::Producer { .. }));
}

#[test]
fn transaction_needs_a_producer() {
    let bytes = patched(ATTRIBUTES_AT, &0x10_i16.to_be_bytes());
    let expected = (
        Rejection::TransactionWithoutProducer,
        ErrorCode::InvalidRecord,
    );
    assert_eq!(refused(&bytes), expected);
}

#[test]
fn timestamps_must_be_near_enough() {
    let narrow = ProducePolicy {
        timestamp_before_max_ms: HOUR,
        ..policy()
    };
    let check =
        |timestamps: &[i64]| check_produce(&batch_at(Codec::None, timestamps), &narrow, 11, NOW);
    for good in [
        &[NOW.0][..],
        &[NOW.0 - HOUR.0],
        &[NOW.0, NOW.0 + HOUR.0],
        &[-1],
    ] {
        assert!(check(good).is_ok(), "{good:?}");
    }
    for bad in [
        &[NOW.0 - HOUR.0 - 1][..],
        &[NOW.0 + HOUR.0 + 1],
        &[NOW.0, NOW.0 + HOUR.0 + 1],
        &[NOW.0 - HOUR.0 - 1, NOW.0],
        &[i64::MAX],
        &[i64::MIN],
    ] {
        let rejection = check(bad).unwrap_err();
        assert!(matches!(rejection, Rejection::Timestamp { .. }), "{bad:?}");
        assert_eq!(rejection.code(), ErrorCode::InvalidTimestamp);
    }
}

#[test]
fn log_append_time_topic_takes_any_timestamp() {
    let policy = ProducePolicy {
        timestamp_type: TimestampType::LogAppendTime,
        ..policy()
    };
    let bytes = batch_at(Codec::None, &[i64::MAX]);
    assert!(check_produce(&bytes, &policy, 11, NOW).is_ok());
}

#[test]
fn producer_must_not_claim_log_append_time() {
    let bytes = patched(ATTRIBUTES_AT, &0x08_i16.to_be_bytes());
    assert_eq!(
        refused(&bytes),
        (Rejection::TimestampType, ErrorCode::InvalidTimestamp)
    );
    let policy = ProducePolicy {
        timestamp_type: TimestampType::LogAppendTime,
        ..policy()
    };
    let rejection = check_produce(&bytes, &policy, 11, NOW).unwrap_err();
    assert_eq!(rejection, Rejection::TimestampType);
}

#[test]
fn size_is_limited_by_message_and_segment() {
    let bytes = batch();
    let limit = |max_message_bytes, segment_bytes| {
        let policy = ProducePolicy {
            max_message_bytes,
            segment_bytes,
            ..policy()
        };
        check_produce(&bytes, &policy, 11, NOW).map_err(|rejection| rejection.code())
    };
    assert!(limit(bytes.len(), bytes.len()).is_ok());
    assert_eq!(
        limit(bytes.len() - 1, bytes.len()),
        Err(ErrorCode::MessageTooLarge)
    );
    assert_eq!(
        limit(bytes.len(), bytes.len() - 1),
        Err(ErrorCode::RecordListTooLarge)
    );
}

#[test]
fn compacted_topic_needs_keys() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.append(NOW, Some(b""), None, &[]).unwrap();
    builder.append(NOW, None, Some(b"v"), &[]).unwrap();
    let batch = builder.build().unwrap();
    assert_eq!(
        check_keys(&batch.view(), 1_000),
        Err(Rejection::KeysMissing {
            count: 1,
            indexes: vec![1]
        })
    );
    let with_keys = batch_at(Codec::Gzip, &[NOW.0; 9]);
    let view = BatchView::parse(&with_keys).unwrap();
    assert_eq!(check_keys(&view, 1_000), Ok(()));
    assert_eq!(
        check_keys(&view, 10).unwrap_err().code(),
        ErrorCode::CorruptMessage
    );
}

#[test]
fn only_the_first_of_many_records_without_keys_are_named() {
    let mut builder = BatchBuilder::new(Codec::None);
    for number in 0..3 * REFUSED_RECORDS_MAX {
        let key = (number % 2 == 0).then_some(&b"k"[..]);
        builder.append(NOW, key, Some(b"v"), &[]).unwrap();
    }
    let batch = builder.build().unwrap();
    let Err(Rejection::KeysMissing { count, indexes }) = check_keys(&batch.view(), 1 << 20) else {
        panic!("half of them have no key");
    };
    assert_eq!(count, 3 * REFUSED_RECORDS_MAX / 2);
    assert_eq!(indexes.len(), REFUSED_RECORDS_MAX);
    assert_eq!(indexes[..3], [1, 3, 5]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_quietly(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(check(&bytes).is_err());
    }

    #[test]
    fn batch_with_anything_in_its_header_never_panics(
        at in 0..61_usize, field in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let end = (at + field.len()).min(61);
        let bytes = patched(at, &field[..end - at]);
        if let Ok(header) = check(&bytes) {
            prop_assert_eq!(header.size_in_bytes(), bytes.len());
            prop_assert_eq!(BatchHeader::parse(&bytes), Ok(header));
        }
    }
}
