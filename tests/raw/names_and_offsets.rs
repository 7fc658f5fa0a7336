//! Topics, partitions and offsets that are not there, and names that can't be.
//!
//! Input: requests that are well-formed. Output: the error code for just that partition or topic.

use std::fs;
use std::time::{Duration, Instant};

use skein_tests::wire::{Batch, Connection, FetchLimits, Frame, api, error};
use skein_tests::{Node, System, on_both};

use super::{assert_serves, connect, create};

on_both!(
    unknown_topics_and_partitions_are_named_as_such,
    unknown_topic_ids_are_named_as_such,
    offsets_outside_the_log_are_out_of_range,
    a_fetch_at_the_end_waits_and_is_woken,
    illegal_topic_names_are_refused_and_leave_nothing,
    wrong_partition_counts_and_configs_are_refused,
    a_fetch_returns_the_batch_as_it_was_sent,
    a_fetch_obeys_its_limits,
);

/// Longer than anybody waits for an answer here.
const FOR_EVER_MS: i32 = 120_000;

const UNKNOWN_ID: [u8; 16] = *b"there is no such";

fn unknown_topics_and_partitions_are_named_as_such(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let batch = Batch::of(["x"]).encode();
    for (name, partition) in [("raw-absent", 0), (topic.as_str(), 1), (topic.as_str(), -1)] {
        let expected = error::UNKNOWN_TOPIC_OR_PARTITION;
        let place = format!("{name}-{partition}");
        let produced = connection.produce(name, partition, &batch).unwrap();
        assert_eq!(produced.error_code, expected, "produce to {place}");
        let fetched = connection.fetch(name, partition, 0, 0).unwrap();
        assert_eq!(fetched.error_code, expected, "fetch from {place}");
        let listed = connection.list_offset(name, partition, -1).unwrap();
        assert_eq!(listed.0, expected, "offsets of {place}");
    }
    let absent = connection.metadata("raw-absent", false).unwrap();
    assert_eq!(absent, error::UNKNOWN_TOPIC_OR_PARTITION);
    assert_serves(system);
}

fn unknown_topic_ids_are_named_as_such(system: System) {
    let mut connection = connect(system);
    assert_eq!(
        connection.fetch_by_id(UNKNOWN_ID).unwrap(),
        error::UNKNOWN_TOPIC_ID
    );
    assert_eq!(
        connection.metadata_by_id(UNKNOWN_ID).unwrap(),
        error::UNKNOWN_TOPIC_ID
    );
    assert_serves(system);
}

fn offsets_outside_the_log_are_out_of_range(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    connection
        .produce(&topic, 0, &Batch::of(["1", "2", "3"]).encode())
        .unwrap();
    for offset in [-1, -2, i64::MIN, 4, 5, i64::MAX] {
        let fetched = connection.fetch(&topic, 0, offset, 0).unwrap();
        assert_eq!(
            fetched.error_code,
            error::OFFSET_OUT_OF_RANGE,
            "offset {offset}"
        );
        assert!(fetched.records.is_empty(), "offset {offset}");
    }
    assert_serves(system);
}

fn a_fetch_at_the_end_waits_and_is_woken(system: System) {
    let topic = create(system, &[]);
    let mut reader = connect(system);
    let started = Instant::now();
    let fetched = reader.fetch(&topic, 0, 0, 300).unwrap();
    let waited = started.elapsed();
    assert_eq!(
        (fetched.error_code, fetched.records.len()),
        (error::NONE, 0)
    );
    assert!(
        waited >= Duration::from_millis(250),
        "it did not wait: {waited:?}"
    );

    let body = Connection::fetch_body(&topic, 0, 0, FOR_EVER_MS);
    reader.send(api::FETCH, 4, &body).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let batch = Batch::of(["wake up"]).encode();
    connect(system).produce(&topic, 0, &batch).unwrap();
    let mut answer = reader.receive().unwrap();
    let fetched = Connection::fetched(&mut answer);
    assert_eq!(fetched.records.len(), batch.len());
}

fn illegal_topic_names_are_refused_and_leave_nothing(system: System) {
    let node = Node::shared(system);
    let before = directories(node);
    let long = "x".repeat(250);
    let names = [
        "", ".", "..", "a/b", "/etc", "../up", "a\\b", "a b", "a\0b", "a\nb", "ä", "a:b", &long,
    ];
    let mut connection = connect(system);
    for name in names {
        let created = connection.create_topic(name, 1, &[]).unwrap();
        assert_eq!(created, error::INVALID_TOPIC_EXCEPTION, "create {name:?}");
        let described = connection.metadata(name, true).unwrap();
        assert_eq!(
            described,
            error::INVALID_TOPIC_EXCEPTION,
            "auto-create {name:?}"
        );
    }
    let unexpected: Vec<String> = directories(node)
        .into_iter()
        .filter(|name| !before.contains(name))
        // Those that other tests make meanwhile.
        .filter(|name| !name.starts_with("raw-") && !name.starts_with("__consumer_offsets-"))
        .collect();
    assert_eq!(unexpected, Vec::<String>::new());
    // One byte less is legal, and so is every other character.
    let longest = format!("{}-_.{}", "y".repeat(200), "Z9".repeat(23));
    assert_eq!(longest.len(), 249);
    assert_eq!(
        connection.create_topic(&longest, 1, &[]).unwrap(),
        error::NONE
    );
    assert_serves(system);
}

