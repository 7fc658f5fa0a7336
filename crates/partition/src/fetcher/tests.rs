//! Scenarios of a fetcher, a line per request and answer.

use skein_types::{LeaderEpoch, Uuid};

use super::*;

const SETTINGS: FetcherSettings = FetcherSettings {
    partition_max_bytes: 1_000,
    catch_up_max_bytes: 2_000,
    response_max_bytes: 10_000,
    backoff_ms: Millis(1_000),
    wait_max_ms: Millis(500),
};

fn key(index: i32) -> FetchedPartition {
    (Uuid([1; 16]), PartitionIndex(index))
}

fn position(fetch_offset: i64) -> FetchPosition {
    position_in(1, fetch_offset)
}

fn position_in(leader_epoch: i32, fetch_offset: i64) -> FetchPosition {
    FetchPosition {
        leader_epoch: LeaderEpoch(leader_epoch),
        fetch_offset: Offset(fetch_offset),
        last_fetched_epoch: LeaderEpoch(0),
        log_start_offset: Offset(0),
    }
}

const NOTHING: PartitionAnswer = PartitionAnswer {
    error_code: ErrorCode::None,
    high_watermark: Offset(5),
    log_start_offset: Offset(0),
    diverging_epoch: None,
    has_records: false,
};

const RECORDS: PartitionAnswer = PartitionAnswer {
    has_records: true,
    ..NOTHING
};

fn error(error_code: ErrorCode) -> PartitionAnswer {
    PartitionAnswer {
        error_code,
        ..NOTHING
    }
}

/// A fetcher of partitions 0 to `in_sync`, and of as many behind as `catching_up`.
fn fetcher(in_sync: i32, catching_up: i32) -> Fetcher {
    let mut fetcher = Fetcher::new(SETTINGS);
    for index in 0..in_sync + catching_up {
        fetcher.follow(key(index), position(0));
        fetcher.set_in_sync(key(index), index < in_sync);
    }
    fetcher
}

/// `session/epoch: partition@offset … -forgotten`.
fn show(plan: Option<FetchPlan>) -> String {
    let Some(plan) = plan else {
        return "none".to_owned();
    };
    let mut text = format!("{}/{}:", plan.session_id, plan.session_epoch);
    for one in &plan.partitions {
        text += &format!(" {}@{}", one.partition.1, one.position.fetch_offset);
    }
    for (_, index) in &plan.forgotten {
        text += &format!(" -{index}");
    }
    text
}

#[track_caller]
fn asks(fetcher: &mut Fetcher, now: i64, expected: &str) {
    assert_eq!(show(fetcher.next_fetch(Millis(now))), expected);
}

fn answer(
    fetcher: &mut Fetcher,
    now: i64,
    partitions: &[(i32, PartitionAnswer)],
) -> Vec<FetchOrder> {
    let answer = FetchAnswer {
        error_code: ErrorCode::None,
        session_id: 9,
        partitions: partitions
            .iter()
            .map(|&(index, answer)| (key(index), answer))
            .collect(),
    };
    fetcher.answered(&answer, Millis(now))
}

fn append(index: i32, fetch_offset: i64) -> FetchOrder {
    FetchOrder::Append {
        partition: key(index),
        position: position(fetch_offset),
    }
}

#[test]
fn a_session_is_told_what_has_changed() {
    let mut f = fetcher(3, 0);
    asks(&mut f, 0, "0/0: 0@0 1@0 2@0");
    asks(&mut f, 0, "none");
    let orders = answer(&mut f, 0, &[(0, NOTHING), (1, RECORDS), (2, NOTHING)]);
    assert_eq!(orders, [append(0, 0), append(1, 0), append(2, 0)]);
    f.follow(key(0), position(0));
    f.follow(key(2), position(0));
    // 1 is being appended.
    asks(&mut f, 0, "9/1: -1");
    assert_eq!(answer(&mut f, 0, &[]), []);
    f.follow(key(1), position(7));
    asks(&mut f, 0, "9/2: 1@7");
    assert_eq!(answer(&mut f, 0, &[]), []);
    f.stop(key(2));
    asks(&mut f, 0, "9/3: -2");
}

