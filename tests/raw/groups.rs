//! A group in the oldest versions of its APIs, which no client of today sends.
//!
//! Input: a member's requests, one after the other. Output: Kafka's codes and fields.

use std::collections::BTreeMap;

use skein_tests::wire::{Answer, Frame, Member, api, error};
use skein_tests::{Node, System, on_both};

use super::{assert_serves, create};

on_both!(
    a_group_lives_in_the_oldest_versions,
    a_member_that_nobody_knows_is_told_so,
    newer_versions_want_the_protocol_and_have_none_where_there_is_none,
    a_group_that_is_named_twice_is_deleted_once,
    nothing_is_kept_of_partitions_that_are_not_there,
    what_a_coordinator_cannot_write_costs_only_who_asks_for_it,
);

/// More than `__consumer_offsets` takes at once.
const TOO_LARGE: usize = 1_100_000;

/// What an offset's metadata may have, and a little more.
const METADATA_MAX: usize = 4_096;

const SESSION_MS: i32 = 10_000;

/// One that has not joined, of a group whose coordinator is there.
fn member(system: System, group: &str) -> Member {
    let mut member = Member::connect(Node::shared(system).ports().client, group).unwrap();
    member.wait_for_coordinator().unwrap();
    let mut answer = call(
        &mut member,
        api::FIND_COORDINATOR,
        &Frame::new().string(group),
    );
    assert_eq!((answer.i16(), answer.i32()), (error::NONE, 1));
    member
}

/// A request in the first version of its API.
fn call(member: &mut Member, api_key: i16, body: &Frame) -> Answer {
    member.call(api_key, 0, body).unwrap()
}

/// JoinGroup 0: its answer comes when the group's first rebalance ends. The error code, and the
/// generation.
fn join(member: &mut Member, group: &str) -> (i16, i32) {
    let body = Frame::new().string(group).i32(SESSION_MS);
    let body = body.string(member.id()).string("consumer").i32(1);
    let body = body.string("range").bytes(&[0, 0, 0, 0, 0, 0]);
    let mut answer = call(member, api::JOIN_GROUP, &body);
    let (error_code, generation) = (answer.i16(), answer.i32());
    let (protocol, leader) = (answer.string(), answer.string());
    let id = answer.string().unwrap();
    if error_code == error::NONE {
        assert_eq!(protocol.as_deref(), Some("range"));
        assert_eq!(leader.as_ref(), Some(&id), "alone, it leads");
        assert_eq!((answer.i32(), answer.string()), (1, Some(id.clone())));
        member.act_as(&id, generation);
    }
    (error_code, generation)
}

fn heartbeat(member: &mut Member) -> i16 {
    let body = member.head();
    call(member, api::HEARTBEAT, &body).i16()
}

fn a_group_lives_in_the_oldest_versions(system: System) {
    let topic = create(system, &[]);
    let group = format!("group-of-{topic}");
    let mut member = member(system, &group);
    assert_eq!(join(&mut member, &group), (error::NONE, 1));
    let body = member.head().i32(1).string(member.id()).bytes(b"all");
    let mut answer = call(&mut member, api::SYNC_GROUP, &body);
    assert_eq!(
        (answer.i16(), answer.bytes()),
        (error::NONE, b"all".to_vec())
    );
    assert_eq!(heartbeat(&mut member), error::NONE);

    // OffsetCommit 2, with the retention that it still has, and OffsetFetch 1.
    let body = member.head().i64(-1).i32(1).string(&topic).i32(1).i32(0);
    let body = body.i64(7).string("mark");
    let mut answer = member.call(api::OFFSET_COMMIT, 2, &body).unwrap();
    assert_eq!((answer.i32(), answer.string()), (1, Some(topic.clone())));
    assert_eq!(
        (answer.i32(), answer.i32(), answer.i16()),
        (1, 0, error::NONE)
    );
    let fetch = Frame::new().string(&group).i32(1).string(&topic);
    let fetch = fetch.i32(1).i32(0);
    let mut answer = member.call(api::OFFSET_FETCH, 1, &fetch).unwrap();
    assert_eq!((answer.i32(), answer.string()), (1, Some(topic.clone())));
    assert_eq!((answer.i32(), answer.i32(), answer.i64()), (1, 0, 7));
    assert_eq!(answer.string().as_deref(), Some("mark"));
    assert_eq!((answer.i16(), answer.remaining()), (error::NONE, 0));

    let body = Frame::new().i32(1).string(&group);
    let mut answer = call(&mut member, api::DESCRIBE_GROUPS, &body);
    assert_eq!((answer.i32(), answer.i16()), (1, error::NONE));
    assert_eq!(answer.string().as_ref(), Some(&group));
    assert_eq!(answer.string().as_deref(), Some("Stable"));
    let mut answer = call(&mut member, api::LIST_GROUPS, &Frame::new());
    assert_eq!(answer.i16(), error::NONE);
    let listed: Vec<_> = (0..answer.i32())
        .map(|_| (answer.string().unwrap(), answer.string().unwrap()))
        .collect();
    assert!(listed.contains(&(group.clone(), "consumer".to_owned())));

    let mut answer = call(&mut member, api::DELETE_GROUPS, &body);
    assert_eq!((answer.i32(), answer.i32()), (0, 1));
    answer.string();
    assert_eq!(answer.i16(), error::NON_EMPTY_GROUP);
    let leave = Frame::new().string(&group).string(member.id());
    let left = call(&mut member, api::LEAVE_GROUP, &leave).i16();
    assert_eq!(left, error::NONE);
    assert_eq!(heartbeat(&mut member), error::UNKNOWN_MEMBER_ID);
    let offsets = Frame::new().string(&group).i32(1).string(&topic);
    let offsets = offsets.i32(1).i32(0);
    let mut answer = call(&mut member, api::OFFSET_DELETE, &offsets);
    assert_eq!(
        (answer.i16(), answer.i32(), answer.i32()),
        (error::NONE, 0, 1)
    );
    let mut answer = call(&mut member, api::DELETE_GROUPS, &body);
    assert_eq!((answer.i32(), answer.i32()), (0, 1));
    answer.string();
    assert_eq!(answer.i16(), error::NONE);
    assert_serves(system);
}

