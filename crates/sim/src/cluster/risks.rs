//! When the loss of acknowledged records is nobody's fault.
//!
//! Input: images as they are applied, power cuts and wiped disks. Output: for each partition up to
//! when its records may be lost.
//!
//! A partition is *at risk* while all who surely have its records, ISR and ELR, or who was there
//! last when both have become empty, have lost the power since their last registration, or their
//! disk: with `durability=flushed` only the latter counts. What was acknowledged or read before the
//! end of that may be gone, and nothing else. (Among the image's last known members are also those
//! that left the ISR long before.)
//!
//! Invariant: a crash of processes puts nothing at risk, nor does the loss of power by some of the
//! ISR. But a broker that crashed leaves the ISR for good at its next registration:
//! whoever is left in it is all there is.
//!
//! Source: the design's section on what a disk kept.

use std::collections::BTreeMap;

use skein_metadata::Image;
use skein_types::{BrokerEpoch, BrokerId, PartitionIndex, TopicId};

use super::event::{Told, broker_id};
use super::plan::ClusterPlan;
use crate::event::PartitionId;

/// Whose records: a partition's, or those of all groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Records {
    Of(PartitionId),
    Groups,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Risks {
    newest: Option<Image>,
    /// Who lost its power, in which epoch; and who its disk.
    unflushed: BTreeMap<BrokerId, BrokerEpoch>,
    wiped: BTreeMap<BrokerId, BrokerEpoch>,
    /// ISR and ELR of each partition, as long as there was one.
    holders: BTreeMap<(TopicId, PartitionIndex), Vec<BrokerId>>,
    risks: BTreeMap<Records, Risk>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Risk {
    is_open: bool,
    until: Option<Told>,
}

impl Risks {
    /// A node has lost its power.
    pub(crate) fn power_cut(&mut self, node: usize, plan: &ClusterPlan, now: Told) {
        let id = broker_id(node);
        self.unflushed.insert(id, self.epoch(id));
        self.look(plan, now);
    }

    /// A node has lost its disk.
    pub(crate) fn wiped(&mut self, node: usize, plan: &ClusterPlan, now: Told) {
        let id = broker_id(node);
        self.wiped.insert(id, self.epoch(id));
        self.power_cut(node, plan, now);
    }

    /// Some node has applied this image.
    pub(crate) fn applied(&mut self, image: &Image, plan: &ClusterPlan, now: Told) {
        let is_news = self
            .newest
            .as_ref()
            .is_none_or(|newest| newest.last_applied() < image.last_applied());
        if !is_news {
            return;
        }
        self.newest = Some(image.clone());
        // Before the losses of those who have come back are forgotten: between two images one may
        // have been all there was of a partition, and have come back.
        self.look(plan, now);
        for lost in [&mut self.unflushed, &mut self.wiped] {
            lost.retain(|id, epoch| {
                image
                    .broker(*id)
                    .is_none_or(|broker| broker.epoch <= *epoch)
            });
        }
        self.look(plan, now);
    }

    /// An operator has elected whoever there was: nothing from before counts.
    pub(crate) fn elected_unclean(&mut self, plan: &ClusterPlan, now: Told) {
        let all = plan.partitions().map(Records::Of).chain([Records::Groups]);
        for records in all {
            self.risks.entry(records).or_default().until = Some(now);
        }
    }

    /// Whether what was so at `at` may have been lost since.
    pub(crate) fn excuse(&self, records: Records, at: Told) -> bool {
        let risk = self.risks.get(&records).copied().unwrap_or_default();
        risk.is_open || risk.until.is_some_and(|until| at <= until)
    }

    /// Whether anything of these records may ever have been lost.
    pub(crate) fn ever(&self, records: Records) -> bool {
        self.excuse(records, 0)
    }

    /// Whether a broker has lost its disk since its last registration.
    pub(crate) fn has_lost_disk(&self, id: BrokerId) -> bool {
        self.wiped.contains_key(&id)
    }

    /// The newest image of all nodes.
    pub(crate) fn newest(&self) -> Option<&Image> {
        self.newest.as_ref()
    }

    fn epoch(&self, id: BrokerId) -> BrokerEpoch {
        let broker = self.newest.as_ref().and_then(|image| image.broker(id));
        broker.map_or(BrokerEpoch::NONE, |broker| broker.epoch)
    }

    fn look(&mut self, plan: &ClusterPlan, now: Told) {
        let Some(image) = self.newest.clone() else {
            return;
        };
        let mut open: BTreeMap<Records, bool> = BTreeMap::new();
        for topic in image.topics() {
            for (index, partition) in topic.partitions() {
                let name = topic.name.as_str();
                let (records, is_flushed) = match plan.find(name, index.get()) {
                    Some(id) => (Records::Of(id), plan.place(id).0.is_flushed),
                    None if name == "__consumer_offsets" => (Records::Groups, false),
                    None => continue,
                };
                let lost = match is_flushed {
                    true => &self.wiped,
                    false => &self.unflushed,
                };
                let holders = self.holders.entry((topic.id, index)).or_default();
                let sure = partition.isr.iter().chain(&partition.elr);
                let sure: Vec<_> = sure.copied().collect();
                if !sure.is_empty() {
                    *holders = sure;
                }
                let is_at_risk = holders.iter().all(|id| lost.contains_key(id));
                *open.entry(records).or_default() |= is_at_risk;
            }
        }
        for (records, is_open) in open {
            let risk = self.risks.entry(records).or_default();
            if risk.is_open && !is_open {
                risk.until = Some(now);
            }
            risk.is_open = is_open;
        }
    }
}
