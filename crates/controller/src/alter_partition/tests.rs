//! Rules of AlterPartition, one test each.

use super::*;
use crate::testing::{World, topic};
use crate::{CreateTopics, FenceBrokers, Heartbeat, ReplicasOffline, Request};
use skein_types::Millis;

/// Broker 1 leads partition 0 of topic `a`, which brokers 1, 2 and 3 hold; min ISR is 2.
fn world() -> World {
    let mut world = World::of_brokers(3);
    let mut new = topic("a", 1, -1);
    new.num_partitions = -1;
    new.assignments = vec![(
        PartitionIndex(0),
        vec![BrokerId(1), BrokerId(2), BrokerId(3)],
    )];
    new.configs = vec![("min.insync.replicas".into(), Some("2".into()))];
    world.grant(Request::CreateTopics(CreateTopics {
        topics: vec![new],
        validate_only: false,
    }));
    world
}

fn epoch_of(world: &World, id: i32) -> BrokerEpoch {
    world.image.broker(BrokerId(id)).unwrap().epoch
}

/// What broker 1 asks for, with the epochs as they are.
fn wanted(world: &World, isr: &[i32]) -> PartitionAlteration {
    let partition = world.partition("a", 0);
    PartitionAlteration {
        topic_id: world.image.topic_by_name("a").unwrap().id,
        partition: PartitionIndex(0),
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        isr: isr
            .iter()
            .map(|id| ProposedMember {
                broker_id: BrokerId(*id),
                broker_epoch: epoch_of(world, *id),
            })
            .collect(),
        leader_recovery_state: LeaderRecoveryState::Recovered,
    }
}

