//! What is committed is on every member of ISR and ELR.
//!
//! Input: the replicas of all nodes at one moment, what disks kept over a power cut, images.
//! Output: a violation, if a member's log ends before the high watermark that the leader shows.
//!
//! Rules, for the leader and the members that the newest image names:
//! - the log of a member whose registered process serves reaches to the leader's high watermark;
//! - with `durability=flushed`, so does the log that a power cut leaves on a member's disk.
//!
//! So whoever is elected of them loses nothing; the rule is looked at before anybody has to be. A
//! process that has not registered yet is not looked at: its registration decides whether it stays
//! a member. Nor is one that has lost its disk.
//!
//! Source: KIP-497, KIP-903, KIP-966; the design's rule for `durability=flushed`.

use std::collections::BTreeMap;

use skein_metadata::{Image, Partition};
use skein_types::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::{ClusterInvariant, Facts};
use crate::cluster::event::{ClusterEvent, Holding, broker_id};
use crate::event::PartitionId;

/// See the module.
#[derive(Default)]
pub(crate) struct CommittedOnIsr {
    /// What each leader has shown last.
    shown: BTreeMap<(TopicId, PartitionIndex), (LeaderEpoch, Offset)>,
}

impl ClusterInvariant for CommittedOnIsr {
    fn name(&self) -> &'static str {
        "committed_on_isr"
    }

    fn observe(&mut self, event: &ClusterEvent, facts: &Facts<'_>) -> Result<(), String> {
        let Some(image) = facts.risks.newest() else {
            return Ok(());
        };
        match event {
            ClusterEvent::Held(held) => {
                let leaders = held.iter().filter(|holding| leads(image, holding));
                for leader in leaders {
                    let key = (leader.topic_id, leader.partition);
                    let epoch = leader.leads_in.unwrap_or(LeaderEpoch::NONE);
                    self.shown.insert(key, (epoch, leader.high_watermark));
                }
                held.iter()
                    .try_for_each(|holding| self.judge(image, holding))
            }
            ClusterEvent::Survived {
                node,
                partition,
                end,
            } if facts.plan.place(*partition).0.is_flushed => {
                self.judge_disk(image, *node, *partition, *end, facts)
            }
            _ => Ok(()),
        }
    }
}

impl CommittedOnIsr {
    fn judge(&self, image: &Image, holding: &Holding) -> Result<(), String> {
        let key = (holding.topic_id, holding.partition);
        let Some(partition) = image.partition(key.0, key.1) else {
            return Ok(());
        };
        match self.committed(key, partition) {
            Some(committed)
                if is_present(image, holding)
                    && is_member(partition, broker_id(holding.node))
                    && holding.log_end_offset < committed =>
            {
                Err(format!(
                    "{committed} is the high watermark, but a member has less: {holding:?}; the \
                     partition is {partition:?}"
                ))
            }
            _ => Ok(()),
        }
    }

    fn judge_disk(
        &self,
        image: &Image,
        node: usize,
        id: PartitionId,
        end: Offset,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let (topic, index) = facts.plan.place(id);
        let Some(topic) = image.topic_by_name(&topic.name) else {
            return Ok(());
        };
        let index = PartitionIndex(index);
        let Some(partition) = topic.partition(index) else {
            return Ok(());
        };
        let broker = broker_id(node);
        let is_member = is_member(partition, broker) && !facts.risks.has_lost_disk(broker);
        match self.committed((topic.id, index), partition) {
            Some(committed) if is_member && end < committed => Err(format!(
                "{}: {committed} is the high watermark of a flushed topic, but the disk of broker \
                 {broker} has kept {end}; the partition is {partition:?}",
                facts.plan.name_of(id)
            )),
            _ => Ok(()),
        }
    }

    /// The high watermark of the leader that the image names, as far as it was seen.
    fn committed(&self, key: (TopicId, PartitionIndex), partition: &Partition) -> Option<Offset> {
        let (epoch, high_watermark) = self.shown.get(&key)?;
        let is_leader = *epoch == partition.leader_epoch && partition.leader != BrokerId::NONE;
        is_leader.then_some(*high_watermark)
    }
}

/// Whether the replica leads as the image says.
fn leads(image: &Image, holding: &Holding) -> bool {
    let partition = image.partition(holding.topic_id, holding.partition);
    partition.is_some_and(|partition| {
        partition.leader == broker_id(holding.node)
            && holding.leads_in == Some(partition.leader_epoch)
            && is_present(image, holding)
    })
}

/// Whether the replica is of the process that is registered.
fn is_present(image: &Image, holding: &Holding) -> bool {
    let broker = image.broker(broker_id(holding.node));
    broker.is_some_and(|broker| broker.epoch.get() == holding.broker_epoch)
}

fn is_member(partition: &Partition, id: BrokerId) -> bool {
    partition.isr.contains(&id) || partition.elr.contains(&id)
}