#[test]
fn what_the_replica_knows_it_is_not_told_again() {
    let mut f = fetcher(1, 0);
    asks(&mut f, 0, "0/0: 0@0");
    assert_eq!(answer(&mut f, 0, &[(0, NOTHING)]), [append(0, 0)]);
    f.follow(key(0), position(0));
    asks(&mut f, 0, "9/1:");
    assert_eq!(answer(&mut f, 0, &[(0, NOTHING)]), []);
    asks(&mut f, 0, "9/2:");
    let news = PartitionAnswer {
        high_watermark: Offset(6),
        ..NOTHING
    };
    assert_eq!(answer(&mut f, 0, &[(0, news)]), [append(0, 0)]);
}

#[test]
fn each_answer_means_one_thing() {
    let end = EpochEndOffset {
        epoch: LeaderEpoch(0),
        end_offset: Offset(3),
    };
    let diverging = PartitionAnswer {
        diverging_epoch: Some(end),
        ..NOTHING
    };
    let (partition, position) = (key(0), position(0));
    let busy = |order| (Some(order), "none", "none");
    let delayed = (None, "none", "9/1: 0@0");
    for (answered, (order, at_once, later)) in [
        (RECORDS, busy(append(0, 0))),
        (
            diverging,
            busy(FetchOrder::Truncate {
                partition,
                position,
                end,
            }),
        ),
        (
            error(ErrorCode::OffsetOutOfRange),
            busy(FetchOrder::AskRange {
                partition,
                position,
            }),
        ),
        (error(ErrorCode::FencedLeaderEpoch), (None, "none", "none")),
        (error(ErrorCode::UnknownLeaderEpoch), delayed),
        (error(ErrorCode::NotLeaderOrFollower), delayed),
        (error(ErrorCode::UnknownTopicId), delayed),
        (error(ErrorCode::KafkaStorageError), delayed),
    ] {
        let mut f = fetcher(1, 0);
        asks(&mut f, 0, "0/0: 0@0");
        let orders = answer(&mut f, 0, &[(0, answered)]);
        assert_eq!(orders, order.into_iter().collect::<Vec<_>>());
        asks(&mut f, 9, at_once);
        // The session has it as it was.
        let later = later.replace(" 0@0", "");
        asks(&mut f, 10, &later);
    }
}

#[test]
fn one_that_is_fenced_is_fetched_again_from_the_next_leader() {
    let mut f = fetcher(1, 0);
    asks(&mut f, 0, "0/0: 0@0");
    answer(&mut f, 0, &[(0, error(ErrorCode::FencedLeaderEpoch))]);
    f.follow(key(0), position_in(2, 0));
    asks(&mut f, 0, "9/1: 0@0");
}

#[test]
fn an_answer_counts_only_for_the_position_that_was_asked_from() {
    let mut f = fetcher(2, 0);
    asks(&mut f, 0, "0/0: 0@0 1@0");
    f.follow(key(0), position_in(2, 0));
    f.stop(key(1));
    let orders = answer(&mut f, 0, &[(0, RECORDS), (1, RECORDS), (2, RECORDS)]);
    assert_eq!(orders, []);
    asks(&mut f, 0, "9/1: 0@0 -1");
}

#[test]
fn those_in_sync_come_first_and_history_gets_its_share_only() {
    let mut f = fetcher(2, 5);
    asks(&mut f, 0, "0/0: 0@0 1@0 2@0 3@0");
    answer(&mut f, 0, &[(0, RECORDS), (2, RECORDS), (3, RECORDS)]);
    for index in [0, 2, 3] {
        f.follow(key(index), position(8));
    }
    // Round and round, in both kinds; 0 was served, so 1 comes before it.
    asks(&mut f, 0, "9/1: 0@8 4@0 5@0 -2 -3");
    answer(&mut f, 0, &[(4, RECORDS), (5, RECORDS)]);
    f.follow(key(4), position(8));
    f.follow(key(5), position(8));
    asks(&mut f, 0, "9/2: 6@0 2@8 -4 -5");
}

