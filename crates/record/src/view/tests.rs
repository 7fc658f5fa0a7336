//! Batches and records that were built here, cut, damaged, and made up.

use proptest::prelude::*;
use skein_types::{LeaderEpoch, Millis, Offset, ProducerEpoch, ProducerId, Sequence};

use super::*;
use crate::builder::{BatchBuilder, Header, end_txn_marker};
use crate::control::{EndTxnMarker, TxnResult};
use crate::crc::crc32c;
use crate::header::CRC_AT;

const LIMIT: usize = 1 << 20;

type Field = Option<Vec<u8>>;
/// Timestamp, key, value, headers.
type Owned = (i64, Field, Field, Vec<(String, Field)>);

fn build(codec: Codec, base_offset: i64, records: &[Owned]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    builder.set_base_offset(Offset(base_offset));
    builder.set_leader_epoch(LeaderEpoch(3));
    builder.set_producer(ProducerId(9), ProducerEpoch(1), Sequence(5));
    for (timestamp, key, value, headers) in records {
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect();
        let (key, value) = (key.as_deref(), value.as_deref());
        builder
            .append(Millis(*timestamp), key, value, &headers)
            .unwrap();
    }
    builder.build().unwrap().as_slice().to_vec()
}

fn field() -> impl Strategy<Value = Field> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..40))
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    let headers = prop::collection::vec(("[a-z]{0,5}", field()), 0..4);
    prop::collection::vec((any::<i64>(), field(), field(), headers), 1..20)
}

fn seal(bytes: &mut [u8]) {
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

fn simple(codec: Codec, base_offset: i64, count: usize) -> Vec<u8> {
    build(
        codec,
        base_offset,
        &vec![(1, None, Some(b"value".to_vec()), Vec::new()); count],
    )
}

#[test]
fn uncompressed_records_lie_in_the_batch() {
    let bytes = simple(Codec::None, 0, 3);
    let frame = Bytes::copy_from_slice(&bytes);
    let batch = BatchView::parse(&frame).unwrap();
    let range = frame.as_ptr_range();
    let set = batch.records(0).unwrap();
    for record in &set {
        assert!(range.contains(&record.unwrap().value.unwrap().as_ptr()));
    }
    assert!(range.contains(&set.into_bytes(&frame).as_ptr()));
}

#[test]
fn decompression_bound_is_an_error() {
    let bytes = simple(Codec::Gzip, 0, 1_000);
    let batch = BatchView::parse(&bytes).unwrap();
    let Err(BatchError::Compression { codec, source }) = batch.records(100) else {
        panic!("no bound")
    };
    assert_eq!(codec, Codec::Gzip);
    assert_eq!(source, crate::CompressionError::TooLarge { max_bytes: 100 });
}

#[test]
fn last_partial_batch_is_reported_and_no_error() {
    let first = simple(Codec::None, 0, 2);
    let second = simple(Codec::Lz4, 2, 3);
    let whole = [first.clone(), second].concat();
    for cut in 0..=whole.len() {
        let mut batches = Batches::new(&whole[..cut]);
        let count = batches.by_ref().map(Result::unwrap).count();
        let expected = usize::from(cut >= first.len()) + usize::from(cut == whole.len());
        assert_eq!(count, expected, "{cut}");
        let passed = [0, first.len(), whole.len()][expected];
        assert_eq!(batches.rest(), &whole[passed..cut]);
    }
}

#[test]
fn batch_of_nonsense_ends_the_iteration_with_one_error() {
    let mut bytes = simple(Codec::None, 0, 1);
    let length = bytes.len();
    bytes.extend_from_slice(&simple(Codec::None, 1, 1));
    bytes[length + 16] = 9;
    let mut batches = Batches::new(&bytes);
    assert!(batches.next().unwrap().is_ok());
    assert_eq!(
        batches.next().unwrap().unwrap_err(),
        BatchError::Magic { magic: 9 }
    );
    assert!(batches.next().is_none());
    assert_eq!(batches.rest().len(), length);
}

#[test]
fn emptied_batch_has_no_records() {
    let mut bytes = simple(Codec::Zstd, 10, 4)[..HEADER_BYTES].to_vec();
    bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
    bytes[57..].copy_from_slice(&0_i32.to_be_bytes());
    seal(&mut bytes);
    let batch = BatchView::parse(&bytes).unwrap();
    batch.check_crc().unwrap();
    assert_eq!(batch.header().last_offset(), Offset(13));
    assert_eq!(batch.records(0).unwrap().iter().count(), 0);
}

fn first_error(payload: &[u8], count: i32, last_offset_delta: i32) -> Option<&'static str> {
    let mut header = *BatchView::parse(&simple(Codec::None, 0, 1))
        .unwrap()
        .header();
    header.records_count = count;
    header.last_offset_delta = last_offset_delta;
    Records::new(header, payload).find_map(|record| match record {
        Err(BatchError::Record { reason, .. }) => Some(reason),
        _ => None,
    })
}

