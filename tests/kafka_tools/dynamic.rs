//! Settings that Kafka's own tool changes while a node runs: what becomes of them, at once and in
//! the next process.
//!
//! Input: `kafka-configs.sh`. Output: connections that are refused, segments that go, records that
//! are compacted, levels of loggers.

use std::io;
use std::time::{Duration, Instant};

use skein_tests::client::kafka_tools::{CONFIGS, refused, run};
use skein_tests::wire::{Batch, Connection, Frame, Record, api, error};
use skein_tests::{Node, Settings, System, bytes_in_logs, on_both};

on_both!(
    connections_of_an_address_are_limited_while_the_node_runs,
    connections_of_the_node_are_limited_while_it_runs,
    lower_retention_takes_segments_away_while_the_node_runs,
    retention_of_all_brokers_takes_segments_away_while_they_run,
    a_log_is_compacted_once_its_topic_or_its_broker_asks_for_it,
    levels_of_loggers_are_altered_and_described,
    settings_of_groups_are_altered,
);

const ALL: &[&str] = &["--entity-type", "brokers", "--entity-default"];
const BROKER: &[&str] = &["--entity-type", "brokers", "--entity-name", "1"];
/// How long a node may take to do what it was told.
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection that is not answered so long was not accepted, or will be tried once more.
const ANSWER_MAX: Duration = Duration::from_millis(400);

/// Retention is looked at often, and files go at once; the cleaner is in no hurry.
fn start(system: System) -> Node {
    let mut settings = vec![
        ("log.retention.check.interval.ms", "200"),
        ("log.segment.delete.delay.ms", "0"),
        ("log.cleaner.backoff.ms", "3600000"),
    ];
    if system == System::Kafka {
        settings.push(("log.initial.task.delay.ms", "100"));
    }
    Node::start(system, &settings)
}

fn set(node: &Node, entity: &[&str], configs: &str) {
    let change = ["--alter", "--add-config", configs];
    run(node, CONFIGS, &[entity, &change].concat());
}

fn delete(node: &Node, entity: &[&str], keys: &str) {
    let change = ["--alter", "--delete-config", keys];
    run(node, CONFIGS, &[entity, &change].concat());
}

