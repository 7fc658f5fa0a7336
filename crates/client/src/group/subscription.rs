//! What members of a group say to one another, through the coordinator.
//!
//! Input: a subscription or an assignment. Output: bytes as every client of Kafka reads them, and
//! the way back.
//!
//! Invariant: what another member sent may be anything; what cannot be read is `None`, never a
//! panic.
//!
//! Source: `ConsumerProtocol` of Kafka 4.1.1: two bytes of version, then the fields of that
//! version, which begin with those of version 0; KIP-429 (owned partitions), KIP-792 (generation).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use skein_protocol::messages::consumer_protocol::{
    AssignmentTopicPartition, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    SubscriptionTopicPartition,
};
use skein_protocol::{Decoder, EncodeError, Encoder, Message, Str};
use skein_types::{PartitionIndex, TopicName, TopicPartition};

/// The newest version of a subscription that we know.
const SUBSCRIPTION_VERSION: i16 = 3;

/// The version of an assignment that every client knows; later ones add nothing.
const ASSIGNMENT_VERSION: i16 = 0;

/// What a member wants to read, and what it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) topics: BTreeSet<TopicName>,
    /// What it has not given up.
    pub(crate) owned: BTreeSet<TopicPartition>,
    /// The generation that gave it that; −1 if none did.
    pub(crate) generation_id: i32,
}

impl Subscription {
    pub(crate) fn encode(&self) -> Result<Bytes, EncodeError> {
        let owned = by_topic(&self.owned);
        let owned = owned
            .into_iter()
            .map(|(topic, partitions)| SubscriptionTopicPartition {
                topic: Str::from(topic.as_str()),
                partitions,
            });
        let topics = self.topics.iter().map(|topic| Str::from(topic.as_str()));
        let message = ConsumerProtocolSubscription {
            topics: topics.collect(),
            owned_partitions: owned.collect(),
            generation_id: self.generation_id,
            ..ConsumerProtocolSubscription::default()
        };
        encode(&message, SUBSCRIPTION_VERSION)
    }

    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let mut d = Decoder::new(bytes);
        let version = d.i16().ok()?.clamp(0, SUBSCRIPTION_VERSION);
        let message = ConsumerProtocolSubscription::decode(&mut d, version).ok()?;
        let topics = message.topics.iter();
        let mut owned = BTreeSet::new();
        for topic in &message.owned_partitions {
            let name = TopicName::new(topic.topic.as_str()).ok()?;
            owned.extend(partitions(&name, &topic.partitions));
        }
        Some(Self {
            // A topic whose name cannot be one does not exist either.
            topics: topics
                .filter_map(|name| TopicName::new(name.as_str()).ok())
                .collect(),
            owned,
            generation_id: message.generation_id,
        })
    }
}

/// The bytes of what a member is to read.
pub(crate) fn encode_assignment(
    assignment: &BTreeSet<TopicPartition>,
) -> Result<Bytes, EncodeError> {
    let topics = by_topic(assignment).into_iter();
    let topics = topics.map(|(topic, partitions)| AssignmentTopicPartition {
        topic: Str::from(topic.as_str()),
        partitions,
    });
    let message = ConsumerProtocolAssignment {
        assigned_partitions: topics.collect(),
        user_data: None,
    };
    encode(&message, ASSIGNMENT_VERSION)
}

/// What a member is to read; nothing if the bytes are none. `None` if they cannot be read.
pub(crate) fn decode_assignment(bytes: &Bytes) -> Option<BTreeSet<TopicPartition>> {
    if bytes.is_empty() {
        return Some(BTreeSet::new());
    }
    let mut d = Decoder::new(bytes);
    let _version = d.i16().ok()?;
    let message = ConsumerProtocolAssignment::decode(&mut d, ASSIGNMENT_VERSION).ok()?;
    let mut assignment = BTreeSet::new();
    for topic in &message.assigned_partitions {
        let name = TopicName::new(topic.topic.as_str()).ok()?;
        assignment.extend(partitions(&name, &topic.partitions));
    }
    Some(assignment)
}

fn encode(message: &impl Message, version: i16) -> Result<Bytes, EncodeError> {
    let mut e = Encoder::new();
    e.i16(version);
    message.encode(&mut e, version)?;
    // Nothing of it lies elsewhere.
    Ok(e.finish().into_bytes().unwrap_or_default())
}

fn by_topic(partitions: &BTreeSet<TopicPartition>) -> BTreeMap<&TopicName, Vec<i32>> {
    let mut topics: BTreeMap<&TopicName, Vec<i32>> = BTreeMap::new();
    for one in partitions {
        topics.entry(&one.topic).or_default().push(one.partition.0);
    }
    topics
}

fn partitions(topic: &TopicName, indexes: &[i32]) -> impl Iterator<Item = TopicPartition> {
    indexes.iter().map(|index| TopicPartition {
        topic: topic.clone(),
        partition: PartitionIndex(*index),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some(topics: &[&str], owned: &[(&str, i32)]) -> Subscription {
        let name = |name: &&str| TopicName::new(name).unwrap();
        Subscription {
            topics: topics.iter().map(name).collect(),
            owned: owned
                .iter()
                .map(|(topic, index)| TopicPartition {
                    topic: name(topic),
                    partition: PartitionIndex(*index),
                })
                .collect(),
            generation_id: 7,
        }
    }

    #[test]
    fn what_is_said_is_understood() {
        let said = some(&["a", "b"], &[("a", 0), ("b", 3), ("b", 1)]);
        let bytes = said.encode().unwrap();
        assert_eq!(Subscription::decode(&bytes), Some(said.clone()));
        let bytes = encode_assignment(&said.owned).unwrap();
        assert_eq!(decode_assignment(&bytes), Some(said.owned));
        assert_eq!(decode_assignment(&Bytes::new()), Some(BTreeSet::new()));
    }

    #[test]
    fn old_members_have_no_more_than_topics() {
        let message = ConsumerProtocolSubscription {
            topics: vec![Str::from_static("a"), Str::from_static("not/a/topic")],
            ..ConsumerProtocolSubscription::default()
        };
        let bytes = encode(&message, 0).unwrap();
        let expected = Subscription {
            generation_id: -1,
            ..some(&["a"], &[])
        };
        assert_eq!(Subscription::decode(&bytes), Some(expected));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = Subscription::decode(&bytes);
            let _ = decode_assignment(&bytes);
        }
    }
}