#[test]
fn each_rule_of_a_record_is_checked() {
    // length, attributes, timestamp, offset, key, value, headers
    assert_eq!(first_error(&[12, 0, 0, 0, 1, 1, 0], 1, 0), None);
    let cases: [(&[u8], i32, &str); 12] = [
        (&[], 1, "its length is cut off"),
        (&[1], 1, "its length is negative"),
        (&[14, 0, 0, 0, 1, 1, 0], 1, "it is longer than its batch"),
        (&[0], 1, "its attributes are missing"),
        (&[2, 0], 1, "its timestamp is cut off"),
        (&[4, 0, 0], 1, "its offset is cut off"),
        (
            &[12, 0, 0, 2, 1, 1, 0],
            1,
            "its offset does not follow the one before",
        ),
        (&[8, 0, 0, 0, 2], 1, "its key is cut off"),
        (&[10, 0, 0, 0, 1, 2], 1, "its value is cut off"),
        (&[12, 0, 0, 0, 1, 1, 1], 1, "its header count is negative"),
        (&[14, 0, 0, 0, 1, 1, 2, 1], 1, "a header's key is missing"),
        (
            &[14, 0, 0, 0, 1, 1, 0, 0],
            1,
            "it is shorter than its length",
        ),
    ];
    for (payload, count, reason) in cases {
        assert_eq!(first_error(payload, count, 0), Some(reason));
    }
    let twice = [12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0];
    assert_eq!(
        first_error(&twice, 2, 5),
        Some("its offset does not follow the one before")
    );
    assert_eq!(
        first_error(&twice, 1, 0),
        Some("bytes follow the last record")
    );
    // A header count of i32::MAX in eleven bytes: an error after the first, not after two billion.
    let many = [20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(first_error(&many, 1, 0), Some("a header's key is missing"));
}

#[test]
fn marker_comes_back() {
    for result in [TxnResult::Abort, TxnResult::Commit] {
        let marker = EndTxnMarker {
            result,
            coordinator_epoch: 12,
        };
        let batch = end_txn_marker(ProducerId(4), ProducerEpoch(2), marker, Millis(8)).unwrap();
        let attributes = batch.header().attributes;
        assert!(attributes.is_control() && attributes.is_transactional());
        let set = batch.view().records(0).unwrap();
        let record = set.iter().next().unwrap().unwrap();
        assert_eq!(EndTxnMarker::parse(&record), Some(marker));
        assert_eq!(record.timestamp, Millis(8));
    }
}

#[test]
fn empty_batch_cannot_be_built() {
    let error = BatchBuilder::new(Codec::None).build().unwrap_err();
    assert!(matches!(error, BatchError::RecordsCount { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn records_round_trip_through_every_codec(records in records(), base_offset in 0..1_i64 << 60) {
        for codec in Codec::ALL {
            let bytes = build(codec, base_offset, &records);
            let batch = BatchView::parse(&bytes).unwrap();
            batch.check_crc().unwrap();
            prop_assert_eq!(batch.as_slice().len(), bytes.len());
            let max = records.iter().map(|record| record.0).max().unwrap().max(-1);
            prop_assert_eq!(batch.header().max_timestamp, Millis(max));
            let set = batch.records(LIMIT).unwrap();
            let read: Vec<_> = set.iter().map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), records.len());
            for (offset, (record, (timestamp, key, value, headers))) in
                (base_offset..).zip(read.iter().zip(&records))
            {
                prop_assert_eq!(record.offset, Offset(offset));
                prop_assert_eq!(record.timestamp, Millis(*timestamp));
                prop_assert_eq!(record.key, key.as_deref());
                prop_assert_eq!(record.value, value.as_deref());
                prop_assert_eq!(record.headers.len(), headers.len());
                let got: Vec<_> = record.headers.clone().map(|h| (h.key, h.value)).collect();
                let want: Vec<_> =
                    headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
                prop_assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn damaged_batch_never_panics(
        records in records(),
        codec in 0..5_u8,
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
    ) {
        let mut bytes = build(Codec::from_id(codec).unwrap(), 7, &records);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for batch in Batches::new(&bytes).flatten() {
            let _ = batch.check_crc();
            if let Ok(set) = batch.records(LIMIT) {
                let count = set.iter().take_while(Result::is_ok).count();
                prop_assert!(count <= bytes.len().max(LIMIT));
                for record in set.iter().flatten() {
                    let promised = record.headers.len();
                    prop_assert_eq!(record.headers.count(), promised);
                    prop_assert!(record.offset <= batch.header().last_offset());
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300), payload: Vec<u8>,
    ) {
        let mut batches = Batches::new(&bytes);
        while batches.next().is_some() {}
        prop_assert!(batches.rest().len() <= bytes.len());
        let _ = first_error(&payload, i32::MAX, i32::MAX);
    }
}
