//! Configurations as wholes, and of running brokers.
//!
//! Input: AlterConfigs, IncrementalAlterConfigs. Output: Kafka's codes; what is set is in effect
//! without a restart and after one.

use std::thread::sleep;
use std::time::Duration;

use skein_tests::wire::{Batch, Connection, Frame, api, error};
use skein_tests::{Node, System, on_both};

use super::{DELETE, SET, alter, assert_serves, connect, create, until};

on_both!(
    a_whole_configuration_takes_the_place_of_another,
    whole_configurations_are_refused_with_kafkas_codes,
    settings_of_brokers_count_at_once_and_after_a_restart,
    resources_are_listed_by_their_kinds,
);

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

pub(super) type Configs<'a> = &'a [(&'a str, Option<&'a str>)];

/// AlterConfigs of one resource, version 1: the error code.
pub(super) fn replace(
    at: System,
    kind: i8,
    name: &str,
    configs: Configs<'_>,
    validate_only: bool,
) -> i16 {
    let count = i32::try_from(configs.len()).unwrap();
    let mut body = Frame::new().i32(1).i8(kind).string(name).i32(count);
    for (key, value) in configs {
        body = body.string(key).nullable_string(*value);
    }
    let body = body.i8(i8::from(validate_only));
    let mut answer = connect(at).call(api::ALTER_CONFIGS, 1, &body).unwrap();
    answer.i32();
    assert_eq!(answer.i32(), 1, "resources");
    let code = answer.i16();
    assert_eq!(answer.string().is_none(), code == error::NONE, "a message");
    assert_eq!(
        (answer.i8(), answer.string().as_deref()),
        (kind, Some(name))
    );
    assert_eq!(answer.remaining(), 0);
    code
}

/// The values of some keys of a topic, and whether the topic itself sets them.
fn described(at: System, topic: &str, keys: &[&str]) -> Vec<(String, Option<String>, bool)> {
    const DYNAMIC_TOPIC_CONFIG: i8 = 1;
    let count = i32::try_from(keys.len()).unwrap();
    let mut body = Frame::new().i32(1).i8(TOPIC).string(topic).i32(count);
    for key in keys {
        body = body.string(key);
    }
    let mut answer = connect(at)
        .call(api::DESCRIBE_CONFIGS, 1, &body.i8(0))
        .unwrap();
    answer.i32();
    assert_eq!((answer.i32(), answer.i16()), (1, error::NONE));
    answer.string();
    answer.i8();
    answer.string();
    let count = answer.i32();
    let mut found: Vec<_> = (0..count)
        .map(|_| {
            let (name, value) = (answer.string().unwrap(), answer.string());
            answer.i8();
            let source = answer.i8();
            answer.i8();
            assert_eq!(answer.i32(), 0, "no synonyms");
            (name, value, source == DYNAMIC_TOPIC_CONFIG)
        })
        .collect();
    found.sort();
    found
}

fn a_whole_configuration_takes_the_place_of_another(system: System) {
    let topic = &create(system, &[("segment.ms", "86400000")]);
    let describe = || {
        described(
            system,
            topic,
            &["max.message.bytes", "retention.ms", "segment.ms"],
        )
    };
    let is = |size: (&str, bool), retention: (&str, bool), segment: (&str, bool)| {
        let of =
            |key: &str, (value, own): (&str, bool)| (key.to_owned(), Some(value.to_owned()), own);
        vec![
            of("max.message.bytes", size),
            of("retention.ms", retention),
            of("segment.ms", segment),
        ]
    };
    let set: Configs<'_> = &[
        ("retention.ms", Some("1000")),
        ("max.message.bytes", Some("2000")),
    ];
    let before = describe();
    assert_eq!(replace(system, TOPIC, topic, set, true), error::NONE);
    sleep(Duration::from_millis(200));
    assert_eq!(describe(), before, "only looked");
    assert_eq!(replace(system, TOPIC, topic, set, false), error::NONE);
    let expected = is(("2000", true), ("1000", true), ("604800000", false));
    until("the topic has the new configuration", || {
        describe() == expected
    });
    let set: Configs<'_> = &[("retention.ms", Some("3000"))];
    assert_eq!(replace(system, TOPIC, topic, set, false), error::NONE);
    let expected = is(("1048588", false), ("3000", true), ("604800000", false));
    until("one key is left", || describe() == expected);
    assert_eq!(replace(system, TOPIC, topic, &[], false), error::NONE);
    let expected = is(
        ("1048588", false),
        ("604800000", false),
        ("604800000", false),
    );
    until("nothing is set", || describe() == expected);
    let nothing = Frame::new().i32(0).i8(0);
    let mut answer = connect(system)
        .call(api::ALTER_CONFIGS, 0, &nothing)
        .unwrap();
    assert_eq!((answer.i32(), answer.i32()), (0, 0));
}

