//! Whole segments go when they are too many or too old, and files go with their topic.
//!
//! Input: small segments, short intervals. Output: the log start moves to a segment's start, what
//! lies below is out of range, offsets are never used again, and the directory shrinks.

use std::fs;
use std::time::{Duration, Instant};

use skein_tests::wire::{Connection, error};
use skein_tests::{Node, System, bytes_in_logs, on_both};

use super::{append, connect, create, next_batch, number_of};

on_both!(
    retention_by_size_removes_whole_segments,
    a_deleted_topic_leaves_no_files,
);

const TOPIC: &str = "short-lived";
const BATCHES: u64 = 1_000;
const BATCH_BYTES: usize = 5_000;
/// Both systems look at least every 200 ms, after a file's delay of 100 ms.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(system: System) -> Node {
    let mut settings = vec![
        ("log.retention.check.interval.ms", "200"),
        ("log.segment.delete.delay.ms", "100"),
    ];
    if system == System::Kafka {
        // It waits 30 s before its first look at all.
        settings.push(("log.initial.task.delay.ms", "100"));
    }
    Node::start(system, &settings)
}

fn retention_by_size_removes_whole_segments(system: System) {
    let mut node = start(system);
    let configs = [("segment.bytes", "1048576"), ("retention.bytes", "2000000")];
    create(&node, TOPIC, &configs);
    append(&node, TOPIC, 0..BATCHES, BATCH_BYTES);
    let started = Instant::now();
    let directory = node.data_directory().join(format!("{TOPIC}-0"));
    while bytes_in_logs(&directory) > 3_100_000 || log_start(&node) == 0 {
        assert!(
            started.elapsed() < PATIENCE,
            "nothing was removed{}",
            node.log_tail()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let first = log_start(&node);
    assert!(
        first < 800,
        "too much was removed: the log starts at {first}"
    );
    assert_starts_at(&node, first);
    assert!(bytes_in_logs(&directory) >= 2_000_000);
    append(&node, TOPIC, BATCHES..BATCHES + 10, BATCH_BYTES);
    node.kill();
    node.start_again();
    assert!(log_start(&node) >= first, "what was removed is back");
    append(&node, TOPIC, BATCHES + 10..BATCHES + 20, BATCH_BYTES);
}

/// Checks that the log starts at an offset, also for those who ask for what was below.
fn assert_starts_at(node: &Node, first: i64) {
    let mut connection = connect(node);
    let below = connection.fetch(TOPIC, 0, first - 1, 0).unwrap();
    assert_eq!(below.error_code, error::OFFSET_OUT_OF_RANGE);
    let fetched = connection.fetch(TOPIC, 0, first, 0).unwrap();
    assert_eq!(fetched.error_code, error::NONE);
    let (batch, _) = next_batch(&fetched.records).expect("a batch at the log start");
    assert_eq!(number_of(batch), u64::try_from(first).unwrap());
}

fn a_deleted_topic_leaves_no_files(system: System) {
    let node = start(system);
    create(&node, TOPIC, &[]);
    append(&node, TOPIC, 0..10, BATCH_BYTES);
    let data = node.data_directory();
    assert!(data.join(format!("{TOPIC}-0")).is_dir());
    let mut connection = connect(&node);
    assert_eq!(connection.delete_topic(TOPIC).unwrap(), error::NONE);
    assert_eq!(
        connection.metadata(TOPIC, false).unwrap(),
        error::UNKNOWN_TOPIC_OR_PARTITION
    );
    let asked = Instant::now();
    let left = || {
        let names = fs::read_dir(&data).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .find(|name| name.starts_with(TOPIC))
    };
    while let Some(name) = left() {
        assert!(
            asked.elapsed() < PATIENCE,
            "{name} is left{}",
            node.log_tail()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    create(&node, TOPIC, &[]);
    append(&node, TOPIC, 0..10, BATCH_BYTES);
}

fn log_start(node: &Node) -> i64 {
    let mut connection: Connection = connect(node);
    let (error_code, _, offset) = connection.list_offset(TOPIC, 0, -2).unwrap();
    assert_eq!(error_code, error::NONE);
    offset
}