#[track_caller]
fn until(node: &Node, what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        let waited = started.elapsed();
        assert!(waited < PATIENCE, "not yet: {what}{}", node.log_tail());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many connections are answered that are open at the same time, of `tried`.
fn answered_at_once(node: &Node, tried: usize) -> usize {
    let ask = || -> io::Result<Connection> {
        let mut connection = Connection::open(node.ports().client)?;
        connection.set_answer_timeout(ANSWER_MAX)?;
        connection.call(api::METADATA, 1, &Frame::new().i32(0))?;
        Ok(connection)
    };
    let answered: Vec<_> = (0..tried).map_while(|_| ask().ok()).collect();
    answered.len()
}

fn connections_of_an_address_are_limited_while_the_node_runs(system: System) {
    let mut node = start(system);
    let is = |node: &Node, what: &str, expected| {
        until(node, what, || answered_at_once(node, 9) == expected);
    };
    is(&node, "there is no limit", 9);
    set(&node, ALL, "max.connections.per.ip=4");
    is(&node, "that of all brokers", 4);
    set(&node, BROKER, "max.connections.per.ip=5");
    is(&node, "that of the broker goes first", 5);
    // The host by its name; an address that nobody has here.
    let overrides = "max.connections.per.ip.overrides=[localhost:7,10.9.9.9:1]";
    set(&node, ALL, overrides);
    is(&node, "that of the host goes before both", 7);
    node.kill();
    node.start_again();
    is(&node, "the next process keeps to it", 7);
    let overrides = "max.connections.per.ip.overrides=127.0.0.1:6";
    set(&node, ALL, overrides);
    is(&node, "an address is as good as a name", 6);
    delete(&node, ALL, "max.connections.per.ip.overrides");
    is(&node, "that of the broker again", 5);
    for wrong in ["localhost", "localhost:many"] {
        let change = format!("max.connections.per.ip.overrides={wrong}");
        let change = ["--alter", "--add-config", &change];
        let output = refused(&node, CONFIGS, &[ALL, &change].concat());
        assert!(output.contains("Invalid"), "{wrong}: {output}");
    }
    delete(&node, BROKER, "max.connections.per.ip");
    delete(&node, ALL, "max.connections.per.ip");
    is(&node, "there is no limit any more", 9);
}

fn connections_of_the_node_are_limited_while_it_runs(system: System) {
    let mut node = start(system);
    set(&node, BROKER, "max.connections=5");
    let is_limited = |node: &Node| {
        until(node, "a sixth connection waits or is closed", || {
            answered_at_once(node, 9) == 5
        });
    };
    is_limited(&node);
    node.kill();
    node.start_again();
    is_limited(&node);
    delete(&node, BROKER, "max.connections");
    until(&node, "there is no limit any more", || {
        answered_at_once(&node, 9) == 9
    });
}

const BATCHES: usize = 600;
const BATCH_BYTES: usize = 10_000;
const SEGMENT_BYTES: u64 = 1_048_576;
const TWO_HOURS_MS: i64 = 2 * 3_600_000;
const SEGMENTS: Settings<'static> = &[("segment.bytes", "1048576")];

/// Batches of one record each, all with one key, with a timestamp of two hours ago.
fn fill(node: &Node, topic: &str) {
    let mut connection = Connection::open(node.ports().client).unwrap();
    let record = Record {
        timestamp_delta: 0,
        key: Some(b"key".to_vec()),
        value: Some(vec![b'v'; BATCH_BYTES]),
    };
    let mut batch = Batch::of([""]);
    batch.records = vec![record];
    batch.base_timestamp -= TWO_HOURS_MS;
    let batch = batch.encode();
    for _ in 0..BATCHES {
        let produced = connection.produce(topic, 0, &batch).unwrap();
        assert_eq!(produced.error_code, error::NONE);
    }
}

fn create(node: &Node, topic: &str) {
    let mut connection = Connection::open(node.ports().client).unwrap();
    let created = connection.create_topic(topic, 1, SEGMENTS).unwrap();
    assert_eq!(created, error::NONE);
    until(node, "the topic is served", || {
        let mut connection = Connection::open(node.ports().client).unwrap();
        connection.list_offset(topic, 0, -1).unwrap().0 == error::NONE
    });
}

/// The bytes of all segments of partition 0, and the log's start.
fn kept(node: &Node, topic: &str) -> (u64, i64) {
    let directory = node.data_directory().join(format!("{topic}-0"));
    let mut connection = Connection::open(node.ports().client).unwrap();
    let (code, _, start) = connection.list_offset(topic, 0, -2).unwrap();
    assert_eq!(code, error::NONE);
    (bytes_in_logs(&directory), start)
}

/// Waits until no more than `segments` are kept, and something is gone.
fn until_kept(node: &Node, topic: &str, segments: u64) {
    until(node, &format!("{segments} segments at most"), || {
        let (bytes, start) = kept(node, topic);
        bytes <= segments * SEGMENT_BYTES && start > 0
    });
}

fn lower_retention_takes_segments_away_while_the_node_runs(system: System) {
    let mut node = start(system);
    for (topic, configs, segments) in [
        ("by-size", "retention.bytes=2500000", 4),
        ("by-time", "retention.ms=3600000", 1),
    ] {
        create(&node, topic);
        fill(&node, topic);
        assert_eq!(kept(&node, topic).1, 0, "nothing is too much yet");
        let entity = ["--entity-type", "topics", "--entity-name", topic];
        set(&node, &entity, configs);
        until_kept(&node, topic, segments);
    }
    node.kill();
    node.start_again();
    let before = kept(&node, "by-size").1;
    fill(&node, "by-size");
    until(&node, "the next process keeps to it", || {
        kept(&node, "by-size").1 > before
    });
}

fn retention_of_all_brokers_takes_segments_away_while_they_run(system: System) {
    let mut node = start(system);
    let topic = "short-lived";
    create(&node, topic);
    fill(&node, topic);
    set(&node, ALL, "log.retention.bytes=3500000");
    until_kept(&node, topic, 5);
    set(&node, BROKER, "log.retention.bytes=1500000");
    until_kept(&node, topic, 3);
    node.kill();
    node.start_again();
    let before = kept(&node, topic).1;
    fill(&node, topic);
    until(&node, "the next process keeps to it", || {
        let (bytes, start) = kept(&node, topic);
        start > before && bytes <= 3 * SEGMENT_BYTES
    });
}

fn a_log_is_compacted_once_its_topic_or_its_broker_asks_for_it(system: System) {
    let node = start(system);
    create(&node, "asks-itself");
    fill(&node, "asks-itself");
    let entity = ["--entity-type", "topics", "--entity-name", "asks-itself"];
    // All records have one key; of each sealed segment one is left, or none.
    set(&node, &entity, "cleanup.policy=compact");
    set(&node, ALL, "log.cleaner.backoff.ms=100");
    let is_compacted = |topic: &str| {
        let directory = node.data_directory().join(format!("{topic}-0"));
        bytes_in_logs(&directory) <= 2 * SEGMENT_BYTES
    };
    until(&node, "the topic is compacted", || {
        is_compacted("asks-itself")
    });
    create(&node, "inherits");
    fill(&node, "inherits");
    set(&node, ALL, "log.cleanup.policy=compact");
    until(&node, "its brokers ask for it", || is_compacted("inherits"));
}

fn levels_of_loggers_are_altered_and_described(system: System) {
    let node = Node::shared(system);
    let logger = match system {
        System::Kafka => "kafka",
        System::Skein => "skein_storage",
    };
    let loggers = ["--entity-type", "broker-loggers", "--entity-name", "1"];
    let describe = || run(node, CONFIGS, &[&loggers[..], &["--describe"]].concat());
    let told = describe();
    assert!(told.contains(&format!("  {logger}=INFO ")), "{told}");
    assert!(told.contains("  root=INFO "), "{told}");
    set(node, &loggers, &format!("{logger}=WARN"));
    let told = describe();
    assert!(told.contains(&format!("  {logger}=WARN ")), "{told}");
    delete(node, &loggers, logger);
    let told = describe();
    assert!(told.contains(&format!("  {logger}=INFO ")), "{told}");
    for wrong in ["absent=WARN", &format!("{logger}=LOUD")] {
        let change = ["--alter", "--add-config", wrong];
        let output = refused(node, CONFIGS, &[&loggers[..], &change].concat());
        assert!(output.contains("Invalid"), "{wrong}: {output}");
    }
}

/// To describe a group the tool asks for the list of groups first, which not every version has.
fn settings_of_groups_are_altered(system: System) {
    let node = Node::shared(system);
    let group = ["--entity-type", "groups", "--entity-name", "tools-group"];
    set(node, &group, "consumer.session.timeout.ms=50000");
    for wrong in ["consumer.session.timeout.ms=1", "retention.ms=1"] {
        let change = ["--alter", "--add-config", wrong];
        let output = refused(node, CONFIGS, &[&group[..], &change].concat());
        assert!(output.contains("InvalidConfigurationException"), "{output}");
    }
    delete(node, &group, "consumer.session.timeout.ms");
}
