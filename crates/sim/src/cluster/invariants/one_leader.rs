//! A leader epoch has one leader: one process of one node.
//!
//! Input: who leads, as the nodes themselves believe; images. Output: a violation, if two do in one
//! epoch.
//!
//! Source: KIP-101; the design's rule that each new leader, also a new process of the former one,
//! gets a new epoch.

use std::collections::BTreeMap;

use skein_metadata::Image;
use skein_types::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};

use super::{ClusterInvariant, Facts};
use crate::cluster::event::ClusterEvent;

/// See the module.
#[derive(Default)]
pub(crate) struct OneLeader {
    /// Node and broker epoch.
    leaders: BTreeMap<(TopicId, PartitionIndex, LeaderEpoch), (usize, i64)>,
    named: BTreeMap<(TopicId, PartitionIndex, LeaderEpoch), BrokerId>,
}

impl ClusterInvariant for OneLeader {
    fn name(&self) -> &'static str {
        "one_leader"
    }

    fn observe(&mut self, event: &ClusterEvent, _facts: &Facts<'_>) -> Result<(), String> {
        match event {
            ClusterEvent::Leads(leading) => {
                let key = (leading.topic_id, leading.partition, leading.leader_epoch);
                let who = (leading.node, leading.broker_epoch);
                let first = *self.leaders.entry(key).or_insert(who);
                match first == who {
                    true => Ok(()),
                    false => Err(format!(
                        "{key:?} has the leaders {first:?} and {who:?} (node, broker epoch)"
                    )),
                }
            }
            ClusterEvent::Applied(image) => self.named_by(image),
            _ => Ok(()),
        }
    }
}

impl OneLeader {
    fn named_by(&mut self, image: &Image) -> Result<(), String> {
        for topic in image.topics() {
            for (index, partition) in topic.partitions() {
                if partition.leader == BrokerId::NONE {
                    continue;
                }
                let key = (topic.id, index, partition.leader_epoch);
                let first = *self.named.entry(key).or_insert(partition.leader);
                if first != partition.leader {
                    let second = partition.leader;
                    return Err(format!("{key:?} has the leaders {first} and {second}"));
                }
            }
        }
        Ok(())
    }
}
