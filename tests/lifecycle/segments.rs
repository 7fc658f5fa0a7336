//! A node with many segments opens what it needs, and scans only what a crash has left in doubt.
//!
//! Input: a partition of some hundred small segments, and a node that was stopped or killed.
//! Output: what it says that it scanned, and how many files it holds open.

use std::time::{Duration, Instant};

use skein_tests::wire::{Batch, error};
use skein_tests::{Node, System};

use super::{connect, create};

const TOPIC: &str = "many";
const SEGMENTS: i64 = 300;
const BATCHES: i64 = 2;
const RECORD_BYTES: usize = 3_000;
const STEP_MS: i64 = 10_000;
/// Two days ago.
const AGE_MS: i64 = 172_800_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Appends whole segments: the timestamps of each lie further behind those of the one before than
/// `segment.ms`.
fn append_segments(node: &Node, segments: std::ops::Range<i64>, first_timestamp: i64) {
    let mut connection = connect(node);
    let mut batch = Batch::of([[7_u8; RECORD_BYTES]]);
    for segment in segments {
        batch.base_timestamp = first_timestamp + segment * STEP_MS;
        let bytes = batch.encode();
        for number in 0..BATCHES {
            let produced = connection.produce(TOPIC, 0, &bytes).unwrap();
            let expected = (error::NONE, segment * BATCHES + number);
            assert_eq!((produced.error_code, produced.base_offset), expected);
        }
    }
}

/// A node with so many segments, all but the last flushed, and the timestamp of the first one.
fn filled() -> (Node, i64) {
    let settings = [("log.flush.offset.checkpoint.interval.ms", "100")];
    let node = Node::start(System::Skein, &settings);
    create(&node, TOPIC, &[("segment.ms", "1000")]);
    let first_timestamp = Batch::of(["now"]).base_timestamp - AGE_MS;
    append_segments(&node, 0..SEGMENTS, first_timestamp);
    let asked = Instant::now();
    while checkpointed(&node) != Some((SEGMENTS - 1) * BATCHES) {
        let found = checkpointed(&node);
        assert!(asked.elapsed() < PATIENCE, "{found:?}{}", node.log_tail());
        std::thread::sleep(Duration::from_millis(20));
    }
    (node, first_timestamp)
}

/// The recovery point of the topic as the node has written it down.
fn checkpointed(node: &Node) -> Option<i64> {
    let path = node.data_directory();
    let path = path.join("recovery-point-offset-checkpoint");
    let text = std::fs::read_to_string(path).ok()?;
    let prefix = format!("{TOPIC} 0 ");
    let offset = text.lines().find_map(|line| line.strip_prefix(&prefix))?;
    offset.parse().ok()
}

/// Waits until the log of the topic is open, and returns its end.
fn end_once_open(node: &Node) -> i64 {
    let mut connection = connect(node);
    let (code, _, end) = connection.list_offset(TOPIC, 0, -1).unwrap();
    assert_eq!(code, error::NONE, "{}", node.log_tail());
    end
}

#[test]
fn a_clean_start_scans_nothing_and_opens_no_sealed_segment() {
    let (mut node, _) = filled();
    node.stop();
    node.start_again();
    assert_eq!(end_once_open(&node), SEGMENTS * BATCHES);
    for metric in [
        "skein_recovery_scanned_segments_total",
        "skein_recovery_scanned_bytes_total",
        "skein_cold_segment_files",
        "skein_cold_index_maps",
    ] {
        assert_eq!(node.metric(metric), 0.0, "{metric}");
    }
    assert_eq!(node.metric("skein_logs_opened_total"), 1.0);
}

#[test]
fn after_a_kill_only_what_lies_past_the_recovery_point_is_scanned() {
    let (mut node, first_timestamp) = filled();
    node.kill();
    node.set("log.flush.offset.checkpoint.interval.ms", "3600000");
    node.start_again();
    assert_eq!(end_once_open(&node), SEGMENTS * BATCHES);
    assert_eq!(node.metric("skein_recovery_scanned_segments_total"), 1.0);
    let bytes = node.metric("skein_recovery_scanned_bytes_total");
    assert!(bytes < 3.0 * 2.0 * 3_100.0, "{bytes} bytes");
    // Nothing writes the recovery point down any more: what comes now is scanned the next time.
    append_segments(&node, SEGMENTS..SEGMENTS + 10, first_timestamp);
    node.kill();
    node.start_again();
    assert_eq!(end_once_open(&node), (SEGMENTS + 10) * BATCHES);
    let scanned = node.metric("skein_recovery_scanned_segments_total");
    assert!((10.0..=12.0).contains(&scanned), "{scanned} segments");
}

#[test]
fn lookups_open_the_segment_that_they_need() {
    let (mut node, first_timestamp) = filled();
    node.stop();
    node.start_again();
    assert_eq!(end_once_open(&node), SEGMENTS * BATCHES);
    let mut connection = connect(&node);
    for segment in [SEGMENTS / 2, 3, SEGMENTS - 2] {
        let fetched = connection.fetch(TOPIC, 0, segment * BATCHES, 0).unwrap();
        assert_eq!(fetched.error_code, error::NONE);
        let first = i64::from_be_bytes(fetched.records[..8].try_into().unwrap());
        assert_eq!(first, segment * BATCHES);
    }
    let maps = node.metric("skein_cold_index_maps");
    assert!((1.0..=6.0).contains(&maps), "{maps} maps");
    // A time asks every segment before the answer for its largest timestamp, and opens none for it.
    let segment = SEGMENTS / 2;
    let timestamp = first_timestamp + segment * STEP_MS - 1;
    let found = connection.list_offset(TOPIC, 0, timestamp).unwrap();
    assert_eq!((found.0, found.2), (error::NONE, segment * BATCHES));
    let opened = node.metric("skein_cold_index_maps") - maps;
    assert!(opened <= 2.0, "{opened} maps more");
}
