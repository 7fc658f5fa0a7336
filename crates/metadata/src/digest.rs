//! A hash of the image that follows it from entry to entry, at the cost of what each changes.
//!
//! ```text
//!   hash = mix(head) + sum of mix(record) over the records of the canonical snapshot
//!
//!   former image    a  b  c  d            an entry touches c:  hash - mix(c) + mix(c')
//!   image           a  b  c' d
//! ```
//!
//! Input: images, and the records that led from one to the next. Output: the hash.
//!
//! Invariants, checked by `tests/determinism.rs`:
//! - equal images have equal hashes, whether they came from the log, from a snapshot, or from both:
//!   a sum does not depend on the order of its terms;
//! - what an entry changes is among the parts that its records touch ([`Part::touched_by`]).
//!
//! It tells images of nodes that follow the same log apart. Nobody is to be kept from forging one.
//!
//! Source: an incremental multiset hash, as AdHash of Bellare and Micciancio (1997), with 64 bits;
//! FNV-1a, and the last steps of MurmurHash3, without which sums of FNV's would collide.

use std::collections::BTreeSet;

use skein_types::{BrokerId, PartitionIndex, TopicId};

use crate::snapshot::{self, each_record};
use crate::{Broker, ConfigResource, Image, Partition, Record};

/// A part of the image that changes as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The level of a feature.
    Feature(String),
    /// A registration.
    Broker(BrokerId),
    /// A member that was taken out for good.
    Forgotten(u64),
    /// A topic without its partitions.
    Topic(TopicId),
    /// One partition.
    Partition(TopicId, PartitionIndex),
    /// All overrides of a resource.
    Overrides(ConfigResource),
}

impl Part {
    /// The parts in which `former` may differ from the image that these records make of it, in
    /// order. Costs what they change, not what there is.
    #[must_use]
    pub fn touched_by(records: &[Record], former: &Image) -> BTreeSet<Self> {
        let mut parts = BTreeSet::new();
        for record in records {
            match record {
                // They are in the head.
                Record::Cluster { .. } | Record::ProducerIds { .. } => {}
                Record::Feature { name, .. } => {
                    parts.insert(Self::Feature(name.clone()));
                }
                Record::Broker(Broker { id, .. })
                | Record::BrokerState { id, .. }
                | Record::RemoveBroker { id, .. } => {
                    parts.insert(Self::Broker(*id));
                }
                Record::ForgetMember { raft_id } => {
                    parts.insert(Self::Forgotten(*raft_id));
                }
                Record::Topic { id, .. } => {
                    parts.insert(Self::Topic(*id));
                }
                Record::RemoveTopic { id } => parts.extend(Self::of_topic(*id, former)),
                Record::Partition {
                    topic_id, index, ..
                } => {
                    parts.insert(Self::Partition(*topic_id, *index));
                }
                Record::Config { resource, .. } => {
                    parts.insert(Self::Overrides(resource.clone()));
                }
            }
        }
        parts
    }

    /// All of a topic that is removed. What the same entry has made of it before is touched by the
    /// records that did that.
    fn of_topic(id: TopicId, former: &Image) -> impl Iterator<Item = Self> {
        let topic = former.topic(id).into_iter();
        topic.flat_map(move |topic| {
            let partitions = topic.partitions();
            let partitions = partitions.map(move |(index, _)| Self::Partition(id, index));
            let overrides = Self::Overrides(ConfigResource::topic(&topic.name));
            partitions.chain([Self::Topic(id), overrides])
        })
    }

    /// The records that the snapshot of `image` has of this part.
    fn records(&self, image: &Image) -> Vec<Record> {
        match self {
            Self::Feature(name) => {
                let level = image.features.get(name);
                let feature = level.map(|level| Record::Feature {
                    name: name.clone(),
                    level: *level,
                });
                Vec::from_iter(feature)
            }
            Self::Broker(id) => {
                let broker = image.broker(*id);
                Vec::from_iter(broker.map(|broker| Record::Broker(Broker::clone(broker))))
            }
            Self::Forgotten(raft_id) => {
                let raft_id = *raft_id;
                let is_forgotten = image.is_forgotten(raft_id);
                Vec::from_iter(is_forgotten.then_some(Record::ForgetMember { raft_id }))
            }
            Self::Topic(id) => {
                let topic = image.topic(*id).map(|topic| Record::Topic {
                    id: *id,
                    name: topic.name.clone(),
                });
                Vec::from_iter(topic)
            }
            Self::Partition(topic_id, index) => {
                let partition = image.partition(*topic_id, *index);
                let partition = partition.map(|partition| Record::Partition {
                    topic_id: *topic_id,
                    index: *index,
                    partition: Partition::clone(partition),
                });
                Vec::from_iter(partition)
            }
            Self::Overrides(resource) => {
                let overrides = image.config(resource).into_iter().flatten();
                let overrides = overrides.map(|(key, value)| Record::Config {
                    resource: resource.clone(),
                    key: key.clone(),
                    value: Some(value.clone()),
                });
                overrides.collect()
            }
        }
    }
}

/// See the module. The default is that of an image without anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageDigest {
    /// All but the head.
    sum: u64,
}

impl ImageDigest {
    /// That of `image`, at the cost of all there is.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        let mut sum = 0_u64;
        let summed = each_record(image, &mut |record| {
            // The cluster's id is counted with the head.
            if !matches!(record, Record::Cluster { .. }) {
                sum = sum.wrapping_add(hash_of_record(record));
            }
            Ok(())
        });
        // Nothing in there fails.
        let _ = summed;
        Self { sum }
    }

    /// Goes on from `former` to `image`, which differs from it in no more than `parts`.
    pub fn follow(&mut self, parts: &BTreeSet<Part>, former: &Image, image: &Image) {
        let hash = |part: &Part, image| -> u64 {
            let records = part.records(image);
            let hashes = records.iter().map(hash_of_record);
            hashes.fold(0, u64::wrapping_add)
        };
        for part in parts {
            let (old, new) = (hash(part, former), hash(part, image));
            self.sum = self.sum.wrapping_sub(old).wrapping_add(new);
        }
    }

    /// The hash of `image`, which this has followed.
    #[must_use]
    pub fn hash(self, image: &Image) -> u64 {
        self.sum.wrapping_add(mix(&snapshot::head(image)))
    }
}

fn hash_of_record(record: &Record) -> u64 {
    let mut bytes = Vec::new();
    // What is too long for a record came from none, and is in no image.
    match record.encode(&mut bytes) {
        Ok(()) => mix(&bytes),
        Err(_) => 0,
    }
}

/// FNV-1a of 64 bits, mixed so that each bit of the bytes changes all bits of the result.
fn mix(bytes: &[u8]) -> u64 {
    let hash = fnv1a(bytes);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_bytes_is_the_published_one_and_mixed() {
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c, "the published value");
        // Of FNV alone the two sums are the same: its last step keeps what the last byte adds.
        let sum =
            |hash: fn(&[u8]) -> u64, one: &[u8], other: &[u8]| hash(one).wrapping_add(hash(other));
        let sums = |hash| {
            let pairs = (0..=255_u8).map(|byte| sum(hash, &[7, byte], &[8, byte ^ 0xff]));
            pairs.collect::<BTreeSet<u64>>().len()
        };
        assert!(sums(fnv1a) < 256, "{}", sums(fnv1a));
        assert_eq!(sums(mix), 256);
    }
}
