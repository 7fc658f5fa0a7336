//! Kafka's cases, one by one.

use skein_types::{LeaderEpoch, Sequence};

use super::*;
use crate::builder::{BatchBuilder, end_txn_marker};
use crate::compression::Codec;
use crate::header::Attributes;

mod model;
mod trace;

const NOW: Millis = Millis(1_000_000);

fn header(
    id: i64,
    epoch: i16,
    base_sequence: i32,
    count: i32,
    is_transactional: bool,
) -> BatchHeader {
    BatchHeader {
        base_offset: Offset::ZERO,
        length: 49,
        leader_epoch: LeaderEpoch::NONE,
        crc: 0,
        attributes: Attributes::new(Codec::None, is_transactional, false),
        last_offset_delta: count - 1,
        base_timestamp: NOW,
        max_timestamp: NOW,
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(base_sequence),
        records_count: count,
    }
}

fn marker(result: TxnResult, coordinator_epoch: i32) -> EndTxnMarker {
    EndTxnMarker {
        result,
        coordinator_epoch,
    }
}

/// Appends without regard to the verdict, as replication does.
fn append(table: &mut ProducerStates, header: &BatchHeader) -> Undo {
    let undo = table.reserve(header, table.map_end_offset());
    table.check();
    undo
}

fn end_txn(
    table: &mut ProducerStates,
    id: i64,
    epoch: i16,
    result: TxnResult,
) -> Option<CompletedTxn> {
    let (id, epoch, end) = (ProducerId(id), ProducerEpoch(epoch), table.map_end_offset());
    let (_undo, completed) = table.reserve_marker(id, epoch, marker(result, 0), end, NOW);
    table.check();
    completed
}

fn verdict(table: &ProducerStates, header: &BatchHeader) -> Verdict {
    table.verdict(header, AppendOrigin::Client)
}

const OUT_OF_ORDER: Verdict = Verdict::Rejected(ErrorCode::OutOfOrderSequenceNumber);
const FENCED: Verdict = Verdict::Rejected(ErrorCode::InvalidProducerEpoch);

#[test]
fn unknown_producer_may_begin_at_any_sequence() {
    let table = ProducerStates::default();
    for sequence in [0, 17, i32::MAX] {
        assert_eq!(
            verdict(&table, &header(1, 5, sequence, 1, false)),
            Verdict::Append
        );
    }
}

#[test]
fn known_epoch_goes_on_with_the_next_sequence() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(1, 0, 0, 3, false));
    assert_eq!(verdict(&table, &header(1, 0, 3, 1, false)), Verdict::Append);
    for sequence in [4, 2, i32::MAX] {
        assert_eq!(
            verdict(&table, &header(1, 0, sequence, 2, false)),
            OUT_OF_ORDER,
            "{sequence}"
        );
    }
}

#[test]
fn sequence_wraps_after_the_largest() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(1, 0, i32::MAX - 1, 2, false));
    assert_eq!(verdict(&table, &header(1, 0, 0, 1, false)), Verdict::Append);
    assert_eq!(verdict(&table, &header(1, 0, 1, 1, false)), OUT_OF_ORDER);
    // A batch across the wrap: i32::MAX, 0, 1.
    let mut table = ProducerStates::default();
    let across = header(1, 0, i32::MAX, 3, false);
    let _ = append(&mut table, &across);
    assert_eq!(verdict(&table, &header(1, 0, 2, 1, false)), Verdict::Append);
    assert!(matches!(
        verdict(&table, &across),
        Verdict::Duplicate { .. }
    ));
}

#[test]
fn last_five_batches_are_known_as_duplicates_with_their_offsets() {
    let mut table = ProducerStates::starting_at(Offset(100));
    for index in 0..6 {
        let _ = append(&mut table, &header(1, 0, 2 * index, 2, false));
    }
    assert_eq!(verdict(&table, &header(1, 0, 0, 2, false)), OUT_OF_ORDER);
    for index in 1..6 {
        let expected = Verdict::Duplicate {
            base_offset: Offset(100 + 2 * i64::from(index)),
            last_offset: Offset(101 + 2 * i64::from(index)),
            timestamp: NOW,
        };
        assert_eq!(
            verdict(&table, &header(1, 0, 2 * index, 2, false)),
            expected
        );
        // The same start with another end is no repetition.
        assert_eq!(
            verdict(&table, &header(1, 0, 2 * index, 1, false)),
            OUT_OF_ORDER
        );
    }
}

#[test]
fn older_epoch_is_fenced_even_for_what_was_appended() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(1, 0, 0, 1, false));
    let _ = append(&mut table, &header(1, 2, 0, 1, false));
    for epoch in [0, 1] {
        assert_eq!(verdict(&table, &header(1, epoch, 0, 1, false)), FENCED);
    }
}

#[test]
fn new_epoch_begins_at_sequence_zero() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(1, 0, 0, 5, false));
    assert_eq!(verdict(&table, &header(1, 1, 5, 1, false)), OUT_OF_ORDER);
    assert_eq!(verdict(&table, &header(1, 1, 0, 5, false)), Verdict::Append);
}

