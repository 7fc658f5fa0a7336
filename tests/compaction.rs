//! What compaction leaves is what Apache Kafka's leaves, and Kafka's tools read it.
//!
//! Input: keyed records, with tombstones, in topics of every codec; a node that compacts often.
//! Output: below the cleaner's checkpoint exactly the last record of each key is there, at its
//! offset, with its value; behind it everything. `kafka-dump-log` reads it from the files.
//!
//! Both systems are held against the same list, so each leaves what the other does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::collections::BTreeMap;

use skein_tests::compacted::{Told, compacted_end, dump, survivors, to_record};
use skein_tests::wire::{Batch, Connection, error};
use skein_tests::{Node, Settings, System, on_both};

on_both!(the_last_record_of_each_key_stays);

const SETTINGS: Settings<'static> = &[
    ("log.cleaner.backoff.ms", "50"),
    ("log.segment.delete.delay.ms", "0"),
];
const COMPACTED: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    // The least that there is.
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.01"),
];
const CODECS: [&str; 5] = ["uncompressed", "gzip", "snappy", "lz4", "zstd"];
/// In which tombstones go at once when they may.
const IMPATIENT: &str = "impatient";

const KEYS: u64 = 97;
const BATCHES: usize = 240;
const RECORDS_IN_BATCH: usize = 40;
const VALUE_CHARACTERS: usize = 250;
const TOMBSTONE_ONE_IN: u64 = 13;

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn record(&mut self) -> Told {
        let key = format!("key-{}", self.next() % KEYS);
        let is_tombstone = self.next().is_multiple_of(TOMBSTONE_ONE_IN);
        let characters = (0..VALUE_CHARACTERS).map(|_| {
            let letter = u8::try_from(self.next() % 26).unwrap();
            char::from(b'a' + letter)
        });
        let value: String = characters.collect();
        (key, (!is_tombstone).then_some(value))
    }
}

/// Writes batches to partition 0, and adds their records to those that were written.
fn write(node: &Node, topic: &str, numbers: &mut Numbers, written: &mut Vec<Told>) {
    let mut connection = Connection::open(node.ports().client).unwrap();
    for _ in 0..BATCHES {
        let records: Vec<Told> = (0..RECORDS_IN_BATCH).map(|_| numbers.record()).collect();
        let batch = Batch {
            records: records.iter().map(to_record).collect(),
            ..Batch::of([""])
        };
        let produced = connection.produce(topic, 0, &batch.encode()).unwrap();
        let expected = i64::try_from(written.len()).unwrap();
        assert_eq!(
            (produced.error_code, produced.base_offset),
            (error::NONE, expected)
        );
        written.extend(records);
    }
}

fn the_last_record_of_each_key_stays(system: System) {
    let node = Node::start(system, SETTINGS);
    let mut connection = Connection::open(node.ports().client).unwrap();
    let mut all = BTreeMap::new();
    for topic in CODECS.iter().chain([&IMPATIENT]) {
        let (codec, retention) = match *topic {
            IMPATIENT => ("producer", "1"),
            codec => (codec, "86400000"),
        };
        let own = [
            ("compression.type", codec),
            ("delete.retention.ms", retention),
        ];
        let configs = [&COMPACTED[..], &own].concat();
        let code = connection.create_topic(topic, 1, &configs).unwrap();
        assert_eq!(code, error::NONE);
        connection.wait_until_served(topic).unwrap();
        let mut written = Vec::new();
        write(&node, topic, &mut Numbers(7), &mut written);
        all.insert(*topic, written);
    }
    for topic in CODECS {
        let end = compacted_end(&node, topic);
        assert_eq!(dump(&node, topic), survivors(&all[topic], end), "{topic}");
    }
    let end = compacted_end(&node, IMPATIENT);
    let written = all.get_mut(IMPATIENT).unwrap();
    write(&node, IMPATIENT, &mut Numbers(8), written);
    let later_end = compacted_end(&node, IMPATIENT);
    assert!(later_end > end);
    // A tombstone goes with the first compaction after the one that has met it.
    let is_old = |offset: &usize, told: &Told| *offset < end && told.1.is_none();
    let may_be_gone = |offset: &usize, told: &Told| *offset < later_end && told.1.is_none();
    let dumped = dump(&node, IMPATIENT);
    assert_eq!(
        dumped.iter().find(|(offset, told)| is_old(offset, told)),
        None
    );
    let values = |mut told: BTreeMap<usize, Told>| {
        told.retain(|offset, told| !may_be_gone(offset, told));
        told
    };
    assert_eq!(values(dumped), values(survivors(written, later_end)));
}
