//! A full disk is a state: writes are refused with a retriable error, reads and deletions go on,
//! and room brings everything back, by itself.
//!
//! Input: a node whose data directory is a small tmpfs in a mount namespace of its own. Output: the
//! errors of produces, the records, and what the node says of itself.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use skein_tests::wire::{Frame, api, error};
use skein_tests::{Node, System};

use super::{assert_holds, connect, create, numbered, read_all};

const SIZE_BYTES: usize = 24 << 20;
const BATCH_BYTES: usize = 500_000;
const TOPIC: &str = "full";
const OTHER: &str = "other";
const FILLER: &str = "filler";
const FULL: &str = "skein_log_directory_full";
/// What is asked for is 5 s; tests share their machine, which may be a slow one. Deleted files and
/// old segments must not stay for `log.segment.delete.delay.ms` (60 s) and
/// `log.retention.check.interval.ms` (300 s).
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A node with half of its disk filled by somebody else.
fn half_full() -> Node {
    let mut node = Node::prepare(System::Skein, &[]);
    node.mount_small_disk(SIZE_BYTES);
    node.start_again();
    fs::write(node.small_disk().join(FILLER), vec![1; SIZE_BYTES / 2]).unwrap();
    create(&node, TOPIC, &[("segment.bytes", "1048576")]);
    node
}

/// Appends until the node refuses, then takes the last bytes of the device; returns how many
/// batches it acknowledged.
fn fill(node: &Node) -> u64 {
    let mut written = 0;
    let refusal = loop {
        let produced = produce(node, written);
        if produced.0 != error::NONE {
            break produced.0;
        }
        assert_eq!(produced.1, i64::try_from(written).unwrap());
        written += 1;
        assert!(written < 100, "the disk is never full");
    };
    assert!(written > 5, "only {written} batches fit{}", node.log_tail());
    assert_eq!(refusal, error::KAFKA_STORAGE_ERROR, "{}", node.log_tail());
    take_the_rest(node);
    written
}

fn take_the_rest(node: &Node) {
    let path = node.small_disk().join("rest");
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

fn produce(node: &Node, number: u64) -> (i16, i64) {
    let batch = numbered(number, BATCH_BYTES);
    let produced = connect(node).produce(TOPIC, 0, &batch).unwrap();
    (produced.error_code, produced.base_offset)
}

/// `DeleteRecords`, version 0: error code and low watermark.
fn delete_records(node: &Node, before: i64) -> (i16, i64) {
    let body = Frame::new().i32(1).string(TOPIC).i32(1).i32(0).i64(before);
    let body = body.i32(10_000);
    let mut answer = connect(node).call(api::DELETE_RECORDS, 0, &body).unwrap();
    answer.i32();
    assert_eq!(answer.i32(), 1, "topics");
    answer.string();
    assert_eq!((answer.i32(), answer.i32()), (1, 0), "the partition");
    let low_watermark = answer.i64();
    (answer.i16(), low_watermark)
}

/// Waits for the node to find out by itself that there is room: nobody asks it to write.
fn wait_for_room(node: &Node) {
    let freed = Instant::now();
    while node.metric(FULL) != 0.0 {
        assert!(freed.elapsed() < RECOVERY_TIMEOUT, "{}", node.log_tail());
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let node = half_full();
    let written = fill(&node);
    assert!(node.is_alive(), "{}", node.log_tail());
    assert_eq!(node.metric(FULL), 1.0);
    assert!(node.get("/readyz").unwrap().starts_with("HTTP/1.1 200"));
    assert_holds(&node, TOPIC, written);
    fs::remove_file(node.small_disk().join(FILLER)).unwrap();
    wait_for_room(&node);
    assert_eq!(
        produce(&node, written),
        (error::NONE, i64::try_from(written).unwrap())
    );
    assert_holds(&node, TOPIC, written + 1);
}

#[test]
fn records_and_topics_can_be_deleted_on_a_full_disk_and_that_makes_room() {
    let mut node = half_full();
    create(&node, OTHER, &[]);
    let written = fill(&node);
    let mut connection = connect(&node);
    assert_eq!(
        delete_records(&node, 3),
        (error::NONE, 3),
        "{}",
        node.log_tail()
    );
    assert_eq!(connection.list_offset(TOPIC, 0, -2).unwrap().2, 3);
    // Only what makes more is refused.
    let refused = connection.create_topic("third", 1, &[]).unwrap();
    assert_eq!(refused, error::KAFKA_STORAGE_ERROR);
    assert_eq!(connection.delete_topic(OTHER).unwrap(), error::NONE);
    assert_eq!(produce(&node, written).0, error::KAFKA_STORAGE_ERROR);
    // What was deleted stays deleted when the process dies on the full disk.
    node.kill();
    node.start_again();
    let mut connection = connect(&node);
    let (code, _, start) = connection.list_offset(TOPIC, 0, -2).unwrap();
    assert_eq!((code, start), (error::NONE, 3), "{}", node.log_tail());
    assert_eq!(connection.delete_topic(TOPIC).unwrap(), error::NONE);
    wait_for_room(&node);
    create(&node, TOPIC, &[]);
    assert_eq!(produce(&node, 0), (error::NONE, 0), "{}", node.log_tail());
}

#[test]
fn a_shorter_retention_makes_room_on_a_full_disk() {
    let node = half_full();
    let written = fill(&node);
    let mut connection = connect(&node);
    let altered = connection.set_topic_config(TOPIC, "retention.bytes", "1048576");
    assert_eq!(altered.unwrap(), error::NONE);
    wait_for_room(&node);
    let (_, _, start) = connection.list_offset(TOPIC, 0, -2).unwrap();
    assert!(start > 0);
    assert_eq!(produce(&node, written).0, error::NONE);
}

#[test]
fn a_node_that_is_killed_on_a_full_disk_comes_back_with_all_that_it_acknowledged() {
    let mut node = half_full();
    let written = fill(&node);
    for _ in 0..2 {
        node.kill();
        node.start_again();
        let numbers = read_all(&node, TOPIC);
        assert!(
            numbers.iter().copied().eq(0..written),
            "{numbers:?}{}",
            node.log_tail()
        );
        // It knows before anybody writes.
        let started = Instant::now();
        while node.metric(FULL) != 1.0 {
            assert!(started.elapsed() < RECOVERY_TIMEOUT, "{}", node.log_tail());
            std::thread::sleep(POLL_INTERVAL);
        }
        assert_eq!(produce(&node, written).0, error::KAFKA_STORAGE_ERROR);
    }
    fs::remove_file(node.small_disk().join(FILLER)).unwrap();
    wait_for_room(&node);
    assert_eq!(
        produce(&node, written).0,
        error::NONE,
        "{}",
        node.log_tail()
    );
    node.stop();
    node.start_again();
    assert_holds(&node, TOPIC, written + 1);
}
