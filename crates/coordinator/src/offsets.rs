//! The offsets that a group has committed.
//!
//! Input: the records of commits, those of transactions first in a place of their own, and the
//! markers that end transactions. Output: the last committed offset of each partition.
//!
//! Invariants:
//! - the table is changed by records only, those just made and those replayed alike
//!   ([`GroupOffsets::apply`]), so that a replay cannot give another one;
//! - of a commit and a transaction's commit that both count, the one later in the log wins, and not
//!   the one whose marker is later (`order`).
//!
//! Source: `OffsetMetadataManager` of Kafka 4.1.1.

pub(crate) mod commit;
pub(crate) mod delete;
pub(crate) mod expiry;
pub(crate) mod fetch;

use std::collections::BTreeMap;

use skein_protocol::messages::coordinator_records::{OffsetCommitKey, OffsetCommitValue};
use skein_protocol::{GroupRecord, Str};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{LeaderEpoch, Millis, Offset, ProducerId, TopicId, Uuid};

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// Place of its record among those that the shard has seen.
    order: u64,
    pub(crate) offset: Offset,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) metadata: Str,
    /// Zero if it is not known.
    topic_id: TopicId,
    /// In ms since 1970, as all times of a record.
    pub(crate) commit_timestamp: Millis,
    /// Old clients say how long they want their offsets kept.
    pub(crate) expire_timestamp: Option<Millis>,
}

type Topics = BTreeMap<Str, BTreeMap<i32, CommittedOffset>>;

/// The offsets of one group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupOffsets {
    committed: Topics,
    /// What transactions that are still open have committed.
    pending: BTreeMap<ProducerId, Topics>,
}

impl CommittedOffset {
    fn new(value: &OffsetCommitValue, order: u64) -> Self {
        Self {
            order,
            offset: Offset(value.offset),
            leader_epoch: LeaderEpoch(value.leader_epoch),
            metadata: value.metadata.detached(),
            topic_id: value.topic_id,
            commit_timestamp: Millis(value.commit_timestamp),
            expire_timestamp: (value.expire_timestamp >= 0)
                .then_some(Millis(value.expire_timestamp)),
        }
    }
}

impl GroupOffsets {
    /// Takes a record of a commit; with a producer, one whose transaction is open.
    pub(crate) fn apply(
        &mut self,
        key: &OffsetCommitKey,
        value: Option<&OffsetCommitValue>,
        producer: Option<ProducerId>,
        order: u64,
    ) {
        match (value, producer) {
            (Some(value), None) => {
                insert(&mut self.committed, key, CommittedOffset::new(value, order));
            }
            (Some(value), Some(producer)) => {
                let topics = self.pending.entry(producer).or_default();
                insert(topics, key, CommittedOffset::new(value, order));
            }
            // A tombstone takes what is pending too, whoever writes it.
            (None, _) => {
                remove(&mut self.committed, key);
                for topics in self.pending.values_mut() {
                    remove(topics, key);
                }
            }
        }
    }

    /// Ends the transaction of a producer.
    pub(crate) fn end_transaction(&mut self, producer: ProducerId, is_commit: bool) {
        let Some(topics) = self.pending.remove(&producer) else {
            return;
        };
        if !is_commit {
            return;
        }
        for (topic, partitions) in topics {
            let committed = self.committed.entry(topic).or_default();
            for (partition, offset) in partitions {
                let is_newer = committed
                    .get(&partition)
                    .is_none_or(|known| known.order < offset.order);
                if is_newer {
                    committed.insert(partition, offset);
                }
            }
        }
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.committed.get(topic)?.get(&partition)
    }

    /// Every committed offset, by topic and partition.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Str, i32, &CommittedOffset)> {
        self.committed.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(&partition, offset)| (topic, partition, offset))
        })
    }

    /// Whether an open transaction has an offset of the partition.
    pub(crate) fn is_pending(&self, topic: &str, partition: i32) -> bool {
        self.pending.values().any(|topics| {
            let partitions = topics.get(topic);
            partitions.is_some_and(|partitions| partitions.contains_key(&partition))
        })
    }

    pub(crate) fn has_open_transactions(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// Tombstones for what is committed for topics that are no more: `id_of` tells the id of those
    /// that there are.
    pub(crate) fn stale(
        &self,
        group_id: &Str,
        id_of: impl Fn(&str) -> Option<TopicId>,
    ) -> Vec<GroupRecord> {
        let mut tombstones = Vec::new();
        for (topic, partitions) in &self.committed {
            let id = id_of(topic);
            let stale = partitions.iter().filter(|(_, offset)| match id {
                Some(id) => offset.topic_id != Uuid::ZERO && offset.topic_id != id,
                None => true,
            });
            tombstones.extend(stale.map(|(&index, _)| tombstone(group_id, topic, index)));
        }
        tombstones
    }

    /// Tombstones for all that is committed or pending, of one topic or of all.
    pub(crate) fn tombstones(&self, group_id: &Str, topic: Option<&str>) -> Vec<GroupRecord> {
        #[cfg(feature = "mutations")]
        if topic.is_none() && mutation::has(Mutation::DeletedGroupKeepsOffsets) {
            return Vec::new();
        }
        let topics = std::iter::once(&self.committed).chain(self.pending.values());
        let mut partitions: Vec<(&Str, i32)> = topics
            .flatten()
            .filter(|(name, _)| topic.is_none_or(|topic| topic == name.as_str()))
            .flat_map(|(name, partitions)| partitions.keys().map(move |&index| (name, index)))
            .collect();
        partitions.sort_unstable();
        partitions.dedup();
        let tombstone = |(name, index): (&Str, i32)| tombstone(group_id, name, index);
        partitions.into_iter().map(tombstone).collect()
    }
}

/// The record that forgets an offset.
pub(crate) fn tombstone(group_id: &Str, topic: &Str, partition: i32) -> GroupRecord {
    let key = OffsetCommitKey {
        group: group_id.clone(),
        topic: topic.clone(),
        partition,
    };
    GroupRecord::OffsetCommit(key, None)
}

fn insert(topics: &mut Topics, key: &OffsetCommitKey, offset: CommittedOffset) {
    if let Some(partitions) = topics.get_mut(key.topic.as_str()) {
        partitions.insert(key.partition, offset);
    } else {
        let partitions = BTreeMap::from([(key.partition, offset)]);
        topics.insert(key.topic.detached(), partitions);
    }
}

fn remove(topics: &mut Topics, key: &OffsetCommitKey) {
    if let Some(partitions) = topics.get_mut(key.topic.as_str()) {
        partitions.remove(&key.partition);
        if partitions.is_empty() {
            topics.remove(key.topic.as_str());
        }
    }
}
