//! Answers in which both systems must agree to the field.
//!
//! Input: well-formed requests that ask for something unusual. Output: error codes, epochs, types.

use std::thread::sleep;
use std::time::Duration;

use skein_tests::wire::{Batch, Connection, Frame, api, error};
use skein_tests::{System, on_both};

use super::{APPEND, DELETE, SET, SUBTRACT, alter, assert_serves, connect, create};

on_both!(
    a_reader_of_what_is_not_there_any_more_is_told_where_the_logs_part,
    a_special_timestamp_is_unknown_before_its_version,
    an_empty_log_begins_in_its_leaders_epoch,
    a_partition_asked_for_twice_is_an_invalid_request,
    alterations_are_refused_with_kafkas_codes,
    a_topic_id_is_too_early_for_metadata_10,
    a_topic_that_is_named_twice_is_told_once,
    the_name_of_the_metadata_log_is_not_given_to_a_topic,
    software_without_a_name_gets_no_table,
    keys_have_kafkas_types,
    a_topics_codec_is_forced_on_its_batches,
);

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Fetches from partition 0, version 12: error code, and epoch and end where the log diverges.
fn fetch_after(topic: &str, offset: i64, epoch: i32, at: System) -> (i16, Option<(i32, i64)>) {
    // Flexible versions have tags in the header, behind the client's name.
    let body = Frame::new().uvarint(0);
    let body = body.i32(-1).i32(0).i32(1).i32(1 << 20).i8(0);
    let body = body.i32(0).i32(-1).uvarint(2);
    let name = topic.as_bytes();
    let body = body
        .uvarint(u32::try_from(name.len()).unwrap() + 1)
        .raw(name);
    let body = body.uvarint(2).i32(0).i32(-1).i64(offset).i32(epoch);
    let body = body.i64(-1).i32(1 << 20).uvarint(0).uvarint(0);
    // No forgotten topics, no rack.
    let body = body.uvarint(1).uvarint(1).uvarint(0);
    let mut answer = connect(at).call(api::FETCH, 12, &body).unwrap();
    answer.tags();
    assert_eq!((answer.i32(), answer.i16()), (0, error::NONE));
    answer.i32();
    assert_eq!(answer.uvarint(), 2, "one topic");
    answer.compact_string();
    assert_eq!(answer.uvarint(), 2, "one partition");
    answer.i32();
    let error_code = answer.i16();
    answer.raw(3 * 8);
    assert!(answer.uvarint() <= 1, "no aborted transactions");
    answer.i32();
    let length = answer.uvarint().saturating_sub(1);
    answer.raw(usize::try_from(length).unwrap());
    let diverging = (answer.uvarint() == 1).then(|| {
        assert_eq!(answer.uvarint(), 0, "the tag of the diverging epoch");
        answer.uvarint();
        (answer.i32(), answer.i64())
    });
    (error_code, diverging)
}

fn a_reader_of_what_is_not_there_any_more_is_told_where_the_logs_part(system: System) {
    let topic = create(system, &[]);
    let batch = Batch::of(["1", "2", "3"]).encode();
    connect(system).produce(&topic, 0, &batch).unwrap();
    let fetch = |offset, epoch| fetch_after(&topic, offset, epoch, system);
    assert_eq!(fetch(3, 0), (error::NONE, None));
    assert_eq!(fetch(9, 0), (error::NONE, Some((0, 3))));
    assert_eq!(fetch(9, -1), (error::OFFSET_OUT_OF_RANGE, None));
    assert_eq!(fetch(1, 7), (error::OFFSET_OUT_OF_RANGE, None));
    assert_serves(system);
}

/// Asks for the offsets of `partitions` of a topic, version 4: error codes and leader epochs.
fn list_offsets(at: System, topic: &str, asked: &[(i32, i64)]) -> Vec<(i16, i32)> {
    let count = i32::try_from(asked.len()).unwrap();
    let mut body = Frame::new().i32(-1).i8(0).i32(1).string(topic).i32(count);
    for (partition, timestamp) in asked {
        body = body.i32(*partition).i32(-1).i64(*timestamp);
    }
    let mut answer = connect(at).call(api::LIST_OFFSETS, 4, &body).unwrap();
    answer.i32();
    assert_eq!(answer.i32(), 1, "topics");
    answer.string();
    let count = answer.i32();
    (0..count)
        .map(|_| {
            answer.i32();
            let error_code = answer.i16();
            answer.raw(2 * 8);
            (error_code, answer.i32())
        })
        .collect()
}

fn a_special_timestamp_is_unknown_before_its_version(system: System) {
    let topic = create(system, &[]);
    for timestamp in [-3, -4, -5, -6, -99, i64::MIN] {
        let expected = [(error::UNSUPPORTED_VERSION, -1)];
        assert_eq!(list_offsets(system, &topic, &[(0, timestamp)]), expected);
    }
}

