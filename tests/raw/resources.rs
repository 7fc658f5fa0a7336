//! Configurations of what is no topic and no broker: loggers, groups, client metrics.
//!
//! Input: IncrementalAlterConfigs, AlterConfigs, DescribeConfigs. Output: Kafka's codes, sources
//! and types; levels of loggers end with the process, settings of groups do not.

use skein_tests::wire::{Connection, Frame, api, error};
use skein_tests::{Node, System, on_both};

use super::{APPEND, DELETE, SET, alter, assert_serves, connect};

on_both!(
    levels_of_loggers_are_set_told_and_given_back,
    levels_of_loggers_end_with_the_process,
    levels_of_loggers_are_refused_with_kafkas_codes,
    settings_of_groups_are_kept_and_told_with_their_defaults,
    settings_of_groups_are_refused_with_kafkas_codes,
    resources_of_all_kinds_are_answered_in_the_order_of_the_request,
);

const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const OF_LOGGER: i8 = 6;
const OF_DEFAULT: i8 = 5;
const OF_GROUP: i8 = 8;

/// What DescribeConfigs tells of one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: String,
    value: Option<String>,
    source: i8,
    config_type: i8,
    /// Names, values, sources.
    synonyms: Vec<(String, Option<String>, i8)>,
}

impl Entry {
    fn value(&self) -> &str {
        self.value.as_deref().expect("a value")
    }
}

/// DescribeConfigs of one resource with synonyms, version 3: error code and entries.
fn describe(
    connection: &mut Connection,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> (i16, Vec<Entry>) {
    let body = Frame::new().i32(1).i8(kind).string(name);
    let count = keys.map_or(-1, |keys| i32::try_from(keys.len()).unwrap());
    let keys = keys.unwrap_or_default().iter();
    let body = keys.fold(body.i32(count), |body, key| body.string(key));
    let body = body.i8(1).i8(0);
    let mut answer = connection.call(api::DESCRIBE_CONFIGS, 3, &body).unwrap();
    answer.i32();
    assert_eq!(answer.i32(), 1, "resources");
    let code = answer.i16();
    let message = answer.string();
    assert_eq!(
        message.as_deref() == Some(""),
        code == error::NONE,
        "{message:?}"
    );
    assert_eq!(
        (answer.i8(), answer.string().as_deref()),
        (kind, Some(name))
    );
    let count = answer.i32();
    let mut entries: Vec<_> = (0..count)
        .map(|_| {
            let (name, value) = (answer.string().unwrap(), answer.string());
            assert_eq!(answer.i8(), 0, "it can be changed");
            let source = answer.i8();
            assert_eq!(answer.i8(), 0, "it is no secret");
            let count = answer.i32();
            let synonyms = (0..count)
                .map(|_| (answer.string().unwrap(), answer.string(), answer.i8()))
                .collect();
            let config_type = answer.i8();
            assert_eq!(answer.string().unwrap_or_default(), "", "no documentation");
            Entry {
                name,
                value,
                source,
                config_type,
                synonyms,
            }
        })
        .collect();
    assert_eq!(answer.remaining(), 0);
    entries.sort();
    (code, entries)
}

/// A logger that the system has beside its root.
fn logger_of(system: System) -> &'static str {
    match system {
        System::Kafka => "kafka",
        System::Skein => "skein_net",
    }
}

/// The levels of the root and the other logger.
fn levels(connection: &mut Connection, logger: &str) -> (String, String) {
    let (code, entries) = describe(connection, BROKER_LOGGER, "1", None);
    assert_eq!(code, error::NONE);
    let level = |name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name);
        let entry = entry.unwrap_or_else(|| panic!("no {name} in {entries:?}"));
        let of_loggers = (entry.source, entry.config_type, entry.synonyms.len());
        assert_eq!(of_loggers, (OF_LOGGER, 0, 0), "{entry:?}");
        entry.value().to_owned()
    };
    (level("root"), level(logger))
}

/// Changes the level of one logger, which nobody refuses.
fn change(connection: &mut Connection, name: &str, level: Option<&str>) {
    let operation = if level.is_some() { SET } else { DELETE };
    let code = alter(connection, BROKER_LOGGER, "1", name, operation, level);
    assert_eq!(code, error::NONE, "{name}: {level:?}");
}

fn levels_of_loggers_are_set_told_and_given_back(system: System) {
    let node = Node::start(system, &[]);
    let connection = &mut Connection::open(node.ports().client).unwrap();
    let logger = logger_of(system);
    let is = |connection: &mut _, root: &str, other: &str| {
        let told = levels(connection, logger);
        assert_eq!(told, (root.to_owned(), other.to_owned()));
    };
    is(connection, "INFO", "INFO");
    change(connection, logger, Some("WARN"));
    change(connection, "root", Some("ERROR"));
    is(connection, "ERROR", "WARN");
    let asked: &[&str] = &[logger, "absent"];
    let (code, entries) = describe(connection, BROKER_LOGGER, "1", Some(asked));
    assert_eq!((code, entries.len()), (error::NONE, 1));
    assert_eq!(entries[0].name, logger);
    change(connection, logger, None);
    is(connection, "ERROR", "ERROR");
}

