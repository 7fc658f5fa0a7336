//! Scenarios of a replica that follows.

use skein_record::{EndTxnMarker, EpochEndOffset, TxnEnd, TxnResult};

use super::*;
use crate::{FetchedBatch, FetchedBatches, OfflineReason, TruncatedLog};

/// A batch of the leader's log.
fn batch(base_offset: i64, end: i64, leader_epoch: i32) -> FetchedBatch {
    let records = i32::try_from(end - base_offset).unwrap();
    FetchedBatch {
        header: BatchHeader {
            base_offset: Offset(base_offset),
            leader_epoch: LeaderEpoch(leader_epoch),
            ..produce(0, records).header
        },
        txn_end: None,
    }
}

fn transactional(mut batch: FetchedBatch, producer_id: i64) -> FetchedBatch {
    batch.header.producer_id = ProducerId(producer_id);
    batch.header.producer_epoch = ProducerEpoch(0);
    batch.header.base_sequence = Sequence(0);
    batch.header.attributes = Attributes::new(Codec::None, true, false);
    batch
}

fn abort(at: i64, producer_id: i64) -> FetchedBatch {
    let mut batch = transactional(batch(at, at + 1, 1), producer_id);
    batch.header.base_sequence = Sequence::NONE;
    batch.header.attributes = Attributes::new(Codec::None, true, true);
    batch.txn_end = Some(TxnEnd {
        marker: EndTxnMarker {
            result: TxnResult::Abort,
            coordinator_epoch: 0,
        },
        timestamp: Millis(500),
    });
    batch
}

/// The position of the replica as it is.
fn position(leader_epoch: i32, fetch_offset: i64, last_fetched_epoch: i32) -> FetchPosition {
    FetchPosition {
        leader_epoch: LeaderEpoch(leader_epoch),
        fetch_offset: Offset(fetch_offset),
        last_fetched_epoch: LeaderEpoch(last_fetched_epoch),
        log_start_offset: Offset(0),
    }
}

/// What the leader answers to a fetch from `at`.
fn answer(at: FetchPosition, batches: &[FetchedBatch], high_watermark: i64) -> FetchedBatches {
    FetchedBatches {
        ticket: Ticket(7),
        position: at,
        batches: batches.to_vec(),
        high_watermark: Offset(high_watermark),
        log_start_offset: Offset(0),
    }
}

impl From<FetchedBatches> for Event {
    fn from(fetched: FetchedBatches) -> Self {
        Self::BatchesFetched(fetched)
    }
}

fn became_follower(leader_epoch: i32) -> Event {
    Event::BecameFollower {
        leader: BrokerId(2),
        leader_epoch: LeaderEpoch(leader_epoch),
    }
}

fn diverged(at: FetchPosition, epoch: i32, end_offset: i64) -> Event {
    Event::LogsDiverged {
        position: at,
        end: EpochEndOffset {
            epoch: LeaderEpoch(epoch),
            end_offset: Offset(end_offset),
        },
    }
}

fn out_of_range(at: FetchPosition, start: i64, end: i64) -> Event {
    Event::FetchedOutOfRange {
        position: at,
        leader_log_start_offset: Offset(start),
        leader_log_end_offset: Offset(end),
    }
}

/// The log as storage has cut it.
fn truncated(start: i64, end: i64, epochs: &[(i32, i64)]) -> Event {
    let mut leader_epochs = LeaderEpochs::new();
    for &(epoch, start_offset) in epochs {
        leader_epochs.assign(LeaderEpoch(epoch), Offset(start_offset));
    }
    Event::Truncated(TruncatedLog {
        log_start_offset: Offset(start),
        log_end_offset: Offset(end),
        producers: ProducerStates::starting_at(Offset(end)),
        leader_epochs,
    })
}

/// Broker 1 follows in epoch 5; its log has epoch 1 from 0, epoch 3 from 10, and ends at 20, the
/// high watermark at 12.
fn follower(settings: ReplicaSettings) -> Scenario {
    let mut log = log(0, 20);
    log.high_watermark = Offset(12);
    log.leader_epochs.assign(LeaderEpoch(1), Offset(0));
    log.leader_epochs.assign(LeaderEpoch(3), Offset(10));
    let mut s = Scenario::new(settings);
    s.replica = Replica::new(BrokerId(1), settings, log);
    s.check(
        became_follower(5),
        "view follows e5 0/12/12/20, fetch e5 20 after e3",
    );
    s
}

