//! Rules of AlterConfigs and IncrementalAlterConfigs, one test each.

use super::*;
use crate::Request;
use crate::testing::{self, World, topic};
use skein_types::TopicName;

fn set(key: &str, value: &str) -> (String, i8, Option<String>) {
    (key.into(), 0, Some(value.into()))
}

#[track_caller]
fn check(
    world: &mut World,
    resource_type: i8,
    name: &str,
    changes: &[(String, i8, Option<String>)],
    expected: ErrorCode,
) {
    let change = |(key, operation, value): &(String, i8, Option<String>)| KeyAlteration {
        key: key.clone(),
        operation: *operation,
        value: value.clone(),
    };
    let alterations = changes.iter().map(change).collect();
    let resource = ResourceChange {
        resource_type,
        name: name.into(),
        change: ConfigChange::Keys(alterations),
    };
    let request = AlterConfigs {
        resources: vec![resource],
        validate_only: false,
    };
    let response = world.grant(Request::AlterConfigs(request));
    let Response::AlterConfigs(results) = response else {
        panic!("{response:?}")
    };
    assert_eq!(
        testing::code(&results[0].result),
        expected,
        "{:?}",
        results[0].result
    );
}

fn value(world: &World, key: &str) -> Option<String> {
    let resource = ConfigResource::topic(&TopicName::new("a").unwrap());
    world.image.config_value(&resource, key).map(str::to_owned)
}

#[test]
fn keys_are_set_deleted_appended_and_subtracted() {
    let mut world = World::with_topics(1, &["a"]);
    check(
        &mut world,
        2,
        "a",
        &[set("retention.ms", "5")],
        ErrorCode::None,
    );
    assert_eq!(value(&world, "retention.ms").as_deref(), Some("5"));
    let append = ("cleanup.policy".into(), 2, Some("compact".into()));
    check(&mut world, 2, "a", &[append], ErrorCode::None);
    assert_eq!(
        value(&world, "cleanup.policy").as_deref(),
        Some("delete,compact")
    );
    let subtract = ("cleanup.policy".into(), 3, Some("delete".into()));
    check(&mut world, 2, "a", &[subtract], ErrorCode::None);
    assert_eq!(value(&world, "cleanup.policy").as_deref(), Some("compact"));
    check(
        &mut world,
        2,
        "a",
        &[("retention.ms".into(), 1, None)],
        ErrorCode::None,
    );
    assert_eq!(value(&world, "retention.ms"), None);
}

#[test]
fn a_resource_changes_whole_or_not_at_all() {
    let mut world = World::with_topics(1, &["a"]);
    let changes = [set("retention.ms", "5"), set("segment.bytes", "no number")];
    check(&mut world, 2, "a", &changes, ErrorCode::InvalidConfig);
    assert_eq!(value(&world, "retention.ms"), None);
}

#[test]
fn records_are_redacted_only_of_partitions_that_there_are() {
    let mut world = World::with_topics(1, &["a"]);
    let append = |items: &str| [("redacted.records".into(), 2, Some(items.into()))];
    check(&mut world, 2, "a", &append("0:7"), ErrorCode::None);
    check(&mut world, 2, "a", &append("1:7"), ErrorCode::InvalidConfig);
    let mixed = append("0:8,1:7");
    check(&mut world, 2, "a", &mixed, ErrorCode::InvalidConfig);
    assert_eq!(value(&world, "redacted.records").as_deref(), Some("0:7"));
    let create = |count| {
        let mut topic = topic(&format!("with-{count}"), count, 1);
        topic.configs = vec![("redacted.records".into(), Some("1:0".into()))];
        crate::CreateTopics {
            topics: vec![topic],
            validate_only: false,
        }
    };
    for (count, expected) in [(1, ErrorCode::InvalidConfig), (2, ErrorCode::None)] {
        let response = world.grant(Request::CreateTopics(create(count)));
        let Response::CreateTopics(results) = response else {
            panic!("{response:?}")
        };
        assert_eq!(testing::code(&results[0].result), expected);
    }
}

