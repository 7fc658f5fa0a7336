//! Impossible configurations, on each of the ways on which one can come.
//!
//! Input: keys and values that nobody takes, in CreateTopics, AlterConfigs and
//! IncrementalAlterConfigs. Output: Kafka's codes, alike on all ways; nothing is changed.

use skein_tests::wire::{Frame, api, error};
use skein_tests::{System, on_both};

use super::configs::replace;
use super::{APPEND, SET, SUBTRACT, alter, assert_serves, connect, create};

on_both!(
    topics_refuse_what_is_impossible_on_every_way,
    brokers_refuse_what_is_impossible_on_every_way,
    only_lists_are_appended_to_and_subtracted_from,
);

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// What no topic takes.
const OF_TOPICS: [(&str, &str); 22] = [
    // No key, and none of a topic.
    ("", "1"),
    ("no.such.key", "1"),
    ("log.retention.ms", "1000"),
    ("num.partitions", "3"),
    // Of another type.
    ("retention.ms", "soon"),
    ("retention.ms", ""),
    ("retention.ms", "9223372036854775808"),
    ("segment.bytes", "1048576.5"),
    ("max.message.bytes", "2147483648"),
    ("min.cleanable.dirty.ratio", "half"),
    ("preallocate", "maybe"),
    // Out of range.
    ("retention.ms", "-2"),
    ("segment.bytes", "0"),
    ("max.message.bytes", "-1"),
    ("min.insync.replicas", "0"),
    ("min.cleanable.dirty.ratio", "1.1"),
    ("segment.index.bytes", "3"),
    ("file.delete.delay.ms", "-1"),
    // None of the words.
    ("cleanup.policy", "delete,shred"),
    ("compression.type", "rar"),
    ("message.timestamp.type", "Never"),
    ("unclean.leader.election.enable", "2"),
];

/// What no broker takes while it runs.
const OF_BROKERS: [(&str, &str); 14] = [
    // At start only.
    ("num.partitions", "3"),
    ("node.id", "7"),
    ("log.dirs", "/elsewhere"),
    ("listeners", "PLAINTEXT://127.0.0.1:1"),
    // Of another type.
    ("log.retention.ms", "soon"),
    ("max.connections", "many"),
    ("log.preallocate", "maybe"),
    // Out of range.
    ("message.max.bytes", "-1"),
    ("log.segment.bytes", "1"),
    ("max.connections", "-1"),
    ("log.index.interval.bytes", "-1"),
    ("log.cleaner.min.cleanable.ratio", "2"),
    // None of the words.
    ("log.cleanup.policy", "shred"),
    ("log.message.timestamp.type", "Never"),
];

/// The keys that are set of a resource while it is there, DescribeConfigs version 1. Kafka sets one
/// by itself.
fn set_keys(at: System, kind: i8, name: &str) -> Vec<String> {
    const DEFAULT: i8 = 5;
    const STATIC: i8 = 4;
    let body = Frame::new().i32(1).i8(kind).string(name).i32(-1).i8(0);
    let mut answer = connect(at).call(api::DESCRIBE_CONFIGS, 1, &body).unwrap();
    answer.i32();
    assert_eq!((answer.i32(), answer.i16()), (1, error::NONE));
    answer.string();
    answer.i8();
    answer.string();
    let count = answer.i32();
    let entries = (0..count).map(|_| {
        let (name, _) = (answer.string().unwrap(), answer.string());
        answer.i8();
        let source = answer.i8();
        answer.i8();
        assert_eq!(answer.i32(), 0, "no synonyms");
        (name, source)
    });
    let set = entries.filter(|(_, source)| ![DEFAULT, STATIC].contains(source));
    set.map(|(name, _)| name).collect()
}

fn topics_refuse_what_is_impossible_on_every_way(system: System) {
    let topic = &create(system, &[]);
    let connection = &mut connect(system);
    let before = set_keys(system, TOPIC, topic);
    for (key, value) in OF_TOPICS {
        let created = connection
            .create_topic("raw-impossible", 1, &[(key, value)])
            .unwrap();
        let replaced = replace(system, TOPIC, topic, &[(key, Some(value))], false);
        let altered = alter(connection, TOPIC, topic, key, SET, Some(value));
        let codes = [created, replaced, altered];
        assert_eq!(codes, [error::INVALID_CONFIG; 3], "{key}={value}");
    }
    assert_eq!(set_keys(system, TOPIC, topic), before);
    let made = connection.create_topic("raw-impossible", 1, &[]).unwrap();
    assert_eq!(made, error::NONE, "it was not there before");
    assert_serves(system);
}

fn brokers_refuse_what_is_impossible_on_every_way(system: System) {
    let connection = &mut connect(system);
    for name in ["1", ""] {
        let before = set_keys(system, BROKER, name);
        for (key, value) in OF_BROKERS {
            let replaced = replace(system, BROKER, name, &[(key, Some(value))], false);
            let altered = alter(connection, BROKER, name, key, SET, Some(value));
            let codes = [replaced, altered];
            assert_eq!(
                codes,
                [error::INVALID_REQUEST; 2],
                "{name:?}: {key}={value}"
            );
        }
        assert_eq!(set_keys(system, BROKER, name), before);
    }
    assert_serves(system);
}

fn only_lists_are_appended_to_and_subtracted_from(system: System) {
    let topic = &create(system, &[]);
    let connection = &mut connect(system);
    let set = || {
        let resources = [(TOPIC, topic.as_str()), (BROKER, "1"), (BROKER, "")];
        resources.map(|(kind, name)| set_keys(system, kind, name))
    };
    let before = set();
    for operation in [APPEND, SUBTRACT] {
        for (kind, name, key, value) in [
            (TOPIC, topic.as_str(), "retention.ms", "1000"),
            (TOPIC, topic, "compression.type", "zstd"),
            (TOPIC, topic, "preallocate", "true"),
            (BROKER, "1", "log.retention.ms", "1000"),
            (BROKER, "", "log.retention.ms", "1000"),
            (
                BROKER,
                "1",
                "max.connections.per.ip.overrides",
                "127.0.0.1:99",
            ),
        ] {
            let code = alter(connection, kind, name, key, operation, Some(value));
            assert_eq!(code, error::INVALID_CONFIG, "{name:?}: {key}, {operation}");
        }
    }
    assert_eq!(set(), before);
}