fn a_member_that_nobody_knows_is_told_so(system: System) {
    let topic = create(system, &[]);
    let group = format!("strangers-of-{topic}");
    let mut stranger = member(system, &group);
    stranger.act_as("stranger", 3);
    assert_eq!(join(&mut stranger, &group).0, error::UNKNOWN_MEMBER_ID);
    assert_eq!(heartbeat(&mut stranger), error::UNKNOWN_MEMBER_ID);
    let body = stranger.head().i32(0);
    let mut answer = call(&mut stranger, api::SYNC_GROUP, &body);
    assert_eq!(answer.i16(), error::UNKNOWN_MEMBER_ID);
    let body = stranger.head().i64(-1).i32(1).string(&topic).i32(1).i32(0);
    let body = body.i64(7).string("");
    let mut answer = stranger.call(api::OFFSET_COMMIT, 2, &body).unwrap();
    assert_eq!((answer.i32(), answer.string()), (1, Some(topic)));
    let illegal = error::ILLEGAL_GENERATION;
    assert_eq!((answer.i32(), answer.i32(), answer.i16()), (1, 0, illegal));
}

fn newer_versions_want_the_protocol_and_have_none_where_there_is_none(system: System) {
    const NULL: u32 = 0;
    let group = format!("newer-of-{}", create(system, &[]));
    let mut stranger = member(system, &group);
    // JoinGroup 7, of somebody who is no member.
    let body = Frame::new().uvarint(0).compact_string(&group);
    let body = body.i32(SESSION_MS).i32(SESSION_MS);
    let body = body.compact_string("stranger").uvarint(NULL);
    let body = body.compact_string("consumer").compact_length(1);
    let body = body.compact_string("range").compact_string("").uvarint(0);
    let mut answer = stranger.call(api::JOIN_GROUP, 7, &body.uvarint(0)).unwrap();
    answer.tags();
    let head = (answer.i32(), answer.i16(), answer.i32());
    assert_eq!(head, (0, error::UNKNOWN_MEMBER_ID, -1));
    assert_eq!(
        (answer.compact_string(), answer.compact_string()),
        (None, None)
    );

    // SyncGroup 5 without the protocol's type and name, and with one of them.
    for (kind, name) in [
        (None, None),
        (Some("consumer"), None),
        (None, Some("range")),
    ] {
        let mut body = Frame::new().uvarint(0).compact_string(&group).i32(1);
        body = body.compact_string("stranger").uvarint(NULL);
        for text in [kind, name] {
            body = match text {
                Some(text) => body.compact_string(text),
                None => body.uvarint(NULL),
            };
        }
        let body = body.compact_length(0).uvarint(0);
        let mut answer = stranger.call(api::SYNC_GROUP, 5, &body).unwrap();
        answer.tags();
        let head = (answer.i32(), answer.i16());
        assert_eq!(head, (0, error::INCONSISTENT_GROUP_PROTOCOL), "{kind:?}");
    }
}

fn a_group_that_is_named_twice_is_deleted_once(system: System) {
    let topic = create(system, &[]);
    let group = format!("twice-of-{topic}");
    let mut nobody = member(system, &group);
    nobody.act_as("", -1);
    assert_eq!(commit_each(&mut nobody, &topic, &[0]), [error::NONE]);
    let body = Frame::new().i32(2).string(&group).string(&group);
    let mut answer = call(&mut nobody, api::DELETE_GROUPS, &body);
    assert_eq!((answer.i32(), answer.i32()), (0, 1));
    assert_eq!((answer.string(), answer.i16()), (Some(group), error::NONE));
}

