//! The records of Kafka's metadata log against their schemas, and against bytes that Apache Kafka
//! 4.1.1 wrote.

use std::fmt::Debug;

use bytes::Bytes;
use skein_protocol::messages::metadata_records::{
    BeginTransactionRecord, BrokerRegistrationChangeRecord, ConfigRecord, FeatureLevelRecord,
    PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, TopicRecord,
};
use skein_protocol::{Decoder, Encoder, Message, MetadataRecord, messages};
use skein_types::Uuid;

use crate::generate::{Generator, Rng, Schemas, Shape};

/// Random records of each type and version.
const CASES: u64 = 100;

#[test]
fn every_version_of_every_metadata_record_round_trips() {
    let schemas = Schemas::load();
    let mut count = 0;
    macro_rules! check_record {
        ($module:ident, $name:ident) => {
            count += 1;
            check::<messages::$module::$name>(&schemas);
        };
    }
    skein_protocol::for_each_metadata_record!(check_record);
    assert_eq!(count, 26, "all of Kafka 4.1.1");
}

pub(crate) fn check<M: Message + PartialEq + Debug>(schemas: &Schemas) {
    for version in M::VERSIONS {
        for seed in 0..CASES {
            let context = format!("{} version {version} seed {seed}", M::NAME);
            let generate = |shape| {
                let generator = Generator {
                    message: schemas.message(M::NAME),
                    version,
                    rng: Rng(seed),
                    shape,
                };
                Bytes::from(generator.bytes())
            };
            let bytes = generate(Shape::Random);
            let record = decode::<M>(&bytes, version);
            let mut e = Encoder::new();
            record.encode(&mut e, version).expect(&context);
            assert_eq!(e.finish().into_bytes(), Some(bytes), "{context}");
            let with_unknown_tags = decode::<M>(&generate(Shape::UnknownTags), version);
            assert_eq!(with_unknown_tags, record, "{context}: unknown tags");
        }
    }
}

pub(crate) fn decode<M: Message>(bytes: &Bytes, version: i16) -> M {
    let mut d = Decoder::new(bytes);
    let record = M::decode(&mut d, version).unwrap();
    d.finish().unwrap();
    record
}

/// Of the frame with the record in it, in this version.
fn golden(record: MetadataRecord, version: u8, hex: &str) {
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let bytes = Bytes::from(bytes);
    assert_eq!(record.encode(version).unwrap(), bytes, "{}", record.name());
    assert_eq!(MetadataRecord::decode(&bytes), Ok(record));
}

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

#[test]
fn small_records_are_kafkas() {
    let begin = BeginTransactionRecord {
        name: Some("Bootstrap records".into()),
    };
    let hex = "01170001001212426f6f747374726170207265636f726473";
    golden(MetadataRecord::BeginTransaction(begin), 0, hex);
    let feature = FeatureLevelRecord {
        name: "metadata.version".into(),
        feature_level: 27,
    };
    let hex = "010c00116d657461646174612e76657273696f6e001b00";
    golden(MetadataRecord::FeatureLevel(feature), 0, hex);
    let config = ConfigRecord {
        resource_type: 4,
        resource_name: "".into(),
        name: "min.insync.replicas".into(),
        value: Some("1".into()),
    };
    let hex = "0104000401146d696e2e696e73796e632e7265706c69636173023100";
    golden(MetadataRecord::Config(config), 0, hex);
    let ids = ProducerIdsRecord {
        broker_id: 1,
        broker_epoch: 13,
        next_producer_id: 1000,
    };
    let hex = "010f0000000001000000000000000d00000000000003e800";
    golden(MetadataRecord::ProducerIds(ids), 0, hex);
    let unfenced = BrokerRegistrationChangeRecord {
        broker_id: 1,
        broker_epoch: 13,
        fenced: -1,
        ..BrokerRegistrationChangeRecord::default()
    };
    let hex = "01110000000001000000000000000d010001ff";
    golden(MetadataRecord::BrokerRegistrationChange(unfenced), 0, hex);
}

#[test]
fn records_of_topics_are_kafkas() {
    let topic_id = id("BSbKlPwyQDuT7kGi7EItNQ");
    let topic = TopicRecord {
        name: "plain".into(),
        topic_id,
    };
    let hex = "01020006706c61696e0526ca94fc32403b93ee41a2ec422d3500";
    golden(MetadataRecord::Topic(topic), 0, hex);
    let partition = PartitionRecord {
        partition_id: 0,
        topic_id,
        replicas: vec![1],
        isr: vec![1],
        leader: 1,
        leader_epoch: 0,
        partition_epoch: 0,
        directories: vec![id("JA0QR_0PIFdPuRsB6zubsw")],
        ..PartitionRecord::default()
    };
    let hex = "010302000000000526ca94fc32403b93ee41a2ec422d3502000000010200000001010100000001000000\
               000000000002240d1047fd0f20574fb91b01eb3b9bb300";
    golden(MetadataRecord::Partition(partition), 2, hex);
    // The only replica stops: nobody leads, and it may come back.
    let stopped = PartitionChangeRecord {
        partition_id: 1,
        topic_id,
        isr: Some(vec![]),
        leader: -1,
        eligible_leader_replicas: Some(vec![1]),
        last_known_elr: Some(vec![1]),
        ..PartitionChangeRecord::default()
    };
    let hex = "010502000000010526ca94fc32403b93ee41a2ec422d35040001010104ffffffff0605020000000107050\
               200000001";
    golden(MetadataRecord::PartitionChange(stopped), 2, hex);
}
