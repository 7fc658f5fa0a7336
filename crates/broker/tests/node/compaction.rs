//! Compaction as a node does it by itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use skein_protocol::messages::produce::ProduceRequest;
use skein_record::{BatchBuilder, Codec, compress, crc32c};
use skein_types::Millis;

use crate::allocations;
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
    wait_until(&format!("{metric} stays below {at_least}"), || {
        node.metric(metric) >= at_least
    });
}

fn wait_until(otherwise: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{otherwise}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes of the log files of partition 0.
fn bytes(node: &Node, topic: &str) -> u64 {
    let directory = node.directory.path().join(format!("{topic}-0"));
    let entries = std::fs::read_dir(directory).unwrap();
    let logs = entries.map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    // A file may be gone just now.
    logs.map(|path| path.metadata().map_or(0, |file| file.len()))
        .sum()
}

#[test]
fn a_node_compacts_by_itself_and_others_are_left_alone() {
    let node = Node::start_with(|env| env, &SETTINGS);
    node.create("kept", 1, &COMPACTED[1..]);
    fill(&node, "kept");
    node.create(TOPIC, 1, &COMPACTED);
    fill(&node, TOPIC);
    wait(&node, "skein_compaction_reclaimed_bytes_total", 2_000_000);
    assert!(bytes(&node, TOPIC) < 2_000_000, "{}", bytes(&node, TOPIC));
    assert!(bytes(&node, "kept") > 3_000_000);
    assert_eq!(node.metric("skein_uncleanable_partitions"), 0);
}

/// Bytes that a bomb unpacks to, in pieces of this size.
const BOMB_PIECE_BYTES: usize = 64 << 20;
const BOMB_PIECES: usize = 48;
/// What a node may hold beside other things while it finds that out: the bound of 256 MiB, in a
/// buffer that doubles as it grows.
const UNPACKING_MAX_BYTES: usize = 800 << 20;

/// A Produce of a small batch that unpacks to 3 GiB.
fn bomb(topic: &str) -> ProduceRequest {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    let now = Millis(1_700_000_000_000);
    builder.append(now, Some(b"key"), Some(b"v"), &[]).unwrap();
    let mut batch = builder.build().unwrap().as_slice()[..61].to_vec();
    let mut piece = Vec::new();
    compress(Codec::Zstd, &vec![0; BOMB_PIECE_BYTES], &mut piece).unwrap();
    for _ in 0..BOMB_PIECES {
        batch.extend_from_slice(&piece);
    }
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    produce_request(topic, 0, 1, Some(Bytes::from(batch)))
}

#[test]
fn a_bomb_is_refused_where_keys_are_looked_at_and_costs_a_bounded_memory() {
    let node = Node::start_with(|env| env, &SETTINGS);
    node.create(TOPIC, 1, &COMPACTED);
    let request = bomb(TOPIC);
    let mut refused = Vec::new();
    let peak = allocations::peak_during(|| {
        refused = node.connect().refusals(&request);
    });
    assert_eq!(refused.len(), 1);
    let (code, message) = &refused[0];
    assert_eq!(*code, skein_types::ErrorCode::CorruptMessage.code());
    assert!(message.contains("268435456"), "{message}");
    assert!(peak < UNPACKING_MAX_BYTES, "{peak} bytes");
    fill(&node, TOPIC);
}

/// Bytes that one batch unpacks to: more than a step of the cleaner may, less than the bound.
const HEAVY_BYTES: usize = 150_000_000;

#[test]
fn heavy_batches_are_compacted_one_at_a_time() {
    let settings = [SETTINGS[0], SETTINGS[1], "log.cleaner.threads=3"];
    let node = Node::start_with(|env| env, &settings);
    let topics = ["one", "two", "three"];
    // Two records, of which one stays.
    let value = vec![0; HEAVY_BYTES / 2];
    for topic in topics {
        // What comes before the policy is not unpacked: nobody has seen how large it is.
        node.create(topic, 1, &COMPACTED[1..]);
        let heavy = keyed(topic, Codec::Zstd, 2, &value);
        assert_eq!(node.connect().produce(&heavy).0, 0);
        fill(&node, topic);
    }
    drop(value);
    let peak = allocations::peak_during(|| {
        for topic in topics {
            node.alter_topic(topic, "cleanup.policy", "compact");
        }
        wait(&node, "skein_compactions_total", 3);
    });
    assert_eq!(node.metric("skein_uncleanable_partitions"), 0);
    assert!(peak < UNPACKING_MAX_BYTES, "{peak} bytes");
}

#[test]
fn a_bomb_in_a_log_costs_the_cleaner_a_bounded_memory_until_its_segment_is_gone() {
    let often = "log.retention.check.interval.ms=50";
    let node = Node::start_with(|env| env, &[SETTINGS[0], SETTINGS[1], often]);
    // What comes before the policy is not unpacked: nobody has seen how large it is.
    let configs = [COMPACTED[1], COMPACTED[2], ("retention.ms", "-1")];
    node.create(TOPIC, 1, &configs);
    let (error, _) = node.connect().produce(&bomb(TOPIC));
    assert_eq!(error, 0);
    fill(&node, TOPIC);
    let peak = allocations::peak_during(|| {
        node.alter_topic(TOPIC, "cleanup.policy", "compact,delete");
        wait(&node, "skein_uncleanable_partitions", 1);
    });
    assert!(peak < UNPACKING_MAX_BYTES, "{peak} bytes");
    assert_eq!(node.metric("skein_compactions_total"), 0);
    // Its segment goes with what else is in it, and what is left can be compacted.
    node.delete_records(TOPIC, 0, 200);
    wait(&node, "skein_compactions_total", 1);
    assert_eq!(node.metric("skein_uncleanable_partitions"), 0);
}

#[test]
fn several_cleaners_share_the_logs() {
    let settings = [SETTINGS[0], SETTINGS[1], "log.cleaner.threads=3"];
    let node = Node::start_with(|env| env, &settings);
    let topics = ["one", "two", "three", "four"];
    for topic in topics {
        node.create(topic, 1, &COMPACTED);
    }
    for topic in topics {
        fill(&node, topic);
    }
    // Each is compacted down to its active segment. (That they keep to the rate is shown with a
    // clock that tests hold, in `cleaner/tests.rs`.)
    for topic in topics {
        wait_until(&format!("{topic} is large"), || {
            bytes(&node, topic) < 1_200_000
        });
    }
    wait_until("somebody still compacts", || {
        node.metric("skein_compactions_running") == 0
    });
}

#[test]
fn a_pass_pauses_for_what_it_has_used() {
    let rate = "log.cleaner.io.max.bytes.per.second=1000";
    let node = Node::start_with(|env| env, &[SETTINGS[0], SETTINGS[1], rate]);
    node.create(TOPIC, 1, &COMPACTED);
    fill(&node, TOPIC);
    wait(&node, "skein_compaction_io_bytes_total", 1_000_000);
    // Its first step is paid for in a quarter of an hour; without a limit it would be over by now.
    for topic in ["one", "two", "three"] {
        node.create(topic, 1, &COMPACTED[1..]);
        fill(&node, topic);
    }
    assert_eq!(node.metric("skein_compactions_running"), 1);
    assert_eq!(node.metric("skein_compactions_total"), 0);
}

#[test]
fn a_policy_that_changes_during_a_pass_ends_it_and_loses_nothing() {
    let rate = "log.cleaner.io.max.bytes.per.second=1500000";
    let node = Node::start_with(|env| env, &[SETTINGS[0], SETTINGS[1], rate]);
    node.create(TOPIC, 1, &COMPACTED);
    fill(&node, TOPIC);
    wait(&node, "skein_compaction_io_bytes_total", 1);
    node.alter_topic(TOPIC, "cleanup.policy", "delete");
    // The pass takes seconds at this rate. It ends at its next step, and no other begins.
    wait_until("the pass goes on", || {
        node.metric("skein_compactions_running") == 0
    });
    assert_eq!(node.metric("skein_compactions_total"), 0);
    let record = |offset| node.connect().fetch(0, offset) > 0;
    assert!(record(0) && record(349));
    node.alter_topic(TOPIC, "cleanup.policy", "compact");
    wait(&node, "skein_compactions_total", 1);
    assert!(bytes(&node, TOPIC) < 1_200_000);
    assert!(record(0) && record(349));
    let directory = node.directory.path().join(format!("{TOPIC}-0"));
    let names = std::fs::read_dir(directory).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.find(|name| name.ends_with(".cleaned")), None);
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
    // As many times as a cleaner would have needed.
    for topic in ["one", "two", "three"] {
        node.create(topic, 1, &COMPACTED);
        fill(&node, topic);
    }
    assert_eq!(node.metric("skein_compaction_io_bytes_total"), 0);
}
