//! Rules of partitions that have lost all their members, one test each.

use skein_metadata::{LeaderRecoveryState, Record};
use skein_types::Uuid;

use super::*;
use crate::testing::{World, endpoint, topic};
use crate::{CreateTopics, DiskState, FenceBrokers, RegisterBroker, Request};

/// A partition on brokers 1, 2 and 3, all of which have come back unclean.
fn world() -> World {
    let mut world = World::of_brokers(3);
    world.grant(Request::CreateTopics(CreateTopics {
        topics: vec![topic("a", 1, 3)],
        validate_only: false,
    }));
    for id in 1..=3 {
        register(&mut world, id);
    }
    let partition = world.partition("a", 0);
    assert_eq!(partition.leader, BrokerId::NONE);
    assert_eq!(partition.last_known.len(), 3);
    world
}

fn register(world: &mut World, id: i32) {
    let raft_id = world.image.broker(BrokerId(id)).unwrap().raft_id;
    world.now.0 += 10_000;
    let incarnation = 100 + u8::try_from(world.now.0 / 10_000).unwrap();
    world.grant(Request::RegisterBroker(RegisterBroker {
        broker_id: Some(BrokerId(id)),
        cluster_id: None,
        incarnation: Uuid([incarnation; 16]),
        raft_id,
        endpoints: vec![endpoint(9100)],
        rack: None,
        previous_epoch: BrokerEpoch::NONE,
        disk: DiskState::Unclean,
        ready: true,
    }));
}

fn report(world: &mut World, id: i32, last_epoch: i32, end_offset: i64) {
    let leader_epoch = world.partition("a", 0).leader_epoch;
    report_in(world, id, leader_epoch, last_epoch, end_offset);
}

fn report_in(
    world: &mut World,
    id: i32,
    leader_epoch: LeaderEpoch,
    last_epoch: i32,
    end_offset: i64,
) {
    let request = ReportLogEnds {
        broker_id: BrokerId(id),
        broker_epoch: world.image.broker(BrokerId(id)).unwrap().epoch,
        logs: vec![ReportedLog {
            topic_id: world.image.topic_by_name("a").unwrap().id,
            partition: PartitionIndex(0),
            leader_epoch,
            end: LogEnd {
                last_epoch: LeaderEpoch(last_epoch),
                end_offset: Offset(end_offset),
            },
        }],
    };
    world.grant(Request::ReportLogEnds(request.clone()));
    world.log_ends.note(&request, &world.image);
}

fn leader(world: &World) -> i32 {
    world.partition("a", 0).leader.0
}

#[test]
fn the_longest_log_leads_when_all_have_reported() {
    let mut world = world();
    let before = world.partition("a", 0);
    report(&mut world, 1, 5, 100);
    report(&mut world, 3, 5, 120);
    assert_eq!(leader(&world), -1, "2 may have more");
    report(&mut world, 2, 5, 110);
    let after = world.partition("a", 0);
    assert_eq!(after.leader, BrokerId(3));
    assert_eq!(after.isr, [BrokerId(3)]);
    assert_eq!(after.last_known, []);
    assert_eq!(after.leader_epoch.0, before.leader_epoch.0 + 1);
    assert_eq!(after.leader_recovery_state, LeaderRecoveryState::Recovering);
}

#[test]
fn a_later_epoch_counts_more_than_a_larger_offset() {
    let mut world = world();
    report(&mut world, 1, 6, 90);
    report(&mut world, 2, 5, 200);
    report(&mut world, 3, -1, 0);
    assert_eq!(leader(&world), 1);
}

#[test]
fn of_equal_logs_the_first_of_the_replicas_leads() {
    let mut world = world();
    let first = world.partition("a", 0).replicas[0];
    for id in [3, 2, 1] {
        report(&mut world, id, 5, 100);
    }
    assert_eq!(leader(&world), first.0);
}

#[test]
fn a_report_counts_in_its_registration_and_leader_epoch_only() {
    let mut world = world();
    report(&mut world, 1, 5, 100);
    report(&mut world, 2, 5, 90);
    // Another process of 1 may have lost more.
    register(&mut world, 1);
    report(&mut world, 3, 5, 80);
    assert_eq!(leader(&world), -1);
    let stale = LeaderEpoch(world.partition("a", 0).leader_epoch.0 - 1);
    report_in(&mut world, 1, stale, 5, 100);
    assert_eq!(leader(&world), -1);
    report(&mut world, 1, 5, 70);
    assert_eq!(leader(&world), 2);
}

#[test]
fn a_fenced_one_is_waited_for_if_its_log_is_the_longest() {
    let mut world = world();
    report(&mut world, 1, 5, 100);
    report(&mut world, 2, 5, 90);
    let epoch = world.image.broker(BrokerId(1)).unwrap().epoch;
    let brokers = vec![(BrokerId(1), epoch)];
    world.grant(Request::FenceBrokers(FenceBrokers { brokers }));
    report(&mut world, 3, 5, 80);
    assert_eq!(leader(&world), -1);
}

#[test]
fn who_left_the_cluster_is_not_waited_for() {
    let mut world = world();
    report(&mut world, 1, 5, 100);
    let epoch = world.image.broker(BrokerId(2)).unwrap().epoch;
    world.apply_records(vec![Record::RemoveBroker {
        id: BrokerId(2),
        epoch,
    }]);
    report(&mut world, 3, 5, 80);
    assert_eq!(leader(&world), 1);
}

#[test]
fn where_somebody_leads_a_report_changes_nothing() {
    let mut world = world();
    for id in 1..=3 {
        report(&mut world, id, 5, 100);
    }
    let image = world.image.clone();
    report(&mut world, 2, 9, 900);
    assert_eq!(world.image, image);
}