#[test]
fn what_is_not_there_or_not_known_is_refused() {
    let mut world = World::with_topics(1, &["a"]);
    let good = [set("retention.ms", "5")];
    check(
        &mut world,
        2,
        "b",
        &good,
        ErrorCode::UnknownTopicOrPartition,
    );
    check(&mut world, 99, "a", &good, ErrorCode::InvalidRequest);
    check(&mut world, 4, "x", &good, ErrorCode::InvalidRequest);
    check(
        &mut world,
        4,
        "7",
        &[set("log.retention.ms", "5")],
        ErrorCode::InvalidRequest,
    );
    let unknown_operation = ("retention.ms".into(), 9, Some("5".into()));
    check(
        &mut world,
        2,
        "a",
        &[unknown_operation],
        ErrorCode::InvalidRequest,
    );
    let twice = [good[0].clone(), good[0].clone()];
    check(&mut world, 2, "a", &twice, ErrorCode::InvalidRequest);
    check(
        &mut world,
        2,
        "a",
        &[("retention.ms".into(), 0, None)],
        ErrorCode::InvalidRequest,
    );
}

#[test]
fn a_default_for_all_brokers_counts_at_once() {
    let mut world = World::of_brokers(1);
    check(
        &mut world,
        4,
        "",
        &[set("min.insync.replicas", "1")],
        ErrorCode::None,
    );
    check(
        &mut world,
        4,
        "1",
        &[set("min.insync.replicas", "1")],
        ErrorCode::None,
    );
    assert_eq!(world.image.config_resources().count(), 2);
}

#[test]
fn a_smaller_min_isr_empties_the_elr_in_the_same_entry() {
    let mut world = World::of_brokers(3);
    let create = crate::CreateTopics {
        topics: vec![topic("a", 1, 3)],
        validate_only: false,
    };
    world.grant(Request::CreateTopics(create));
    for broker in [1, 2] {
        let epoch = world.image.broker(BrokerId(broker)).unwrap().epoch;
        let brokers = vec![(BrokerId(broker), epoch)];
        world.grant(Request::FenceBrokers(crate::FenceBrokers { brokers }));
    }
    assert_eq!(world.partition("a", 0).elr, [BrokerId(2)]);
    check(
        &mut world,
        2,
        "a",
        &[set("min.insync.replicas", "2")],
        ErrorCode::None,
    );
    assert_eq!(
        world.partition("a", 0).elr,
        [BrokerId(2)],
        "2 was the default"
    );
    check(
        &mut world,
        2,
        "a",
        &[set("min.insync.replicas", "1")],
        ErrorCode::None,
    );
    assert_eq!(world.partition("a", 0).elr, []);
}

#[test]
fn validation_changes_nothing() {
    let mut world = World::with_topics(1, &["a"]);
    let alterations = vec![KeyAlteration {
        key: "retention.ms".into(),
        operation: 0,
        value: Some("5".into()),
    }];
    let resource = ResourceChange {
        resource_type: 2,
        name: "a".into(),
        change: ConfigChange::Keys(alterations),
    };
    let request = AlterConfigs {
        resources: vec![resource.clone()],
        validate_only: true,
    };
    world.grant(Request::AlterConfigs(request));
    assert_eq!(value(&world, "retention.ms"), None);
    let resources = vec![resource.clone(), resource];
    let request = AlterConfigs {
        resources,
        validate_only: false,
    };
    let response = world.grant(Request::AlterConfigs(request));
    let Response::AlterConfigs(results) = response else {
        panic!("{response:?}")
    };
    assert_eq!(
        testing::code(&results[1].result),
        ErrorCode::InvalidRequest,
        "named twice"
    );
}

#[test]
fn groups_are_there_once_something_is_set_of_them() {
    const GROUP: i8 = ResourceType::Group.code();
    let mut world = World::of_brokers(1);
    let session = |value: &str| [set("consumer.session.timeout.ms", value)];
    check(
        &mut world,
        GROUP,
        "g",
        &session("1"),
        ErrorCode::InvalidConfig,
    );
    check(
        &mut world,
        GROUP,
        "",
        &session("50000"),
        ErrorCode::InvalidRequest,
    );
    let of_topics = [set("retention.ms", "1")];
    check(&mut world, GROUP, "g", &of_topics, ErrorCode::InvalidConfig);
    assert_eq!(world.image.config_resources().count(), 0);
    check(&mut world, GROUP, "g", &session("50000"), ErrorCode::None);
    assert_eq!(world.image.config_resources().count(), 1);
    let delete = [("consumer.session.timeout.ms".to_owned(), 1, None)];
    check(&mut world, GROUP, "g", &delete, ErrorCode::None);
    assert_eq!(world.image.config_resources().count(), 0);
    let of_metrics = [set("interval.ms", "1000")];
    let metrics = ResourceType::ClientMetrics.code();
    check(
        &mut world,
        metrics,
        "m",
        &of_metrics,
        ErrorCode::InvalidRequest,
    );
}