fn empty_follower() -> Scenario {
    let mut s = Scenario::new(SETTINGS);
    s.check(
        became_follower(1),
        "view follows e1 0/0/0/0, fetch e1 0 after e-1",
    );
    s
}

#[test]
fn batches_are_written_as_the_leader_has_them() {
    let mut s = empty_follower();
    let batches = [batch(0, 3, 0), batch(3, 4, 1)];
    s.check(answer(position(1, 0, -1), &batches, 2), "write fetched 7");
    assert!(s.replica.is_writing());
    s.check(
        written(4),
        "epochs, view follows e1 0/2/2/4, fetch e1 4 after e1",
    );
    let epochs: Vec<_> = s.replica.leader_epochs().entries().to_vec();
    let epochs: Vec<_> = epochs
        .iter()
        .map(|e| (e.epoch.0, e.start_offset.0))
        .collect();
    assert_eq!(epochs, [(0, 0), (1, 3)]);
}

#[test]
fn compaction_leaves_gaps_between_batches() {
    let mut s = empty_follower();
    let batches = [batch(2, 3, 1), batch(8, 9, 1)];
    s.check(answer(position(1, 0, -1), &batches, 9), "write fetched 7");
    s.check(
        written(9),
        "epochs, view follows e1 0/9/9/9, fetch e1 9 after e1",
    );
}

#[test]
fn the_high_watermark_is_the_leaders_as_far_as_the_log_goes() {
    let mut s = follower(SETTINGS);
    let at = position(5, 20, 3);
    let on = "fetch e5 20 after e3";
    s.check(answer(at, &[], 11), on);
    s.check(
        answer(at, &[], 15),
        &format!("view follows e5 0/15/15/20, {on}"),
    );
    s.check(answer(at, &[], 14), on);
    s.check(
        answer(at, &[], 99),
        &format!("view follows e5 0/20/20/20, {on}"),
    );
}

#[test]
fn an_answer_counts_only_where_it_was_asked_for() {
    let mut s = follower(SETTINGS);
    let next = [batch(20, 21, 5)];
    for stale in [position(4, 20, 3), position(5, 20, 1), position(5, 21, 3)] {
        let ignored = "drop 7 Stale, fetch e5 20 after e3";
        s.check(answer(stale, &next, 21), ignored);
        s.check(diverged(stale, 1, 10), "fetch e5 20 after e3");
    }
    let at = position(5, 20, 3);
    s.check(answer(at, &next, 20), "write fetched 7");
    s.check(
        written(21),
        "epochs, view follows e5 0/20/20/21, fetch e5 21 after e5",
    );
    // The same answer once more.
    s.check(answer(at, &next, 21), "drop 7 Stale, fetch e5 21 after e5");
}

#[test]
fn batches_that_do_not_follow_are_not_written() {
    let mut s = follower(SETTINGS);
    for wrong in [
        &[batch(19, 21, 5)][..],
        &[batch(20, 22, 5), batch(21, 23, 5)],
        &[batch(20, 21, 6)],
        &[batch(20, 21, 2)],
        &[batch(20, 21, 5), batch(21, 22, 4)],
    ] {
        let refused = "drop 7 OutOfOrder, fetch later e5 20 after e3";
        s.check(answer(position(5, 20, 3), wrong, 30), refused);
    }
    assert_eq!(s.replica.published().high_watermark, Offset(12));
}

#[test]
fn a_failed_write_is_fetched_again_later() {
    let mut s = follower(SETTINGS);
    let before = s.replica.producers().unwrap().clone();
    let batches = [transactional(batch(20, 21, 5), 4), batch(21, 22, 5)];
    s.check(answer(position(5, 20, 3), &batches, 20), "write fetched 7");
    s.check(
        write_failed(WriteFailure::DiskFull),
        "fetch later e5 20 after e3",
    );
    assert_eq!(s.replica.producers(), Some(&before));
    s.check(answer(position(5, 20, 3), &batches, 20), "write fetched 7");
    s.check(
        Event::WriteFailed {
            failure: WriteFailure::Io,
            is_cut_back: false,
        },
        "view offline 0/12/12/20, offline CutBackFailed",
    );
}

