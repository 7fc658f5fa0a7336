//! What no client library would send, against both systems.
//!
//! Input: hand-made frames on the clients' port. Output: the precise error, or the end of that one
//! connection; afterwards the node still serves and holds exactly what it acknowledged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "raw/administration.rs"]
mod administration;
#[path = "raw/answers.rs"]
mod answers;
#[path = "raw/bad_configs.rs"]
mod bad_configs;
#[path = "raw/batches.rs"]
mod batches;
#[path = "raw/configs.rs"]
mod configs;
#[path = "raw/frames.rs"]
mod frames;
#[path = "raw/groups.rs"]
mod groups;
#[path = "raw/names_and_offsets.rs"]
mod names_and_offsets;
#[path = "raw/produce.rs"]
mod produce;
#[path = "raw/resources.rs"]
mod resources;
#[path = "raw/unusual.rs"]
mod unusual;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use skein_tests::wire::{Connection, Frame, api, error};
use skein_tests::{Node, System};

/// What a node may take to follow a change.
const FOLLOW_MAX: Duration = Duration::from_secs(60);

/// What IncrementalAlterConfigs does with a key.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A connection to the shared node of a system.
fn connect(system: System) -> Connection {
    Connection::open(Node::shared(system).ports().client).expect("connect")
}

/// A new topic with one partition, on the shared node.
fn create(system: System, configs: &[(&str, &str)]) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("raw-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut connection = connect(system);
    assert_eq!(
        connection.create_topic(&name, 1, configs).unwrap(),
        error::NONE
    );
    connection.wait_until_served(&name).unwrap();
    name
}

/// The log end offset of partition 0.
fn log_end(system: System, topic: &str) -> i64 {
    let (error_code, _, offset) = connect(system).list_offset(topic, 0, -1).unwrap();
    assert_eq!(error_code, error::NONE);
    offset
}

/// Checks that the shared node still takes and gives a record.
fn assert_serves(system: System) {
    let node = Node::shared(system);
    assert!(node.is_alive(), "{:?} is gone{}", system, node.log_tail());
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let batch = skein_tests::wire::Batch::of(["still here"]);
    let produced = connection.produce(&topic, 0, &batch.encode()).unwrap();
    assert_eq!(
        (produced.error_code, produced.base_offset),
        (error::NONE, 0)
    );
    let fetched = connection.fetch(&topic, 0, 0, 1000).unwrap();
    assert_eq!(fetched.high_watermark, 1);
}

/// Changes one key of a resource, and returns the error code.
fn alter(
    connection: &mut Connection,
    kind: i8,
    name: &str,
    key: &str,
    operation: i8,
    value: Option<&str>,
) -> i16 {
    let body = Frame::new().i32(1).i8(kind).string(name).i32(1);
    let body = body.string(key).i8(operation).nullable_string(value);
    let api_key = api::INCREMENTAL_ALTER_CONFIGS;
    let mut answer = connection.call(api_key, 0, &body.i8(0)).unwrap();
    answer.i32();
    assert_eq!(answer.i32(), 1, "resources");
    answer.i16()
}

/// Waits until something holds that a node does in its own time.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < FOLLOW_MAX,
            "not in {FOLLOW_MAX:?}: {what}"
        );
        sleep(Duration::from_millis(20));
    }
}