fn whole_configurations_are_refused_with_kafkas_codes(system: System) {
    let topic = &create(system, &[]);
    let (invalid, bad_request) = (error::INVALID_CONFIG, error::INVALID_REQUEST);
    let refused: [(Configs<'_>, i16); 5] = [
        (&[("no.such.key", Some("1"))], invalid),
        (&[("retention.ms", Some("x"))], invalid),
        (&[("retention.ms", Some("-5"))], invalid),
        (&[("retention.ms", None)], bad_request),
        (
            &[("retention.ms", Some("1")), ("retention.ms", Some("2"))],
            bad_request,
        ),
    ];
    for (configs, code) in refused {
        assert_eq!(
            replace(system, TOPIC, topic, configs, false),
            code,
            "{configs:?}"
        );
    }
    let one: Configs<'_> = &[("retention.ms", Some("1"))];
    for configs in [one, &[]] {
        let of = |kind, name| replace(system, kind, name, configs, false);
        assert_eq!(of(TOPIC, "raw-absent"), error::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(of(TOPIC, "a/b"), error::INVALID_TOPIC_EXCEPTION);
        for (kind, name) in [
            (TOPIC, ""),
            (BROKER, "77"),
            (BROKER, "x"),
            (BROKER_LOGGER, "1"),
            (0, "x"),
            (99, "x"),
        ] {
            assert_eq!(of(kind, name), bad_request, "{kind} {name:?}");
        }
    }
    let of_broker = |name, configs| replace(system, BROKER, name, configs, true);
    assert_eq!(
        of_broker("1", &[("log.retention.ms", Some("1"))]),
        error::NONE
    );
    for name in ["1", ""] {
        let refused: [Configs<'_>; 4] = [
            &[("num.partitions", Some("3"))],
            &[("log.retention.ms", Some("x"))],
            &[("log.retention.ms", None)],
            &[
                ("log.retention.ms", Some("1")),
                ("log.retention.ms", Some("1")),
            ],
        ];
        for configs in refused {
            assert_eq!(
                of_broker(name, configs),
                bad_request,
                "{name:?} {configs:?}"
            );
        }
    }
    assert_serves(system);
}

/// Sets a key of one broker, or of all, or deletes it.
fn alter_broker(node: &Node, name: &str, key: &str, value: Option<&str>) {
    let operation = if value.is_some() { SET } else { DELETE };
    let code = alter(&mut open(node), BROKER, name, key, operation, value);
    assert_eq!(code, error::NONE, "{key}={value:?}");
}

fn open(node: &Node) -> Connection {
    Connection::open(node.ports().client).unwrap()
}

fn settings_of_brokers_count_at_once_and_after_a_restart(system: System) {
    const KEY: &str = "message.max.bytes";
    let mut node = Node::start(system, &[]);
    assert_eq!(open(&node).create_topic("t", 1, &[]).unwrap(), error::NONE);
    let produce = |node: &Node, bytes: usize| {
        let batch = Batch::of(["x".repeat(bytes)]).encode();
        open(node).produce("t", 0, &batch).unwrap().error_code
    };
    until("the topic is served", || produce(&node, 10) == error::NONE);
    assert_eq!(produce(&node, 3000), error::NONE);
    let too_large = error::MESSAGE_TOO_LARGE;
    alter_broker(&node, "", KEY, Some("2000"));
    until("the limit of all brokers counts", || {
        produce(&node, 3000) == too_large
    });
    assert_eq!(produce(&node, 1500), error::NONE);
    alter_broker(&node, "1", KEY, Some("1000"));
    until("that of the broker goes first", || {
        produce(&node, 1500) == too_large
    });
    node.kill();
    node.start_again();
    until("the topic is served", || produce(&node, 10) == error::NONE);
    until("it holds for the next process", || {
        produce(&node, 1500) == too_large
    });
    alter_broker(&node, "1", KEY, None);
    until("then that of all counts", || {
        produce(&node, 1500) == error::NONE
    });
    assert_eq!(produce(&node, 3000), too_large);
    alter_broker(&node, "", KEY, None);
    until("then the default", || produce(&node, 3000) == error::NONE);
}

/// Lists resources, version 1: error code, kinds and names.
fn listed(at: System, kinds: &[i8]) -> (i16, Vec<(i8, String)>) {
    // Flexible versions have tags in the header, behind the client's name.
    let mut body = Frame::new().uvarint(0).compact_length(kinds.len());
    for kind in kinds {
        body = body.i8(*kind);
    }
    let api_key = api::LIST_CONFIG_RESOURCES;
    let mut answer = connect(at).call(api_key, 1, &body.uvarint(0)).unwrap();
    answer.tags();
    answer.i32();
    let code = answer.i16();
    let count = answer.compact_length();
    let mut found: Vec<_> = (0..count)
        .map(|_| {
            let name = answer.compact_string().unwrap();
            let kind = answer.i8();
            answer.tags();
            (kind, name)
        })
        .collect();
    answer.tags();
    assert_eq!(answer.remaining(), 0);
    found.sort();
    (code, found)
}

fn resources_are_listed_by_their_kinds(system: System) {
    let topic = create(system, &[]);
    let of = |kind, name: &str| (kind, name.to_owned());
    assert_eq!(
        listed(system, &[BROKER]),
        (error::NONE, vec![of(BROKER, "1")])
    );
    let loggers = vec![of(BROKER_LOGGER, "1")];
    assert_eq!(
        listed(system, &[BROKER_LOGGER, BROKER_LOGGER]),
        (error::NONE, loggers)
    );
    let (code, topics) = listed(system, &[TOPIC]);
    assert!(
        code == error::NONE && topics.contains(&of(TOPIC, &topic)),
        "{topics:?}"
    );
    let (code, all) = listed(system, &[]);
    assert_eq!(code, error::NONE);
    for one in [of(TOPIC, &topic), of(BROKER, "1"), of(BROKER_LOGGER, "1")] {
        assert!(all.contains(&one), "{one:?} in {all:?}");
    }
    for unknown in [0, 1, 99, -1] {
        assert_eq!(
            listed(system, &[TOPIC, unknown]),
            (error::UNSUPPORTED_VERSION, vec![])
        );
    }
    // In version 0 it was about client metrics only, of which nothing is set.
    let body = Frame::new().uvarint(0).uvarint(0);
    let api_key = api::LIST_CONFIG_RESOURCES;
    let mut answer = connect(system).call(api_key, 0, &body).unwrap();
    answer.tags();
    assert_eq!((answer.i32(), answer.i16()), (0, error::NONE));
    assert_eq!(answer.compact_length(), 0);
}
