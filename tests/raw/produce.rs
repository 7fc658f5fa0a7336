//! Producer sequences, acks, and offsets by time, at the level of the protocol.
//!
//! Input: well-formed batches in an order that no client would choose. Output: the protocol's error
//! codes and offsets.

use skein_tests::wire::{Batch, Connection, Record, api, error};
use skein_tests::{System, on_both};

use super::{assert_serves, connect, create, log_end};

on_both!(
    a_repeated_batch_gets_its_first_offset,
    a_gap_in_the_sequence_is_refused,
    an_older_producer_epoch_is_fenced,
    producer_ids_are_unique,
    wrong_acks_are_refused,
    an_error_with_acks_0_closes_the_connection,
    records_without_keys_are_named_where_a_topic_is_compacted,
    offsets_are_found_by_time_inside_batches,
    partitions_of_one_request_are_independent,
);

/// A batch of two records of an idempotent producer.
fn sequenced(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Vec<u8> {
    let batch = Batch {
        producer_id,
        producer_epoch,
        base_sequence,
        ..Batch::of(["a", "b"])
    };
    batch.encode()
}

fn a_repeated_batch_gets_its_first_offset(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let (producer_id, epoch) = connection.init_producer_id().unwrap();
    for index in 0..6 {
        let batch = sequenced(producer_id, epoch, 2 * index);
        let produced = connection.produce(&topic, 0, &batch).unwrap();
        let expected = (error::NONE, i64::from(2 * index));
        assert_eq!((produced.error_code, produced.base_offset), expected);
    }
    // The last five are remembered.
    for index in 1..6 {
        let batch = sequenced(producer_id, epoch, 2 * index);
        let produced = connection.produce(&topic, 0, &batch).unwrap();
        let expected = (error::NONE, i64::from(2 * index));
        assert_eq!(
            (produced.error_code, produced.base_offset),
            expected,
            "batch {index}"
        );
    }
    assert_eq!(log_end(system, &topic), 12);
}

fn a_gap_in_the_sequence_is_refused(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let (producer_id, epoch) = connection.init_producer_id().unwrap();
    connection
        .produce(&topic, 0, &sequenced(producer_id, epoch, 0))
        .unwrap();
    for sequence in [3, 1, 1000, i32::MAX] {
        let batch = sequenced(producer_id, epoch, sequence);
        let produced = connection.produce(&topic, 0, &batch).unwrap();
        let expected = error::OUT_OF_ORDER_SEQUENCE_NUMBER;
        assert_eq!(produced.error_code, expected, "sequence {sequence} after 1");
    }
    let produced = connection
        .produce(&topic, 0, &sequenced(producer_id, epoch, 2))
        .unwrap();
    assert_eq!(
        (produced.error_code, produced.base_offset),
        (error::NONE, 2)
    );
    assert_eq!(log_end(system, &topic), 4);
}

fn an_older_producer_epoch_is_fenced(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let (producer_id, epoch) = connection.init_producer_id().unwrap();
    let newer = sequenced(producer_id, epoch + 1, 0);
    assert_eq!(
        connection.produce(&topic, 0, &newer).unwrap().error_code,
        error::NONE
    );
    let older = sequenced(producer_id, epoch, 2);
    let produced = connection.produce(&topic, 0, &older).unwrap();
    assert_eq!(produced.error_code, error::INVALID_PRODUCER_EPOCH);
    // A new epoch starts at sequence 0.
    let newest = sequenced(producer_id, epoch + 2, 5);
    let produced = connection.produce(&topic, 0, &newest).unwrap();
    assert_eq!(produced.error_code, error::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(log_end(system, &topic), 2);
}

fn producer_ids_are_unique(system: System) {
    let mut connection = connect(system);
    let mut ids: Vec<(i64, i16)> = (0..100)
        .map(|_| connection.init_producer_id().unwrap())
        .collect();
    assert!(
        ids.iter()
            .all(|(producer_id, epoch)| *producer_id >= 0 && *epoch == 0)
    );
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100);
}

fn wrong_acks_are_refused(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let batch = Batch::of(["x"]).encode();
    for acks in [2, -2, i16::MAX] {
        let produced = connection.produce_as(7, acks, &topic, 0, &batch).unwrap();
        assert_eq!(
            produced.error_code,
            error::INVALID_REQUIRED_ACKS,
            "acks {acks}"
        );
    }
    assert_eq!(log_end(system, &topic), 0);
}

fn an_error_with_acks_0_closes_the_connection(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let good = Connection::produce_body(0, &topic, 0, &Batch::of(["x"]).encode());
    connection.send(api::PRODUCE, 7, &good).unwrap();
    // Nothing is sent back for it: the next answer is to this.
    assert_eq!(connection.list_offset(&topic, 0, -1).unwrap().2, 1);
    let wrong = Batch {
        crc: Some(1),
        ..Batch::of(["x"])
    };
    let wrong = Connection::produce_body(0, &topic, 0, &wrong.encode());
    connection.send(api::PRODUCE, 7, &wrong).unwrap();
    assert!(connection.is_closed_by_the_node());
    assert_eq!(log_end(system, &topic), 1);
    assert_serves(system);
}

fn offsets_are_found_by_time_inside_batches(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let base = Batch::of(["now"]).base_timestamp - 100_000;
    // Out of order, also inside a batch; the second batch is older than the first.
    for (shift, deltas) in [(5000, [0, 30, 10]), (0, [0, 10, 20]), (9000, [5, 0, 7])] {
        let record = |timestamp_delta| Record {
            timestamp_delta,
            ..Record::default()
        };
        let batch = Batch {
            base_timestamp: base + shift,
            records: deltas.map(record).to_vec(),
            ..Batch::of(["replaced"])
        };
        let produced = connection.produce(&topic, 0, &batch.encode()).unwrap();
        assert_eq!(produced.error_code, error::NONE);
    }
    for (timestamp, expected) in [
        (0, (5000, 0)),
        (base, (5000, 0)),
        (base + 5001, (5030, 1)),
        (base + 5030, (5030, 1)),
        (base + 5031, (9005, 6)),
        (base + 9006, (9007, 8)),
    ] {
        let found = connection.list_offset(&topic, 0, timestamp).unwrap();
        let expected = (error::NONE, base + expected.0, expected.1);
        assert_eq!(found, expected, "{} ms after the base", timestamp - base);
    }
    assert_eq!(
        connection.list_offset(&topic, 0, base + 9008).unwrap(),
        (error::NONE, -1, -1)
    );
    assert_eq!(
        connection.list_offset(&topic, 0, -2).unwrap(),
        (error::NONE, -1, 0)
    );
    assert_eq!(
        connection.list_offset(&topic, 0, -1).unwrap(),
        (error::NONE, -1, 9)
    );
}

fn partitions_of_one_request_are_independent(system: System) {
    let (first, second) = (create(system, &[]), create(system, &[]));
    let mut connection = connect(system);
    let good = Batch::of(["x"]).encode();
    let bad = Batch {
        crc: Some(1),
        ..Batch::of(["x"])
    };
    let mut body = Connection::produce_body(-1, &first, 0, &good);
    // One topic becomes three: the count stands behind transactional id, acks and timeout.
    body.0[8..12].copy_from_slice(&3_i32.to_be_bytes());
    for (topic, batch) in [("raw-absent", &good), (second.as_str(), &bad.encode())] {
        body = body.string(topic).i32(1).i32(0).bytes(batch);
    }
    let mut answer = connection.call(api::PRODUCE, 7, &body).unwrap();
    assert_eq!(answer.i32(), 3);
    let mut found = Vec::new();
    for _ in 0..3 {
        let topic = answer.string().unwrap();
        assert_eq!(answer.i32(), 1);
        answer.i32();
        found.push((topic, answer.i16()));
        answer.raw(8 + 8 + 8);
    }
    found.sort();
    let mut expected = vec![
        (first.clone(), error::NONE),
        ("raw-absent".to_owned(), error::UNKNOWN_TOPIC_OR_PARTITION),
        (second.clone(), error::CORRUPT_MESSAGE),
    ];
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!((log_end(system, &first), log_end(system, &second)), (1, 0));
}

fn records_without_keys_are_named_where_a_topic_is_compacted(system: System) {
    let topic = create(system, &[("cleanup.policy", "compact")]);
    let record = |key: Option<&str>| Record {
        key: key.map(|key| key.as_bytes().to_vec()),
        value: Some(b"value".to_vec()),
        ..Record::default()
    };
    let batch = Batch {
        records: vec![
            record(Some("a")),
            record(None),
            record(Some("")),
            record(None),
        ],
        ..Batch::of([""])
    };
    let body = Connection::produce_body(-1, &topic, 0, &batch.encode());
    let mut answer = connect(system).call(api::PRODUCE, 8, &body).unwrap();
    let produced = Connection::produced(&mut answer);
    assert_eq!(produced.error_code, error::INVALID_RECORD);
    let (_append_time, _log_start_offset) = (answer.i64(), answer.i64());
    let errors: Vec<(i32, bool)> = (0..answer.i32())
        .map(|_| {
            (
                answer.i32(),
                answer.string().is_some_and(|text| text.contains("key")),
            )
        })
        .collect();
    assert_eq!(errors, [(1, true), (3, true)]);
    assert!(answer.string().is_some(), "there is no message");
    assert_eq!(log_end(system, &topic), 0);
    // An empty key is one, and a tombstone is a record.
    let tombstone = Record {
        key: Some(Vec::new()),
        ..Record::default()
    };
    let batch = Batch {
        records: vec![record(Some("")), tombstone],
        ..Batch::of([""])
    };
    let produced = connect(system).produce(&topic, 0, &batch.encode()).unwrap();
    assert_eq!(produced.error_code, error::NONE);
    assert_eq!(log_end(system, &topic), 2);
}