fn levels_of_loggers_end_with_the_process(system: System) {
    let mut node = Node::start(system, &[]);
    let open = |node: &Node| Connection::open(node.ports().client).unwrap();
    let logger = logger_of(system);
    let before = levels(&mut open(&node), logger);
    change(&mut open(&node), logger, Some("TRACE"));
    assert_eq!(levels(&mut open(&node), logger).1, "TRACE");
    node.kill();
    node.start_again();
    assert_eq!(levels(&mut open(&node), logger), before);
}

fn levels_of_loggers_are_refused_with_kafkas_codes(system: System) {
    let connection = &mut connect(system);
    let logger = logger_of(system);
    let before = levels(connection, logger);
    let (bad_request, bad_config) = (error::INVALID_REQUEST, error::INVALID_CONFIG);
    let level = Some("DEBUG");
    for (name, operation, level, code) in [
        ("absent", SET, level, bad_config),
        ("absent", DELETE, None, bad_config),
        (logger, SET, Some("debug"), bad_config),
        (logger, SET, Some("LOUD"), bad_config),
        (logger, SET, Some("OFF"), bad_config),
        (logger, SET, None, bad_request),
        (logger, APPEND, level, bad_request),
        ("root", DELETE, None, bad_request),
    ] {
        let told = alter(connection, BROKER_LOGGER, "1", name, operation, level);
        assert_eq!(told, code, "{name} {operation} {level:?}");
    }
    for broker in ["77", "x", ""] {
        let told = alter(connection, BROKER_LOGGER, broker, logger, SET, level);
        assert_eq!(told, bad_request, "{broker:?}");
        let (told, entries) = describe(connection, BROKER_LOGGER, broker, None);
        assert_eq!((told, entries.len()), (bad_request, 0), "{broker:?}");
    }
    assert_eq!(levels(connection, logger), before);
    assert_serves(system);
}

/// One entry, with nothing behind its value.
fn entry(name: &str, config_type: i8, value: &str, source: i8) -> Entry {
    let value = Some(value.to_owned());
    Entry {
        name: name.to_owned(),
        value: value.clone(),
        source,
        config_type,
        synonyms: vec![(name.to_owned(), value, source)],
    }
}

fn settings_of_groups_are_kept_and_told_with_their_defaults(system: System) {
    const SESSION: &str = "consumer.session.timeout.ms";
    const INT: i8 = 3;
    const STRING: i8 = 2;
    let mut node = Node::start(system, &[("group.consumer.heartbeat.interval.ms", "6000")]);
    let open = |node: &Node| Connection::open(node.ports().client).unwrap();
    let told = |node: &Node| describe(&mut open(node), GROUP, "some-group", None);
    let default = |name, value, config_type| entry(name, config_type, value, OF_DEFAULT);
    let mut expected = vec![
        // What a group inherits from its brokers passes for a default.
        default("consumer.heartbeat.interval.ms", "6000", INT),
        default(SESSION, "45000", INT),
        default("share.auto.offset.reset", "latest", STRING),
        default("share.heartbeat.interval.ms", "5000", INT),
        default("share.isolation.level", "read_uncommitted", STRING),
        default("share.record.lock.duration.ms", "30000", INT),
        default("share.session.timeout.ms", "45000", INT),
        default("streams.heartbeat.interval.ms", "5000", INT),
        default("streams.num.standby.replicas", "0", INT),
        default("streams.session.timeout.ms", "45000", INT),
    ];
    assert_eq!(told(&node), (error::NONE, expected.clone()));
    let change_session = |node: &Node, operation, value| {
        let code = alter(
            &mut open(node),
            GROUP,
            "some-group",
            SESSION,
            operation,
            value,
        );
        assert_eq!(code, error::NONE);
    };
    change_session(&node, SET, Some("50000"));
    expected[1] = entry(SESSION, INT, "50000", OF_GROUP);
    super::until("it is told", || told(&node).1 == expected);
    node.kill();
    node.start_again();
    super::until("the next process tells it too", || {
        told(&node).1 == expected
    });
    change_session(&node, DELETE, None);
    expected[1] = default(SESSION, "45000", INT);
    super::until("then the default", || told(&node).1 == expected);
}