#[test]
fn producers_follow_from_the_batches() {
    let mut s = empty_follower();
    let batches = [
        transactional(batch(0, 3, 1), 4),
        batch(3, 4, 1),
        abort(4, 4),
    ];
    s.check(answer(position(1, 0, -1), &batches, 5), "write fetched 7");
    s.check(
        written(5),
        "epochs, aborted 0..4, view follows e1 0/5/5/5, fetch e1 5 after e1",
    );
    // As the next leader it knows what the producer has written.
    s.check(became_leader(2, &[1, 2], &[1]), "epochs, view e2 0/5/5/5");
    s.check(produce(1, 3).producer(4, 0, 0), "ack 1 @0");
}

#[test]
fn an_open_transaction_holds_the_last_stable_offset_on_a_follower_too() {
    let mut s = empty_follower();
    let batches = [batch(0, 2, 1), transactional(batch(2, 3, 1), 4)];
    s.check(answer(position(1, 0, -1), &batches, 3), "write fetched 7");
    s.check(
        written(3),
        "epochs, view follows e1 0/2/3/3, fetch e1 3 after e1",
    );
}

#[test]
fn the_log_is_cut_where_both_end_the_epoch_that_both_have() {
    let mut s = follower(SETTINGS);
    s.check(diverged(position(5, 20, 3), 3, 15), "truncate 15");
    s.check(
        truncated(0, 15, &[(1, 0), (3, 10)]),
        "epochs, view follows e5 0/12/12/15, fetch e5 15 after e3",
    );
    s.check(
        diverged(position(5, 15, 3), 1, 30),
        "lost 10..12, truncate 10",
    );
    s.check(
        truncated(0, 10, &[(1, 0)]),
        "epochs, view follows e5 0/10/10/10, fetch e5 10 after e1",
    );
}

#[test]
fn an_epoch_that_the_follower_lacks_is_cut_to_the_one_before() {
    let mut s = follower(SETTINGS);
    // The leader has epochs 1 and 2: the follower's epoch 3 began before 2 ended.
    s.check(
        diverged(position(5, 20, 3), 2, 14),
        "lost 10..12, truncate 10",
    );
}

#[test]
fn a_truncation_is_never_by_the_high_watermark() {
    let mut s = follower(SETTINGS);
    s.check(
        became_follower(6),
        "view follows e6 0/12/12/20, fetch e6 20 after e3",
    );
    s.check(diverged(position(6, 20, 3), 3, 18), "truncate 18");
}

#[test]
fn a_leader_that_contradicts_itself_is_asked_again_later() {
    let mut s = follower(SETTINGS);
    for (epoch, end) in [(3, 20), (3, 99), (4, 25), (-1, -1), (3, -5)] {
        let later = "fetch later e5 20 after e3";
        s.check(diverged(position(5, 20, 3), epoch, end), later);
    }
}

#[test]
fn nothing_is_ordered_of_a_log_that_is_being_cut() {
    let mut s = follower(SETTINGS);
    s.check(diverged(position(5, 20, 3), 3, 15), "truncate 15");
    assert_eq!(s.replica.fetch_position(), None);
    for waits in [
        became_follower(6),
        became_leader(6, &[1], &[1]),
        Event::from(answer(position(5, 20, 3), &[], 1)),
        Event::from(produce(1, 1)),
    ] {
        assert!(!s.replica.accepts(&waits), "{waits:?}");
    }
    s.check(flushed(20), "");
}

#[test]
fn a_log_that_cannot_be_cut_is_offline() {
    let mut s = follower(SETTINGS);
    s.check(diverged(position(5, 20, 3), 3, 15), "truncate 15");
    let reason = OfflineReason::TruncationFailed;
    s.check(
        Event::StorageFailed { reason },
        "view offline 0/12/12/20, offline TruncationFailed",
    );
    s.check(became_follower(6), "");
}

#[test]
fn a_log_behind_the_leaders_start_begins_anew_there() {
    let mut s = follower(SETTINGS);
    s.check(out_of_range(position(5, 20, 3), 100, 150), "restart 100");
    s.check(
        truncated(100, 100, &[]),
        "epochs, view follows e5 100/100/100/100, fetch e5 100 after e-1",
    );
}

#[test]
fn a_log_beyond_the_leaders_end_is_cut_and_what_was_committed_told() {
    let mut s = follower(SETTINGS);
    s.check(
        out_of_range(position(5, 20, 3), 0, 11),
        "lost 11..12, truncate 11",
    );
    let mut s = follower(SETTINGS);
    s.check(
        out_of_range(position(5, 20, 3), 0, 0),
        "lost 0..12, restart 0",
    );
}