fn ask(world: &mut World, partitions: Vec<PartitionAlteration>) -> Vec<Result<i32, ErrorCode>> {
    let request = AlterPartition {
        broker_id: BrokerId(1),
        broker_epoch: epoch_of(world, 1),
        partitions,
    };
    match world.grant(Request::AlterPartition(request)) {
        Response::AlterPartition(results) => results
            .into_iter()
            .map(|one| match one.result {
                Ok(altered) => Ok(altered.partition_epoch.get()),
                Err(refusal) => Err(refusal.code),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn alter(world: &mut World, isr: &[i32]) {
    let wanted = wanted(world, isr);
    let next = wanted.partition_epoch.get() + 1;
    assert_eq!(ask(world, vec![wanted]), [Ok(next)]);
}

#[track_caller]
fn refused(world: &mut World, wanted: PartitionAlteration, code: ErrorCode) {
    let before = world.image.clone();
    assert_eq!(ask(world, vec![wanted]), [Err(code)]);
    assert_eq!(world.image, before, "a refused change leaves no record");
}

fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().copied().map(BrokerId).collect()
}

fn fence(world: &mut World, id: i32) {
    let brokers = vec![(BrokerId(id), epoch_of(world, id))];
    world.grant(Request::FenceBrokers(FenceBrokers { brokers }));
}

#[test]
fn the_leader_shrinks_and_grows_its_isr() {
    let mut world = world();
    alter(&mut world, &[1, 2]);
    let partition = world.partition("a", 0);
    assert_eq!(partition.isr, ids(&[1, 2]));
    assert_eq!(partition.elr, ids(&[]), "min ISR goes on without 3");
    assert_eq!(partition.leader_epoch.get(), 0);
    alter(&mut world, &[3, 2, 1]);
    assert_eq!(world.partition("a", 0).isr, ids(&[1, 2, 3]));
}

#[test]
fn who_leaves_below_min_isr_stays_eligible_until_there_are_enough() {
    let mut world = world();
    alter(&mut world, &[1, 2]);
    alter(&mut world, &[1]);
    assert_eq!(world.partition("a", 0).elr, ids(&[2]));
    alter(&mut world, &[1, 3]);
    let partition = world.partition("a", 0);
    assert_eq!((partition.isr, partition.elr), (ids(&[1, 3]), ids(&[])));
}

#[test]
fn an_alteration_that_changes_nothing_still_ends_the_partition_epoch() {
    let mut world = world();
    let late = wanted(&world, &[1, 2, 3]);
    alter(&mut world, &[1, 2, 3]);
    refused(&mut world, late, ErrorCode::InvalidUpdateVersion);
}

#[test]
fn of_two_attempts_on_one_partition_epoch_the_first_takes_effect() {
    let mut world = world();
    let (first, second) = (wanted(&world, &[1, 2]), wanted(&world, &[1, 3]));
    let results = ask(&mut world, vec![first, second]);
    assert_eq!(results, [Ok(1), Err(ErrorCode::InvalidUpdateVersion)]);
    assert_eq!(world.partition("a", 0).isr, ids(&[1, 2]));
}

#[test]
fn every_epoch_must_be_the_one_that_is_known() {
    let mut world = world();
    alter(&mut world, &[1, 2]);
    let with = |world: &World, leader_epoch, partition_epoch| PartitionAlteration {
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch: PartitionEpoch(partition_epoch),
        ..wanted(world, &[1, 2, 3])
    };
    for (leader_epoch, partition_epoch, code) in [
        (1, 1, ErrorCode::NotController),
        (0, 2, ErrorCode::NotController),
        (-1, 1, ErrorCode::FencedLeaderEpoch),
        (0, 0, ErrorCode::InvalidUpdateVersion),
    ] {
        let wanted = with(&world, leader_epoch, partition_epoch);
        refused(&mut world, wanted, code);
    }
}

#[test]
fn a_former_leader_and_a_former_process_of_the_leader_change_nothing() {
    let mut world = world();
    let wanted = wanted(&world, &[1, 2]);
    fence(&mut world, 1);
    refused(&mut world, wanted.clone(), ErrorCode::FencedLeaderEpoch);
    let usurped = PartitionAlteration {
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(1),
        ..wanted.clone()
    };
    refused(&mut world, usurped, ErrorCode::InvalidRequest);
    let stale = AlterPartition {
        broker_id: BrokerId(1),
        broker_epoch: BrokerEpoch(0),
        partitions: vec![wanted],
    };
    let stale = Request::AlterPartition(stale);
    assert_eq!(world.refuse(stale), ErrorCode::StaleBrokerEpoch);
}

#[test]
fn only_the_process_that_has_caught_up_joins() {
    let mut world = world();
    alter(&mut world, &[1, 2]);
    for epoch in [BrokerEpoch::NONE, BrokerEpoch(2), BrokerEpoch(4)] {
        let mut wanted = wanted(&world, &[1, 2, 3]);
        wanted.isr[2].broker_epoch = epoch;
        refused(&mut world, wanted, ErrorCode::IneligibleReplica);
    }
    // Of one that is in already nothing need be known.
    let mut unseen = wanted(&world, &[1, 2, 3]);
    unseen.isr[1].broker_epoch = BrokerEpoch::NONE;
    assert_eq!(ask(&mut world, vec![unseen]), [Ok(2)]);
}

#[test]
fn a_fenced_stopping_or_offline_replica_does_not_join() {
    let mut world = world();
    alter(&mut world, &[1, 2]);
    let topic_id = world.image.topic_by_name("a").unwrap().id;
    let mut fenced = wanted(&world, &[1, 2, 3]);
    fence(&mut world, 3);
    refused(&mut world, fenced.clone(), ErrorCode::IneligibleReplica);
    let heartbeat = |world: &World, want_shut_down| {
        Request::Heartbeat(Heartbeat {
            broker_id: BrokerId(3),
            broker_epoch: epoch_of(world, 3),
            applied_index: 99,
            want_fence: false,
            want_shut_down,
            oldest_write_ms: Millis(0),
        })
    };
    let unfence = heartbeat(&world, false);
    world.grant(unfence);
    let offline = ReplicasOffline {
        broker_id: BrokerId(3),
        broker_epoch: epoch_of(&world, 3),
        partitions: vec![(topic_id, PartitionIndex(0))],
    };
    world.grant(Request::ReplicasOffline(offline));
    fenced.partition_epoch = world.partition("a", 0).partition_epoch;
    refused(&mut world, fenced, ErrorCode::IneligibleReplica);
    let stop = heartbeat(&world, true);
    world.grant(stop);
    let stopping = wanted(&world, &[1, 2, 3]);
    refused(&mut world, stopping, ErrorCode::IneligibleReplica);
}

#[test]
fn an_isr_is_a_set_of_replicas_with_the_leader_among_it() {
    let mut world = World::new(crate::testing::image_of_brokers(4));
    world.grant(Request::CreateTopics(CreateTopics {
        topics: vec![crate::NewTopic {
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![(PartitionIndex(0), ids(&[1, 2, 3]))],
            ..topic("a", 1, 1)
        }],
        validate_only: false,
    }));
    for isr in [&[][..], &[2, 3], &[1, 1], &[1, 4]] {
        let wanted = wanted(&world, isr);
        refused(&mut world, wanted, ErrorCode::InvalidRequest);
    }
}

#[test]
fn what_was_deleted_is_not_changed() {
    let mut world = world();
    let mut unknown = wanted(&world, &[1]);
    unknown.partition = PartitionIndex(1);
    refused(
        &mut world,
        unknown.clone(),
        ErrorCode::UnknownTopicOrPartition,
    );
    unknown.topic_id = skein_types::Uuid([9; 16]);
    refused(&mut world, unknown, ErrorCode::UnknownTopicId);
}

#[test]
fn nobody_is_in_sync_with_a_leader_that_has_not_recovered() {
    let mut world = world();
    let mut recovering = wanted(&world, &[1]);
    recovering.leader_recovery_state = LeaderRecoveryState::Recovering;
    refused(&mut world, recovering, ErrorCode::InvalidRequest);
    let mut partition = world.partition("a", 0);
    partition.leader_recovery_state = LeaderRecoveryState::Recovering;
    partition.isr = ids(&[1]);
    partition.partition_epoch = PartitionEpoch(1);
    let topic_id = world.image.topic_by_name("a").unwrap().id;
    world.apply_records(vec![Record::Partition {
        topic_id,
        index: PartitionIndex(0),
        partition,
    }]);
    let mut two = wanted(&world, &[1, 2]);
    two.leader_recovery_state = LeaderRecoveryState::Recovering;
    refused(&mut world, two, ErrorCode::InvalidRequest);
    alter(&mut world, &[1, 2]);
    let state = world.partition("a", 0).leader_recovery_state;
    assert_eq!(state, LeaderRecoveryState::Recovered);
}

#[test]
fn a_request_is_bounded() {
    let mut world = world();
    let request = AlterPartition {
        broker_id: BrokerId(1),
        broker_epoch: epoch_of(&world, 1),
        partitions: vec![wanted(&world, &[1]); ALTERATIONS_PER_REQUEST_MAX + 1],
    };
    let code = world.refuse(Request::AlterPartition(request));
    assert_eq!(code, ErrorCode::InvalidRequest);
}

/// The controller has just heard these.
fn hear(world: &mut World, ids: &[i32]) {
    for id in ids {
        let epoch = epoch_of(world, *id);
        let now = world.now;
        world.sessions.touch(BrokerId(*id), epoch, now);
    }
}

#[test]
fn a_leader_that_reaches_too_few_gives_way_to_one_whom_the_controller_hears() {
    let mut world = world();
    hear(&mut world, &[1, 3]);
    alter(&mut world, &[1, 3]);
    let before = world.partition("a", 0);
    let shrunk = wanted(&world, &[1]);
    let asked = ask(&mut world, vec![shrunk]);
    assert_eq!(asked, [Err(ErrorCode::NewLeaderElected)]);
    let after = world.partition("a", 0);
    assert_eq!(after.leader, BrokerId(3));
    assert_eq!(after.isr, ids(&[1, 3]), "it has yet to see who follows it");
    assert_eq!(after.leader_epoch.get(), before.leader_epoch.get() + 1);
}

#[test]
fn who_is_silent_or_fenced_is_given_no_leadership() {
    let mut world = world();
    hear(&mut world, &[1, 2, 3]);
    world.now = Millis(2_000);
    alter(&mut world, &[1]);
    assert_eq!(world.partition("a", 0).leader, BrokerId(1));
}

#[test]
fn above_min_isr_a_leader_shrinks_whom_it_wants() {
    let mut world = world();
    hear(&mut world, &[1, 2, 3]);
    alter(&mut world, &[1, 2]);
    assert_eq!(world.partition("a", 0).leader, BrokerId(1));
}

#[test]
fn a_leadership_is_handed_over_once_in_a_session() {
    let mut world = world();
    hear(&mut world, &[1, 2, 3]);
    let partition = (
        world.image.topic_by_name("a").unwrap().id,
        PartitionIndex(0),
    );
    world.sessions.handed_over(partition, Millis(0));
    world.now = Millis(1_999);
    alter(&mut world, &[1]);
    assert_eq!(world.partition("a", 0).leader, BrokerId(1));
    assert!(!world.sessions.may_hand_over(partition, Millis(1_999)));
    assert!(world.sessions.may_hand_over(partition, Millis(2_000)));
}
