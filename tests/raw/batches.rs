//! Every check that the header of a batch allows.
//!
//! Input: batches with one wrong field each. Output: the error code for that partition, and nothing
//! appended. Where Kafka's code says only that something unexpected happened, Skein is held to a
//! precise one.

use skein_tests::wire::error::{
    self, CORRUPT_MESSAGE, INVALID_RECORD, INVALID_TIMESTAMP, NONE, UNKNOWN_SERVER_ERROR,
    UNSUPPORTED_COMPRESSION_TYPE,
};
use skein_tests::wire::{Batch, Record};
use skein_tests::{System, on_both};

use super::{assert_serves, connect, create, log_end};

on_both!(
    a_wrong_batch_is_refused_and_not_appended,
    zstd_needs_produce_7,
    a_batch_above_max_message_bytes_is_too_large,
    timestamps_outside_the_allowed_range_are_invalid,
);

/// What one batch is wrong in, its bytes, and the error codes that say so: Kafka's and those Skein
/// may choose from.
struct Wrong {
    what: &'static str,
    records: Vec<u8>,
    kafka: i16,
    skein: &'static [i16],
}

/// A header with one wrong field: what, Kafka's error, Skein's errors, the change.
type WrongHeader = (&'static str, i16, &'static [i16], fn(&mut Batch));

const RECORD: &[i16] = &[INVALID_RECORD];
const CORRUPT: &[i16] = &[CORRUPT_MESSAGE];
const EITHER: &[i16] = &[INVALID_RECORD, CORRUPT_MESSAGE];
const UNAUTHORIZED: i16 = error::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
const TRANSACTION: &[i16] = &[UNAUTHORIZED, INVALID_RECORD];
const TIMESTAMP: &[i16] = &[INVALID_TIMESTAMP];
const CODEC: &[i16] = &[UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD];

#[rustfmt::skip]
const WRONG_HEADERS: &[WrongHeader] = &[
    ("crc", CORRUPT_MESSAGE, CORRUPT, |batch| batch.crc = Some(1)),
    ("magic 1", INVALID_RECORD, EITHER, |batch| batch.magic = 1),
    ("magic 0", INVALID_RECORD, EITHER, |batch| batch.magic = 0),
    ("magic 3", CORRUPT_MESSAGE, EITHER, |batch| batch.magic = 3),
    ("magic -1", CORRUPT_MESSAGE, EITHER, |batch| batch.magic = -1),
    ("base offset", INVALID_RECORD, RECORD, |batch| batch.base_offset = 7),
    ("negative base offset", INVALID_RECORD, RECORD, |batch| batch.base_offset = -1),
    ("length too short", CORRUPT_MESSAGE, EITHER, |batch| batch.length = Some(20)),
    ("length of nothing", CORRUPT_MESSAGE, EITHER, |batch| batch.length = Some(0)),
    ("negative length", CORRUPT_MESSAGE, EITHER, |batch| batch.length = Some(-1)),
    ("length too long", INVALID_RECORD, EITHER, |batch| batch.length = Some(1 << 20)),
    ("the largest length", UNKNOWN_SERVER_ERROR, EITHER, |batch| batch.length = Some(i32::MAX)),
    ("count above offsets", INVALID_RECORD, RECORD, |batch| batch.record_count = Some(4)),
    ("count below offsets", INVALID_RECORD, RECORD, |batch| batch.record_count = Some(2)),
    ("negative count", INVALID_RECORD, RECORD, |batch| batch.record_count = Some(-1)),
    ("burnt offsets", INVALID_RECORD, RECORD, |batch| batch.last_offset_delta = Some(1 << 30)),
    ("negative offsets", INVALID_RECORD, RECORD, |batch| batch.last_offset_delta = Some(-2)),
    ("no records", INVALID_RECORD, RECORD, |batch| batch.records.clear()),
    ("a control batch", INVALID_RECORD, RECORD, |batch| batch.attributes = 1 << 5),
    ("an unknown codec", UNKNOWN_SERVER_ERROR, CODEC, |batch| batch.attributes = 5),
    ("the last codec", UNKNOWN_SERVER_ERROR, CODEC, |batch| batch.attributes = 7),
    ("a transaction of nobody", UNAUTHORIZED, TRANSACTION, |batch| batch.attributes = 1 << 4),
    ("an id without a sequence", INVALID_RECORD, RECORD, |batch| batch.producer_id = 4_000),
];

/// What Kafka lets pass or mends, and Skein, which changes no batch, refuses: no client sends
/// these.
#[rustfmt::skip]
const REFUSED_BY_SKEIN: &[WrongHeader] = &[
    ("timestamps of a log", NONE, TIMESTAMP, |batch| batch.attributes = 1 << 3),
    ("a delete horizon", NONE, RECORD, |batch| batch.attributes = 1 << 6),
];

fn three() -> Batch {
    Batch::of(["1", "2", "3"])
}