#[test]
fn a_range_that_has_the_offset_after_all_is_asked_again_later() {
    let mut s = follower(SETTINGS);
    for (start, end) in [(0, 20), (20, 30), (30, 10), (-1, 5)] {
        let later = "fetch later e5 20 after e3";
        s.check(out_of_range(position(5, 20, 3), start, end), later);
    }
}

#[test]
fn a_batch_around_the_leaders_start_is_the_first_of_the_new_log() {
    let mut s = follower(SETTINGS);
    s.check(out_of_range(position(5, 20, 3), 100, 150), "restart 100");
    s.check(
        truncated(100, 100, &[]),
        "epochs, view follows e5 100/100/100/100, fetch e5 100 after e-1",
    );
    let at = position(5, 100, -1);
    let around = [batch(95, 105, 4)];
    s.check(answer(at, &around, 150), "restart 95");
    s.check(
        truncated(95, 95, &[]),
        "epochs, view follows e5 95/95/95/95, write fetched 7",
    );
    s.check(
        written(105),
        "epochs, view follows e5 95/105/105/105, fetch e5 105 after e4",
    );
}

#[test]
fn the_log_start_follows_the_leaders_up_to_the_high_watermark() {
    let mut s = follower(SETTINGS);
    let at = position(5, 20, 3);
    let answer_with = |start| FetchedBatches {
        log_start_offset: Offset(start),
        ..answer(at, &[], 12)
    };
    let on = "fetch e5 20 after e3";
    s.check(answer_with(0), on);
    s.check(answer_with(5), &format!("start leader's 5, {on}"));
    s.check(answer_with(5), on);
    let failed = Event::LogStartMoveFailed { ticket: None };
    s.check(failed, "");
    s.check(answer_with(15), &format!("start leader's 12, {on}"));
    let moved = Event::LogStartOffsetMoved {
        ticket: None,
        log_start_offset: Offset(12),
    };
    s.check(moved, "epochs, view follows e5 12/12/12/20");
    let asked = answer(at, &[], 16);
    s.check(
        FetchedBatches {
            log_start_offset: Offset(15),
            ..asked
        },
        "view follows e5 12/16/16/20, start leader's 15, fetch e5 20 after e3",
    );
}

/// A produce that may wait for a minute.
fn patient(ticket: u64) -> Event {
    let mut event = produce(ticket, 1).into();
    if let Event::ProduceReceived { timeout, .. } = &mut event {
        *timeout = Millis(60_000);
    }
    event
}

/// A leader of epoch 1 with batches 1, 2 and 3 that wait, which follows in epoch 2.
fn former_leader() -> Scenario {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    for ticket in 1..=3 {
        let at = i64::try_from(ticket).unwrap() - 1;
        s.check(patient(ticket), &format!("write {ticket} @{at}"));
    }
    s.check(written(3), "view e1 0/0/0/3");
    s.check(
        became_follower(2),
        "view follows e2 0/0/0/3, fetch e2 3 after e1",
    );
    s
}

#[test]
fn what_waits_where_the_leader_follows_now_is_acknowledged_when_the_new_one_has_it() {
    let mut s = former_leader();
    s.check(produce(4, 1), "refuse 4 NOT_LEADER_OR_FOLLOWER");
    s.check(fetched(3, 1), "");
    let at = position(2, 3, 1);
    s.check(
        answer(at, &[], 2),
        "view follows e2 0/2/2/3, ack 1 @0, ack 2 @1, fetch e2 3 after e1",
    );
    s.check(
        answer(at, &[], 3),
        "view follows e2 0/3/3/3, ack 3 @2, fetch e2 3 after e1",
    );
}

#[test]
fn what_waits_and_is_cut_off_is_refused() {
    let mut s = former_leader();
    s.check(diverged(position(2, 3, 1), 1, 1), "truncate 1");
    s.check(
        truncated(0, 1, &[(1, 0)]),
        "epochs, refuse 2 NOT_LEADER_OR_FOLLOWER, refuse 3 NOT_LEADER_OR_FOLLOWER, \
         view follows e2 0/0/0/1, fetch e2 1 after e1",
    );
    let at = position(2, 1, 1);
    s.check(
        answer(at, &[], 1),
        "view follows e2 0/1/1/1, ack 1 @0, fetch e2 1 after e1",
    );
}