fn an_empty_log_begins_in_its_leaders_epoch(system: System) {
    let topic = create(system, &[]);
    for earliest_and_latest in [-2, -1] {
        let found = list_offsets(system, &topic, &[(0, earliest_and_latest)]);
        assert_eq!(found, [(error::NONE, 0)], "{earliest_and_latest}");
    }
}

fn a_partition_asked_for_twice_is_an_invalid_request(system: System) {
    let topic = create(system, &[]);
    let found = list_offsets(system, &topic, &[(0, -1), (0, -2)]);
    assert!(!found.is_empty());
    assert!(found.iter().all(|one| *one == (error::INVALID_REQUEST, -1)));
}

fn alterations_are_refused_with_kafkas_codes(system: System) {
    let topic = &create(system, &[]);
    let alter = |kind, name, key, operation, value| {
        alter(&mut connect(system), kind, name, key, operation, value)
    };
    let of_topic = |key, operation, value| alter(TOPIC, topic, key, operation, value);
    let (invalid, unchanged) = (error::INVALID_CONFIG, error::NONE);
    assert_eq!(of_topic("no.such.key", SET, Some("1")), invalid);
    assert_eq!(of_topic("no.such.key", DELETE, None), unchanged);
    assert_eq!(of_topic("retention.ms", SET, Some("x")), invalid);
    assert_eq!(of_topic("retention.ms", SET, None), error::INVALID_REQUEST);
    assert_eq!(of_topic("retention.ms", APPEND, Some("1")), invalid);
    assert_eq!(of_topic("retention.ms", SUBTRACT, Some("1")), invalid);
    assert_eq!(
        of_topic("cleanup.policy", SUBTRACT, Some("delete")),
        error::NONE
    );
    assert_eq!(of_topic("cleanup.policy", APPEND, Some("shrink")), invalid);
    assert_eq!(
        of_topic("remote.storage.enable", SET, Some("true")),
        invalid
    );

    let of = |name, expected| {
        let code = alter(TOPIC, name, "retention.ms", SET, Some("1"));
        assert_eq!(code, expected, "topic {name:?}");
    };
    of("", error::INVALID_REQUEST);
    of("a/b", error::INVALID_TOPIC_EXCEPTION);
    of("raw-absent", error::UNKNOWN_TOPIC_OR_PARTITION);

    for name in ["1", ""] {
        let of_broker = |key, operation, value| alter(BROKER, name, key, operation, value);
        let refused = error::INVALID_REQUEST;
        assert_eq!(of_broker("log.retention.ms", SET, Some("x")), refused);
        assert_eq!(of_broker("num.partitions", SET, Some("3")), refused);
        assert_eq!(of_broker("log.retention.ms", APPEND, Some("1")), invalid);
        assert_eq!(of_broker("no.such.key", DELETE, None), unchanged);
    }
    let code = alter(BROKER, "77", "log.retention.ms", SET, Some("1"));
    assert_eq!(code, error::INVALID_REQUEST);
    assert_serves(system);
}

fn a_topic_id_is_too_early_for_metadata_10(system: System) {
    let body = Frame::new().uvarint(0);
    let body = body.uvarint(2).raw(b"there is no such").uvarint(0);
    let body = body.uvarint(0).i8(0).i8(0).i8(0).uvarint(0);
    let mut answer = connect(system).call(api::METADATA, 10, &body).unwrap();
    answer.tags();
    answer.i32();
    assert_eq!(answer.uvarint(), 1, "no brokers");
    answer.compact_string();
    answer.i32();
    assert_eq!(answer.uvarint(), 2, "one topic");
    assert_eq!(answer.i16(), error::INVALID_REQUEST);
}

fn a_topic_that_is_named_twice_is_told_once(system: System) {
    let topic = create(system, &[]);
    let body = Frame::new().i32(3).string(&topic).string("absent");
    let body = body.string(&topic);
    let mut answer = connect(system).call(api::METADATA, 1, &body).unwrap();
    assert_eq!(answer.i32(), 1, "brokers");
    answer.i32();
    answer.string();
    answer.i32();
    // No rack; then the controller.
    assert_eq!(answer.string(), None);
    answer.i32();
    assert_eq!(answer.i32(), 2, "topics");
}

fn the_name_of_the_metadata_log_is_not_given_to_a_topic(system: System) {
    let mut connection = connect(system);
    for auto_create in [true, false] {
        let code = connection
            .metadata("__cluster_metadata", auto_create)
            .unwrap();
        assert_eq!(code, error::UNKNOWN_TOPIC_OR_PARTITION);
        sleep(Duration::from_millis(100));
    }
}

