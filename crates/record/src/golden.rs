//! Bytes that Kafka 4.1.1's own classes have written, read and written here.
//!
//! Input: hex constants, made once by `MemoryRecordsBuilder`, `ProducerStateManager`, `AbortedTxn`
//! and `LeaderEpochCheckpointFile`. Output: the same values, and the same bytes where no codec is
//! involved.
//!
//! Source: kafka-clients and kafka-storage 4.1.1.

use crate::{
    AbortedTxn, BatchBuf, BatchBuilder, BatchView, Codec, EndTxnMarker, EpochEntry, Header,
    LeaderEpochs, ProducePolicy, ProducerStates, Rejection, TimestampType, TxnResult,
    check_produce, end_txn_marker,
};
use bytes::BytesMut;
use skein_types::{LeaderEpoch, Millis, Offset, ProducerEpoch, ProducerId, Sequence};

/// Three records of producer 4711 in a transaction, none.
const BATCH_NONE: &str = "\
    0000000000000000000000abffffffff025e973d4f0010000000020000018bcfe568000000018bcfe569f4000000\
    000000126700037ffffffe000000032e000000066b65790a76616c7565040468310278046832010e00e807020101\
    00b00100cf0f0400a001616161616161616161616161616161616161616161616161616161616161616161616161\
    616161616161616161616161616161616161616161616161616161616161616161616161616161616161616100\
    ";

/// Three records of producer 4711 in a transaction, gzip.
const BATCH_GZIP: &str = "\
    000000000000000000000072ffffffff02d5efec2a0011000000020000018bcfe568000000018bcfe569f4000000\
    000000126700037ffffffe000000031f8b08000000000000ffd363606060cb4eade42a4bcc294d6561c93064aa60\
    c93062e46378c1cec4c8c8b08191e13c3f0bc302c6442a0306009c7651ad7a000000\
    ";

/// Three records of producer 4711 in a transaction, snappy.
const BATCH_SNAPPY: &str = "\
    00000000000000000000007affffffff02b59c65340012000000020000018bcfe568000000018bcfe569f4000000\
    000000126700037ffffffe0000000382534e41505059000000000100000001000000357aa82e000000066b65790a\
    76616c7565040468310278046832010e00e80702010100b00100cf0f0400a0016161fe02003602000000\
    ";

/// Three records of producer 4711 in a transaction, lz4.
const BATCH_LZ4: &str = "\
    000000000000000000000075ffffffff02f3536fcd0013000000020000018bcfe568000000018bcfe569f4000000\
    000000126700037ffffffe0000000304224d1860408235000000ff1b2e000000066b65790a76616c756504046831\
    0278046832010e00e80702010100b00100cf0f0400a0016101003850616161610000000000\
    ";

/// Three records of producer 4711 in a transaction, zstd.
const BATCH_ZSTD: &str = "\
    000000000000000000000070ffffffff026659e4790014000000020000018bcfe568000000018bcfe569f4000000\
    000000126700037ffffffe0000000328b52ffd00589c0100b4022e000000066b65790a76616c7565040468310278\
    046832010e00e80702010100b00100cf0f0400a0016100010062149401010000\
    ";

/// One record of a plain producer.
const BATCH_PLAIN: &str = "\
    00000000000000000000003affffffff0223f463e100000000000000000000000000050000000000000005ffffff\
    ffffffffffffffffffffff0000000110000000026b027600\
    ";

/// The same at offset 1000 of leader epoch 9, appended at 77 with LogAppendTime.
const BATCH_APPENDED: &str = "\
    00000000000003e80000003a0000000902d7c2dbfc0008000000000000000000000005000000000000004dffffff\
    ffffffffffffffffffffff0000000110000000026b027600\
    ";

/// Commit of producer 4711, coordinator epoch 17.
const MARKER_COMMIT: &str = "\
    000000000000000000000042ffffffff020452c26a003000000000000000000001e240000000000001e240000000\
    00000012670003ffffffff000000012000000008000000010c00000000001100\
    ";

/// Abort of producer 4712 at offset 50, coordinator epoch 18.
const MARKER_ABORT: &str = "\
    000000000000003200000042000000020283487123003000000000000000000001e241000000000001e241000000\
    00000012680000ffffffff000000012000000008000000000c00000000001200\
    ";

