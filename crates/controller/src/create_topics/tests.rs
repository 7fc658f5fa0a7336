//! Rules of CreateTopics, one test each.

use super::*;
use crate::Request;
use crate::testing::{self, World, topic};

fn create(world: &mut World, topics: Vec<NewTopic>) -> Vec<CreateTopicsResult> {
    let request = CreateTopics {
        topics,
        validate_only: false,
    };
    match world.grant(Request::CreateTopics(request)) {
        Response::CreateTopics(results) => results,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check(world: &mut World, topic: NewTopic, expected: ErrorCode) {
    let results = create(world, vec![topic]);
    assert_eq!(
        testing::code(&results[0].result),
        expected,
        "{:?}",
        results[0].result
    );
    let exists = world.image.topic_by_name(&results[0].name).is_some();
    assert!(expected != ErrorCode::None || exists);
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> NewTopic {
    let ids = |list: &[i32]| list.iter().copied().map(BrokerId).collect();
    let assignments = assignments
        .iter()
        .map(|(index, list)| (PartitionIndex(*index), ids(list)))
        .collect();
    NewTopic {
        assignments,
        ..topic(name, -1, -1)
    }
}

#[test]
fn numbers_are_positive_or_the_default() {
    let mut world = World::of_brokers(3);
    check(&mut world, topic("a", 0, 1), ErrorCode::InvalidPartitions);
    check(&mut world, topic("a", -2, 1), ErrorCode::InvalidPartitions);
    check(
        &mut world,
        topic("a", 1, 0),
        ErrorCode::InvalidReplicationFactor,
    );
    check(
        &mut world,
        topic("a", 1, -2),
        ErrorCode::InvalidReplicationFactor,
    );
    check(
        &mut world,
        topic("a", 1, 4),
        ErrorCode::InvalidReplicationFactor,
    );
    check(&mut world, topic("a", -1, -1), ErrorCode::None);
    let created = world.image.topic_by_name("a").unwrap();
    assert_eq!(
        created.partitions.len(),
        world.config.topics.num_partitions as usize
    );
    assert_eq!(created.partitions[0].replicas.len(), 3, "min(3, brokers)");
    assert_eq!(created.partitions[0].isr.len(), 3);
    assert_eq!(
        created.partitions[0].leader,
        created.partitions[0].replicas[0]
    );
}

#[test]
fn names_are_legal_new_and_told_apart() {
    let mut world = World::of_brokers(1);
    for name in ["", ".", "..", "a/b", &"x".repeat(250)] {
        check(
            &mut world,
            topic(name, 1, 1),
            ErrorCode::InvalidTopicException,
        );
    }
    check(&mut world, topic("a.b", 1, 1), ErrorCode::None);
    check(
        &mut world,
        topic("a.b", 1, 1),
        ErrorCode::TopicAlreadyExists,
    );
    check(
        &mut world,
        topic("a_b", 1, 1),
        ErrorCode::InvalidTopicException,
    );
    let results = create(
        &mut world,
        vec![
            topic("x", 1, 1),
            topic("x", 1, 1),
            topic("c.d", 1, 1),
            topic("c_d", 1, 1),
        ],
    );
    let codes: Vec<_> = results
        .iter()
        .map(|topic| testing::code(&topic.result))
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
            ErrorCode::None,
            ErrorCode::InvalidTopicException
        ],
        "the rules hold within a request too"
    );
}

#[test]
fn one_refused_topic_does_not_stop_the_others() {
    let mut world = World::of_brokers(1);
    let results = create(&mut world, vec![topic("a", 0, 1), topic("b", 2, 1)]);
    assert_eq!(
        testing::code(&results[0].result),
        ErrorCode::InvalidPartitions
    );
    let created = results[1].result.as_ref().unwrap();
    assert_eq!((created.num_partitions, created.replication_factor), (2, 1));
    assert_eq!(world.image.topic_by_name("b").unwrap().id, created.topic_id);
    assert!(world.image.topic_by_name("a").is_none());
}

#[test]
fn assignments_are_checked() {
    let mut world = World::new(testing::image_of(&[(0, true), (0, true), (0, false)]));
    let invalid = ErrorCode::InvalidReplicaAssignment;
    check(&mut world, assigned("a", &[(0, &[])]), invalid);
    check(&mut world, assigned("a", &[(0, &[9])]), invalid);
    check(&mut world, assigned("a", &[(0, &[1, 1])]), invalid);
    check(
        &mut world,
        assigned("a", &[(0, &[1]), (1, &[1, 2])]),
        invalid,
    );
    check(&mut world, assigned("a", &[(0, &[1]), (2, &[2])]), invalid);
    check(&mut world, assigned("a", &[(0, &[1]), (0, &[2])]), invalid);
    check(&mut world, assigned("a", &[(1, &[1])]), invalid);
    check(&mut world, assigned("a", &[(0, &[3])]), invalid);
    let both = NewTopic {
        num_partitions: 1,
        ..assigned("a", &[(0, &[1])])
    };
    check(&mut world, both, ErrorCode::InvalidRequest);
    let both = NewTopic {
        replication_factor: 1,
        ..assigned("a", &[(0, &[1])])
    };
    check(&mut world, both, ErrorCode::InvalidRequest);
    check(
        &mut world,
        assigned("a", &[(1, &[2, 1]), (0, &[3, 1])]),
        ErrorCode::None,
    );
    let first = world.partition("a", 0);
    assert_eq!(
        (first.leader, first.isr),
        (BrokerId(1), vec![BrokerId(1)]),
        "3 is fenced"
    );
    assert_eq!(world.partition("a", 1).leader, BrokerId(2));
}

#[test]
fn configurations_pass_the_table_and_are_kept() {
    let mut world = World::of_brokers(1);
    let with = |key: &str, value: Option<&str>| NewTopic {
        configs: vec![(key.into(), value.map(str::to_owned))],
        ..topic("a", 1, 1)
    };
    check(
        &mut world,
        with("retentoin.ms", Some("1")),
        ErrorCode::InvalidConfig,
    );
    check(
        &mut world,
        with("retention.ms", Some("soon")),
        ErrorCode::InvalidConfig,
    );
    check(
        &mut world,
        with("retention.ms", None),
        ErrorCode::InvalidConfig,
    );
    check(
        &mut world,
        with("retention.ms", Some("60000")),
        ErrorCode::None,
    );
    let resource = ConfigResource::topic(&TopicName::new("a").unwrap());
    assert_eq!(
        world.image.config_value(&resource, "retention.ms"),
        Some("60000")
    );
}

#[test]
fn validation_answers_alike_and_creates_nothing() {
    let mut world = World::of_brokers(1);
    let topics = vec![topic("a", 3, 1), topic("b", 1, 9)];
    let request = CreateTopics {
        topics,
        validate_only: true,
    };
    let Response::CreateTopics(results) = world.grant(Request::CreateTopics(request)) else {
        panic!("another answer");
    };
    let created = results[0].result.as_ref().unwrap();
    assert_eq!(
        (created.num_partitions, created.topic_id),
        (3, TopicId::ZERO)
    );
    assert_eq!(
        testing::code(&results[1].result),
        ErrorCode::InvalidReplicationFactor
    );
    assert_eq!(world.image.topics().len(), 0);
}

#[test]
fn a_request_is_bounded() {
    let mut world = World::of_brokers(1);
    let topics = vec![topic("a", 6_000, 1), topic("b", 6_000, 1)];
    let request = CreateTopics {
        topics,
        validate_only: false,
    };
    assert_eq!(
        world.refuse(Request::CreateTopics(request)),
        ErrorCode::PolicyViolation
    );
    let topics = vec![topic("a", i32::MAX, 1), topic("b", i32::MAX, 1)];
    let request = CreateTopics {
        topics,
        validate_only: true,
    };
    assert_eq!(
        world.refuse(Request::CreateTopics(request)),
        ErrorCode::PolicyViolation
    );
}

#[test]
fn without_an_active_broker_nothing_is_created() {
    let mut world = World::new(testing::image_of(&[(0, false)]));
    check(
        &mut world,
        topic("a", 1, 1),
        ErrorCode::InvalidReplicationFactor,
    );
    let mut world = World::new(Image::new());
    check(
        &mut world,
        topic("a", 1, -1),
        ErrorCode::InvalidReplicationFactor,
    );
}
