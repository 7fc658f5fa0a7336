//! Scenarios of the two-phase append.

use super::*;
use crate::{MAX_GROUP_BATCHES, MAX_WAITING_PRODUCES, Now, OfflineReason};

const LOG_APPEND_TIME: ReplicaSettings = ReplicaSettings {
    timestamp_type: TimestampType::LogAppendTime,
    ..SETTINGS
};

#[test]
fn a_single_replica_commits_what_it_has_written() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 3), "write 1 @0");
    assert_eq!(
        s.replica.published().log_end_offset,
        Offset(0),
        "nobody sees a reservation"
    );
    s.check(written(3), "view e1 0/3/3/3, ack 1 @0");
    s.check(produce(2, 1).acks(Acks::Leader), "write 2 @3");
    s.check(written(4), "view e1 0/4/4/4, ack 2 @3");
    s.check(produce(3, 1).acks(Acks::None), "write 3 @4");
    s.check(written(5), "view e1 0/5/5/5, ack 3 @4");
}

#[test]
fn a_group_is_written_as_one_and_answered_in_order() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 3), "write 1 @0");
    s.check(produce(2, 2).acks(Acks::Leader), "write 2 @3");
    s.check(produce(3, 1), "write 3 @5");
    s.check(written(6), "view e1 0/6/6/6, ack 1 @0, ack 2 @3, ack 3 @5");
}

#[test]
fn a_failed_write_leaves_no_trace() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 2).producer(7, 0, 0), "write 1 @0");
    s.check(written(2), "view e1 0/2/2/2, ack 1 @0");
    let before = s.replica.producers().unwrap().clone();

    s.check(produce(2, 2).producer(7, 0, 2), "write 2 @2");
    s.check(produce(3, 1).producer(7, 0, 4), "write 3 @4");
    s.check(produce(4, 1).producer(8, 0, 0), "write 4 @5");
    s.check(
        produce(5, 1).producer(9, 0, 0).transactional(),
        "write 5 @6",
    );
    let refused = "refuse 2 KAFKA_STORAGE_ERROR, refuse 3 KAFKA_STORAGE_ERROR, \
                   refuse 4 KAFKA_STORAGE_ERROR, refuse 5 KAFKA_STORAGE_ERROR";
    s.check(write_failed(WriteFailure::Io), refused);

    assert_eq!(s.replica.producers(), Some(&before));
    s.check(
        produce(6, 1).producer(7, 0, 4),
        "refuse 6 OUT_OF_ORDER_SEQUENCE_NUMBER",
    );
    s.check(produce(7, 2).producer(7, 0, 2), "write 7 @2");
    s.check(written(4), "view e1 0/4/4/4, ack 7 @2");
}

#[test]
fn a_full_disk_refuses_retriably_and_the_replica_goes_on() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 1), "write 1 @0");
    s.check(
        write_failed(WriteFailure::DiskFull),
        "refuse 1 KAFKA_STORAGE_ERROR",
    );
    assert!(Refusal::DiskFull.error_code().is_retriable());
    s.check(produce(2, 1), "write 2 @0");
    s.check(written(1), "view e1 0/1/1/1, ack 2 @0");
}

#[test]
fn a_failed_cut_takes_the_replica_offline() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 1), "write 1 @0");
    s.check(
        Event::WriteFailed {
            failure: WriteFailure::Io,
            is_cut_back: false,
        },
        "refuse 1 KAFKA_STORAGE_ERROR, view offline 0/0/0/0, offline CutBackFailed",
    );
    s.check(produce(2, 1), "refuse 2 KAFKA_STORAGE_ERROR");
    s.check(became_leader(2, &[1], &[1]), "");
}

#[test]
fn a_duplicate_is_answered_with_the_original_offset() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 3).producer(7, 0, 0), "write 1 @0");
    s.check(written(3), "view e1 0/3/3/3, ack 1 @0");
    s.check(produce(2, 2).producer(7, 0, 3), "write 2 @3");
    s.check(written(5), "view e1 0/5/5/5, ack 2 @3");
    s.check(produce(3, 3).producer(7, 0, 0), "ack 3 @0");
    s.check(
        produce(4, 2).producer(7, 0, 3).acks(Acks::Leader),
        "ack 4 @3",
    );
}

