//! What a leader says that is cut off, and for how long.

use std::sync::Arc;
use std::time::Duration;

use skein_coordinator::Request;
use skein_env::sim::SimWorld;
use skein_partition::Acks;
use skein_protocol::ApiKey;
use skein_protocol::messages::heartbeat::HeartbeatRequest;
use skein_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use skein_types::ErrorCode;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::groups::{self, ensure_topic, partition_of};
use crate::handlers::list_offsets;
use crate::testing::cluster::{
    HOSTS, TOPIC, agree, controller_of, partition, replica, replicated_on, start, until,
    with_cluster,
};
use crate::testing::{Node, append, batch, cluster_config};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const SESSION: Duration = Duration::from_secs(2);

fn confirmation_of(has_peers: bool) -> Confirmation {
    Confirmation::new(has_peers)
}

#[test]
fn it_counts_from_the_question_and_only_moves_on() {
    let confirmation = confirmation_of(true);
    assert!(confirmation.until() < Millis(0), "nobody has said so yet");
    confirmation.extend(Millis(100), Millis(1_900));
    assert_eq!(confirmation.until(), Millis(2_000));
    confirmation.extend(Millis(50), Millis(1_900));
    confirmation.extend(Millis(1_000), Millis(0));
    assert_eq!(confirmation.until(), Millis(2_000));
    confirmation.extend(Millis(500), Millis(2_000));
    assert_eq!(confirmation.until(), Millis(2_500));
}

#[test]
fn a_node_alone_is_always_confirmed() {
    assert_eq!(confirmation_of(false).until(), Millis(i64::MAX));
}

async fn produce(node: &Node, acks: Acks) -> ErrorCode {
    let replica = replica(node).unwrap();
    let reply = append(&replica, batch(1, b"value"), acks);
    match timeout(Duration::from_secs(60), reply.result())
        .await
        .unwrap()
    {
        Ok(_) => ErrorCode::None,
        Err(refusal) => refusal.error_code(),
    }
}

