//! Kafka's files both ways: Skein takes over a directory that Kafka wrote, and Kafka opens the
//! partitions that Skein wrote.
//!
//! Input: nodes of both systems, one after the other on the same files. Output: the same records,
//! byte for byte, the same offsets, ids and settings, and writing goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "takeover/compacted.rs"]
mod compacted;
#[path = "takeover/from_kafka.rs"]
mod from_kafka;
#[path = "takeover/groups.rs"]
mod groups;
#[path = "takeover/refused.rs"]
mod refused;
#[path = "takeover/seen.rs"]
mod seen;
#[path = "takeover/to_kafka.rs"]
mod to_kafka;
#[path = "takeover/transactions.rs"]
mod transactions;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use skein_tests::client::kafka_tools::{
    CONSOLE_CONSUMER, DELETE_RECORDS, PRODUCER_PERFORMANCE, TOPICS, run,
};
use skein_tests::node::skein_binary;
use skein_tests::program::{self, Finished};
use skein_tests::wire::{Batch, Connection, error};
use skein_tests::{Node, System};

const IMPORT_TIMEOUT: Duration = Duration::from_secs(60);
/// Until Kafka's cleaner has come by.
const COMPACTED_TIMEOUT: Duration = Duration::from_secs(60);
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

fn connect(node: &Node) -> Connection {
    Connection::open(node.ports().client)
        .unwrap_or_else(|error| panic!("{error}{}", node.log_tail()))
}

fn create(node: &Node, topic: &str, options: &[&str]) {
    run(
        node,
        TOPICS,
        &[&["--create", "--topic", topic][..], options].concat(),
    );
}

/// Writes `records` records of 200 bytes with a codec.
fn perform(node: &Node, topic: &str, records: &str, codec: &str) {
    let bootstrap = format!("bootstrap.servers={}", node.bootstrap());
    let codec = format!("compression.type={codec}");
    let arguments = [
        "--topic",
        topic,
        "--num-records",
        records,
        "--record-size",
        "200",
    ];
    let properties = ["--throughput", "-1", "--producer-props", &bootstrap, &codec];
    run(
        node,
        PRODUCER_PERFORMANCE,
        &[&arguments[..], &properties].concat(),
    );
}

/// Writes to topics of every kind; what is in them afterwards is for [`seen::Seen`] to say.
fn fill(node: &Node) {
    let small = [
        "--config",
        "segment.bytes=1048576",
        "--config",
        "retention.ms=-1",
    ];
    create(
        node,
        "codecs",
        &[&["--partitions", "2"][..], &small].concat(),
    );
    for codec in CODECS {
        perform(node, "codecs", "3000", codec);
    }
    let append_time = "message.timestamp.type=LogAppendTime";
    create(node, "append-time", &["--config", append_time]);
    perform(node, "append-time", "500", "lz4");
    create(node, "shortened", &small);
    perform(node, "shortened", "12000", "none");
    // Within the first segment: Kafka finds no offset for a time that falls into one that is below
    // the log start as a whole, until its retention has removed that.
    delete_records(node, "shortened", 3000);
}

fn delete_records(node: &Node, topic: &str, offset: u64) {
    let file = node.directory().join("delete-records.json");
    let order = format!(
        r#"{{"partitions":[{{"topic":"{topic}","partition":0,"offset":{offset}}}],"version":1}}"#
    );
    std::fs::write(&file, order).unwrap();
    let file = file.display().to_string();
    run(node, DELETE_RECORDS, &["--offset-json-file", &file]);
}

/// A compacted topic in which compaction has left gaps; the node has a cleaner that hurries.
///
/// A record of each batch stays. Kafka looks for a time in the first segment that is new enough,
/// and in no other: of one that keeps an emptied batch alone it finds nothing, and whether there is
/// such a segment is a matter of when the cleaner came by.
fn compact(node: &Node) {
    let options = [
        "cleanup.policy=compact",
        "min.cleanable.dirty.ratio=0.01",
        "segment.bytes=1048576",
    ];
    let options: Vec<&str> = options.iter().flat_map(|o| ["--config", o]).collect();
    create(node, "compacted", &options);
    let mut connection = connect(node);
    for round in 0..60_u8 {
        let mut batch = Batch::of((0..40).map(|_| vec![round; 1000]));
        for (number, record) in batch.records.iter_mut().enumerate() {
            record.key = Some(format!("key {}", number % 7).into_bytes());
        }
        batch.records[0].key = Some(format!("round {round}").into_bytes());
        let produced = connection.produce("compacted", 0, &batch.encode()).unwrap();
        assert_eq!(produced.error_code, error::NONE);
    }
    wait_until_compacted(node);
}

/// The cleaner has come as far as it may, to the active segment: it changes nothing any more.
fn wait_until_compacted(node: &Node) {
    let names = std::fs::read_dir(node.data_directory().join("compacted-0")).unwrap();
    let bases = names.filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".log")?.parse::<u64>().ok()
    });
    let line = format!("compacted 0 {}", bases.max().unwrap());
    let checkpoint = node.data_directory().join("cleaner-offset-checkpoint");
    let is_compacted = || {
        let text = std::fs::read_to_string(&checkpoint).unwrap_or_default();
        text.lines().any(|found| found == line)
    };
    let begun = Instant::now();
    while !is_compacted() {
        let waited = begun.elapsed();
        assert!(
            waited < COMPACTED_TIMEOUT,
            "not compacted{}",
            node.log_tail()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A producer with sequences: three batches of two records.
struct Producer {
    id: i64,
    epoch: i16,
}

impl Producer {
    fn begin(node: &Node, topic: &str) -> Self {
        let (id, epoch) = connect(node).init_producer_id().unwrap();
        let producer = Self { id, epoch };
        for (sequence, offset) in [(0, 0), (2, 2), (4, 4)] {
            producer.expect(node, topic, sequence, (error::NONE, offset));
        }
        producer
    }

    fn expect(&self, node: &Node, topic: &str, sequence: i32, expected: (i16, i64)) {
        let batch = Batch {
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: sequence,
            ..Batch::of(["one", "two"])
        };
        let produced = connect(node).produce(topic, 0, &batch.encode()).unwrap();
        let answer = (produced.error_code, produced.base_offset);
        assert_eq!(answer, expected, "sequence {sequence}{}", node.log_tail());
    }
}

/// A group that has read and committed.
fn consume_in_group(node: &Node, topic: &str, group: &str) {
    let arguments = ["--topic", topic, "--group", group, "--from-beginning"];
    let limits = ["--max-messages", "5", "--timeout-ms", "30000"];
    run(node, CONSOLE_CONSUMER, &[&arguments[..], &limits].concat());
}

fn import(directory: &Path, options: &[&str]) -> Finished {
    let mut command = Command::new(skein_binary());
    command
        .args(["import", "kafka"])
        .arg(directory)
        .args(options);
    program::run(&mut command, IMPORT_TIMEOUT)
}

/// A node of Skein on the data of another node.
fn skein_on(other: &Node) -> Node {
    let directory = other.data_directory().display().to_string();
    Node::prepare(System::Skein, &[("log.dirs", &directory)])
}