#[test]
fn a_producer_of_old_records_is_remembered_while_it_may_repeat_them() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(Event::TimePassed, "");
    // Its records are of 1970: by their timestamps it has been silent for long.
    s.now = Millis(1_000 * SETTINGS.producer_id_expiration_ms.0);
    s.check(produce(1, 3).producer(7, 0, 0), "write 1 @0");
    s.check(written(3), "view e1 0/3/3/3, ack 1 @0");
    for _ in 0..3 {
        s.check(Event::TimePassed, "");
        s.now = Millis(s.now.0 + 1_000);
        s.check(produce(2, 3).producer(7, 0, 0), "ack 2 @0");
    }
    s.now = Millis(s.now.0 + SETTINGS.producer_id_expiration_check_interval_ms.0);
    s.check(Event::TimePassed, "");
    s.check(produce(3, 3).producer(7, 0, 0), "write 3 @3");
}

#[test]
fn a_duplicate_shares_the_fate_of_an_original_that_is_not_written_yet() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 3).producer(7, 0, 0), "write 1 @0");
    s.check(produce(2, 3).producer(7, 0, 0).acks(Acks::Leader), "");
    s.check(
        write_failed(WriteFailure::Io),
        "refuse 1 KAFKA_STORAGE_ERROR, refuse 2 KAFKA_STORAGE_ERROR",
    );
    s.check(produce(3, 3).producer(7, 0, 0), "write 3 @0");
    s.check(produce(4, 3).producer(7, 0, 0), "");
    s.check(written(3), "view e1 0/3/3/3, ack 3 @0, ack 4 @0");
}

#[test]
fn a_duplicate_with_acks_all_waits_until_the_original_is_committed() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    s.check(
        produce(1, 3).producer(7, 0, 0).acks(Acks::Leader),
        "write 1 @0",
    );
    s.check(written(3), "view e1 0/0/0/3, ack 1 @0");
    s.check(produce(2, 1), "write 2 @3");
    s.check(written(4), "view e1 0/0/0/4");
    s.check(produce(3, 3).producer(7, 0, 0), "");
    s.check(
        produce(4, 3).producer(7, 0, 0).acks(Acks::Leader),
        "ack 4 @0",
    );
    s.check(fetched(2, 3), "view e1 0/3/3/4, ack 3 @0");
    s.check(fetched(2, 4), "view e1 0/4/4/4, ack 2 @3");
}

#[test]
fn a_gap_and_an_old_producer_epoch_are_refused() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 3).producer(7, 1, 0), "write 1 @0");
    s.check(
        produce(2, 1).producer(7, 1, 4),
        "refuse 2 OUT_OF_ORDER_SEQUENCE_NUMBER",
    );
    s.check(
        produce(3, 1).producer(7, 0, 3),
        "refuse 3 INVALID_PRODUCER_EPOCH",
    );
    s.check(produce(4, 1).producer(7, 1, 3), "write 4 @3");
    s.check(written(4), "view e1 0/4/4/4, ack 1 @0, ack 4 @3");
}

#[test]
fn log_append_time_is_the_time_of_the_append_for_duplicates_too() {
    let mut s = Scenario::leader(LOG_APPEND_TIME, &[1]);
    s.check(produce(1, 1).producer(7, 0, 0), "write 1 @0 time 1000");
    s.check(written(1), "view e1 0/1/1/1, ack 1 @0 time 1000");
    s.now = Millis(2_000);
    s.check(produce(2, 1).producer(7, 0, 0), "ack 2 @0 time 1000");
}

#[test]
fn an_open_transaction_holds_the_last_stable_offset() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 2), "write 1 @0");
    s.check(
        produce(2, 2).producer(7, 0, 0).transactional(),
        "write 2 @2",
    );
    s.check(produce(3, 1), "write 3 @4");
    s.check(written(5), "view e1 0/2/5/5, ack 1 @0, ack 2 @2, ack 3 @4");
}

#[test]
fn a_jump_of_the_time_of_day_neither_times_out_a_produce_nor_makes_it_wait() {
    for jump in [-3_600_000, 3_600_000] {
        let mut s = Scenario::leader(SETTINGS, &[1, 2]);
        s.check(produce(1, 1), "write 1 @0");
        s.check(written(1), "view e1 0/0/0/1");
        for (waited, expected) in [(999, 0), (1_000, 1)] {
            let now = Now {
                time_of_day: Millis(s.now.0 + waited + jump),
                monotonic: Millis(s.times().monotonic.0 + waited),
            };
            let mut effects = Vec::new();
            s.replica.step(Event::TimePassed, now, &mut effects);
            assert_eq!(effects.len(), expected, "{jump} {waited}: {effects:?}");
        }
    }
}

