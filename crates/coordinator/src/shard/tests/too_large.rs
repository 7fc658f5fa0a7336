//! What is more than the log takes at once costs who asks for it, and nobody else.

use skein_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};

use super::join::two_members;
use super::*;

const LIMIT: usize = 2_000;

#[test]
fn a_too_large_assignment_is_refused_and_the_group_rebalances() {
    let mut s = two_members();
    s.shard.set_append_max_bytes(LIMIT);
    s.check(join("a", "a#1"), "");
    let _ = s.ask(join("b", "b#3").into());
    s.check(sync("b#3", 2, &[]), "");
    let large = "x".repeat(LIMIT);
    s.check(
        sync("a#1", 2, &[("a#1", &large), ("b#3", "1")]),
        "10 UNKNOWN_SERVER_ERROR, 9 UNKNOWN_SERVER_ERROR",
    );
    s.check(heartbeat("b#3", 2), "11 REBALANCE_IN_PROGRESS");
    s.check(sync("b#3", 2, &[]), "12 REBALANCE_IN_PROGRESS");
    // The others of the shard have not noticed, and neither has who joins again.
    let mut other = commit("", -1, 7);
    other.group_id = "other".into();
    s.check(other, "keep t-0=7, 13 committed");
    s.check(join("a", "a#1"), "");
    let _ = s.ask(join("b", "b#3").into());
    s.check(
        sync("a#1", 3, &[("a#1", "0"), ("b#3", "1")]),
        "keep g 3 a#1* b#3, 16 synced \"0\"",
    );
}

#[test]
fn a_commit_that_is_too_large_as_a_whole_keeps_none_of_its_offsets() {
    let mut s = Scenario::new();
    s.shard.set_append_max_bytes(LIMIT);
    let with = |partitions: i32| {
        let mut request = commit("", -1, 1);
        let one = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = (0..partitions)
            .map(|partition_index| OffsetCommitRequestPartition {
                partition_index,
                committed_metadata: Some("x".repeat(1_000).into()),
                ..one.clone()
            })
            .collect();
        request
    };
    s.check(with(2), "1 UNKNOWN_SERVER_ERROR UNKNOWN_SERVER_ERROR");
    s.check(fetch(None), "2 []");
    s.check(with(1), "keep t-0=1, 3 committed");
}

#[test]
fn a_static_member_whose_new_record_is_too_large_is_who_it_was() {
    let mut s = Scenario::new();
    s.check(join("c1", "").instance("a"), "keep g 0");
    s.after(3_000, "1 joined 1 a#1 of a#1 [a#1]");
    s.check(
        sync("a#1", 1, &[("a#1", "0")]),
        "keep g 1 a#1*, 2 synced \"0\"",
    );
    s.shard.set_append_max_bytes(LIMIT);
    let large = "x".repeat(LIMIT);
    let again = join("c1", "")
        .instance("a")
        .protocols(&[("range", &[large.as_str()])]);
    s.check(again, "3 UNKNOWN_SERVER_ERROR");
    s.check(heartbeat("a#1", 1), "4 ok");
    s.check(
        join("c1", "").instance("a"),
        "keep g 1 a#5*, 5 joined 1 a#5 of a#5 [a#5] skip",
    );
}

#[test]
fn a_group_whose_first_record_is_too_large_does_not_begin() {
    let mut s = Scenario::new();
    s.shard.set_append_max_bytes(80);
    s.check(join("a", ""), "1 UNKNOWN_SERVER_ERROR");
    assert!(s.shard.groups.is_empty());
}

/// Ten offsets of the group, and a limit that only a few tombstones keep to.
fn ten_offsets() -> Scenario {
    let mut s = Scenario::new();
    for partition_index in 0..10 {
        let mut request = commit("", -1, 1);
        request.topics[0].partitions[0].partition_index = partition_index;
        let _ = s.ask(request.into());
    }
    s.shard.set_append_max_bytes(200);
    s
}

#[test]
fn a_deletion_that_is_too_large_deletes_nothing() {
    let mut s = ten_offsets();
    let deleted = s.ask(Request::DeleteGroups(vec!["g".into()]));
    let code = ErrorCode::UnknownServerError.code();
    assert!(
        deleted.contains(&format!("error_code: {code}")),
        "{deleted}"
    );
    let partitions =
        (0..10).map(|partition_index| OffsetDeleteRequestPartition { partition_index });
    let delete = OffsetDeleteRequest {
        group_id: "g".into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: "t".into(),
            partitions: partitions.collect(),
        }],
    };
    let deleted = s.ask(Request::OffsetDelete(delete));
    assert!(
        deleted.contains(&format!("error_code: {code}")),
        "{deleted}"
    );
    s.check(fetch(Some("t")), "13 [t-0=1]");
}

#[test]
fn what_nobody_asks_for_is_done_in_pieces_that_the_log_takes() {
    let mut s = ten_offsets();
    let kept = s.log.len();
    let shown = s.pass(8 * 24 * 60 * MINUTE_MS);
    assert!(shown.matches("keep").count() > 3, "{shown}");
    assert!(shown.ends_with("g gone"), "{shown}");
    assert_eq!(s.log.len(), kept + 11);
    assert!(s.shard.groups.is_empty());

    let mut s = ten_offsets();
    let mut effects = Vec::new();
    let topic = TopicName::new("t").unwrap();
    s.shard.on_topic_deleted(&topic, s.now(), &mut effects);
    assert!(effects.len() > 3, "{effects:?}");
    let _ = s.carry_out(effects);
    s.check(fetch(None), "11 []");
}

#[test]
fn an_offset_whose_tombstone_the_log_does_not_take_stays_until_it_does() {
    let mut s = ten_offsets();
    s.shard.set_append_max_bytes(65);
    let kept = s.log.len();
    assert_eq!(s.pass(8 * 24 * 60 * MINUTE_MS), "");
    let mut effects = Vec::new();
    let topic = TopicName::new("t").unwrap();
    s.shard.on_topic_deleted(&topic, s.now(), &mut effects);
    assert!(effects.is_empty(), "{effects:?}");
    assert_eq!(s.log.len(), kept);
    s.shard.set_append_max_bytes(200);
    let shown = s.pass(24 * 60 * MINUTE_MS);
    assert!(shown.ends_with("g gone"), "{shown}");
}
