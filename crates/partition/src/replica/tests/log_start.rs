//! Scenarios of `DeleteRecords` and retention.

use super::*;

fn delete_records(ticket: u64, before_offset: Option<i64>) -> Event {
    let before_offset = before_offset.map(Offset);
    Event::DeleteRecordsReceived {
        ticket: Ticket(ticket),
        before_offset,
    }
}

fn start_moved(ticket: Option<u64>, log_start_offset: i64) -> Event {
    let log_start_offset = Offset(log_start_offset);
    Event::LogStartOffsetMoved {
        ticket: ticket.map(Ticket),
        log_start_offset,
    }
}

/// A leader with ten records, of which eight are committed.
fn ten_records() -> Scenario {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    s.check(produce(1, 10).acks(Acks::Leader), "write 1 @0");
    s.check(written(10), "view e1 0/0/0/10, ack 1 @0");
    s.check(fetched(2, 8), "view e1 0/8/8/10");
    s
}

#[test]
fn readers_see_the_new_start_only_when_it_would_survive() {
    let mut s = ten_records();
    s.check(delete_records(1, Some(5)), "start 1 5");
    s.check(
        Event::LogStartMoveFailed {
            ticket: Some(Ticket(1)),
        },
        "refuse 1 KAFKA_STORAGE_ERROR",
    );
    s.check(delete_records(2, Some(5)), "start 2 5");
    s.check(
        start_moved(Some(2), 5),
        "epochs, view e1 5/8/8/10, deleted 2 5",
    );
    s.check(delete_records(3, Some(0)), "deleted 3 5");
    s.check(delete_records(4, None), "start 4 8");
    s.check(
        start_moved(Some(4), 8),
        "epochs, view e1 8/8/8/10, deleted 4 8",
    );
}

#[test]
fn only_what_is_committed_can_be_deleted() {
    let mut s = ten_records();
    s.check(delete_records(1, Some(9)), "refuse 1 OFFSET_OUT_OF_RANGE");
    s.check(delete_records(2, Some(-1)), "refuse 2 OFFSET_OUT_OF_RANGE");
    s.check(delete_records(3, Some(8)), "start 3 8");
}

#[test]
fn retention_may_overtake_a_deletion() {
    let mut s = ten_records();
    s.check(delete_records(1, Some(3)), "start 1 3");
    s.check(start_moved(None, 6), "epochs, view e1 6/8/8/10");
    s.check(start_moved(Some(1), 3), "deleted 1 6");
}

#[test]
fn a_compacted_topic_and_a_follower_delete_nothing() {
    let mut s = ten_records();
    s.check(
        ReplicaSettings {
            delete_records: false,
            ..SETTINGS
        },
        "",
    );
    s.check(delete_records(1, Some(5)), "refuse 1 POLICY_VIOLATION");
    s.check(
        Event::Resigned {
            leader_epoch: LeaderEpoch(2),
        },
        "view unassigned 0/8/8/10",
    );
    s.check(
        delete_records(2, Some(5)),
        "refuse 2 NOT_LEADER_OR_FOLLOWER",
    );
}

#[test]
fn a_log_emptied_under_a_write_keeps_its_place() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 4).producer(7, 0, 0), "write 1 @0");
    s.check(written(4), "view e1 0/4/4/4, ack 1 @0");
    s.check(produce(2, 1).producer(7, 0, 4), "write 2 @4");
    s.check(start_moved(None, 4), "epochs, view e1 4/4/4/4");
    s.check(
        write_failed(WriteFailure::Io),
        "refuse 2 KAFKA_STORAGE_ERROR",
    );
    s.check(produce(3, 1).producer(7, 0, 4), "write 3 @4");
    s.check(written(5), "view e1 4/5/5/5, ack 3 @4");
}

#[test]
fn a_start_inside_an_open_transaction_bounds_the_last_stable_offset() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(
        produce(1, 4).producer(7, 0, 0).transactional(),
        "write 1 @0",
    );
    s.check(written(4), "view e1 0/0/4/4, ack 1 @0");
    s.check(start_moved(None, 2), "epochs, view e1 2/2/4/4");
}

#[test]
fn a_start_that_retention_has_moved_is_made_to_last_before_the_answer() {
    let mut s = ten_records();
    s.check(start_moved(None, 6), "epochs, view e1 6/8/8/10");
    s.check(delete_records(1, Some(5)), "start 1 5");
    s.check(start_moved(Some(1), 5), "deleted 1 6");
}
