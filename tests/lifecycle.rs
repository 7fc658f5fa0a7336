//! A node's life: starts that must be refused, stops, crashes, damaged files, a full disk.
//!
//! Input: nodes of their own, their processes and their files. Output: what is acknowledged is
//! there afterwards, and what can't be served is said precisely. What Kafka does too is tested on
//! both systems; the rest is about the `skein` command.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "lifecycle/crash.rs"]
mod crash;
#[path = "lifecycle/damage.rs"]
mod damage;
#[path = "lifecycle/full_disk.rs"]
mod full_disk;
#[path = "lifecycle/page_cache.rs"]
mod page_cache;
#[path = "lifecycle/retention.rs"]
mod retention;
#[path = "lifecycle/run.rs"]
mod run;
#[path = "lifecycle/segments.rs"]
mod segments;
#[path = "lifecycle/start.rs"]
mod start;
#[path = "lifecycle/verify.rs"]
mod verify;

use skein_tests::Node;
use skein_tests::wire::{Batch, Connection, error};

fn connect(node: &Node) -> Connection {
    Connection::open(node.ports().client)
        .unwrap_or_else(|error| panic!("{error}{}", node.log_tail()))
}

/// Creates a topic with one partition and waits until it is served.
fn create(node: &Node, topic: &str, configs: &[(&str, &str)]) {
    let mut connection = connect(node);
    assert_eq!(
        connection.create_topic(topic, 1, configs).unwrap(),
        error::NONE
    );
    connection.wait_until_served(topic).unwrap();
}

/// A batch that tells which one it is.
fn numbered(number: u64, size: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(size.max(8), 0x55);
    Batch::of([value]).encode()
}

/// Appends the batches `numbers`, one record each, and checks that each is acknowledged at its
/// offset.
fn append(node: &Node, topic: &str, numbers: std::ops::Range<u64>, size: usize) {
    let mut connection = connect(node);
    for number in numbers {
        let produced = connection
            .produce(topic, 0, &numbered(number, size))
            .unwrap();
        let expected = (error::NONE, i64::try_from(number).unwrap());
        assert_eq!(
            (produced.error_code, produced.base_offset),
            expected,
            "{}",
            node.log_tail()
        );
    }
}

/// The numbers of all batches of partition 0, read from the start to the end.
fn read_all(node: &Node, topic: &str) -> Vec<u64> {
    let mut connection = connect(node);
    let (mut offset, mut numbers) = (0, Vec::new());
    let (error_code, _, end) = connection.list_offset(topic, 0, -1).unwrap();
    assert_eq!(error_code, error::NONE, "{}", node.log_tail());
    while offset < end {
        let fetched = connection.fetch(topic, 0, offset, 100).unwrap();
        assert_eq!(
            fetched.error_code,
            error::NONE,
            "at offset {offset}{}",
            node.log_tail()
        );
        let mut rest = fetched.records.as_slice();
        // One record of one batch: its value starts behind the header and five bytes and the
        // varints of its lengths.
        while let Some((batch, behind)) = next_batch(rest) {
            assert_eq!(i64::from_be_bytes(batch[..8].try_into().unwrap()), offset);
            numbers.push(number_of(batch));
            offset += 1;
            rest = behind;
        }
        assert!(
            !fetched.records.is_empty(),
            "nothing at offset {offset} below the end {end}"
        );
    }
    numbers
}

/// Checks that partition 0 holds exactly the batches `0..count`.
fn assert_holds(node: &Node, topic: &str, count: u64) {
    let numbers = read_all(node, topic);
    assert!(
        numbers.iter().copied().eq(0..count),
        "{} batches instead of {count}, or not in order{}",
        numbers.len(),
        node.log_tail()
    );
}

/// The first whole batch, and what follows it.
fn next_batch(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    bytes.split_at_checked(12 + usize::try_from(length).ok()?)
}

/// The number in a batch that [`numbered`] made.
fn number_of(batch: &[u8]) -> u64 {
    let stored = u32::from_be_bytes(batch[17..21].try_into().unwrap());
    assert_eq!(
        stored,
        skein_tests::wire::crc32c(&batch[21..]),
        "a checksum is wrong"
    );
    let record = &batch[61..];
    // Behind the record's length: attributes, two deltas of 0, a null key, the value's length; each
    // but the lengths one byte.
    let after_length = 1 + record.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let value_length = &record[after_length + 4..];
    let value = 1 + value_length
        .iter()
        .position(|byte| byte & 0x80 == 0)
        .unwrap();
    u64::from_be_bytes(value_length[value..value + 8].try_into().unwrap())
}
