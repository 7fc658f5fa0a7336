//! Who leads was in the ISR or the ELR, or was the last known member; and who is in the ISR lives.
//!
//! Input: images, one after the other. Output: a violation, if one names a leader whom the one
//! before did not make eligible, or an ISR or ELR that cannot be.
//!
//! Rules, between the image behind one entry and that behind the next:
//! - another leader was a member of ISR or ELR, or one of the last known when all of both are gone,
//!   and has a greater leader epoch; it is registered, and neither fenced nor stopping. An entry
//!   holds the decisions of all who asked at one time: where it changes a partition twice, the
//!   leader may have joined by the first change;
//! - who is new in the ISR is neither fenced nor stopping;
//! - with min ISR members in the ISR, and somebody who leads them, nobody else is eligible;
//! - a former process is no leader: a registration ends its leadership, or gives a new epoch.
//!
//! Source: KIP-966, KIP-841, KIP-101.

use skein_metadata::{ConfigResource, Image, Partition, Topic};
use skein_types::BrokerId;

use super::{ClusterInvariant, Facts};
use crate::cluster::event::ClusterEvent;

/// See the module.
#[derive(Default)]
pub(crate) struct LeadersAreEligible {
    last: Option<Image>,
    /// Whether an operator has asked for an unclean election.
    is_forced: bool,
}

impl ClusterInvariant for LeadersAreEligible {
    fn name(&self) -> &'static str {
        "leaders_are_eligible"
    }

    fn observe(&mut self, event: &ClusterEvent, _facts: &Facts<'_>) -> Result<(), String> {
        match event {
            ClusterEvent::ElectedUnclean => self.is_forced = true,
            ClusterEvent::Applied(image) => {
                let index = |image: &Image| image.last_applied().map(|id| id.index);
                let last = self.last.as_ref().and_then(index);
                if index(image) <= last {
                    return Ok(());
                }
                let former = self.last.replace(Image::clone(image));
                let is_next = last.map(|last| last + 1) == index(image);
                if let Some(former) = former.filter(|_| is_next) {
                    return self.compare(&former, image);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl LeadersAreEligible {
    fn compare(&self, former: &Image, image: &Image) -> Result<(), String> {
        for topic in image.topics() {
            for (index, now) in topic.partitions() {
                let refuse = |why: &str| {
                    let name = &topic.name;
                    Err(format!("{name}-{index}: {why}; it is {now:?}"))
                };
                if !now.elr.is_empty() && now.isr.len() >= min_isr(image, topic, now) {
                    return refuse("there is an ELR beside a large enough ISR");
                }
                let Some(before) = former.partition(topic.id, index) else {
                    continue;
                };
                if let Some(why) = self.judge(former, image, before, now) {
                    return refuse(&format!("{why}; it was {before:?}"));
                }
            }
        }
        Ok(())
    }

    fn judge(
        &self,
        former: &Image,
        image: &Image,
        before: &Partition,
        now: &Partition,
    ) -> Option<&'static str> {
        let mut joined = now.isr.iter().filter(|id| !before.isr.contains(id));
        if joined.any(|id| !image.is_active(*id)) {
            return Some("who is fenced or stopping has come into the ISR");
        }
        let epoch = |image: &Image, id| image.broker(id).map(|broker| broker.epoch);
        let is_same_process = epoch(former, now.leader) == epoch(image, now.leader);
        let is_same_leader = now.leader == before.leader && is_same_process;
        if now.leader == BrokerId::NONE || is_same_leader && now.leader_epoch == before.leader_epoch
        {
            return None;
        }
        if now.leader_epoch <= before.leader_epoch {
            return Some("a new leader has no new epoch");
        }
        if !image.is_active(now.leader) {
            return Some("the new leader is fenced or stopping");
        }
        // Who registers anew with a disk that may have lost records leaves both in this very entry.
        let is_gone = |id: &BrokerId| epoch(former, *id) != epoch(image, *id);
        let is_lost = before.isr.iter().chain(&before.elr).all(is_gone);
        let is_last = is_lost && before.last_known.contains(&now.leader);
        let was_member = before.isr.contains(&now.leader) || before.elr.contains(&now.leader);
        let is_one_change = now.partition_epoch.0 == before.partition_epoch.0 + 1;
        match was_member || is_last || self.is_forced || !is_one_change {
            true => None,
            false => Some("the new leader was neither in the ISR nor eligible"),
        }
    }
}

/// What the topic says, as far as its replicas go.
fn min_isr(image: &Image, topic: &Topic, partition: &Partition) -> usize {
    let resource = ConfigResource {
        kind: skein_metadata::ResourceType::Topic,
        name: topic.name.to_string(),
    };
    let value = image.config_value(&resource, "min.insync.replicas");
    let set = value.and_then(|value| value.parse().ok());
    let default = if partition.replicas.len() >= 3 { 2 } else { 1 };
    set.unwrap_or(default).min(partition.replicas.len())
}
