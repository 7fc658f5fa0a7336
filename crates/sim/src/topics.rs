//! What the clients of a run know of its topics.
//!
//! Input: what the admin client asks for and is answered. Output: which topic a name means now, its
//! id, how many partitions it has.
//!
//! ```text
//!   Planned ──► Live ──► Doomed ──► Deleted
//!               its      deletion   deletion
//!               id       sent       acknowledged
//! ```
//!
//! Invariant: a topic that is known has an id, and keeps it.
//!
//! Source: the metadata that every Kafka client keeps, and that is old now and then.

use skein_types::TopicId;

use crate::event::PartitionId;
use crate::plan::{Plan, Slot};

/// Every topic of the run.
pub(crate) struct Topics {
    topics: Vec<Topic>,
}

struct Topic {
    id: Option<TopicId>,
    partitions: usize,
    phase: Phase,
}

/// Where a topic is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Planned,
    Live,
    Doomed,
    Deleted,
}

impl Topics {
    /// None is there yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let topics = plan.topics.iter().map(|_| Topic {
            id: None,
            partitions: 0,
            phase: Phase::Planned,
        });
        Self {
            topics: topics.collect(),
        }
    }

    pub(crate) fn created(&mut self, topic: usize, id: TopicId, partitions: usize) {
        self.topics[topic] = Topic {
            id: Some(id),
            partitions,
            phase: Phase::Live,
        };
    }

    pub(crate) fn enter(&mut self, topic: usize, phase: Phase) {
        self.topics[topic].phase = phase;
    }

    pub(crate) fn has_partitions(&mut self, topic: usize, count: usize) {
        self.topics[topic].partitions = count;
    }

    pub(crate) fn partitions(&self, topic: usize) -> usize {
        self.topics[topic].partitions
    }

    pub(crate) fn phase(&self, topic: usize) -> Phase {
        self.topics[topic].phase
    }

    pub(crate) fn id(&self, topic: usize) -> Option<TopicId> {
        self.topics[topic].id
    }

    /// The partition that a slot means: of the latest topic of the name, also if that is deleted.
    /// `None` if it has none.
    pub(crate) fn find(&self, plan: &Plan, slot: Slot) -> Option<PartitionId> {
        let is_latest = |(number, topic): &(usize, &Topic)| {
            topic.phase > Phase::Planned && plan.topics[*number].logical == slot.logical
        };
        let (number, topic) = self.topics.iter().enumerate().rev().find(is_latest)?;
        (slot.index < topic.partitions)
            .then(|| PartitionId(plan.topics[number].first_partition + slot.index))
    }

    /// Whether the partition is there for certain, and its name means it.
    pub(crate) fn is_live(&self, plan: &Plan, partition: PartitionId) -> bool {
        let of = plan.partition(partition);
        let topic = &self.topics[of.topic];
        topic.phase == Phase::Live && of.index < topic.partitions
    }

    /// Every partition that is there.
    pub(crate) fn live(&self, plan: &Plan) -> Vec<PartitionId> {
        (0..plan.partitions().count())
            .map(PartitionId)
            .filter(|partition| self.is_live(plan, *partition))
            .collect()
    }
}
