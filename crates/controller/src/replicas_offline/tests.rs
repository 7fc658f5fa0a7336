//! Rules of replicas whose storage failed, one test each.

use super::*;
use crate::testing::{World, endpoint, topic};
use crate::{CreateTopics, DiskState, RegisterBroker, Request};
use skein_types::Uuid;

fn failed(world: &World, id: i32, partitions: Vec<(TopicId, PartitionIndex)>) -> Request {
    Request::ReplicasOffline(ReplicasOffline {
        broker_id: BrokerId(id),
        broker_epoch: world.image.broker(BrokerId(id)).unwrap().epoch,
        partitions,
    })
}

fn id_of(world: &World, topic: &str) -> TopicId {
    world.image.topic_by_name(topic).unwrap().id
}

/// The partitions of topic `a`, with three of them on each of `replicas` brokers.
fn world(brokers: u8, replicas: i16) -> World {
    let mut world = World::of_brokers(brokers);
    world.grant(Request::CreateTopics(CreateTopics {
        topics: vec![topic("a", 3, replicas), topic("b", 1, replicas)],
        validate_only: false,
    }));
    world
}

#[test]
fn only_the_named_replicas_go_offline() {
    let mut world = world(1, 1);
    let a = id_of(&world, "a");
    // Twice the same, one that is not there, and one of a topic that is gone.
    let named = [(a, 1), (a, 1), (a, 7), (Uuid([9; 16]), 0)];
    let named = named.map(|(topic, index)| (topic, PartitionIndex(index)));
    let request = failed(&world, 1, named.to_vec());
    world.grant(request.clone());
    let offline = world.partition("a", 1);
    assert_eq!(offline.leader, BrokerId::NONE);
    assert_eq!(offline.offline, [BrokerId(1)]);
    assert_eq!((&*offline.isr, &*offline.elr), (&[][..], &[][..]));
    for (topic, index) in [("a", 0), ("a", 2), ("b", 0)] {
        assert_eq!(world.partition(topic, index).leader, BrokerId(1), "{topic}");
    }
    let image = world.image.clone();
    world.grant(request);
    assert_eq!(world.image, image, "it is told once");
}

#[test]
fn another_member_leads_at_once_and_the_broker_goes_on_with_the_others() {
    let mut world = world(3, 3);
    let a = id_of(&world, "a");
    let leader = world.partition("a", 0).leader;
    let request = failed(&world, leader.get(), vec![(a, PartitionIndex(0))]);
    world.grant(request);
    let partition = world.partition("a", 0);
    assert!(partition.isr.contains(&partition.leader) && partition.leader != leader);
    assert_eq!(partition.isr.len(), 2);
    assert_eq!(partition.leader_epoch.get(), 1);
    assert!(world.image.is_active(leader));
}

#[test]
fn the_next_process_of_the_broker_leads_what_nobody_else_has() {
    let mut world = world(1, 1);
    let a = id_of(&world, "a");
    let request = failed(&world, 1, vec![(a, PartitionIndex(0))]);
    world.grant(request.clone());
    let former = world.image.broker(BrokerId(1)).unwrap().clone();
    world.grant(Request::RegisterBroker(RegisterBroker {
        broker_id: Some(BrokerId(1)),
        cluster_id: None,
        incarnation: Uuid([77; 16]),
        raft_id: former.raft_id,
        endpoints: vec![endpoint(9100)],
        rack: None,
        previous_epoch: former.epoch,
        disk: DiskState::Unclean,
        ready: true,
    }));
    let partition = world.partition("a", 0);
    assert_eq!(partition.leader, BrokerId(1));
    assert!(partition.offline.is_empty());
    assert_eq!(world.refuse(request), ErrorCode::StaleBrokerEpoch);
}

#[test]
fn a_replica_that_the_broker_does_not_hold_is_left_alone() {
    let mut world = world(2, 1);
    let a = id_of(&world, "a");
    let holder = world.partition("a", 0).leader.get();
    let before = world.partition("a", 0);
    let request = failed(&world, 3 - holder, vec![(a, PartitionIndex(0))]);
    world.grant(request);
    assert_eq!(world.partition("a", 0), before);
    let many = vec![(a, PartitionIndex(0)); REPLICAS_PER_REQUEST_MAX + 1];
    let request = failed(&world, holder, many);
    assert_eq!(world.refuse(request), ErrorCode::InvalidRequest);
}