#[test]
fn epoch_that_a_marker_has_raised_begins_at_sequence_zero() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(1, 0, 0, 5, true));
    let _ = end_txn(&mut table, 1, 1, TxnResult::Commit);
    assert_eq!(verdict(&table, &header(1, 0, 5, 1, true)), FENCED);
    assert_eq!(verdict(&table, &header(1, 1, 5, 1, true)), OUT_OF_ORDER);
    assert_eq!(verdict(&table, &header(1, 1, 0, 1, true)), Verdict::Append);
}

#[test]
fn marker_of_the_same_epoch_keeps_sequences_and_duplicates() {
    let mut table = ProducerStates::default();
    let first = header(1, 0, 0, 5, true);
    let _ = append(&mut table, &first);
    let _ = end_txn(&mut table, 1, 0, TxnResult::Commit);
    assert_eq!(verdict(&table, &header(1, 0, 5, 1, true)), Verdict::Append);
    assert!(matches!(verdict(&table, &first), Verdict::Duplicate { .. }));
}

#[test]
fn plain_batch_inside_a_transaction_is_refused() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(1, 0, 0, 1, true));
    let plain = header(1, 0, 1, 1, false);
    assert_eq!(
        verdict(&table, &plain),
        Verdict::Rejected(ErrorCode::InvalidTxnState)
    );
    let _ = end_txn(&mut table, 1, 0, TxnResult::Abort);
    assert_eq!(verdict(&table, &plain), Verdict::Append);
}

#[test]
fn coordinator_has_an_epoch_but_no_sequences() {
    let mut table = ProducerStates::default();
    let batch = header(1, 3, -1, 1, true);
    let _ = append(&mut table, &batch);
    assert_eq!(
        table.verdict(&batch, AppendOrigin::Coordinator),
        Verdict::Append
    );
    let fenced = header(1, 2, -1, 1, true);
    assert_eq!(table.verdict(&fenced, AppendOrigin::Coordinator), FENCED);
    assert_eq!(
        table.verdict(&fenced, AppendOrigin::Replication),
        Verdict::Append
    );
}

#[test]
fn batches_without_a_producer_leave_no_trace_but_the_end() {
    let mut table = ProducerStates::default();
    let plain = header(-1, -1, -1, 4, false);
    assert_eq!(verdict(&table, &plain), Verdict::Append);
    let undo = append(&mut table, &plain);
    assert!(table.is_empty());
    assert_eq!(table.map_end_offset(), Offset(4));
    table.undo(undo);
    assert_eq!(table, ProducerStates::default());
}

#[test]
fn later_coordinator_and_epoch_fence_markers() {
    let mut table = ProducerStates::default();
    let (id, epoch) = (ProducerId(1), ProducerEpoch(4));
    assert_eq!(table.check_marker(id, epoch, 0), Ok(()));
    let _ = table.reserve_marker(id, epoch, marker(TxnResult::Abort, 9), Offset(0), NOW);
    assert_eq!(table.check_marker(id, epoch, 9), Ok(()));
    assert_eq!(table.check_marker(id, ProducerEpoch(5), 10), Ok(()));
    let older = table.check_marker(id, ProducerEpoch(3), 9);
    assert_eq!(older, Err(ErrorCode::InvalidProducerEpoch));
    let fenced = table.check_marker(id, epoch, 8);
    assert_eq!(fenced, Err(ErrorCode::TransactionCoordinatorFenced));
}

#[test]
fn transaction_is_unstable_until_its_marker_is_replicated() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(-1, -1, -1, 10, false));
    assert_eq!(table.first_unstable_offset(), None);
    let _ = append(&mut table, &header(1, 0, 0, 2, true)); // 10, 11
    let _ = append(&mut table, &header(2, 0, 0, 3, true)); // 12 to 14
    let _ = append(&mut table, &header(1, 0, 2, 1, true)); // 15
    assert_eq!(table.first_unstable_offset(), Some(Offset(10)));
    assert!(table.has_ongoing_txn(ProducerId(1), ProducerEpoch(0)));
    assert!(!table.has_ongoing_txn(ProducerId(1), ProducerEpoch(1)));
    let completed = end_txn(&mut table, 1, 0, TxnResult::Abort).unwrap(); // 16
    let expected = AbortedTxn {
        producer_id: ProducerId(1),
        first_offset: Offset(10),
        last_offset: Offset(16),
        last_stable_offset: Offset(12),
    };
    assert_eq!(completed.aborted(), Some(expected));
    assert_eq!(table.first_undecided_offset(), Some(Offset(12)));
    table.on_high_watermark(Offset(16));
    assert_eq!(table.first_unstable_offset(), Some(Offset(10)));
    table.on_high_watermark(Offset(17));
    assert_eq!(table.first_unstable_offset(), Some(Offset(12)));
    let completed = end_txn(&mut table, 2, 0, TxnResult::Commit).unwrap(); // 17
    assert_eq!(completed.aborted(), None);
    assert_eq!(completed.last_stable_offset, Offset(18));
    table.on_high_watermark(Offset(18));
    assert_eq!(table.first_unstable_offset(), None);
}

