//! Tests of [`super`], on a node in the simulated world.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use skein_coordinator::{Joiner, Request, Response};
use skein_env::sim::SimWorld;
use skein_protocol::Str;
use skein_protocol::messages::heartbeat::HeartbeatRequest;
use skein_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use skein_protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use skein_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use skein_record::{BatchBuf, BatchBuilder, Codec};
use skein_types::{ErrorCode, Uuid};
use tokio::time::sleep;

use super::*;
use crate::handlers::offset_commit::look_up;
use crate::testing::{HOST, NOW, Node, batch, config, partition_path, speed, with_node};

const GROUP: &str = "group";

/// One partition, so that every group is in it; short rebalances and sessions.
const SETTINGS: &[&str] = &[
    "offsets.topic.num.partitions=1",
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=1",
];

/// A session, and the time in which it has ended for certain.
const SESSION_MS: i32 = 1_000;
const SESSION_ENDS: Duration = Duration::from_secs(2);

/// Longer than a coordinator that could not load waits before it tries again.
const LOAD_RETRIED: Duration = Duration::from_secs(6);

/// The same if nobody asks.
const LOAD_RETRIED_UNASKED: Duration = Duration::from_secs(31);

/// Longer than one that could not write is away.
const APPEND_RETRIED: Duration = Duration::from_secs(2);

/// Time to flush all that a former process has left, on a slow disk.
const FLUSHED: Duration = Duration::from_secs(60);

async fn ask(node: &Node, request: Request) -> Response {
    let shared = node.shared();
    shared.groups.ask(shared, GROUP, request).await
}

/// Makes the topic of the records, and one whose offsets are committed.
async fn prepare(node: &Node) {
    ensure_topic(node.shared()).await.unwrap();
    node.create("topic", &[]).await;
}

async fn commit_as(node: &Node, member: &str, generation: i32, offset: i64) -> ErrorCode {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        ..Default::default()
    };
    committed(node, commit_request(member, generation, vec![partition])).await
}

fn commit_request(
    member: &str,
    generation: i32,
    partitions: Vec<OffsetCommitRequestPartition>,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "topic".into(),
            partitions,
            ..Default::default()
        }],
        ..Default::default()
    }
}

async fn committed(node: &Node, mut request: OffsetCommitRequest) -> ErrorCode {
    let named = look_up(&node.shared().image(), &mut request);
    assert!(!named.are_all_unknown());
    match ask(node, Request::OffsetCommit(request, 9)).await {
        Response::OffsetCommit(response) => {
            ErrorCode::from_code(response.topics[0].partitions[0].error_code)
        }
        other => panic!("{other:?}"),
    }
}

/// Commits as somebody who is in no group.
async fn commit(node: &Node, offset: i64) -> ErrorCode {
    commit_as(node, "", -1, offset).await
}

/// Commits again and again until that succeeds, as clients do.
async fn commit_in_the_end(node: &Node, offset: i64) {
    for _ in 0..100 {
        match commit(node, offset).await {
            ErrorCode::None => return,
            ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator => sleep(Duration::from_millis(100)).await,
            code => panic!("{code}"),
        }
    }
    panic!("no commit succeeds any more");
}

/// All offsets of the group, or the error.
async fn fetch(node: &Node) -> Result<Vec<i64>, ErrorCode> {
    let request = Request::OffsetFetch {
        group: OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics: None,
            ..Default::default()
        },
        require_stable: false,
    };
    match ask(node, request).await {
        Response::OffsetFetch(group) if group.error_code == 0 => {
            let topics = group.topics.into_iter();
            let partitions = topics.flat_map(|topic| topic.partitions);
            Ok(partitions.map(|found| found.committed_offset).collect())
        }
        Response::OffsetFetch(group) => Err(ErrorCode::from_code(group.error_code)),
        other => panic!("{other:?}"),
    }
}

fn join_request(metadata: &[u8]) -> Request {
    let request = JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: SESSION_MS,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::copy_from_slice(metadata),
        }],
        ..Default::default()
    };
    let joiner = Joiner {
        version: 3,
        client_id: "client".into(),
        client_host: "/10.0.0.9".into(),
        random: Uuid([7; 16]),
    };
    Request::JoinGroup(request, joiner)
}

/// Becomes the only member; its id and generation.
async fn join(node: &Node, metadata: &[u8]) -> (Str, i32) {
    joined(node, join_request(metadata)).await
}

async fn joined(node: &Node, request: Request) -> (Str, i32) {
    match ask(node, request).await {
        Response::JoinGroup(joined) if joined.error_code == 0 => {
            (joined.member_id, joined.generation_id)
        }
        other => panic!("{other:?}"),
    }
}

