//! Tests of what a consumer sees of the batches that a broker sends.

use bytes::BytesMut;
use proptest::prelude::*;
use skein_record::{BatchBuilder, Codec, end_txn_marker};
use skein_types::{PartitionIndex, ProducerEpoch, Sequence, TopicName};

use super::*;

fn partition() -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("t").unwrap(),
        partition: PartitionIndex(0),
    }
}

fn batch(base_offset: i64, records: i64, producer_id: Option<i64>, codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    if let Some(id) = producer_id {
        builder.set_producer(ProducerId(id), ProducerEpoch(0), Sequence(0));
        builder.set_transactional(true);
    }
    for index in 0..records {
        let value = (base_offset + index).to_string();
        builder
            .append(Millis(index), None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    let mut batch = builder.build().unwrap();
    batch.set_base_offset(Offset(base_offset));
    batch.as_slice().to_vec()
}

fn marker(offset: i64, producer_id: i64, result: TxnResult) -> Vec<u8> {
    let marker = EndTxnMarker {
        result,
        coordinator_epoch: 0,
    };
    let id = ProducerId(producer_id);
    let mut batch = end_txn_marker(id, ProducerEpoch(0), marker, Millis(0)).unwrap();
    batch.set_base_offset(Offset(offset));
    batch.as_slice().to_vec()
}

/// The offsets that come out, and the position in the end.
fn read(
    position: i64,
    batches: &[Vec<u8>],
    aborted: &[(i64, i64)],
    level: IsolationLevel,
) -> (Vec<i64>, i64) {
    let aborted = aborted.iter().map(|(id, first)| AbortedTransaction {
        producer_id: ProducerId(*id),
        first_offset: Offset(*first),
    });
    let bytes = Bytes::from(batches.concat());
    let aborted = aborted.collect();
    let mut chunk = Chunk::new(partition(), Offset(position), Offset(99), bytes, aborted);
    let options = ConsumerOptions {
        isolation_level: level,
        ..ConsumerOptions::default()
    };
    let mut records = VecDeque::new();
    while chunk.next_batch(&options, &mut records).unwrap() {}
    for record in &records {
        assert_eq!(
            record.value.as_deref(),
            Some(record.offset.to_string().as_bytes())
        );
    }
    (
        records.iter().map(|record| record.offset.0).collect(),
        chunk.position().0,
    )
}

#[test]
fn records_before_the_position_stay_inside_of_their_batch() {
    for codec in Codec::ALL {
        let batches = [batch(0, 5, None, codec), batch(5, 2, None, codec)];
        let level = IsolationLevel::ReadUncommitted;
        assert_eq!(read(3, &batches, &[], level), (vec![3, 4, 5, 6], 7));
        assert_eq!(read(6, &batches, &[], level), (vec![6], 7));
    }
}

#[test]
fn a_batch_that_is_cut_off_waits_for_the_next_fetch() {
    let whole = batch(0, 2, None, Codec::None);
    let mut cut = batch(2, 2, None, Codec::None);
    cut.pop();
    let level = IsolationLevel::ReadUncommitted;
    assert_eq!(read(0, &[whole, cut], &[], level), (vec![0, 1], 2));
}

#[test]
fn aborted_records_are_seen_only_by_those_who_read_all() {
    let batches = [
        batch(0, 2, Some(7), Codec::None),
        batch(2, 1, Some(8), Codec::None),
        marker(3, 7, TxnResult::Abort),
        batch(4, 1, Some(7), Codec::None),
        marker(5, 8, TxnResult::Commit),
        marker(6, 7, TxnResult::Commit),
    ];
    let aborted = [(7, 0)];
    let (all, committed) = (
        IsolationLevel::ReadUncommitted,
        IsolationLevel::ReadCommitted,
    );
    assert_eq!(read(0, &batches, &aborted, all), (vec![0, 1, 2, 4], 7));
    assert_eq!(read(0, &batches, &aborted, committed), (vec![2, 4], 7));
    // A second aborted transaction of the same producer begins behind the first one's marker.
    assert_eq!(
        read(0, &batches, &[(7, 4), (7, 0)], committed),
        (vec![2], 7)
    );
}

#[test]
fn a_flipped_bit_is_refused_and_hands_out_nothing() {
    let mut bytes = batch(0, 3, None, Codec::None);
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    let bytes = Bytes::from(bytes);
    let mut chunk = Chunk::new(partition(), Offset(0), Offset(3), bytes, Vec::new());
    let mut records = VecDeque::new();
    let error = chunk
        .next_batch(&ConsumerOptions::default(), &mut records)
        .unwrap_err();
    assert!(matches!(error, ClientError::Corrupt { .. }), "{error}");
    assert!(records.is_empty());
}

proptest! {
    #[test]
    fn arbitrary_bytes_make_no_panic_and_come_to_an_end(
        garbage in prop::collection::vec(any::<u8>(), 0..200),
        position in 0..10_i64,
        keep in 0..200_usize,
    ) {
        let mut bytes = BytesMut::from(&batch(0, 3, None, Codec::None)[..]);
        bytes.truncate(keep);
        bytes.extend_from_slice(&garbage);
        let bytes = bytes.freeze();
        let mut chunk = Chunk::new(partition(), Offset(position), Offset(3), bytes, Vec::new());
        let options = ConsumerOptions {
            check_crcs: false,
            ..ConsumerOptions::default()
        };
        let mut records = VecDeque::new();
        let mut left = 10;
        while left > 0 && matches!(chunk.next_batch(&options, &mut records), Ok(true)) {
            left -= 1;
        }
        prop_assert!(left > 0);
    }
}