#[test]
fn marker_without_a_transaction_completes_none() {
    let mut table = ProducerStates::default();
    assert_eq!(end_txn(&mut table, 1, 0, TxnResult::Abort), None);
    assert_eq!(table.first_unstable_offset(), None);
}

#[test]
fn idle_producers_expire_unless_in_a_transaction() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(1, 0, 0, 1, false));
    let _ = append(&mut table, &header(2, 0, 0, 1, true));
    table.remove_expired(Millis(NOW.0 + 100), Millis(100));
    assert_eq!(table.len(), 2, "both were heard of since the last look");
    table.remove_expired(Millis(NOW.0 + 99), Millis(100));
    assert_eq!(table.len(), 2);
    table.remove_expired(Millis(NOW.0 + 100), Millis(100));
    let left: Vec<_> = table.iter().map(|(id, _)| id).collect();
    assert_eq!(left, [ProducerId(2)]);
    table.check();
}

#[test]
#[should_panic(expected = "undone while the table ends at")]
fn reservations_are_undone_last_first() {
    let mut table = ProducerStates::default();
    let first = append(&mut table, &header(1, 0, 0, 1, false));
    let _second = append(&mut table, &header(1, 0, 1, 1, false));
    table.undo(first);
}

#[test]
#[should_panic(expected = "below the table's end")]
fn offsets_are_not_given_twice() {
    let mut table = ProducerStates::starting_at(Offset(10));
    let _ = table.reserve(&header(1, 0, 0, 1, false), Offset(9));
}

#[test]
fn log_start_moves_the_end_and_forgets_ended_transactions() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(1, 0, 0, 1, true));
    let _ = end_txn(&mut table, 1, 0, TxnResult::Commit);
    table.on_log_start(Offset(50));
    assert_eq!(table.first_unstable_offset(), None);
    assert_eq!(table.map_end_offset(), Offset(50));
    assert_eq!(table.len(), 1);
}

#[test]
fn log_is_replayed_from_its_bytes() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.set_producer(ProducerId(7), ProducerEpoch(1), Sequence(0));
    builder.set_transactional(true);
    builder.append(NOW, None, Some(b"v"), &[]).unwrap();
    let data = builder.build().unwrap();
    let end = marker(TxnResult::Abort, 3);
    let mut control = end_txn_marker(ProducerId(7), ProducerEpoch(1), end, NOW).unwrap();
    control.set_base_offset(Offset(1));
    let mut table = ProducerStates::default();
    let (_, completed) = table.replay(&data.view()).unwrap();
    assert_eq!(completed, None);
    assert_eq!(table.first_unstable_offset(), Some(Offset(0)));
    let (_, completed) = table.replay(&control.view()).unwrap();
    assert!(completed.unwrap().aborted().is_some());
    assert_eq!(table.map_end_offset(), Offset(2));
    assert_eq!(table.get(ProducerId(7)).unwrap().coordinator_epoch, 3);
    let again = table.replay(&data.view()).unwrap_err();
    assert_eq!(
        again,
        BatchError::OutOfOrder {
            last_offset: 0,
            expected: 2
        }
    );
}

#[test]
fn snapshot_that_makes_no_sense_is_refused() {
    let mut table = ProducerStates::default();
    let _ = append(&mut table, &header(1, 0, 0, 1, true));
    let _ = append(&mut table, &header(2, 0, 0, 2, true));
    let good = table.snapshot();
    let load = |bytes: &[u8]| ProducerStates::load(bytes, Offset(3));
    let patched = |at: usize, field: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + field.len()].copy_from_slice(field);
        let crc = crate::crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        load(&bytes)
    };
    assert_eq!(load(&good), Ok(table.clone()));
    assert_eq!(load(&good[..9]), Err(SnapshotError::TooShort { have: 9 }));
    assert_eq!(
        patched(0, &[0, 2]),
        Err(SnapshotError::Version { version: 2 })
    );
    for count in [-1, 0, 1, 3, i32::MAX] {
        let error = SnapshotError::Count { count, bytes: 92 };
        assert_eq!(patched(6, &count.to_be_bytes()), Err(error));
    }
    let twice = SnapshotError::DuplicateProducer {
        producer_id: ProducerId(1),
    };
    assert_eq!(patched(56, &1_i64.to_be_bytes()), Err(twice));
    let same_txn = SnapshotError::DuplicateTxn {
        first_offset: Offset(0),
    };
    assert_eq!(patched(94, &0_i64.to_be_bytes()), Err(same_txn));
    assert!(matches!(
        patched(32, &(-1_i32).to_be_bytes()),
        Err(SnapshotError::Batch { .. })
    ));
    for at in 2..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert!(
            matches!(load(&bytes), Err(SnapshotError::Crc { .. })),
            "{at}"
        );
    }
}