async fn sync(node: &Node, member: &Str, generation: i32, assignment: &[u8]) -> ErrorCode {
    let request = SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id: generation,
        member_id: member.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: member.clone(),
            assignment: Bytes::copy_from_slice(assignment),
        }],
        ..Default::default()
    };
    match ask(node, Request::SyncGroup(request)).await {
        Response::SyncGroup(response) => ErrorCode::from_code(response.error_code),
        other => panic!("{other:?}"),
    }
}

async fn heartbeat(node: &Node, member: &Str, generation: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: GROUP.into(),
        generation_id: generation,
        member_id: member.clone(),
        ..Default::default()
    };
    match ask(node, Request::Heartbeat(request)).await {
        Response::Heartbeat(response) => ErrorCode::from_code(response.error_code),
        other => panic!("{other:?}"),
    }
}

/// Name of the group's state.
async fn state(node: &Node) -> String {
    match ask(node, Request::DescribeGroups(vec![GROUP.into()], 5)).await {
        Response::DescribeGroups(groups) => groups[0].group_state.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Stops the node in order, and starts it again.
async fn restart(world: &SimWorld, node: Node, settings: &[&str]) -> Node {
    node.broker.stop().await;
    world.kill(HOST);
    Node::start(world.node(HOST), &config(world, settings)).await
}

/// Starts the node again, which loads its groups slowly until [`hurry`].
async fn restart_slowly(world: &SimWorld, node: Node) -> Node {
    let slow_load = [SETTINGS, &["offsets.load.buffer.size=1"]].concat();
    let node = restart(world, node, &slow_load).await;
    let per_call = Duration::from_millis(400);
    world.disk(HOST).set_speed(speed(per_call, Duration::ZERO));
    node
}

fn hurry(world: &SimWorld) {
    world
        .disk(HOST)
        .set_speed(speed(Duration::ZERO, Duration::ZERO));
}

/// The file in which the records are.
fn records_file() -> PathBuf {
    partition_path(TOPIC).join("00000000000000000000.log")
}

fn record(key: &[u8], value: Option<&[u8]>) -> BatchBuf {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(NOW, Some(key), value, &[]).unwrap();
    builder.build().unwrap()
}

#[test]
fn when_an_append_fails_the_state_is_dropped_and_clients_go_on() {
    with_node(1, SETTINGS, async |world, node| {
        prepare(&node).await;
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        let (member, generation) = join(&node, b"").await;
        let disk = world.disk(HOST);
        disk.set_capacity(disk.used());
        // The sync needs more room than the log has; the heartbeat was computed behind it.
        let (synced, beaten) = tokio::join!(
            sync(&node, &member, generation, &[7; 500_000]),
            heartbeat(&node, &member, generation)
        );
        assert_eq!(synced, ErrorCode::CoordinatorNotAvailable);
        assert!(
            matches!(beaten, ErrorCode::CoordinatorNotAvailable | ErrorCode::None),
            "{beaten}"
        );
        disk.set_capacity(u64::MAX);
        // The generation had no record.
        commit_in_the_end(&node, 2).await;
        assert_eq!(fetch(&node).await, Ok(vec![2]));
        assert_eq!(
            heartbeat(&node, &member, generation).await,
            ErrorCode::UnknownMemberId
        );
        let (member, generation) = join(&node, b"").await;
        assert_eq!(
            sync(&node, &member, generation, b"all").await,
            ErrorCode::None
        );
        assert_eq!(state(&node).await, "Stable");
    });
}

#[test]
fn while_groups_load_their_clients_are_told_to_wait_and_members_live_on() {
    with_node(2, SETTINGS, async |world, node| {
        prepare(&node).await;
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        let (member, generation) = join(&node, b"").await;
        sync(&node, &member, generation, b"all").await;
        let node = restart_slowly(world, node).await;
        let (found, beaten) = tokio::join!(fetch(&node), heartbeat(&node, &member, generation));
        assert_eq!(found, Err(ErrorCode::CoordinatorLoadInProgress));
        assert_eq!(beaten, ErrorCode::None);
        hurry(world);
        sleep(SESSION_ENDS).await;
        assert_eq!(fetch(&node).await, Ok(vec![1]));
    });
}

#[test]
fn offsets_of_a_topic_that_goes_before_groups_load_go_with_it() {
    with_node(11, SETTINGS, async |world, node| {
        prepare(&node).await;
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        let node = restart_slowly(world, node).await;
        node.delete("topic").await;
        hurry(world);
        assert_eq!(fetch(&node).await, Ok(vec![]));
        node.create("topic", &[]).await;
        assert_eq!(fetch(&node).await, Ok(vec![]));
    });
}

#[test]
fn offsets_of_a_topic_that_goes_and_comes_while_groups_load_go_with_it() {
    with_node(12, SETTINGS, async |world, node| {
        prepare(&node).await;
        for offset in 1..=20 {
            assert_eq!(commit(&node, offset).await, ErrorCode::None);
        }
        let node = restart_slowly(world, node).await;
        let loads = Err(ErrorCode::CoordinatorLoadInProgress);
        assert_eq!(fetch(&node).await, loads);
        node.delete("topic").await;
        node.create("topic", &[]).await;
        assert_eq!(fetch(&node).await, loads);
        hurry(world);
        sleep(SESSION_ENDS).await;
        assert_eq!(fetch(&node).await, Ok(vec![]));
    });
}

#[test]
fn what_a_flushed_topic_has_is_served_when_it_is_committed_without_being_asked_again() {
    with_node(3, SETTINGS, async |world, node| {
        prepare(&node).await;
        node.alter(TOPIC, "durability", "flushed").await;
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        world.kill(HOST);
        drop(node);
        let env = world.node(HOST);
        world
            .disk(HOST)
            .set_speed(speed(Duration::ZERO, Duration::from_secs(1)));
        let node = Node::start(env, &config(world, SETTINGS)).await;
        sleep(FLUSHED).await;
        assert_eq!(fetch(&node).await, Ok(vec![1]));
    });
}

#[test]
fn sessions_of_members_who_do_not_come_back_after_a_restart_end_unasked() {
    with_node(4, SETTINGS, async |world, node| {
        prepare(&node).await;
        let (member, generation) = join(&node, b"").await;
        sync(&node, &member, generation, b"all").await;
        let node = restart(world, node, SETTINGS).await;
        sleep(SESSION_ENDS).await;
        assert_eq!(state(&node).await, "Empty");
        assert_eq!(
            commit_as(&node, &member, generation, 1).await,
            ErrorCode::UnknownMemberId
        );
    });
}

#[test]
fn groups_whose_topic_is_deleted_begin_anew_in_the_next_one() {
    with_node(5, SETTINGS, async |_, node| {
        prepare(&node).await;
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        let (member, generation) = join(&node, b"").await;
        // It waits for the assignment of nobody when the topic goes.
        node.delete(TOPIC).await;
        assert_eq!(
            heartbeat(&node, &member, generation).await,
            ErrorCode::NotCoordinator
        );
        assert_eq!(commit(&node, 2).await, ErrorCode::NotCoordinator);
        ensure_topic(node.shared()).await.unwrap();
        assert_eq!(fetch(&node).await, Ok(vec![]));
        assert_eq!(
            heartbeat(&node, &member, generation).await,
            ErrorCode::UnknownMemberId
        );
        assert_eq!(commit(&node, 3).await, ErrorCode::None);
        assert_eq!(fetch(&node).await, Ok(vec![3]));
    });
}

#[test]
fn a_record_that_cannot_be_read_is_not_passed_over() {
    with_node(6, SETTINGS, async |world, node| {
        prepare(&node).await;
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        // The key of a commit that ends after its type.
        node.produce(TOPIC, record(b"\x00\x01", Some(b"\x00\x03")))
            .await
            .unwrap();
        let node = restart(world, node, SETTINGS).await;
        assert_eq!(fetch(&node).await, Err(ErrorCode::NotCoordinator));
        sleep(LOAD_RETRIED).await;
        assert_eq!(commit(&node, 2).await, ErrorCode::NotCoordinator);
    });
}

#[test]
fn a_record_of_a_kind_that_is_not_known_is_passed_over() {
    with_node(7, SETTINGS, async |world, node| {
        prepare(&node).await;
        // Kafka's key of the metadata of a group of the newer protocol.
        node.produce(TOPIC, record(b"\x00\x03\x00\x05group", Some(b"\x00\x00")))
            .await
            .unwrap();
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        let node = restart(world, node, SETTINGS).await;
        assert_eq!(fetch(&node).await, Ok(vec![1]));
    });
}

#[test]
fn a_batch_whose_checksum_is_wrong_is_not_passed_over() {
    with_node(8, SETTINGS, async |world, node| {
        prepare(&node).await;
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        assert_eq!(commit(&node, 2).await, ErrorCode::None);
        node.broker.stop().await;
        world.kill(HOST);
        let rot = world.disk(HOST).rot(&records_file(), 70, 1).unwrap();
        let node = Node::start(world.node(HOST), &config(world, SETTINGS)).await;
        assert_eq!(fetch(&node).await, Err(ErrorCode::NotCoordinator));
        let unloaded = || node.shared().metrics.unloaded_group_partitions.get();
        assert_eq!(unloaded(), 1);
        // When the disk has been mended nobody has to start anything.
        assert!(rot.undo());
        sleep(LOAD_RETRIED).await;
        commit_in_the_end(&node, 3).await;
        assert_eq!(fetch(&node).await, Ok(vec![3]));
        assert_eq!(unloaded(), 0);
    });
}

#[test]
fn groups_that_could_not_be_loaded_are_loaded_unasked_when_they_can_be() {
    with_node(12, SETTINGS, async |world, node| {
        prepare(&node).await;
        let (member, generation) = join(&node, b"").await;
        sync(&node, &member, generation, b"all").await;
        node.broker.stop().await;
        world.kill(HOST);
        let rot = world.disk(HOST).rot(&records_file(), 70, 1).unwrap();
        let node = Node::start(world.node(HOST), &config(world, SETTINGS)).await;
        sleep(Duration::from_secs(1)).await;
        assert!(rot.undo());
        // Its session begins with the load, and nobody has asked for one.
        sleep(LOAD_RETRIED_UNASKED + SESSION_ENDS).await;
        assert_eq!(state(&node).await, "Empty");
    });
}

#[test]
fn a_coordinator_that_could_not_write_begins_anew_unasked() {
    with_node(13, SETTINGS, async |world, node| {
        prepare(&node).await;
        let (member, generation) = join(&node, b"").await;
        sync(&node, &member, generation, b"all").await;
        let disk = world.disk(HOST);
        disk.set_capacity(disk.used());
        // More than what is left of a block that the disk has given already: of 4,096 bytes.
        let partition = OffsetCommitRequestPartition {
            committed_metadata: Some("…".repeat(4_000).as_str().into()),
            ..Default::default()
        };
        let request = commit_request(&member, generation, vec![partition]);
        assert_eq!(
            committed(&node, request).await,
            ErrorCode::CoordinatorNotAvailable
        );
        disk.set_capacity(u64::MAX);
        sleep(APPEND_RETRIED + SESSION_ENDS).await;
        assert_eq!(state(&node).await, "Empty");
    });
}

#[test]
fn garbage_as_subscription_and_assignment_is_kept_as_it_is() {
    with_node(9, SETTINGS, async |world, node| {
        prepare(&node).await;
        let garbage = [0xff_u8; 300];
        let (member, generation) = join(&node, &garbage).await;
        assert_eq!(
            sync(&node, &member, generation, &garbage).await,
            ErrorCode::None
        );
        let node = restart(world, node, SETTINGS).await;
        let described = ask(&node, Request::DescribeGroups(vec![GROUP.into()], 5)).await;
        let Response::DescribeGroups(groups) = described else {
            panic!("{described:?}");
        };
        let kept = &groups[0].members[0];
        assert_eq!(kept.member_metadata, &garbage[..]);
        assert_eq!(kept.member_assignment, &garbage[..]);
        assert_eq!(heartbeat(&node, &member, generation).await, ErrorCode::None);
    });
}

#[test]
fn a_generation_whose_record_is_too_large_is_refused_for_good() {
    with_node(11, SETTINGS, async |_, node| {
        prepare(&node).await;
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        node.alter(TOPIC, "max.message.bytes", "500").await;
        let (member, generation) = join(&node, &[1; 400]).await;
        assert_eq!(
            sync(&node, &member, generation, b"all").await,
            ErrorCode::UnknownServerError
        );
        // The group goes on: nothing has been lost, and nothing loaded.
        assert_eq!(
            heartbeat(&node, &member, generation).await,
            ErrorCode::RebalanceInProgress
        );
        assert_eq!(fetch(&node).await, Ok(vec![1]));
        node.alter(TOPIC, "max.message.bytes", "5000").await;
        let Request::JoinGroup(mut again, joiner) = join_request(&[1; 400]) else {
            unreachable!("a JoinGroup");
        };
        again.member_id = member;
        let (member, generation) = joined(&node, Request::JoinGroup(again, joiner)).await;
        assert_eq!(generation, 2);
        assert_eq!(
            sync(&node, &member, generation, b"all").await,
            ErrorCode::None
        );
    });
}

#[test]
fn offsets_of_a_topic_that_goes_are_gone_after_a_restart_too() {
    with_node(10, SETTINGS, async |world, node| {
        prepare(&node).await;
        assert_eq!(commit(&node, 1).await, ErrorCode::None);
        node.delete("topic").await;
        node.create("topic", &[]).await;
        assert_eq!(fetch(&node).await, Ok(vec![]));
        let node = restart(world, node, SETTINGS).await;
        assert_eq!(fetch(&node).await, Ok(vec![]));
        node.produce("topic", batch(1, b"value")).await.unwrap();
    });
}