fn settings_of_groups_are_refused_with_kafkas_codes(system: System) {
    let connection = &mut connect(system);
    let (bad_request, bad_config) = (error::INVALID_REQUEST, error::INVALID_CONFIG);
    let (session, interval) = (
        "consumer.session.timeout.ms",
        "consumer.heartbeat.interval.ms",
    );
    for (key, operation, value, code) in [
        (session, SET, Some("44999"), bad_config),
        (session, SET, Some("60001"), bad_config),
        (session, SET, Some("soon"), bad_config),
        (session, SET, Some("-1"), bad_config),
        (session, SET, None, bad_request),
        (session, APPEND, Some("50000"), bad_config),
        (interval, SET, Some("4999"), bad_config),
        (interval, SET, Some("15001"), bad_config),
        (
            "share.record.lock.duration.ms",
            SET,
            Some("14999"),
            bad_config,
        ),
        ("share.auto.offset.reset", SET, Some("never"), bad_config),
        (
            "share.auto.offset.reset",
            SET,
            Some("by_duration:1D"),
            bad_config,
        ),
        ("share.isolation.level", SET, Some("none"), bad_config),
        ("streams.num.standby.replicas", SET, Some("3"), bad_config),
        ("retention.ms", SET, Some("1000"), bad_config),
        ("no.such.key", DELETE, None, error::NONE),
        (
            "share.auto.offset.reset",
            SET,
            Some("by_duration:P1DT1H"),
            error::NONE,
        ),
        ("share.auto.offset.reset", DELETE, None, error::NONE),
    ] {
        let told = alter(connection, GROUP, "raw-group", key, operation, value);
        assert_eq!(told, code, "{key} {operation} {value:?}");
    }
    assert_eq!(
        alter(connection, GROUP, "", session, SET, Some("50000")),
        bad_request
    );
    for kind in [GROUP, CLIENT_METRICS] {
        assert_eq!(describe(connection, kind, "", None).0, bad_request);
    }
    assert_serves(system);
}

/// IncrementalAlterConfigs of several resources, one key each: code, kind and name of each.
fn alter_all(
    connection: &mut Connection,
    resources: &[(i8, &str, &str, &str)],
) -> Vec<(i16, i8, String)> {
    let mut body = Frame::new().i32(i32::try_from(resources.len()).unwrap());
    for (kind, name, key, value) in resources {
        body = body.i8(*kind).string(name).i32(1);
        body = body.string(key).i8(SET).string(value);
    }
    let api_key = api::INCREMENTAL_ALTER_CONFIGS;
    let mut answer = connection.call(api_key, 0, &body.i8(0)).unwrap();
    answer.i32();
    let count = answer.i32();
    let results = (0..count).map(|_| {
        let code = answer.i16();
        assert_eq!(answer.string().is_none(), code == error::NONE, "a message");
        (code, answer.i8(), answer.string().unwrap())
    });
    results.collect()
}

fn resources_of_all_kinds_are_answered_in_the_order_of_the_request(system: System) {
    const TOPIC: i8 = 2;
    let connection = &mut connect(system);
    let (topic, other) = (&super::create(system, &[]), &super::create(system, &[]));
    let logger = logger_of(system);
    let (retention, none) = ("retention.ms", error::NONE);
    let results = alter_all(
        connection,
        &[
            (TOPIC, topic, retention, "1000"),
            (BROKER_LOGGER, "1", logger, "INFO"),
            (TOPIC, "raw-absent", retention, "1000"),
            (BROKER_LOGGER, "77", logger, "INFO"),
            (TOPIC, other, retention, "1000"),
        ],
    );
    let result = |code, kind, name: &str| (code, kind, name.to_owned());
    let expected = [
        result(none, TOPIC, topic),
        result(none, BROKER_LOGGER, "1"),
        result(error::UNKNOWN_TOPIC_OR_PARTITION, TOPIC, "raw-absent"),
        result(error::INVALID_REQUEST, BROKER_LOGGER, "77"),
        result(none, TOPIC, other),
    ];
    assert_eq!(results, expected);
    // What is named twice is changed not at all.
    let before = levels(connection, logger);
    let twice = [
        (BROKER_LOGGER, "1", logger, "DEBUG"),
        (TOPIC, topic, retention, "2000"),
        (BROKER_LOGGER, "1", "root", "DEBUG"),
        (TOPIC, topic, "segment.ms", "2000"),
    ];
    let results = alter_all(connection, &twice);
    let refused = |kind, name| result(error::INVALID_REQUEST, kind, name);
    let of_loggers = refused(BROKER_LOGGER, "1");
    let of_topic = refused(TOPIC, topic);
    assert!(!results.is_empty());
    assert!(
        results
            .iter()
            .all(|one| *one == of_loggers || *one == of_topic)
    );
    assert_eq!(levels(connection, logger), before);
}