async fn offset(node: &Node, timestamp: i64) -> ErrorCode {
    let request = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: TOPIC.into(),
            partitions: vec![ListOffsetsPartition {
                timestamp,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let context = node.context(ApiKey::ListOffsets, 7);
    let mut response = list_offsets::handle(node.shared(), &context, request).await;
    ErrorCode::from_code(response.topics.remove(0).partitions.remove(0).error_code)
}

/// What the coordinator of a group says to a member that it does not know.
async fn coordinator(node: &Node, group: &str) -> ErrorCode {
    let heartbeat = HeartbeatRequest {
        group_id: group.to_owned().into(),
        member_id: "member".into(),
        ..Default::default()
    };
    let shared = node.shared();
    let asked = shared
        .groups
        .ask(shared, group, Request::Heartbeat(heartbeat))
        .await;
    match asked {
        skein_coordinator::Response::Heartbeat(response) => {
            ErrorCode::from_code(response.error_code)
        }
        other => panic!("{other:?}"),
    }
}

/// A group whose coordinator is on this node, if there is one.
fn group_of(node: &Node) -> Option<String> {
    let image = node.shared().image();
    let topic = image.topic_by_name(groups::TOPIC)?;
    let own = node.shared().identity.broker_id;
    let names = (0..1_000).map(|number| format!("group-{number}"));
    names.into_iter().find(|group| {
        let index = partition_of(&image, group);
        let partition = index.and_then(|index| topic.partition(index));
        partition.is_some_and(|partition| partition.leader == own)
    })
}

fn cut_off(world: &SimWorld, victim: usize) {
    for other in (0..HOSTS.len()).filter(|number| *number != victim) {
        world.net().partition(HOSTS[victim], HOSTS[other]);
    }
}

/// Cuts the leader off, and asks it again and again.
fn cut_off_a_leader(seed: u64, is_controller: bool) {
    with_cluster(seed, async |world, nodes| {
        let controller = controller_of(&nodes).await;
        let victim = match is_controller {
            true => controller,
            false => (controller + 1) % HOSTS.len(),
        };
        replicated_on(&nodes, victim).await;
        ensure_topic(nodes[victim].shared()).await.unwrap();
        until(|| agree(&nodes) && group_of(&nodes[victim]).is_some()).await;
        let group = group_of(&nodes[victim]).unwrap();
        let (node, id) = (&nodes[victim], nodes[victim].shared().identity.broker_id);
        until(|| replica(node).unwrap().is_confirmed()).await;
        assert_eq!(produce(node, Acks::All).await, ErrorCode::None);
        let unknown = ErrorCode::UnknownMemberId;
        while coordinator(node, &group).await != unknown {
            sleep(Duration::from_millis(10)).await;
        }
        cut_off(world, victim);
        let cut = Instant::now();
        let mut last = cut;
        while cut.elapsed() < 2 * SESSION {
            if produce(node, Acks::Leader).await == ErrorCode::None {
                last = Instant::now();
            }
            if offset(node, LATEST).await == ErrorCode::None {
                last = Instant::now();
            }
            if coordinator(node, &group).await == unknown {
                last = Instant::now();
            }
            sleep(Duration::from_millis(5)).await;
        }
        let answered = last - cut;
        assert!(
            answered >= SESSION / 2,
            "a slow moment is no cut: {answered:?}"
        );
        assert!(answered <= SESSION, "{answered:?}");
        let others = nodes.iter().filter(|other| !std::ptr::eq(*other, node));
        for other in others {
            assert_ne!(partition(other).unwrap().leader, id, "another leads");
        }
        let refused = ErrorCode::NotLeaderOrFollower;
        for acks in [Acks::None, Acks::Leader] {
            assert_eq!(produce(node, acks).await, refused);
        }
        assert_eq!(offset(node, LATEST).await, refused);
        assert_eq!(offset(node, 0).await, refused);
        assert_eq!(coordinator(node, &group).await, ErrorCode::NotCoordinator);
        // What cannot be wrong goes on.
        assert_eq!(offset(node, EARLIEST).await, ErrorCode::None);
        world.net().heal();
        until(|| partition(node).unwrap().leader != id).await;
        until(|| agree(&nodes)).await;
    });
}

#[test]
fn a_leader_that_is_cut_off_says_nothing_alone_after_a_session() {
    cut_off_a_leader(51, false);
}

#[test]
fn nor_does_one_that_is_cut_off_with_its_controller() {
    cut_off_a_leader(52, true);
}

#[test]
fn without_a_quorum_followers_confirm_their_leader() {
    with_cluster(53, async |_, nodes| {
        replicated_on(&nodes, 0).await;
        ensure_topic(nodes[0].shared()).await.unwrap();
        until(|| agree(&nodes) && group_of(&nodes[0]).is_some()).await;
        let group = group_of(&nodes[0]).unwrap();
        assert_eq!(produce(&nodes[0], Acks::All).await, ErrorCode::None);
        for node in &nodes {
            node.shared().controller.shutdown().await.unwrap();
        }
        sleep(2 * SESSION).await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            for acks in [Acks::None, Acks::Leader, Acks::All] {
                assert_eq!(produce(&nodes[0], acks).await, ErrorCode::None);
            }
            assert_eq!(offset(&nodes[0], LATEST).await, ErrorCode::None);
            let unknown = ErrorCode::UnknownMemberId;
            assert_eq!(coordinator(&nodes[0], &group).await, unknown);
            sleep(Duration::from_millis(300)).await;
        }
    });
}

#[test]
fn nobody_leads_after_a_start_before_its_registration_is_in_its_image() {
    with_cluster(54, async |world, mut nodes| {
        replicated_on(&nodes, 0).await;
        let old = Arc::clone(nodes[0].shared());
        let id = old.identity.broker_id;
        assert_eq!(partition(&nodes[0]).unwrap().leader, id);
        drop(nodes.remove(0));
        drop(old);
        world.kill(HOSTS[0]);
        cut_off(world, 0);
        let config = cluster_config(world, HOSTS[0], &HOSTS, &[]);
        // By its own image it leads.
        let started = timeout(Duration::from_secs(20), start(world, 0, &config)).await;
        assert!(started.is_err(), "it serves, and nobody knows of it");
        world.kill(HOSTS[0]);
        world.net().heal();
        let node = start(world, 0, &config).await;
        let image = node.shared().image();
        let epoch = node.shared().identity.broker_epoch;
        assert_eq!(image.broker(id).unwrap().epoch, epoch);
    });
}
