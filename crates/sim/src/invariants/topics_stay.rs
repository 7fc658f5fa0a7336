//! A topic whose creation was acknowledged is there until somebody deletes it, and never again once
//! that is acknowledged. The same holds for its partitions, which only become more.
//!
//! Input: creations, deletions, refusals, and what was answered well. Output: the first refusal
//! that denies a topic which is there, the first answer of one that is deleted. Clients name a
//! topic or a partition only after they were told that it was created, and by its id where its name
//! may mean another one.
//!
//! Source: the metadata log is flushed before it acknowledges; KIP-516.

use std::collections::BTreeMap;

use skein_types::ErrorCode;

use super::{Facts, Invariant};
use crate::event::{Event, PartitionId, Stamp};
use crate::plan::Plan;

/// Topics that are deleted, or about to be.
pub(crate) struct TopicsStay {
    /// The topic of each partition.
    topics: Vec<usize>,
    /// When the deletion was acknowledged; `None` before that.
    deleted: BTreeMap<usize, Option<u64>>,
}

impl TopicsStay {
    /// Every topic stays.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            topics: plan.partitions().map(|partition| partition.topic).collect(),
            deleted: BTreeMap::new(),
        }
    }

    fn denied(&self, partition: PartitionId, code: ErrorCode) -> Result<(), String> {
        let is_denial = matches!(
            code,
            ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::InconsistentTopicId
        );
        match is_denial && !self.deleted.contains_key(&self.topics[partition.0]) {
            true => Err(format!("a topic that was created is denied: {code}")),
            false => Ok(()),
        }
    }

    fn served(&self, partition: PartitionId, asked: Stamp) -> Result<(), String> {
        match self.deleted.get(&self.topics[partition.0]) {
            Some(Some(deleted)) if *deleted <= asked.told => Err(format!(
                "a topic whose deletion was acknowledged is served, in life {}",
                asked.life
            )),
            _ => Ok(()),
        }
    }
}

impl Invariant for TopicsStay {
    fn name(&self) -> &'static str {
        "topics_stay"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        match event {
            Event::DeletingTopic { topic } => {
                self.deleted.insert(*topic, None);
            }
            Event::TopicDeleted { topic } => {
                self.deleted.insert(*topic, Some(facts.now.told));
            }
            Event::Refused { batch, code, .. } => {
                return self.denied(facts.batches.get(*batch).partition, *code);
            }
            Event::Unavailable { partition, code } => return self.denied(*partition, *code),
            Event::Acked { batch, sent, .. } => {
                return self.served(facts.batches.get(*batch).partition, *sent);
            }
            Event::Ends {
                partition, asked, ..
            }
            | Event::OutOfRange {
                partition, asked, ..
            } => return self.served(*partition, *asked),
            _ => {}
        }
        Ok(())
    }
}