fn wrong_batches() -> Vec<Wrong> {
    let good = three().encode();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let twice = [good.clone(), good.clone()].concat();
    let bytes: [(&'static str, i16, &'static [i16], &[u8]); 6] = [
        ("no batch", INVALID_RECORD, EITHER, &[]),
        ("two batches", INVALID_RECORD, RECORD, &twice),
        ("a bit flipped", CORRUPT_MESSAGE, CORRUPT, &flipped),
        (
            "cut in its records",
            INVALID_RECORD,
            EITHER,
            &good[..good.len() - 1],
        ),
        ("cut in its header", INVALID_RECORD, EITHER, &good[..40]),
        ("cut in its length", INVALID_RECORD, EITHER, &good[..10]),
    ];
    let wrong = |what, kafka, skein, records| Wrong {
        what,
        records,
        kafka,
        skein,
    };
    let bytes = bytes
        .into_iter()
        .map(|(what, kafka, skein, records)| wrong(what, kafka, skein, records.to_vec()));
    let headers = WRONG_HEADERS.iter().map(wrong_header);
    bytes.chain(headers).collect()
}

fn wrong_header((what, kafka, skein, change): &WrongHeader) -> Wrong {
    let mut batch = three();
    change(&mut batch);
    Wrong {
        what,
        records: batch.encode(),
        kafka: *kafka,
        skein,
    }
}

fn a_wrong_batch_is_refused_and_not_appended(system: System) {
    assert_refused(system, wrong_batches());
    assert_serves(system);
}

#[test]
fn skein_refuses_what_kafka_lets_pass() {
    let cases = REFUSED_BY_SKEIN.iter().map(wrong_header).collect();
    assert_refused(System::Skein, cases);
}

/// Sends all cases, then a batch that is right and must be the first of the log.
fn assert_refused(system: System, cases: Vec<Wrong>) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let mut failures = Vec::new();
    for wrong in cases {
        let found = match connection.produce(&topic, 0, &wrong.records) {
            Ok(produced) => produced.error_code,
            Err(error) => {
                failures.push(format!("{}: {error}", wrong.what));
                connection = connect(system);
                continue;
            }
        };
        let allowed = match system {
            System::Kafka => &[wrong.kafka],
            System::Skein => wrong.skein,
        };
        if !allowed.contains(&found) {
            failures.push(format!(
                "{}: error {found} instead of {allowed:?}",
                wrong.what
            ));
        }
        let end = connection.list_offset(&topic, 0, -1).unwrap().2;
        if end != 0 {
            failures.push(format!(
                "{}: it was appended, the log ends at {end}",
                wrong.what
            ));
            break;
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    let produced = connection.produce(&topic, 0, &three().encode()).unwrap();
    assert_eq!((produced.error_code, produced.base_offset), (NONE, 0));
}

fn zstd_needs_produce_7(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    // The empty zstd frame, in which no records are: a broker that looks inside would refuse it for
    // that.
    let batch = Batch {
        attributes: 4,
        ..three()
    };
    let produced = connection
        .produce_as(6, -1, &topic, 0, &batch.encode())
        .unwrap();
    assert_eq!(produced.error_code, UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(log_end(system, &topic), 0);
}

fn a_batch_above_max_message_bytes_is_too_large(system: System) {
    let topic = create(system, &[("max.message.bytes", "1000")]);
    let mut connection = connect(system);
    let overhead = Batch::of([[0; 900]]).encode().len() - 900;
    for (size, error_code) in [
        (1000 - overhead, NONE),
        (1001 - overhead, error::MESSAGE_TOO_LARGE),
        (100_000, error::MESSAGE_TOO_LARGE),
    ] {
        let batch = Batch::of([vec![7; size]]).encode();
        let produced = connection.produce(&topic, 0, &batch).unwrap();
        assert_eq!(
            produced.error_code,
            error_code,
            "a batch of {} bytes",
            batch.len()
        );
    }
    assert_eq!(log_end(system, &topic), 1);
    let largest = create(system, &[]);
    for (size, error_code) in [
        (1_048_000, NONE),
        (1_048_588, error::MESSAGE_TOO_LARGE),
        (20 << 20, error::MESSAGE_TOO_LARGE),
    ] {
        let batch = Batch::of([vec![7; size]]).encode();
        let produced = connection.produce(&largest, 0, &batch).unwrap();
        assert_eq!(produced.error_code, error_code, "a record of {size} bytes");
    }
    assert_eq!(log_end(system, &largest), 1);
    assert_serves(system);
}

fn timestamps_outside_the_allowed_range_are_invalid(system: System) {
    const HOUR_MS: i64 = 3_600_000;
    let configs = [("message.timestamp.before.max.ms", "60000")];
    let topic = create(system, &configs);
    let mut connection = connect(system);
    let now = three().base_timestamp;
    for (shift, error_code) in [
        (-HOUR_MS, INVALID_TIMESTAMP),
        (2 * HOUR_MS, INVALID_TIMESTAMP),
        (-50_000, NONE),
        (HOUR_MS - 60_000, NONE),
    ] {
        let batch = Batch {
            base_timestamp: now + shift,
            ..three()
        };
        let produced = connection.produce(&topic, 0, &batch.encode()).unwrap();
        assert_eq!(produced.error_code, error_code, "{shift} ms from now");
    }
    let record = |timestamp_delta| Record {
        timestamp_delta,
        ..Record::default()
    };
    let batch = Batch {
        records: vec![record(0), record(2 * HOUR_MS)],
        ..three()
    };
    let produced = connection.produce(&topic, 0, &batch.encode()).unwrap();
    assert_eq!(produced.error_code, INVALID_TIMESTAMP, "one record of two");
    assert_eq!(log_end(system, &topic), 6);
}