#[test]
fn what_waits_in_a_log_that_begins_anew_is_refused() {
    let mut s = former_leader();
    s.check(
        out_of_range(position(2, 3, 1), 10, 20),
        "refuse 1 NOT_LEADER_OR_FOLLOWER, refuse 2 NOT_LEADER_OR_FOLLOWER, \
         refuse 3 NOT_LEADER_OR_FOLLOWER, restart 10",
    );
}

#[test]
fn what_waits_where_the_leader_follows_now_does_not_wait_for_long() {
    let mut s = former_leader();
    s.now.0 += 999;
    s.check(Event::TimePassed, "");
    s.now.0 += 1;
    let all = "refuse 1 REQUEST_TIMED_OUT, refuse 2 REQUEST_TIMED_OUT, refuse 3 REQUEST_TIMED_OUT";
    s.check(Event::TimePassed, all);
}

#[test]
fn what_waits_where_nobody_leads_is_refused() {
    let mut s = former_leader();
    let leader_epoch = LeaderEpoch(3);
    s.check(
        Event::Resigned { leader_epoch },
        "view unassigned 0/0/0/3, refuse 1 NOT_LEADER_OR_FOLLOWER, \
         refuse 2 NOT_LEADER_OR_FOLLOWER, refuse 3 NOT_LEADER_OR_FOLLOWER",
    );
}

#[test]
fn an_epoch_without_a_batch_is_forgotten_by_a_follower() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    s.check(
        became_follower(2),
        "epochs, view follows e2 0/0/0/0, fetch e2 0 after e-1",
    );
}

#[test]
fn old_news_of_leaders_changes_nothing() {
    let mut s = follower(SETTINGS);
    s.check(became_follower(4), "");
    s.check(became_follower(5), "");
    s.check(became_leader(5, &[1, 2], &[1]), "");
    let leader_epoch = LeaderEpoch(6);
    s.check(
        Event::Resigned { leader_epoch },
        "view unassigned 0/12/12/20",
    );
    s.check(
        answer(position(5, 20, 3), &[batch(20, 21, 5)], 1),
        "drop 7 Stale",
    );
    // Now the leader of that epoch is known.
    s.check(
        became_follower(6),
        "view follows e6 0/12/12/20, fetch e6 20 after e3",
    );
}

#[test]
fn a_follower_of_an_epoch_behind_its_log_goes_offline() {
    let mut log = log(0, 20);
    log.leader_epochs.assign(LeaderEpoch(3), Offset(10));
    let mut s = Scenario::new(SETTINGS);
    s.replica = Replica::new(BrokerId(1), SETTINGS, log);
    s.check(
        became_follower(2),
        "view offline 0/20/20/20, offline LeaderEpochBehindLog",
    );
}

#[test]
fn a_follower_of_a_flushed_topic_tells_its_leader_what_is_on_its_disk() {
    let flushed_topic = ReplicaSettings {
        durability: Durability::Flushed,
        ..SETTINGS
    };
    let mut s = follower(flushed_topic);
    // What is on its disk may still be cut off.
    s.check(flushed(20), "");
    let next = [batch(20, 21, 5)];
    s.check(
        answer(position(5, 20, 3), &next, 12),
        "report flushed 20, write fetched 7",
    );
    s.check(
        written(21),
        "epochs, view follows e5 0/12/12/21, flush 21, fetch e5 21 after e5",
    );
    s.check(flushed(21), "report flushed 21");
}

#[test]
fn what_a_cut_leaves_is_flushed_though_a_flush_was_on_its_way() {
    let flushed_topic = ReplicaSettings {
        durability: Durability::Flushed,
        ..SETTINGS
    };
    let mut s = follower(flushed_topic);
    let next = [batch(20, 22, 5)];
    s.check(
        answer(position(5, 20, 3), &next, 12),
        "report flushed 20, write fetched 7",
    );
    s.check(
        written(22),
        "epochs, view follows e5 0/12/12/22, flush 22, fetch e5 22 after e5",
    );
    s.check(
        became_follower(6),
        "view follows e6 0/12/12/22, fetch e6 22 after e5",
    );
    s.check(diverged(position(6, 22, 5), 5, 21), "truncate 21");
    // What the flush took along has another end by now: it counts for nothing.
    s.check(
        truncated(0, 21, &[(1, 0), (3, 10), (5, 20)]),
        "epochs, view follows e6 0/12/12/21, flush 21, fetch e6 21 after e5",
    );
}
