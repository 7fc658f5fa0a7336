//! Which partition a record goes to.
//!
//! Input: a record's key, the partitions of its topic, random bits. Output: an index.
//!
//! Invariants:
//! - a key always goes to the same partition as long as their number stays, and to the one that
//!   Kafka's Java client would choose (checked against its results below);
//! - records without a key go to partitions that have a leader, where there are any.
//!
//! Source: `BuiltInPartitioner` and `Utils.murmur2` of Kafka 4.1.1 for results; KIP-480 and KIP-794
//! for why records without a key stay together until a batch is full.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use skein_types::{BrokerId, PartitionIndex, TopicName};

use crate::cluster::ClusterView;

/// How records without a partition of their own are spread.
#[derive(Clone, Default)]
pub enum Partitioning {
    /// By key; without one, to one partition until a batch is full, then to another random one.
    #[default]
    ByKey,
    /// To each in turn, whatever the key.
    RoundRobin,
    /// To a random one for each record, whatever the key.
    Random,
    /// As [`Partitioning::ByKey`], but without a key to partitions whose leader stands in this
    /// rack, as long as there are any.
    ByKeyOrRack(String),
    /// As the program says.
    Custom(Arc<dyn Partitioner>),
}

impl fmt::Debug for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByKey => f.write_str("ByKey"),
            Self::RoundRobin => f.write_str("RoundRobin"),
            Self::Random => f.write_str("Random"),
            Self::ByKeyOrRack(rack) => f.debug_tuple("ByKeyOrRack").field(rack).finish(),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// A program's own choice.
pub trait Partitioner: Send + Sync {
    /// The partition for a record; what the topic does not have is taken modulo their number.
    fn partition(
        &self,
        topic: &TopicName,
        key: Option<&[u8]>,
        partitions: &PartitionsToChoose,
        random: u64,
    ) -> PartitionIndex;
}

/// The partitions of a topic, for a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionsToChoose {
    /// How many there are, at least 1.
    pub count: u32,
    /// Those that have a leader, and its rack.
    pub led: Vec<(PartitionIndex, Option<String>)>,
}

impl PartitionsToChoose {
    pub(crate) fn of(view: &ClusterView, topic: &TopicName) -> Self {
        let partitions = view.topics.get(topic).map(|topic| &topic.partitions);
        let rack = |leader: BrokerId| view.brokers.get(&leader).map(|broker| broker.rack.clone());
        let led = partitions
            .into_iter()
            .flatten()
            .filter_map(|(index, partition)| Some((*index, rack(partition.leader?)?)));
        let count = partitions.map_or(0, BTreeMap::len);
        Self {
            count: u32::try_from(count).unwrap_or(u32::MAX).max(1),
            led: led.collect(),
        }
    }
}

/// Chooses, and remembers what the strategy needs to.
#[derive(Debug)]
pub(crate) struct Chooser {
    strategy: Partitioning,
    batch_bytes: usize,
    topics: BTreeMap<TopicName, TopicState>,
}

#[derive(Debug, Default)]
struct TopicState {
    next_in_turn: u64,
    sticky: Option<PartitionIndex>,
    /// Bytes sent to the sticky partition.
    sticky_bytes: usize,
}

impl Chooser {
    /// `batch_bytes` without a key go to one partition before another gets its turn.
    pub(crate) fn new(strategy: Partitioning, batch_bytes: usize) -> Self {
        Self {
            strategy,
            batch_bytes,
            topics: BTreeMap::new(),
        }
    }

    /// The partition for a record of `bytes`.
    pub(crate) fn choose(
        &mut self,
        topic: &TopicName,
        key: Option<&[u8]>,
        bytes: usize,
        partitions: &PartitionsToChoose,
        random: u64,
    ) -> PartitionIndex {
        let state = self.topics.entry(topic.clone()).or_default();
        match (&self.strategy, key) {
            (Partitioning::Custom(partitioner), key) => {
                let chosen = partitioner.partition(topic, key, partitions, random);
                modulo(u64::from(chosen.0.unsigned_abs()), partitions)
            }
            (Partitioning::ByKey | Partitioning::ByKeyOrRack(_), Some(key)) => {
                modulo(u64::from(positive(murmur2(key))), partitions)
            }
            (Partitioning::ByKey, None) => state.sticky(
                self.batch_bytes,
                bytes,
                &led(partitions),
                partitions,
                random,
            ),
            (Partitioning::ByKeyOrRack(rack), None) => {
                let near = partitions
                    .led
                    .iter()
                    .filter(|(_, its)| its.as_ref() == Some(rack));
                let mut candidates: Vec<_> = near.map(|(index, _)| *index).collect();
                if candidates.is_empty() {
                    candidates = led(partitions);
                }
                state.sticky(self.batch_bytes, bytes, &candidates, partitions, random)
            }
            (Partitioning::RoundRobin, _) => {
                let turn = state.next_in_turn;
                state.next_in_turn = turn.wrapping_add(1);
                pick(turn, &led(partitions), partitions)
            }
            (Partitioning::Random, _) => pick(random, &led(partitions), partitions),
        }
    }
}

impl TopicState {
    fn sticky(
        &mut self,
        batch_bytes: usize,
        bytes: usize,
        candidates: &[PartitionIndex],
        partitions: &PartitionsToChoose,
        random: u64,
    ) -> PartitionIndex {
        let current = self.sticky.filter(|current| {
            let fits = self.sticky_bytes.saturating_add(bytes) <= batch_bytes;
            (fits || self.sticky_bytes == 0)
                && (candidates.contains(current) || candidates.is_empty())
        });
        let chosen = current.unwrap_or_else(|| {
            self.sticky_bytes = 0;
            // Another one than before, if there is one.
            let mut others = candidates.to_vec();
            if others.len() > 1 {
                others.retain(|one| Some(*one) != self.sticky);
            }
            pick(random, &others, partitions)
        });
        self.sticky = Some(chosen);
        self.sticky_bytes = self.sticky_bytes.saturating_add(bytes);
        chosen
    }
}

fn led(partitions: &PartitionsToChoose) -> Vec<PartitionIndex> {
    partitions.led.iter().map(|(index, _)| *index).collect()
}

/// One of `candidates`, or of all if there are none.
fn pick(number: u64, candidates: &[PartitionIndex], all: &PartitionsToChoose) -> PartitionIndex {
    let count = candidates.len() as u64;
    let at = number
        .checked_rem(count)
        .and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| candidates.get(at).copied())
        .unwrap_or_else(|| modulo(number, all))
}

fn modulo(number: u64, partitions: &PartitionsToChoose) -> PartitionIndex {
    let index = number % u64::from(partitions.count.max(1));
    PartitionIndex(i32::try_from(index).unwrap_or(0))
}

/// The number without its sign bit, as the Java client makes a hash positive.
const fn positive(hash: i32) -> u32 {
    hash.cast_unsigned() & 0x7fff_ffff
}

/// The 32-bit Murmur hash (version 2) of `key`, with the seed that Kafka's clients use.
#[must_use]
pub fn murmur2(key: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len() & 0xffff_ffff).unwrap_or(0);
    let mut hash = SEED ^ length;
    let mut words = key.chunks_exact(4);
    for word in words.by_ref() {
        let mut word = word
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        word = word.wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    (hash ^ hash >> 15).cast_signed()
}

#[cfg(test)]
mod tests;
