//! A group in the oldest versions of its APIs, which no client of today sends.
//!
//! Input: a member's requests, one after the other. Output: Kafka's codes and fields.

use skein_tests::wire::{Answer, Connection, Frame, api, error};
use skein_tests::{System, on_both};

use super::{assert_serves, connect, create};

on_both!(
    a_group_lives_in_the_oldest_versions,
    a_member_that_nobody_knows_is_told_so,
);

const SESSION_MS: i32 = 10_000;

struct Member {
    connection: Connection,
    group: String,
    id: String,
    generation: i32,
}

impl Member {
    fn call(&mut self, api_key: i16, version: i16, body: &Frame) -> Answer {
        self.connection.call(api_key, version, body).unwrap()
    }

    /// JoinGroup 0: its answer comes when the group's first rebalance ends.
    fn join(&mut self) -> i16 {
        let body = Frame::new().string(&self.group).i32(SESSION_MS);
        let body = body.string(&self.id).string("consumer").i32(1);
        let body = body.string("range").bytes(&[0, 0, 0, 0, 0, 0]);
        let mut answer = self.call(api::JOIN_GROUP, 0, &body);
        let error_code = answer.i16();
        self.generation = answer.i32();
        let (protocol, leader) = (answer.string(), answer.string());
        let id = answer.string().unwrap();
        if error_code == error::NONE {
            assert_eq!(protocol.as_deref(), Some("range"));
            assert_eq!(leader.as_ref(), Some(&id), "alone, it leads");
            assert_eq!((answer.i32(), answer.string()), (1, Some(id.clone())));
            self.id = id;
        }
        error_code
    }

    /// Group, generation, member: how many requests begin.
    fn head(&self) -> Frame {
        Frame::new()
            .string(&self.group)
            .i32(self.generation)
            .string(&self.id)
    }

    fn heartbeat(&mut self) -> i16 {
        let body = self.head();
        self.call(api::HEARTBEAT, 0, &body).i16()
    }
}

fn member(system: System, group: &str) -> Member {
    Member {
        connection: connect(system),
        group: group.to_owned(),
        id: String::new(),
        generation: -1,
    }
}

fn find(member: &mut Member) {
    let body = Frame::new().string(&member.group);
    // The topic may be made by it, and take a moment to have leaders.
    for _ in 0..100 {
        let mut answer = member.call(api::FIND_COORDINATOR, 0, &body);
        match answer.i16() {
            error::NONE => {
                assert_eq!(answer.i32(), 1, "the only node");
                return;
            }
            error::COORDINATOR_NOT_AVAILABLE => {}
            other => panic!("error {other}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("no coordinator in 10 s");
}

fn a_group_lives_in_the_oldest_versions(system: System) {
    let topic = create(system, &[]);
    let mut member = member(system, &format!("group-of-{topic}"));
    find(&mut member);
    let mut joined = member.join();
    for _ in 0..100 {
        if joined != error::COORDINATOR_LOAD_IN_PROGRESS && joined != error::NOT_COORDINATOR {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        joined = member.join();
    }
    assert_eq!((joined, member.generation), (error::NONE, 1));
    let body = member.head().i32(1).string(&member.id).bytes(b"all");
    let mut answer = member.call(api::SYNC_GROUP, 0, &body);
    assert_eq!(
        (answer.i16(), answer.bytes()),
        (error::NONE, b"all".to_vec())
    );
    assert_eq!(member.heartbeat(), error::NONE);

    // OffsetCommit 2, with the retention that it still has, and OffsetFetch 1.
    let body = member.head().i64(-1).i32(1).string(&topic).i32(1).i32(0);
    let mut answer = member.call(api::OFFSET_COMMIT, 2, &body.i64(7).string("mark"));
    assert_eq!((answer.i32(), answer.string()), (1, Some(topic.clone())));
    assert_eq!(
        (answer.i32(), answer.i32(), answer.i16()),
        (1, 0, error::NONE)
    );
    let fetch = Frame::new().string(&member.group).i32(1).string(&topic);
    let mut answer = member.call(api::OFFSET_FETCH, 1, &fetch.i32(1).i32(0));
    assert_eq!((answer.i32(), answer.string()), (1, Some(topic.clone())));
    assert_eq!((answer.i32(), answer.i32(), answer.i64()), (1, 0, 7));
    assert_eq!(answer.string().as_deref(), Some("mark"));
    assert_eq!((answer.i16(), answer.remaining()), (error::NONE, 0));

    let mut answer = member.call(
        api::DESCRIBE_GROUPS,
        0,
        &Frame::new().i32(1).string(&member.group),
    );
    assert_eq!((answer.i32(), answer.i16()), (1, error::NONE));
    assert_eq!(answer.string().as_ref(), Some(&member.group));
    assert_eq!(answer.string().as_deref(), Some("Stable"));
    let mut answer = member.call(api::LIST_GROUPS, 0, &Frame::new());
    assert_eq!(answer.i16(), error::NONE);
    let listed: Vec<_> = (0..answer.i32())
        .map(|_| (answer.string().unwrap(), answer.string().unwrap()))
        .collect();
    assert!(listed.contains(&(member.group.clone(), "consumer".to_owned())));

    let body = Frame::new().i32(1).string(&member.group);
    let mut answer = member.call(api::DELETE_GROUPS, 0, &body);
    assert_eq!((answer.i32(), answer.i32()), (0, 1));
    answer.string();
    assert_eq!(answer.i16(), error::NON_EMPTY_GROUP);
    let leave = Frame::new().string(&member.group).string(&member.id);
    assert_eq!(member.call(api::LEAVE_GROUP, 0, &leave).i16(), error::NONE);
    assert_eq!(member.heartbeat(), error::UNKNOWN_MEMBER_ID);
    let offsets = Frame::new().string(&member.group).i32(1).string(&topic);
    let mut answer = member.call(api::OFFSET_DELETE, 0, &offsets.i32(1).i32(0));
    assert_eq!(
        (answer.i16(), answer.i32(), answer.i32()),
        (error::NONE, 0, 1)
    );
    let mut answer = member.call(api::DELETE_GROUPS, 0, &body);
    assert_eq!((answer.i32(), answer.i32()), (0, 1));
    answer.string();
    assert_eq!(answer.i16(), error::NONE);
    assert_serves(system);
}

fn a_member_that_nobody_knows_is_told_so(system: System) {
    let topic = create(system, &[]);
    let mut stranger = member(system, &format!("strangers-of-{topic}"));
    find(&mut stranger);
    stranger.id = "stranger".to_owned();
    stranger.generation = 3;
    // A coordinator that still loads lets a heartbeat pass.
    for _ in 0..100 {
        if stranger.join() == error::UNKNOWN_MEMBER_ID {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    stranger.generation = 3;
    assert_eq!(stranger.heartbeat(), error::UNKNOWN_MEMBER_ID);
    let body = stranger.head().i32(0);
    let mut answer = stranger.call(api::SYNC_GROUP, 0, &body);
    assert_eq!(answer.i16(), error::UNKNOWN_MEMBER_ID);
    let body = stranger.head().i64(-1).i32(1).string(&topic).i32(1).i32(0);
    let mut answer = stranger.call(api::OFFSET_COMMIT, 2, &body.i64(7).string(""));
    assert_eq!((answer.i32(), answer.string()), (1, Some(topic)));
    let illegal = error::ILLEGAL_GENERATION;
    assert_eq!((answer.i32(), answer.i32(), answer.i16()), (1, 0, illegal));
}
