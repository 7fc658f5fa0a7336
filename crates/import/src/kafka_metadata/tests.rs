//! The replay of Kafka's records.

#![allow(clippy::unwrap_used)] // a test: what fails here is the verdict

use skein_protocol::MetadataRecord;
use skein_protocol::messages::metadata_records::{
    AbortTransactionRecord, BeginTransactionRecord, ClearElrRecord, EndTransactionRecord,
    PartitionChangeRecord, RemoveTopicRecord,
};

use super::*;
use crate::testing::{broker, config, partition, producer_ids, topic};

fn replay(records: impl IntoIterator<Item = MetadataRecord>) -> Result<KafkaMetadata, String> {
    let mut replay = Replay::default();
    for record in records {
        replay.replay(record)?;
    }
    Ok(replay.finish().0)
}

fn change(index: i32) -> PartitionChangeRecord {
    PartitionChangeRecord {
        partition_id: index,
        topic_id: Uuid([1; 16]),
        ..PartitionChangeRecord::default()
    }
}

fn begin() -> MetadataRecord {
    MetadataRecord::BeginTransaction(BeginTransactionRecord::default())
}

fn end() -> MetadataRecord {
    MetadataRecord::EndTransaction(EndTransactionRecord::default())
}

fn abort() -> MetadataRecord {
    MetadataRecord::AbortTransaction(AbortTransactionRecord::default())
}

#[test]
fn epochs_of_a_partition_grow_as_kafkas_do() {
    let with = |changes: Vec<PartitionChangeRecord>| {
        let records = [topic(1, "t"), MetadataRecord::Partition(partition(1, 0))];
        let changes = changes.into_iter().map(MetadataRecord::PartitionChange);
        let metadata = replay(records.into_iter().chain(changes)).unwrap();
        metadata.topics[&Uuid([1; 16])].partitions[&0].clone()
    };
    let epochs = |partition: &KafkaPartition| (partition.leader_epoch, partition.partition_epoch);
    assert_eq!(epochs(&with(vec![])), (3, 4));
    // Whoever leads from now on, also nobody, does so in a new epoch.
    let elected = |leader| PartitionChangeRecord {
        leader,
        ..change(0)
    };
    assert_eq!(epochs(&with(vec![elected(1)])), (4, 5));
    assert_eq!(epochs(&with(vec![elected(-1), elected(1)])), (5, 6));
    let isr = PartitionChangeRecord {
        isr: Some(vec![1, 2]),
        replicas: Some(vec![2, 1]),
        eligible_leader_replicas: Some(vec![3]),
        ..change(0)
    };
    let changed = with(vec![isr]);
    assert_eq!(epochs(&changed), (3, 5), "the leader stays");
    assert_eq!((changed.isr, changed.replicas), (vec![1, 2], vec![2, 1]));
    assert_eq!(changed.elr, [3]);
    assert_eq!(changed.recovery_state, 0);
}

#[test]
fn a_transaction_counts_when_it_ends() {
    let names = |records: Vec<MetadataRecord>| -> Result<Vec<String>, String> {
        let topics = replay(records)?.topics;
        Ok(topics.into_values().map(|topic| topic.name).collect())
    };
    let (a, b) = (topic(1, "a"), topic(2, "b"));
    assert_eq!(
        names(vec![begin(), a.clone(), end(), b.clone()]).unwrap(),
        ["a", "b"]
    );
    assert_eq!(
        names(vec![begin(), a.clone(), abort(), b.clone()]).unwrap(),
        ["b"]
    );
    assert_eq!(names(vec![b, begin(), a]).unwrap(), ["b"]);
    for wrong in [vec![begin(), begin()], vec![end()], vec![abort()]] {
        assert!(names(wrong).is_err());
    }
    let mut open = Replay::default();
    open.replay(begin()).unwrap();
    assert!(open.finish().1);
}

#[test]
fn a_deleted_topic_leaves_nothing_behind() {
    let metadata = replay([
        topic(1, "t"),
        MetadataRecord::Partition(partition(1, 0)),
        config(2, "t", "retention.ms", Some("1")),
        config(4, "", "log.retention.ms", Some("2")),
        MetadataRecord::RemoveTopic(RemoveTopicRecord {
            topic_id: Uuid([1; 16]),
        }),
        topic(2, "t"),
        config(4, "", "log.retention.ms", None),
        producer_ids(1000),
        broker(1),
        broker(9),
    ])
    .unwrap();
    assert_eq!(metadata.topics.len(), 1);
    assert!(metadata.configs.is_empty());
    assert_eq!(metadata.next_producer_id, 1000);
    assert_eq!(metadata.broker(1).unwrap().epoch, 9);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let partition = MetadataRecord::Partition(partition(1, 0));
    let remove = MetadataRecord::RemoveTopic(RemoveTopicRecord {
        topic_id: Uuid([1; 16]),
    });
    assert!(replay([partition]).unwrap_err().contains("partition 0"));
    assert!(replay([remove]).unwrap_err().contains("no topic"));
    assert!(replay([topic(1, "a"), topic(1, "b")]).is_err());
    let change = MetadataRecord::PartitionChange(change(0));
    assert!(replay([topic(1, "a"), change]).is_err());
}

#[test]
fn eligible_leaders_are_cleared_for_one_topic_or_all() {
    let record = |id| {
        MetadataRecord::Partition(PartitionRecord {
            eligible_leader_replicas: Some(vec![2]),
            ..partition(id, 0)
        })
    };
    let left = |name: &str| {
        let clear = MetadataRecord::ClearElr(ClearElrRecord {
            topic_name: name.into(),
        });
        let topics = [topic(1, "a"), record(1), topic(2, "b"), record(2), clear];
        let metadata = replay(topics).unwrap();
        let partitions = metadata.topics.values().flat_map(|t| t.partitions.values());
        partitions.filter(|p| !p.elr.is_empty()).count()
    };
    assert_eq!((left("a"), left(""), left("c")), (1, 0, 2));
}
