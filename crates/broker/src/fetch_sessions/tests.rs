//! Scenarios of one client and its session, a line per request.

use super::*;
use skein_protocol::messages::fetch::{FetchTopic, ForgottenTopic};

const VERSION: i16 = 12;

fn request(id: i32, epoch: i32, partitions: &[i32], forget: &[i32]) -> FetchRequest {
    let topic = Str::from("t");
    let fetch = |&partition| FetchPartition {
        partition,
        ..Default::default()
    };
    FetchRequest {
        session_id: id,
        session_epoch: epoch,
        topics: vec![FetchTopic {
            topic: topic.clone(),
            partitions: partitions.iter().map(fetch).collect(),
            ..Default::default()
        }],
        forgotten_topics_data: vec![ForgottenTopic {
            topic,
            partitions: forget.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn partitions(fetch: &SessionFetch) -> Vec<i32> {
    fetch
        .wanted
        .iter()
        .map(|wanted| wanted.key.partition)
        .collect()
}

fn result(high_watermark: i64, records: Option<&'static [u8]>) -> PartitionData {
    PartitionData {
        high_watermark,
        log_start_offset: 0,
        records: records.map(|bytes| bytes::Bytes::from_static(bytes).into()),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_remembers_adds_and_forgets_partitions() {
    let sessions = FetchSessions::new(10);
    let first = sessions
        .open(&request(0, 0, &[0, 1], &[]), VERSION, 7 << 33)
        .unwrap();
    assert_eq!((first.session_id, partitions(&first)), (7, vec![0, 1]));
    let second = sessions.open(&request(7, 1, &[], &[]), VERSION, 0).unwrap();
    assert_eq!(partitions(&second), [0, 1]);
    let third = sessions
        .open(&request(7, 2, &[2], &[0]), VERSION, 0)
        .unwrap();
    assert_eq!(partitions(&third), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_missed_response_an_unknown_session_and_another_form_of_names_are_errors() {
    let sessions = FetchSessions::new(10);
    sessions
        .open(&request(0, 0, &[0], &[]), VERSION, 7 << 33)
        .unwrap();
    let error = |id, epoch, version| {
        sessions
            .open(&request(id, epoch, &[], &[]), version, 0)
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(error(7, 2, VERSION), ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(error(8, 1, VERSION), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(error(7, 1, 13), ErrorCode::FetchSessionTopicIdError);
    // None of these changed anything.
    assert!(sessions.open(&request(7, 1, &[], &[]), VERSION, 0).is_ok());
}

#[tokio::test(start_paused = true)]
async fn only_what_the_client_does_not_know_is_told() {
    let sessions = FetchSessions::new(10);
    let first = sessions
        .open(&request(0, 0, &[0, 1], &[]), VERSION, 7 << 33)
        .unwrap();
    let keys: Vec<_> = first
        .wanted
        .iter()
        .map(|wanted| wanted.key.clone())
        .collect();
    assert!(
        first.must_tell(&keys[0], &result(5, None)),
        "a full fetch tells everything"
    );
    assert!(first.must_tell(&keys[1], &result(5, None)));
    let second = sessions.open(&request(7, 1, &[], &[]), VERSION, 0).unwrap();
    assert!(!second.must_tell(&keys[0], &result(5, None)), "nothing new");
    assert!(
        second.must_tell(&keys[1], &result(6, None)),
        "the high watermark moved"
    );
    let third = sessions.open(&request(7, 2, &[], &[]), VERSION, 0).unwrap();
    assert!(third.must_tell(&keys[0], &result(5, Some(b"records"))));
    let fourth = sessions.open(&request(7, 3, &[], &[]), VERSION, 0).unwrap();
    assert_eq!(
        partitions(&fourth),
        [1, 0],
        "the one with data went to the end"
    );
    let failed = PartitionData {
        error_code: 3,
        ..result(-1, None)
    };
    assert!(fourth.must_tell(&keys[0], &failed));
    assert!(
        fourth.must_tell(&keys[0], &failed),
        "an error is told each time"
    );
    assert!(fourth.must_tell(&keys[0], &result(5, None)), "and its end");
}

#[tokio::test(start_paused = true)]
async fn full_slots_make_place_only_for_long_unused_sessions() {
    let sessions = FetchSessions::new(1);
    sessions
        .open(&request(0, 0, &[0], &[]), VERSION, 7 << 33)
        .unwrap();
    let second = sessions
        .open(&request(0, 0, &[0], &[]), VERSION, 9 << 33)
        .unwrap();
    assert_eq!(second.session_id, 0, "it goes without");
    tokio::time::advance(EVICTABLE_AFTER + Duration::from_secs(1)).await;
    let third = sessions
        .open(&request(0, 0, &[0], &[]), VERSION, 9 << 33)
        .unwrap();
    assert_eq!((third.session_id, sessions.sessions.lock().len()), (9, 1));
}

#[tokio::test(start_paused = true)]
async fn a_final_epoch_ends_the_session() {
    let sessions = FetchSessions::new(1);
    sessions
        .open(&request(0, 0, &[0], &[]), VERSION, 7 << 33)
        .unwrap();
    let last = sessions
        .open(&request(7, -1, &[3], &[]), VERSION, 0)
        .unwrap();
    assert_eq!(
        (
            last.session_id,
            partitions(&last),
            sessions.sessions.lock().len()
        ),
        (0, vec![3], 0)
    );
}

#[test]
fn epochs_wrap_to_one() {
    assert_eq!((next_epoch(1), next_epoch(i32::MAX)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn partitions_of_sessions_are_counted_and_given_back() {
    let sessions = FetchSessions::new(10);
    let held = || sessions.held.load(Ordering::Relaxed);
    let mut session = Session::new(false, &sessions.held);
    let request = |count: i32| FetchRequest {
        topics: vec![FetchTopic {
            topic: Str::from_static("topic"),
            partitions: (0..count)
                .map(|partition| FetchPartition {
                    partition,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    for wanted in wanted(&request(5)).chain(wanted(&request(3))) {
        session.want(wanted);
    }
    assert_eq!(held(), 5);
    for wanted in wanted(&request(2)) {
        session.forget(&wanted.key);
    }
    assert_eq!(held(), 3);
    drop(session);
    assert_eq!(held(), 0);
    let id = sessions.create(&request(1), 12, 7).session_id;
    assert_ne!(id, 0);
    sessions.held.store(PARTITIONS_MAX, Ordering::Relaxed);
    assert_eq!(sessions.create(&request(1), 12, 7).session_id, 0);
    // A request out of turn changes nothing, whatever it names; the next one ends the session.
    let go_on = |epoch| sessions.go_on(id, epoch, &request(1), 12).map(|_| ());
    assert_eq!(go_on(5), Err(ErrorCode::InvalidFetchSessionEpoch));
    assert_eq!(go_on(1), Err(ErrorCode::FetchSessionIdNotFound));
    assert!(sessions.sessions.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_asks_from_elsewhere_is_told_again() {
    let sessions = FetchSessions::new(10);
    let follower = |epoch, leader_epoch| {
        let mut request = request(if epoch == 0 { 0 } else { 7 }, epoch, &[0], &[]);
        let partition = &mut request.topics[0].partitions[0];
        partition.log_start_offset = 0;
        partition.current_leader_epoch = leader_epoch;
        request
    };
    let first = sessions.open(&follower(0, 1), VERSION, 7 << 33).unwrap();
    let key = first.wanted[0].key.clone();
    assert!(first.must_tell(&key, &result(5, None)));
    let second = sessions.open(&request(7, 1, &[], &[]), VERSION, 0).unwrap();
    assert!(!second.must_tell(&key, &result(5, None)), "nothing new");
    // In the leader epoch that it has heard of meanwhile it has no answer yet.
    let third = sessions.open(&follower(2, 2), VERSION, 0).unwrap();
    assert!(third.must_tell(&key, &result(5, None)));
    let fourth = sessions.open(&request(7, 3, &[], &[]), VERSION, 0).unwrap();
    assert!(!fourth.must_tell(&key, &result(5, None)), "told once");
}