#[test]
fn history_alone_gets_all() {
    let mut f = fetcher(0, 20);
    let plan = f.next_fetch(Millis(0)).unwrap();
    assert_eq!(plan.partitions.len(), 10);
    let mut f = fetcher(1, 20);
    f.settings.catch_up_max_bytes = 1;
    let plan = f.next_fetch(Millis(0)).unwrap();
    assert_eq!(plan.partitions.len(), 2, "one at least");
}

#[test]
fn who_brought_records_last_comes_last() {
    let mut f = fetcher(3, 0);
    asks(&mut f, 0, "0/0: 0@0 1@0 2@0");
    answer(&mut f, 0, &[(0, RECORDS)]);
    f.follow(key(0), position(1));
    f.failed(Millis(0));
    asks(&mut f, 1_000, "0/0: 1@0 2@0 0@1");
}

#[test]
fn a_failed_request_is_repeated_later_in_a_new_session() {
    let mut f = fetcher(1, 0);
    asks(&mut f, 0, "0/0: 0@0");
    answer(&mut f, 0, &[(0, NOTHING)]);
    f.follow(key(0), position(0));
    asks(&mut f, 0, "9/1:");
    f.failed(Millis(0));
    asks(&mut f, 9, "none");
    assert_eq!(f.next_due(), Some(Millis(10)));
    // What came meanwhile need not wait.
    f.follow(key(1), position(4));
    asks(&mut f, 9, "0/0: 1@4");
    f.failed(Millis(9));
    asks(&mut f, 2_000, "0/0: 0@0 1@4");
}

#[test]
fn rests_are_longer_with_each_failure_and_short_again_for_another_leader() {
    let mut f = fetcher(1, 0);
    let mut now = 0;
    for rest in [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000] {
        f.next_fetch(Millis(now)).unwrap();
        answer(&mut f, now, &[(0, error(ErrorCode::UnknownLeaderEpoch))]);
        assert_eq!(f.next_due(), Some(Millis(now + rest)));
        now += rest;
    }
    f.next_fetch(Millis(now)).unwrap();
    answer(&mut f, now, &[(0, NOTHING)]);
    f.follow(key(0), position(0));
    f.next_fetch(Millis(now)).unwrap();
    answer(&mut f, now, &[(0, error(ErrorCode::NotLeaderOrFollower))]);
    assert_eq!(
        f.next_due(),
        Some(Millis(now + 10)),
        "it was well in between"
    );
}

#[test]
fn a_lost_session_begins_anew_at_once() {
    for error_code in [
        ErrorCode::FetchSessionIdNotFound,
        ErrorCode::InvalidFetchSessionEpoch,
        ErrorCode::FetchSessionTopicIdError,
    ] {
        let mut f = fetcher(1, 0);
        asks(&mut f, 0, "0/0: 0@0");
        answer(&mut f, 0, &[]);
        asks(&mut f, 0, "9/1:");
        let lost = FetchAnswer {
            error_code,
            session_id: 0,
            partitions: vec![(key(0), RECORDS)],
        };
        assert_eq!(f.answered(&lost, Millis(0)), []);
        asks(&mut f, 0, "0/0: 0@0");
    }
}

#[test]
fn a_leader_without_room_for_a_session_is_asked_for_all_each_time() {
    let mut f = fetcher(1, 0);
    for _ in 0..3 {
        asks(&mut f, 0, "0/0: 0@0");
        let answer = FetchAnswer {
            error_code: ErrorCode::None,
            session_id: 0,
            partitions: vec![(key(0), error(ErrorCode::None))],
        };
        f.answered(&answer, Millis(0));
        f.follow(key(0), position(0));
    }
}

#[test]
fn nobody_waits_at_the_leader_past_the_end_of_a_delay() {
    let mut f = fetcher(2, 0);
    f.delay(key(1), position(0), Millis(0));
    let waits = |f: &mut Fetcher, now| f.next_fetch(Millis(now)).unwrap().max_wait_ms;
    assert_eq!(waits(&mut f, 800), Millis(200));
    answer(&mut f, 800, &[]);
    assert_eq!(waits(&mut f, 1_000), Millis(500));
}
