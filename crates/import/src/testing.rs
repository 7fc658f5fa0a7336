//! Kafka's files, made for tests.
//!
//! Input: records. Output: batches, a metadata log, a log directory as Kafka leaves it. Shared by
//! the unit tests and by `tests/takeover.rs`.

use std::io::IoSlice;
use std::path::Path;

use bytes::{BufMut, BytesMut};
use skein_env::{Disk, OpenMode};
use skein_protocol::MetadataRecord;
use skein_protocol::messages::metadata_records::{
    ConfigRecord, FeatureLevelRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord,
    TopicRecord,
};
use skein_record::{BatchBuilder, Codec};
use skein_types::{LeaderEpoch, Millis, Offset, Uuid};

/// The node's id, and its directory's.
pub(crate) const NODE: i32 = 1;
/// See [`NODE`].
pub(crate) const DIRECTORY: Uuid = Uuid([5; 16]);
/// Kafka's cluster id.
pub(crate) const CLUSTER: &str = "c2tlaW4tdGVzdHMtMDAwMQ";

/// A batch of metadata records.
pub(crate) fn batch(base_offset: i64, records: &[MetadataRecord]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_base_offset(Offset(base_offset));
    builder.set_leader_epoch(LeaderEpoch(1));
    for record in records {
        let newest = match record {
            MetadataRecord::Partition(_) | MetadataRecord::PartitionChange(_) => 2,
            MetadataRecord::RegisterBroker(_) => 3,
            _ => 0,
        };
        let value = record.encode(newest).unwrap();
        builder.append(Millis(7), None, Some(&value), &[]).unwrap();
    }
    builder.build().unwrap().as_slice().to_vec()
}

/// A batch with one control record.
pub(crate) fn control(base_offset: i64, kind: i16, value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_base_offset(Offset(base_offset));
    builder.set_leader_epoch(LeaderEpoch(1));
    builder.set_control(true);
    let [high, low] = kind.to_be_bytes();
    let key = [0, 0, high, low];
    builder
        .append(Millis(7), Some(&key), Some(value), &[])
        .unwrap();
    builder.build().unwrap().as_slice().to_vec()
}

/// A leader was elected by these voters.
pub(crate) fn leader_change(base_offset: i64, voters: &[i32]) -> Vec<u8> {
    let mut value = BytesMut::new();
    value.put_i16(0);
    value.put_i32(voters[0]);
    for _ in ["voters", "who granted"] {
        value.put_u8(u8::try_from(voters.len() + 1).unwrap());
        for id in voters {
            value.put_i32(*id);
            value.put_u8(0);
        }
    }
    value.put_u8(0);
    control(base_offset, 2, &value)
}

/// `metadata.version`.
pub(crate) fn feature(level: i16) -> MetadataRecord {
    MetadataRecord::FeatureLevel(FeatureLevelRecord {
        name: "metadata.version".into(),
        feature_level: level,
    })
}

/// This node's registration.
pub(crate) fn broker(epoch: i64) -> MetadataRecord {
    MetadataRecord::RegisterBroker(RegisterBrokerRecord {
        broker_id: NODE,
        broker_epoch: epoch,
        incarnation_id: Uuid([8; 16]),
        rack: None,
        log_dirs: vec![DIRECTORY],
        ..RegisterBrokerRecord::default()
    })
}

/// A topic.
pub(crate) fn topic(id: u8, name: &str) -> MetadataRecord {
    MetadataRecord::Topic(TopicRecord {
        name: name.into(),
        topic_id: Uuid([id; 16]),
    })
}

/// A partition of it on this node.
pub(crate) fn partition(topic: u8, index: i32) -> PartitionRecord {
    PartitionRecord {
        partition_id: index,
        topic_id: Uuid([topic; 16]),
        replicas: vec![NODE],
        isr: vec![NODE],
        leader: NODE,
        leader_epoch: 3,
        partition_epoch: 4,
        directories: vec![DIRECTORY],
        ..PartitionRecord::default()
    }
}

/// An override.
pub(crate) fn config(kind: i8, of: &str, key: &str, value: Option<&str>) -> MetadataRecord {
    MetadataRecord::Config(ConfigRecord {
        resource_type: kind,
        resource_name: of.into(),
        name: key.into(),
        value: value.map(Into::into),
    })
}

/// Producer ids below are given.
pub(crate) fn producer_ids(next_producer_id: i64) -> MetadataRecord {
    MetadataRecord::ProducerIds(ProducerIdsRecord {
        broker_id: NODE,
        next_producer_id,
        ..ProducerIdsRecord::default()
    })
}

/// The metadata log of a node with topic `orders` (two partitions) and `audit` (one), a batch each.
pub(crate) fn batches() -> Vec<Vec<u8>> {
    let of_topics = [
        topic(1, "orders"),
        config(2, "orders", "retention.ms", Some("1000")),
        MetadataRecord::Partition(partition(1, 0)),
        MetadataRecord::Partition(partition(1, 1)),
    ];
    let audit = [
        topic(2, "audit"),
        MetadataRecord::Partition(partition(2, 0)),
    ];
    vec![
        leader_change(0, &[NODE]),
        batch(1, &[feature(27), broker(2)]),
        batch(3, &of_topics),
        batch(7, &[producer_ids(3000)]),
        batch(8, &audit),
    ]
}

/// Writes a log directory as Kafka leaves it.
pub(crate) fn write_directory(disk: &dyn Disk, directory: &Path, is_clean: bool) {
    let log = directory.join("__cluster_metadata-0");
    disk.create_directory(&log).unwrap();
    write(
        disk,
        &log.join("00000000000000000000.log"),
        &batches().concat(),
    );
    write(disk, &log.join("quorum-state"), b"{}");
    let meta =
        format!("#\ncluster.id={CLUSTER}\ndirectory.id={DIRECTORY}\nnode.id={NODE}\nversion=1\n");
    write(disk, &directory.join("meta.properties"), meta.as_bytes());
    for (name, id) in [("orders-0", 1), ("orders-1", 1), ("audit-0", 2)] {
        let partition = directory.join(name);
        disk.create_directory(&partition).unwrap();
        write(disk, &partition.join("00000000000000000000.log"), b"");
        let metadata = format!("version: 0\ntopic_id: {}\n", Uuid([id; 16]));
        write(
            disk,
            &partition.join("partition.metadata"),
            metadata.as_bytes(),
        );
        disk.sync_directory(&partition).unwrap();
    }
    if is_clean {
        let marker = br#"{"version":0,"brokerEpoch":2}"#;
        write(disk, &directory.join(".kafka_cleanshutdown"), marker);
    }
    disk.sync_directory(&log).unwrap();
    disk.sync_directory(directory).unwrap();
    for parent in directory.ancestors().skip(1) {
        disk.sync_directory(parent).unwrap();
    }
}

/// Writes a file, durably.
pub(crate) fn write(disk: &dyn Disk, path: &Path, content: &[u8]) {
    let file = disk.open(path, OpenMode::CreateOrTruncate).unwrap();
    if !content.is_empty() {
        let written = file.write_at(&[IoSlice::new(content)], 0).unwrap();
        assert_eq!(written, content.len());
    }
    file.sync_data().unwrap();
}

/// The content of a file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut content = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    let count = file.read_at(&mut content, 0).unwrap();
    content.truncate(count);
    content
}