fn software_without_a_name_gets_no_table(system: System) {
    let ask = |name: &str, version: &str| {
        let compact = |frame: Frame, text: &str| {
            let length = u32::try_from(text.len()).unwrap() + 1;
            frame.uvarint(length).raw(text.as_bytes())
        };
        let body = compact(compact(Frame::new().uvarint(0), name), version).uvarint(0);
        let mut connection = connect(system);
        connection.send(api::API_VERSIONS, 3, &body).unwrap();
        // The header of this answer has no tags in any version.
        let mut answer = connection.receive().unwrap();
        (answer.i16(), answer.uvarint() > 1)
    };
    assert_eq!(ask("raw", "1.0"), (error::NONE, true));
    for (name, version) in [("", "1"), ("raw", ""), ("a b", "1"), ("-a", "1")] {
        let expected = (error::INVALID_REQUEST, false);
        assert_eq!(ask(name, version), expected, "{name:?} {version:?}");
    }
}

/// The types of some keys of the broker, DescribeConfigs version 3.
fn types(connection: &mut Connection, keys: &[&str]) -> Vec<(String, i8)> {
    let count = i32::try_from(keys.len()).unwrap();
    let mut body = Frame::new().i32(1).i8(BROKER).string("1").i32(count);
    for key in keys {
        body = body.string(key);
    }
    let body = body.i8(0).i8(0);
    let mut answer = connection.call(api::DESCRIBE_CONFIGS, 3, &body).unwrap();
    answer.i32();
    assert_eq!((answer.i32(), answer.i16()), (1, error::NONE));
    assert_eq!(answer.string().as_deref(), Some(""), "no message");
    answer.i8();
    answer.string();
    let count = answer.i32();
    let mut found: Vec<_> = (0..count)
        .map(|_| {
            let name = answer.string().unwrap();
            answer.string();
            answer.raw(3);
            assert_eq!(answer.i32(), 0, "no synonyms");
            let config_type = answer.i8();
            answer.string();
            (name, config_type)
        })
        .collect();
    found.sort();
    found
}

fn keys_have_kafkas_types(system: System) {
    const STRING: i8 = 2;
    const LIST: i8 = 7;
    let expected = [
        ("advertised.listeners", STRING),
        ("listener.security.protocol.map", STRING),
        ("listeners", STRING),
        ("log.cleanup.policy", LIST),
        ("log.dirs", STRING),
        ("max.connections.per.ip.overrides", STRING),
    ];
    let keys = expected.map(|(key, _)| key);
    let expected = expected.map(|(key, config_type)| (key.to_owned(), config_type));
    assert_eq!(types(&mut connect(system), &keys), expected);
}

/// The low bits of a batch's attributes, and the codecs that a topic may name.
const CODECS: [(&str, u8); 5] = [
    ("uncompressed", 0),
    ("gzip", 1),
    ("snappy", 2),
    ("lz4", 3),
    ("zstd", 4),
];

fn a_topics_codec_is_forced_on_its_batches(system: System) {
    const ATTRIBUTES_LOW_BYTE: usize = 22;
    let values: Vec<String> = (0..50).map(|number| format!("value {number}")).collect();
    let plain = Batch::of(&values).encode();
    for (name, id) in CODECS {
        let topic = create(system, &[("compression.type", name)]);
        let mut connection = connect(system);
        connection.produce(&topic, 0, &plain).unwrap();
        let packed = connection.fetch(&topic, 0, 0, 1000).unwrap().records;
        assert_eq!(packed[ATTRIBUTES_LOW_BYTE] & 7, id, "{name}");
        let is_as_sent = records_of(&packed) == records_of(&plain);
        assert_eq!(is_as_sent, id == 0, "{name}");
        // Through a topic that forces none of it, the records come back as they were sent.
        let unpacking = create(system, &[("compression.type", "uncompressed")]);
        let mut sent = packed;
        sent[..8].fill(0);
        let produced = connection.produce(&unpacking, 0, &sent).unwrap();
        assert_eq!(produced.error_code, error::NONE, "{name}");
        let unpacked = connection.fetch(&unpacking, 0, 0, 1000).unwrap().records;
        assert_eq!(records_of(&unpacked), records_of(&plain), "{name}");
    }
    let topic = create(system, &[("compression.type", "zstd")]);
    let mut garbage = Batch::of(["x".repeat(50)]);
    garbage.attributes = 1;
    let produced = connect(system)
        .produce(&topic, 0, &garbage.encode())
        .unwrap();
    assert_ne!(produced.error_code, error::NONE, "no gzip");
    assert_serves(system);
}

/// What stands behind the header of a batch.
fn records_of(batch: &[u8]) -> &[u8] {
    &batch[61..]
}
