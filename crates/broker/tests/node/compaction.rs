//! Compaction as a node does it by itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use skein_protocol::messages::produce::ProduceRequest;
use skein_record::{BatchBuilder, Codec};
use skein_types::Millis;

use crate::harness::{Node, TOPIC, produce_request};

/// How long a test waits for the cleaner.
const PATIENCE: Duration = Duration::from_secs(30);

const SETTINGS: [&str; 2] = ["log.cleaner.backoff.ms=20", "log.segment.delete.delay.ms=0"];
const COMPACTED: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.01"),
];

/// A batch of records with one key.
fn keyed(topic: &str, codec: Codec, records: usize, value: &[u8]) -> ProduceRequest {
    let mut builder = BatchBuilder::new(codec);
    for _ in 0..records {
        let now = Millis(1_700_000_000_000);
        builder.append(now, Some(b"key"), Some(value), &[]).unwrap();
    }
    let batch = Bytes::from(builder.build().unwrap().into_inner());
    produce_request(topic, 0, 1, Some(batch))
}

fn fill(node: &Node, topic: &str) {
    let (mut client, value) = (node.connect(), vec![7; 10_000]);
    for _ in 0..35 {
        let (error, _) = client.produce(&keyed(topic, Codec::None, 10, &value));
        assert_eq!(error, 0);
    }
}

fn wait(node: &Node, metric: &str, at_least: u64) {
    let started = Instant::now();
    while node.metric(metric) < at_least {
        assert!(started.elapsed() < PATIENCE, "{metric} stays below");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_compacts_by_itself_and_others_are_left_alone() {
    let node = Node::start_with(|env| env, &SETTINGS);
    node.create("kept", 1, &COMPACTED[1..]);
    fill(&node, "kept");
    node.create(TOPIC, 1, &COMPACTED);
    fill(&node, TOPIC);
    wait(&node, "skein_compaction_reclaimed_bytes_total", 2_000_000);
    let bytes = |topic: &str| -> u64 {
        let directory = node.directory.path().join(format!("{topic}-0"));
        let entries = std::fs::read_dir(directory).unwrap();
        let logs = entries.map(|entry| entry.unwrap().path());
        let logs = logs.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
        logs.map(|path| path.metadata().unwrap().len()).sum()
    };
    assert!(bytes(TOPIC) < 2_000_000, "{}", bytes(TOPIC));
    assert!(bytes("kept") > 3_000_000);
    assert_eq!(node.metric("skein_uncleanable_partitions"), 0);
}

#[test]
fn a_log_that_cannot_be_compacted_keeps_no_other_from_it() {
    let node = Node::start_with(|env| env, &SETTINGS);
    // What comes before the policy is not unpacked: nobody has seen how large it is.
    node.create("bomb", 1, &COMPACTED[1..]);
    let value = vec![0; 30_000_000];
    let (error, _) = node
        .connect()
        .produce(&keyed("bomb", Codec::Zstd, 10, &value));
    assert_eq!(error, 0);
    fill(&node, "bomb");
    node.create(TOPIC, 1, &COMPACTED);
    node.alter_topic("bomb", "cleanup.policy", "compact");
    wait(&node, "skein_uncleanable_partitions", 1);
    fill(&node, TOPIC);
    wait(&node, "skein_compaction_reclaimed_bytes_total", 2_000_000);
    assert_eq!(node.metric("skein_uncleanable_partitions"), 1);
    fill(&node, "bomb");
}

#[test]
fn a_node_without_a_cleaner_compacts_nothing() {
    let settings = [SETTINGS[0], SETTINGS[1], "log.cleaner.enable=false"];
    let node = Node::start_with(|env| env, &settings);
    node.create(TOPIC, 1, &COMPACTED);
    fill(&node, TOPIC);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(node.metric("skein_compactions_total"), 0);
}