/// What follows as topics with partitions and a code for each.
fn codes(answer: &mut Answer) -> BTreeMap<(String, i32), i16> {
    let mut codes = BTreeMap::new();
    for _ in 0..answer.i32() {
        let topic = answer.string().unwrap();
        for _ in 0..answer.i32() {
            let known = codes.insert((topic.clone(), answer.i32()), answer.i16());
            assert_eq!(known, None, "{topic} twice");
        }
    }
    codes
}

fn nothing_is_kept_of_partitions_that_are_not_there(system: System) {
    let topic = create(system, &[]);
    let nowhere = format!("not-{topic}");
    let mut nobody = member(system, &format!("nobody-of-{topic}"));
    nobody.act_as("", -1);
    let expected = |there: i16| {
        let strange = error::UNKNOWN_TOPIC_OR_PARTITION;
        BTreeMap::from([
            ((topic.clone(), 0), there),
            ((topic.clone(), 9), strange),
            ((topic.clone(), -1), strange),
            ((nowhere.clone(), 0), strange),
        ])
    };
    let mut body = nobody.head().i64(-1).i32(2).string(&topic).i32(3);
    for partition in [0, 9, -1] {
        body = body.i32(partition).i64(7).string("");
    }
    let body = body.string(&nowhere).i32(1).i32(0).i64(7).string("");
    let mut answer = nobody.call(api::OFFSET_COMMIT, 2, &body).unwrap();
    assert_eq!(codes(&mut answer), expected(error::NONE));

    let body = Frame::new().string(&format!("nobody-of-{topic}")).i32(2);
    let body = body.string(&topic).i32(3).i32(0).i32(9).i32(-1);
    let body = body.string(&nowhere).i32(1).i32(0);
    let mut answer = call(&mut nobody, api::OFFSET_DELETE, &body);
    assert_eq!((answer.i16(), answer.i32()), (error::NONE, 0));
    assert_eq!(codes(&mut answer), expected(error::NONE));
}

/// OffsetCommit 2 as a member, of an offset of partition 0 with metadata of each size; the answers.
fn commit_each(member: &mut Member, topic: &str, metadata: &[usize]) -> Vec<i16> {
    let count = i32::try_from(metadata.len()).unwrap();
    let mut body = member.head().i64(-1).i32(1).string(topic).i32(count);
    for bytes in metadata {
        body = body.i32(0).i64(7).string(&"m".repeat(*bytes));
    }
    let mut answer = member.call(api::OFFSET_COMMIT, 2, &body).unwrap();
    assert_eq!((answer.i32(), answer.string()), (1, Some(topic.to_owned())));
    (0..answer.i32())
        .map(|_| {
            answer.i32();
            answer.i16()
        })
        .collect()
}

fn sync(member: &mut Member, assignment: &[u8]) -> i16 {
    let body = member.head().i32(1).string(member.id()).bytes(assignment);
    call(member, api::SYNC_GROUP, &body).i16()
}

fn what_a_coordinator_cannot_write_costs_only_who_asks_for_it(system: System) {
    let topic = create(system, &[]);
    // The same hash, and so the same coordinator: "Aa" and "BB" have the same one in Java.
    let (group, next) = (format!("Aa-of-{topic}"), format!("BB-of-{topic}"));
    let mut member = member(system, &group);
    assert_eq!(join(&mut member, &group), (error::NONE, 1));
    let mut neighbour = self::member(system, &next);
    assert_eq!(join(&mut neighbour, &next), (error::NONE, 1));
    assert_eq!(sync(&mut neighbour, b"all"), error::NONE);

    // The assignment: nobody has one, and the group rebalances.
    let large = vec![1; TOO_LARGE];
    assert_eq!(sync(&mut member, &large), error::UNKNOWN_SERVER_ERROR);
    assert_eq!(heartbeat(&mut member), error::REBALANCE_IN_PROGRESS);
    assert_eq!(sync(&mut member, b"all"), error::REBALANCE_IN_PROGRESS);
    assert_eq!(join(&mut member, &group), (error::NONE, 2));
    assert_eq!(sync(&mut member, b"all"), error::NONE);

    // Metadata: one offset's is too large, or all of them together are.
    assert_eq!(
        commit_each(&mut member, &topic, &[METADATA_MAX, METADATA_MAX + 1]),
        [error::NONE, error::OFFSET_METADATA_TOO_LARGE]
    );
    let sizes = [METADATA_MAX; TOO_LARGE / METADATA_MAX];
    let codes = commit_each(&mut member, &topic, &sizes);
    assert_eq!(codes, sizes.map(|_| error::UNKNOWN_SERVER_ERROR));
    assert_eq!(commit_each(&mut member, &topic, &[0]), [error::NONE]);

    assert_eq!(heartbeat(&mut member), error::NONE);
    assert_eq!(heartbeat(&mut neighbour), error::NONE);
    assert_serves(system);
}