/// One message of format 0.
const MESSAGE_V0: &str = "\
    0000000000000000000000101fecd70a0000000000016b0000000176\
    ";

/// One message of format 1.
const MESSAGE_V1: &str = "\
    0000000000000000000000187fdc1dec01000000000000000005000000016b0000000176\
    ";

/// Producers 5, 6 and 4711 at offset 15.
const SNAPSHOT: &str = "\
    0001f2e78268000000030000000000000005000000000001000000000000000d000000030000018bcfe56801ffff\
    ffffffffffffffffffff00000000000000060008ffffffffffffffffffffffff000000000000018bcfe568020000\
    0015ffffffffffffffff00000000000012670003000000090000000000000009000000090000018bcfe56800ffff\
    ffff0000000000000000\
    ";

/// Producer 4711 from 3 to 40, last stable offset 38.
const ABORTED: &str = "\
    00000000000000001267000000000000000300000000000000280000000000000026\
    ";

/// Three epochs.
const EPOCHS: &str = "0\n3\n0 0\n4 17\n5 9000000000\n";

const TIME: i64 = 1_700_000_000_000;
const LONG: &[u8] = &[b'a'; 80];

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |index: usize| u8::from_str_radix(&hex[index..index + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn batches() -> [(Codec, &'static str); 5] {
    [
        (Codec::None, BATCH_NONE),
        (Codec::Gzip, BATCH_GZIP),
        (Codec::Snappy, BATCH_SNAPPY),
        (Codec::Lz4, BATCH_LZ4),
        (Codec::Zstd, BATCH_ZSTD),
    ]
}

fn built(codec: Codec) -> BatchBuf {
    let mut builder = BatchBuilder::new(codec);
    builder.set_producer(ProducerId(4711), ProducerEpoch(3), Sequence(i32::MAX - 1));
    builder.set_transactional(true);
    let headers = [
        Header {
            key: "h1",
            value: Some(b"x"),
        },
        Header {
            key: "h2",
            value: None,
        },
    ];
    builder
        .append(Millis(TIME), Some(b"key"), Some(b"value"), &headers)
        .unwrap();
    builder.append(Millis(TIME + 500), None, None, &[]).unwrap();
    builder
        .append(Millis(TIME - 1000), Some(b""), Some(LONG), &[])
        .unwrap();
    builder.build().unwrap()
}

#[test]
fn kafkas_batches_are_read_with_every_codec() {
    for (codec, hex) in batches() {
        let bytes = bytes(hex);
        let batch = BatchView::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        let header = *batch.header();
        assert_eq!(header.size_in_bytes(), bytes.len());
        assert_eq!(header.codec(), Ok(codec));
        assert_eq!(header.base_sequence, Sequence(i32::MAX - 1));
        assert_eq!(header.last_sequence(), Sequence(0));
        assert_eq!(header.max_timestamp, Millis(TIME + 500));
        assert!(header.attributes.is_transactional() && !header.attributes.is_control());
        let set = batch.records(1_000).unwrap();
        let records: Vec<_> = set.iter().map(Result::unwrap).collect();
        assert_eq!(records.len(), 3);
        assert_eq!(
            (records[0].key, records[0].value),
            (Some(&b"key"[..]), Some(&b"value"[..]))
        );
        let headers: Vec<_> = records[0]
            .headers
            .clone()
            .map(|h| (h.key, h.value))
            .collect();
        assert_eq!(headers, [(&b"h1"[..], Some(&b"x"[..])), (&b"h2"[..], None)]);
        assert_eq!((records[1].key, records[1].value), (None, None));
        assert_eq!(
            (records[2].key, records[2].value),
            (Some(&b""[..]), Some(LONG))
        );
        assert_eq!(records[2].timestamp, Millis(TIME - 1000));
        assert_eq!(records[2].offset, Offset(2));
    }
}

#[test]
fn uncompressed_batch_is_kafkas_byte_for_byte() {
    assert_eq!(built(Codec::None).as_slice(), bytes(BATCH_NONE));
}

#[test]
fn lz4_frame_has_kafkas_header() {
    assert_eq!(
        built(Codec::Lz4).as_slice()[61..68],
        bytes(BATCH_LZ4)[61..68]
    );
    assert_eq!(
        built(Codec::Snappy).as_slice()[61..77],
        bytes(BATCH_SNAPPY)[61..77]
    );
}

#[test]
fn kafkas_batches_pass_the_checks_and_old_formats_do_not() {
    let policy = ProducePolicy {
        max_message_bytes: 1_000,
        segment_bytes: 1_000,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: Millis(i64::MAX),
        timestamp_after_max_ms: Millis(3_600_000),
    };
    let check = |hex| check_produce(&bytes(hex), &policy, 12, Millis(TIME));
    for (_, hex) in batches() {
        assert!(check(hex).is_ok());
    }
    assert!(check(BATCH_PLAIN).is_ok());
    assert_eq!(check(MESSAGE_V0), Err(Rejection::OldMagic { magic: 0 }));
    assert_eq!(check(MESSAGE_V1), Err(Rejection::OldMagic { magic: 1 }));
    assert_eq!(check(MARKER_COMMIT), Err(Rejection::Control));
}

#[test]
fn leader_patches_a_batch_as_kafka_does() {
    let mut batch = BatchBuf::new(BytesMut::from(&bytes(BATCH_PLAIN)[..])).unwrap();
    batch.set_base_offset(Offset(1_000));
    batch.set_leader_epoch(LeaderEpoch(9));
    batch.set_log_append_time(Millis(77));
    assert_eq!(batch.as_slice(), bytes(BATCH_APPENDED));
}

#[test]
fn markers_are_kafkas_byte_for_byte() {
    let commit = EndTxnMarker {
        result: TxnResult::Commit,
        coordinator_epoch: 17,
    };
    let batch =
        end_txn_marker(ProducerId(4711), ProducerEpoch(3), commit, Millis(123_456)).unwrap();
    assert_eq!(batch.as_slice(), bytes(MARKER_COMMIT));
    let abort = EndTxnMarker {
        result: TxnResult::Abort,
        coordinator_epoch: 18,
    };
    let mut batch =
        end_txn_marker(ProducerId(4712), ProducerEpoch(0), abort, Millis(123_457)).unwrap();
    batch.set_base_offset(Offset(50));
    batch.set_leader_epoch(LeaderEpoch(2));
    assert_eq!(batch.as_slice(), bytes(MARKER_ABORT));
    let set = batch.view().records(0).unwrap();
    let record = set.iter().next().unwrap().unwrap();
    assert_eq!(EndTxnMarker::parse(&record), Some(abort));
}

#[test]
fn producer_snapshot_is_kafkas_byte_for_byte() {
    let mut table = ProducerStates::default();
    let data = |id, epoch, sequence, count, timestamp| {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.set_producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
        builder.set_transactional(id == 4711);
        for _ in 0..count {
            builder.append(Millis(timestamp), None, None, &[]).unwrap();
        }
        *builder.build().unwrap().header()
    };
    let _ = table.reserve(&data(4711, 3, 0, 10, TIME), Offset(0));
    let _ = table.reserve(&data(5, 0, i32::MAX - 1, 4, TIME + 1), Offset(10));
    let abort = EndTxnMarker {
        result: TxnResult::Abort,
        coordinator_epoch: 21,
    };
    let (id, epoch) = (ProducerId(6), ProducerEpoch(8));
    let _ = table.reserve_marker(id, epoch, abort, Offset(14), Millis(TIME + 2));
    assert_eq!(table.snapshot(), bytes(SNAPSHOT));
    let loaded = ProducerStates::load(&bytes(SNAPSHOT), Offset(15)).unwrap();
    assert_eq!(loaded, table);
}

#[test]
fn transaction_index_entry_is_kafkas_byte_for_byte() {
    let entry = AbortedTxn {
        producer_id: ProducerId(4711),
        first_offset: Offset(3),
        last_offset: Offset(40),
        last_stable_offset: Offset(38),
    };
    assert_eq!(entry.encode()[..], bytes(ABORTED));
    assert_eq!(
        AbortedTxn::decode_all(&bytes(ABORTED)).collect::<Vec<_>>(),
        [Ok(entry)]
    );
}

#[test]
fn leader_epoch_checkpoint_is_kafkas_byte_for_byte() {
    let table = LeaderEpochs::decode(EPOCHS.as_bytes()).unwrap();
    let last = EpochEntry {
        epoch: LeaderEpoch(5),
        start_offset: Offset(9_000_000_000),
    };
    assert_eq!(table.latest(), Some(last));
    assert_eq!(table.entries().len(), 3);
    assert_eq!(table.encode(), EPOCHS);
}
