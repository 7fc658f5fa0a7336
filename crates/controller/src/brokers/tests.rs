//! Rules of registration, heartbeats and fencing, one test each.

use super::*;
use crate::testing::{World, code, endpoint, image_of, topic};
use crate::{
    AlterPartition, BrokerRegistered, CreateTopics, PartitionAlteration, ProposedMember, Request,
    Sessions,
};
use skein_metadata::LeaderRecoveryState;
use skein_types::{Millis, PartitionIndex};

/// A registration of broker `id`'s process `process` on disk `raft_id`.
fn process(id: i32, process: u8, raft_id: u64) -> RegisterBroker {
    RegisterBroker {
        broker_id: Some(BrokerId(id)),
        cluster_id: None,
        incarnation: Uuid([process; 16]),
        raft_id,
        endpoints: vec![endpoint(9100)],
        rack: None,
        previous_epoch: BrokerEpoch::NONE,
        disk: DiskState::Unclean,
        ready: true,
    }
}

#[track_caller]
fn register(world: &mut World, request: RegisterBroker) -> BrokerRegistered {
    match world.grant(Request::RegisterBroker(request)) {
        Response::RegisterBroker(registered) => registered,
        other => panic!("{other:?}"),
    }
}

fn beat(world: &mut World, id: i32, want_fence: bool, want_shut_down: bool) -> HeartbeatAnswer {
    let heartbeat = Heartbeat {
        broker_id: BrokerId(id),
        broker_epoch: world.image.broker(BrokerId(id)).unwrap().epoch,
        applied_index: u64::MAX,
        want_fence,
        want_shut_down,
        oldest_write_ms: Millis(0),
    };
    match world.grant(Request::Heartbeat(heartbeat)) {
        Response::Heartbeat(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fenced_broker_that_a_new_controller_has_not_heard_makes_way_for_its_successor() {
    let mut world = World::new(image_of(&[(0, true), (1, false)]));
    world.sessions = Sessions::new(&world.image, world.now, Millis(1_000));
    let refused = ErrorCode::DuplicateBrokerRegistration;
    let successor = |id, raft_id| Request::RegisterBroker(process(id, 99, raft_id));
    assert_eq!(world.refuse(successor(1, 98)), refused, "it is not fenced");
    let given = world.sessions.clone();
    let epoch = world.image.broker(BrokerId(2)).unwrap().epoch;
    world.sessions.touch(BrokerId(2), epoch, world.now);
    assert_eq!(world.refuse(successor(2, 99)), refused, "it is alive");
    world.sessions = given;
    world.grant(successor(2, 99));
}

#[test]
fn a_second_process_waits_for_the_end_of_the_first_ones_session() {
    let mut world = World::of_brokers(1);
    let epoch = world.image.broker(BrokerId(1)).unwrap().epoch;
    world.sessions.touch(BrokerId(1), epoch, Millis(0));
    let other_disk = Request::RegisterBroker(process(1, 99, 99));
    assert_eq!(
        world.refuse(other_disk.clone()),
        ErrorCode::DuplicateBrokerRegistration
    );
    world.now = Millis(2_000);
    world.grant(other_disk);
}

#[test]
fn the_same_directory_is_proof_that_the_former_process_is_dead() {
    let mut world = World::of_brokers(1);
    let epoch = world.image.broker(BrokerId(1)).unwrap().epoch;
    world.sessions.touch(BrokerId(1), epoch, Millis(0));
    let registered = register(&mut world, process(1, 99, 1));
    assert!(registered.broker_epoch > epoch);
}

#[test]
fn a_lost_answer_is_given_again() {
    let mut world = World::of_brokers(1);
    let first = register(&mut world, process(1, 99, 1));
    let image = world.image.clone();
    assert_eq!(register(&mut world, process(1, 99, 1)), first);
    assert_eq!(world.image, image);
}

#[test]
fn an_id_is_kept_by_disk_then_by_address_else_the_lowest_free() {
    let mut world = World::of_brokers(2);
    let nameless = |process_byte, raft_id, port| RegisterBroker {
        broker_id: None,
        endpoints: vec![endpoint(port)],
        ..process(0, process_byte, raft_id)
    };
    assert_eq!(
        register(&mut world, nameless(50, 2, 1)).broker_id,
        BrokerId(2)
    );
    assert_eq!(
        register(&mut world, nameless(51, 77, 9001)).broker_id,
        BrokerId(1)
    );
    assert_eq!(
        register(&mut world, nameless(52, 78, 1234)).broker_id,
        BrokerId(3)
    );
}

#[test]
fn malformed_and_foreign_registrations_are_refused() {
    let mut world = World::of_brokers(1);
    world.apply_records(vec![Record::Cluster {
        cluster_id: Uuid([1; 16]).into(),
    }]);
    let refuse = |world: &mut World, request| world.refuse(Request::RegisterBroker(request));
    let mut request = process(1, 9, 9);
    request.cluster_id = Some(Uuid([2; 16]).into());
    assert_eq!(
        refuse(&mut world, request),
        ErrorCode::InconsistentClusterId
    );
    assert_eq!(
        refuse(&mut world, process(-1, 9, 9)),
        ErrorCode::InvalidRequest
    );
    let request = RegisterBroker {
        endpoints: vec![],
        ..process(1, 9, 9)
    };
    assert_eq!(refuse(&mut world, request), ErrorCode::InvalidRegistration);
}

#[test]
fn one_replica_is_led_again_in_the_entry_of_the_registration() {
    let mut world = World::with_topics(1, &["a"]);
    let epoch = world.image.broker(BrokerId(1)).unwrap().epoch;
    let before = world.partition("a", 0);
    let clean = RegisterBroker {
        previous_epoch: epoch,
        disk: DiskState::Clean,
        ..process(1, 9, 1)
    };
    register(&mut world, clean);
    let after = world.partition("a", 0);
    assert_eq!(after.leader, BrokerId(1));
    assert_eq!(after.leader_epoch.get(), before.leader_epoch.get() + 1);
    assert_eq!(after.leader_recovery_state, LeaderRecoveryState::Recovered);

    // A clean mark of an older epoch proves nothing about the last one.
    let stale = RegisterBroker {
        previous_epoch: epoch,
        disk: DiskState::Clean,
        ..process(1, 10, 1)
    };
    register(&mut world, stale);
    let after = world.partition("a", 0);
    assert_eq!(after.leader, BrokerId(1));
    assert_eq!(after.leader_recovery_state, LeaderRecoveryState::Recovering);
}

#[test]
fn another_disk_leads_nothing() {
    let mut world = World::with_topics(1, &["a"]);
    register(&mut world, process(1, 9, 55));
    let partition = world.partition("a", 0);
    assert_eq!(
        (partition.leader, partition.last_known),
        (BrokerId::NONE, vec![])
    );
}

#[test]
fn a_broker_that_is_not_ready_leads_from_its_first_heartbeat_on() {
    let mut world = World::with_topics(1, &["a"]);
    register(
        &mut world,
        RegisterBroker {
            ready: false,
            ..process(1, 9, 1)
        },
    );
    assert!(world.image.broker(BrokerId(1)).unwrap().fenced);
    assert_eq!(world.partition("a", 0).leader, BrokerId::NONE);
    let answer = beat(&mut world, 1, true, false);
    assert!(answer.is_fenced && !answer.should_shut_down);
    let answer = beat(&mut world, 1, false, false);
    assert!(!answer.is_fenced && answer.is_caught_up);
    assert_eq!(world.partition("a", 0).leader, BrokerId(1));
}

#[test]
fn a_stopping_broker_leads_nothing_and_may_go() {
    let mut world = World::with_topics(1, &["a"]);
    let answer = beat(&mut world, 1, false, true);
    assert!(answer.should_shut_down);
    let partition = world.partition("a", 0);
    assert_eq!(
        (partition.leader, partition.elr),
        (BrokerId::NONE, vec![BrokerId(1)])
    );
    assert!(
        beat(&mut world, 1, false, false).should_shut_down,
        "there is no way back"
    );
}

#[test]
fn a_stopping_broker_hands_over_to_a_member_and_joins_no_isr_again() {
    let mut world = World::of_brokers(3);
    world.grant(Request::CreateTopics(CreateTopics {
        topics: vec![topic("a", 3, 3)],
        validate_only: false,
    }));
    let before: Vec<_> = (0..3).map(|index| world.partition("a", index)).collect();
    assert!(beat(&mut world, 1, false, true).should_shut_down);
    for (index, before) in (0..).zip(before) {
        let after = world.partition("a", index);
        assert_eq!(
            after.isr,
            [BrokerId(2), BrokerId(3)],
            "two are enough: {after:?}"
        );
        assert_eq!(after.elr, []);
        let is_moved = before.leader == BrokerId(1);
        assert_eq!(
            after.leader_epoch.0,
            before.leader_epoch.0 + i32::from(is_moved)
        );
        assert!(after.isr.contains(&after.leader));
    }
    let partition = world.partition("a", 0);
    let leader = partition.leader;
    let member = |id: BrokerId| ProposedMember {
        broker_id: id,
        broker_epoch: BrokerEpoch(i64::from(id.0)),
    };
    let request = AlterPartition {
        broker_id: leader,
        broker_epoch: BrokerEpoch(i64::from(leader.0)),
        partitions: vec![PartitionAlteration {
            topic_id: world.image.topic_by_name("a").unwrap().id,
            partition: PartitionIndex(0),
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: vec![
                member(BrokerId(1)),
                member(BrokerId(2)),
                member(BrokerId(3)),
            ],
            leader_recovery_state: LeaderRecoveryState::Recovered,
        }],
    };
    let results = match world.grant(Request::AlterPartition(request)) {
        Response::AlterPartition(results) => results,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&results[0].result), ErrorCode::IneligibleReplica);
    // The one after it goes too: what is left is below min ISR, and nothing is lost.
    assert!(beat(&mut world, 2, false, true).should_shut_down);
    let after = world.partition("a", 0);
    assert_eq!((after.leader, after.elr), (BrokerId(3), vec![BrokerId(2)]));
}

#[test]
fn a_heartbeat_confirms_for_a_session_less_the_quorums_silence() {
    let mut world = World::of_brokers(2);
    assert_eq!(
        beat(&mut world, 1, false, false).leads_for_ms,
        Millis(2_000)
    );
    world.quorum_silence_ms = Millis(150);
    assert_eq!(
        beat(&mut world, 1, false, false).leads_for_ms,
        Millis(1_850)
    );
    world.quorum_silence_ms = Millis(i64::MAX);
    assert_eq!(beat(&mut world, 1, false, false).leads_for_ms, Millis(0));
    world.quorum_silence_ms = Millis(0);
    assert_eq!(
        beat(&mut world, 1, true, false).leads_for_ms,
        Millis(0),
        "it is fenced"
    );
}

#[test]
fn the_end_of_a_session_fences_only_that_registration() {
    let mut world = World::with_topics(2, &["a", "b", "c", "d"]);
    let epoch = world.image.broker(BrokerId(1)).unwrap().epoch;
    let stale = vec![
        (BrokerId(1), BrokerEpoch(epoch.get() - 1)),
        (BrokerId(7), epoch),
    ];
    let image = world.image.clone();
    world.grant(Request::FenceBrokers(FenceBrokers { brokers: stale }));
    assert_eq!(world.image, image);
    world.grant(Request::FenceBrokers(FenceBrokers {
        brokers: vec![(BrokerId(1), epoch)],
    }));
    assert!(world.image.broker(BrokerId(1)).unwrap().fenced);
    for topic in ["a", "b", "c", "d"] {
        assert_ne!(world.partition(topic, 0).leader, BrokerId(1));
    }
}

#[test]
fn a_stale_epoch_changes_nothing() {
    let mut world = World::of_brokers(1);
    let heartbeat = |id, epoch| {
        Request::Heartbeat(Heartbeat {
            broker_id: BrokerId(id),
            broker_epoch: BrokerEpoch(epoch),
            applied_index: 0,
            want_fence: true,
            want_shut_down: false,
            oldest_write_ms: Millis(0),
        })
    };
    assert_eq!(world.refuse(heartbeat(1, 0)), ErrorCode::StaleBrokerEpoch);
    assert_eq!(
        world.refuse(heartbeat(2, 1)),
        ErrorCode::BrokerIdNotRegistered
    );
}

#[test]
fn a_broker_whose_disk_hangs_for_a_session_leads_nothing_until_it_goes_on() {
    let mut world = World::of_brokers(3);
    world.grant(Request::CreateTopics(CreateTopics {
        topics: vec![topic("a", 3, 3)],
        validate_only: false,
    }));
    let mut beat = |oldest_write_ms: i64| {
        let heartbeat = Heartbeat {
            broker_id: BrokerId(1),
            broker_epoch: BrokerEpoch(1),
            applied_index: u64::MAX,
            want_fence: false,
            want_shut_down: false,
            oldest_write_ms: Millis(oldest_write_ms),
        };
        let answer = match world.grant(Request::Heartbeat(heartbeat)) {
            Response::Heartbeat(answer) => answer,
            other => panic!("{other:?}"),
        };
        let leads = (0..3).any(|index| world.partition("a", index).leader == BrokerId(1));
        (answer.is_fenced, answer.leads_for_ms.0 > 0, leads)
    };
    assert_eq!(beat(1_999), (false, true, true));
    assert_eq!(beat(2_000), (true, false, false));
    assert_eq!(beat(2_400), (true, false, false));
    assert_eq!(beat(0), (false, true, false));
}