#[test]
fn a_waiting_produce_times_out_and_its_record_stays() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    s.check(produce(1, 1), "write 1 @0");
    s.now = Millis(1_500);
    s.check(produce(2, 1), "write 2 @1");
    s.check(written(2), "view e1 0/0/0/2");
    assert_eq!(
        s.replica.next_deadline(),
        Some(Millis(2_000 + MONOTONIC_AHEAD_MS))
    );
    s.now = Millis(1_999);
    s.check(Event::TimePassed, "");
    s.now = Millis(2_000);
    s.check(Event::TimePassed, "refuse 1 REQUEST_TIMED_OUT");
    assert_eq!(
        s.replica.next_deadline(),
        Some(Millis(2_500 + MONOTONIC_AHEAD_MS))
    );
    s.check(fetched(2, 2), "view e1 0/2/2/2, ack 2 @1");
    assert_eq!(s.replica.next_deadline(), None);
}

#[test]
fn a_failure_of_the_storage_under_a_write_refuses_it_whatever_comes() {
    for completion in [written(2), write_failed(WriteFailure::Io)] {
        let mut s = Scenario::leader(SETTINGS, &[1, 2]);
        s.check(produce(1, 1), "write 1 @0");
        s.check(written(1), "view e1 0/0/0/1");
        s.check(produce(2, 1).acks(Acks::Leader), "write 2 @1");
        s.check(
            Event::StorageFailed {
                reason: OfflineReason::FlushFailed,
            },
            "view offline 0/0/0/1, refuse 1 KAFKA_STORAGE_ERROR, offline FlushFailed",
        );
        let view = if completion == written(2) {
            "view offline 0/0/0/2, "
        } else {
            ""
        };
        s.check(completion, &format!("{view}refuse 2 KAFKA_STORAGE_ERROR"));
    }
}

#[test]
fn offsets_end_at_the_largest() {
    let mut s = Scenario::new(SETTINGS);
    s.replica = Replica::new(BrokerId(1), SETTINGS, log(0, i64::MAX - 2));
    s.check(became_leader(1, &[1], &[1]), &{
        let end = i64::MAX - 2;
        format!("epochs, view e1 0/{end}/{end}/{end}")
    });
    s.check(produce(1, 3), "refuse 1 UNKNOWN_SERVER_ERROR");
    s.check(produce(2, 2), &format!("write 2 @{}", i64::MAX - 2));
}

#[test]
fn what_must_wait_for_a_write_is_not_accepted() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 1), "write 1 @0");
    assert!(s.replica.is_writing() && s.replica.producers().is_none());
    assert!(!s.replica.accepts(&became_leader(2, &[1], &[1])));
    assert!(!s.replica.accepts(&Event::Resigned {
        leader_epoch: LeaderEpoch(1)
    }));
    assert!(s.replica.accepts(&Event::TimePassed));
    for ticket in 2..=MAX_GROUP_BATCHES as u64 {
        assert!(s.replica.accepts(&produce(ticket, 1).into()));
        s.check(
            produce(ticket, 1),
            &format!("write {ticket} @{}", ticket - 1),
        );
    }
    assert!(!s.replica.accepts(&produce(0, 1).into()));
}

#[test]
#[should_panic(expected = "must wait for the write")]
fn a_role_change_under_a_write_is_a_bug() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 1), "write 1 @0");
    s.check(
        Event::Resigned {
            leader_epoch: LeaderEpoch(1),
        },
        "",
    );
}

#[test]
#[should_panic(expected = "as a whole")]
fn a_partial_write_is_a_bug_of_the_runtime() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 1), "write 1 @0");
    s.check(produce(2, 1), "write 2 @1");
    s.check(written(1), "");
}

#[test]
fn waiting_produces_are_bounded_and_their_queues_reused() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    let mut end = 0;
    let mut effects = Vec::new();
    let mut fill = |s: &mut Scenario, end: &mut i64| {
        for _ in 0..MAX_WAITING_PRODUCES / MAX_GROUP_BATCHES {
            for ticket in 0..MAX_GROUP_BATCHES as u64 {
                effects.clear();
                s.replica
                    .step(produce(ticket, 1).into(), s.times(), &mut effects);
            }
            *end += 1_024;
            s.replica.step(written(*end), s.times(), &mut effects);
        }
    };
    fill(&mut s, &mut end);
    s.check(produce(1, 1), "refuse 1 NOT_ENOUGH_REPLICAS");
    s.check(produce(1, 1).acks(Acks::Leader), &format!("write 1 @{end}"));
    end += 1;
    s.check(
        written(end),
        &format!("view e1 0/0/0/{end}, ack 1 @{}", end - 1),
    );

    let capacities = |s: &Scenario| (s.replica.group.capacity(), s.replica.waiting.capacity());
    let filled_once = capacities(&s);
    let mut released = Vec::new();
    s.replica.step(fetched(2, end), s.times(), &mut released);
    assert_eq!(released.len(), 1 + MAX_WAITING_PRODUCES);
    fill(&mut s, &mut end);
    assert_eq!(capacities(&s), filled_once);
}