fn wrong_partition_counts_and_configs_are_refused(system: System) {
    let mut connection = connect(system);
    let mut create = |name: &str, partitions, configs: &[(&str, &str)]| {
        connection.create_topic(name, partitions, configs).unwrap()
    };
    assert_eq!(create("raw-counts-0", 0, &[]), error::INVALID_PARTITIONS);
    assert_eq!(create("raw-counts-n", -2, &[]), error::INVALID_PARTITIONS);
    let configs = [
        ("retention.millis", "1"),
        ("retention.ms", "soon"),
        ("segment.bytes", "0"),
        ("cleanup.policy", "shred"),
        ("compression.type", "rar"),
        ("", ""),
    ];
    for config in configs {
        let error_code = create("raw-counts-c", 1, &[config]);
        assert_eq!(error_code, error::INVALID_CONFIG, "{config:?}");
    }
    assert_eq!(create("raw-counts-c", 1, &[]), error::NONE);
    assert_eq!(create("raw-counts-c", 1, &[]), error::TOPIC_ALREADY_EXISTS);
}

fn a_fetch_returns_the_batch_as_it_was_sent(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let batches = [
        Batch::of(["a", "b", "c"]).encode(),
        Batch::of(["d", "e"]).encode(),
    ];
    for (batch, base_offset) in batches.iter().zip([0, 3]) {
        let produced = connection.produce(&topic, 0, batch).unwrap();
        assert_eq!(
            (produced.error_code, produced.base_offset),
            (error::NONE, base_offset)
        );
    }
    // From its middle, a batch comes whole; only base offset and leader epoch have changed.
    for (offset, from) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)] {
        let fetched = connection.fetch(&topic, 0, offset, 0).unwrap();
        let mut expected = Vec::new();
        for (batch, base_offset) in batches.iter().zip([0_i64, 3]).skip(from) {
            let epoch = Frame::new().i32(0).0;
            expected.extend(base_offset.to_be_bytes());
            expected.extend_from_slice(&batch[8..12]);
            expected.extend(epoch);
            expected.extend_from_slice(&batch[16..]);
        }
        assert_eq!(fetched.records, expected, "from offset {offset}");
    }
}

fn a_fetch_obeys_its_limits(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let batch = Batch::of([[7; 10_000]]).encode();
    for _ in 0..5 {
        connection.produce(&topic, 0, &batch).unwrap();
    }
    let mut fetch = |limits| {
        let body = Connection::limited_fetch_body(&topic, 0, 0, limits);
        let started = Instant::now();
        let mut answer = connection.call(api::FETCH, 4, &body).unwrap();
        let fetched = Connection::fetched(&mut answer);
        assert_eq!(fetched.error_code, error::NONE, "{limits:?}");
        (fetched.records.len(), started.elapsed())
    };
    let all = FetchLimits::default();
    assert_eq!(fetch(all).0, 5 * batch.len());
    // A batch above the limit comes nevertheless, or its reader would never get past it.
    for limit in [0, 1, 9_000] {
        let (length, _) = fetch(FetchLimits {
            partition_max_bytes: limit,
            ..all
        });
        assert_eq!(length, batch.len(), "partition_max_bytes {limit}");
        let (length, _) = fetch(FetchLimits {
            max_bytes: limit,
            ..all
        });
        assert_eq!(length, batch.len(), "max_bytes {limit}");
    }
    for limit in [25_000, 45_000] {
        let (length, _) = fetch(FetchLimits {
            partition_max_bytes: limit,
            ..all
        });
        let length = i32::try_from(length).unwrap();
        assert!(
            (limit - 11_000..=limit).contains(&length),
            "{length} bytes of at most {limit}"
        );
    }
    // Too little is there: it waits for more, and gives what there is in the end.
    let limits = FetchLimits {
        max_wait_ms: 300,
        min_bytes: 100_000,
        ..all
    };
    let (length, waited) = fetch(limits);
    assert_eq!(length, 5 * batch.len());
    assert!(waited >= Duration::from_millis(250), "{waited:?}");
    let (length, _) = fetch(FetchLimits {
        max_wait_ms: FOR_EVER_MS,
        min_bytes: 40_000,
        ..limits
    });
    assert_eq!(length, 5 * batch.len());
}

/// The directories in the node's data directory; files come and go by themselves.
fn directories(node: &Node) -> Vec<String> {
    fs::read_dir(node.data_directory())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}
