//! Who leads a partition, and who is in its ISR, when brokers come and go.
//!
//! ```text
//! event                     ISR               ELR                     last known members
//! fenced, stopping          leaves            joins if ISR < min ISR  -
//! registered, disk intact   leaves            joins if ISR < min ISR  -
//! registered, unclean       leaves            leaves                  joins; and ISR ∪ ELR if both
//!                                                                     are empty
//! registered, other disk    leaves            leaves                  leaves
//! its storage failed        leaves            leaves                  ISR ∪ ELR if both are empty
//! may lead again            joins if elected  leaves if elected       empty if one of them leads
//! the leader says so        joins, leaves     joins if ISR < min ISR  empty
//! ```
//!
//! Input: a partition and what happens to its brokers. Output: the partition as it is from then on.
//!
//! Invariants, checked by `Partition::check` when a record is applied, and by the tests below:
//! - who leads was in ISR or ELR, so has all records below the high watermark; unless all members
//!   were lost unclean, or the topic allows an unclean election: then the partition is
//!   `Recovering`;
//! - one change gives at most one new partition epoch and one new leader epoch, and each new
//!   leader, also a new process of the former one, gets a new leader epoch;
//! - a replica whose storage failed is offline: nobody elects it before its broker registers again;
//! - the ELR is empty when the ISR has min ISR members.
//!
//! Source: KIP-966 (ELR, last known members), KIP-841 (fenced brokers leave the ISR), KIP-101,
//! KIP-858 (offline replicas).

use std::sync::Arc;

use skein_config::{BrokerConfig, Durability, TopicConfig};
use skein_metadata::{Image, LeaderRecoveryState, Partition, Record, Topic};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex};

use crate::batch::topic_config;

/// How a broker goes, and what its disk keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// With all its records.
    Orderly,
    /// Perhaps without the records it had not flushed.
    Unclean,
    /// With another disk in its place: it has nothing.
    Replaced,
    /// It goes on, and its storage of this partition failed: what it has there is not known.
    StorageFailed,
}

/// What a topic's configuration says about elections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Effective: never above the number of replicas.
    pub(crate) min_insync_replicas: usize,
    /// Whether every acknowledged record was flushed.
    pub(crate) flushed: bool,
    /// Whether a replica that may lack records may lead.
    pub(crate) unclean_leader_election: bool,
}

/// A change of one partition in the making.
pub(crate) struct Change<'a> {
    former: &'a Partition,
    next: Partition,
    rules: Rules,
    new_leader: bool,
    /// The leader has asked for it.
    altered: bool,
}

impl Rules {
    /// The rules of a topic with `replicas` replicas.
    pub(crate) fn new(config: &TopicConfig, replicas: usize) -> Self {
        let count = u16::try_from(replicas).unwrap_or(u16::MAX);
        Self {
            min_insync_replicas: usize::from(config.effective_min_insync_replicas(count)),
            flushed: config.durability == Durability::Flushed,
            unclean_leader_election: config.unclean_leader_election_enable,
        }
    }
}

impl<'a> Change<'a> {
    pub(crate) fn new(partition: &'a Partition, rules: Rules) -> Self {
        Self {
            former: partition,
            next: partition.clone(),
            rules,
            new_leader: false,
            altered: false,
        }
    }

    /// The broker leaves, see the table above.
    pub(crate) fn leave(&mut self, broker: BrokerId, departure: Departure) {
        // What was acknowledged is on the disk: nothing of it can be lost by an unclean stop.
        let departure = match departure {
            Departure::Unclean if self.rules.flushed => Departure::Orderly,
            other => other,
        };
        let next = &mut self.next;
        let members: Vec<_> = sorted(next.isr.iter().chain(&next.elr).copied());
        if next.leader == broker {
            next.leader = BrokerId::NONE;
            self.new_leader = true;
        }
        let was_in_isr = next.isr.contains(&broker);
        next.isr.retain(|id| *id != broker);
        match departure {
            Departure::Orderly if was_in_isr => insert(&mut next.elr, broker),
            Departure::Orderly => {}
            Departure::Unclean | Departure::Replaced | Departure::StorageFailed => {
                next.elr.retain(|id| *id != broker);
            }
        }
        let is_lost = next.isr.is_empty() && next.elr.is_empty();
        if is_lost && !members.is_empty() {
            // Those before it came back unclean from the same power cut, perhaps: what each has
            // left counts. Nobody who led in between was heard of.
            let former = next.last_known.iter().copied();
            next.last_known = sorted(former.chain(members));
        } else if departure == Departure::Unclean && members.contains(&broker) {
            insert(&mut next.last_known, broker);
        }
        if departure == Departure::Replaced {
            next.last_known.retain(|id| *id != broker);
        }
        if departure == Departure::StorageFailed {
            insert(&mut next.offline, broker);
        }
        self.settle();
    }

    /// A new process of the broker tries its storage again, whatever the former one met.
    pub(crate) fn register(&mut self, broker: BrokerId, departure: Departure) {
        self.next.offline.retain(|id| *id != broker);
        self.leave(broker, departure);
    }

    /// The leader has another ISR. Who leaves it has all below the high watermark: the leader
    /// counts a member until it sees that it is none.
    pub(crate) fn alter(&mut self, isr: Vec<BrokerId>, recovery_state: LeaderRecoveryState) {
        let next = &mut self.next;
        let left = next.isr.iter().filter(|id| !isr.contains(id));
        next.elr = sorted(next.elr.iter().chain(left).copied());
        next.elr.retain(|id| !isr.contains(id));
        next.isr = isr;
        // The leader lives, and has all there is.
        next.last_known.clear();
        next.leader_recovery_state = recovery_state;
        self.altered = true;
        self.settle();
    }

    /// Gives a partition without a leader one, if somebody may lead.
    pub(crate) fn elect(&mut self, is_active: impl Fn(BrokerId) -> bool) {
        if self.next.leader != BrokerId::NONE {
            return;
        }
        let next = &self.next;
        let may_lead = |id: BrokerId| is_active(id) && !next.is_offline(id);
        let first = |among: &[BrokerId]| {
            let mut replicas = next.replicas.iter().copied();
            replicas.find(|id| among.contains(id) && may_lead(*id))
        };
        let safe = first(&next.isr).or_else(|| first(&next.elr));
        let lost = next.isr.is_empty() && next.elr.is_empty();
        // Of several last known members the longest log must lead (`log_ends.rs`).
        let last = || first(&next.last_known).filter(|_| lost && next.last_known.len() == 1);
        let any = || {
            let allowed = self.rules.unclean_leader_election;
            #[cfg(feature = "mutations")]
            let allowed = allowed || mutation::has(Mutation::UncleanElection);
            let allowed = allowed && next.isr.is_empty();
            first(&next.replicas).filter(|_| allowed)
        };
        if let Some(leader) = safe {
            self.lead(leader);
        } else if let Some(leader) = last().or_else(any) {
            self.recover(leader);
        }
    }

    /// Gives a partition its preferred leader, the first of its replicas, if that has all records;
    /// else one without a leader gets whom it may have.
    pub(crate) fn elect_preferred(&mut self, is_active: impl Fn(BrokerId) -> bool) {
        let next = &self.next;
        let preferred = next.replicas.first().copied().filter(|id| {
            *id != next.leader && next.isr.contains(id) && is_active(*id) && !next.is_offline(*id)
        });
        match preferred {
            Some(preferred) => self.lead(preferred),
            None => self.elect(is_active),
        }
    }

    /// Gives the partition to a member of its ISR, which stays as it is.
    pub(crate) fn hand_over(&mut self, successor: BrokerId) {
        if self.next.isr.contains(&successor) {
            self.lead(successor);
        }
    }

    /// Gives a partition that has lost all its members to the one with the longest log.
    pub(crate) fn recover(&mut self, leader: BrokerId) {
        self.next.isr.clear();
        self.next.elr.clear();
        self.next.last_known.clear();
        self.next.leader_recovery_state = LeaderRecoveryState::Recovering;
        self.lead(leader);
    }

    /// Gives a partition without a leader one, also if that lacks records and whatever the topic
    /// says: an operator wants it.
    pub(crate) fn elect_unclean(&mut self, is_active: impl Fn(BrokerId) -> bool) {
        self.rules.unclean_leader_election = true;
        self.elect(is_active);
    }

    /// Takes out the ELR that a smaller min ISR makes unsafe: a leader goes on without its members.
    pub(crate) fn forget_eligible(&mut self) {
        // Without a leader nothing goes on: its members still have all there is.
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::ElrKeptWhenMinIsrLowered) {
            return;
        }
        if !self.next.isr.is_empty() {
            self.next.elr.clear();
        }
    }

    /// The changed partition with its new epochs; `None` if nothing changed.
    pub(crate) fn finish(self) -> Option<Partition> {
        let Self {
            former,
            mut next,
            new_leader,
            altered,
            ..
        } = self;
        // An alteration that changes nothing still ends the partition epoch, so that no earlier
        // attempt of the leader, late on its way, takes effect behind it.
        if next == *former && !new_leader && !altered {
            return None;
        }
        next.partition_epoch = PartitionEpoch(former.partition_epoch.get() + 1);
        #[cfg(feature = "mutations")]
        let new_leader = new_leader && !mutation::has(Mutation::LeaderEpochKept);
        if new_leader {
            next.leader_epoch = LeaderEpoch(former.leader_epoch.get() + 1);
        }
        Some(next)
    }

    fn lead(&mut self, leader: BrokerId) {
        let next = &mut self.next;
        next.leader = leader;
        insert(&mut next.isr, leader);
        next.elr.retain(|id| *id != leader);
        self.new_leader = true;
        self.settle();
    }

    fn settle(&mut self) {
        let Partition { isr, elr, .. } = &self.next;
        let is_member = |id: &BrokerId| isr.contains(id) || elr.contains(id);
        let last_known: Vec<_> = self
            .next
            .last_known
            .iter()
            .copied()
            .filter(|id| !is_member(id))
            .collect();
        self.next.last_known = last_known;
        if self.next.isr.len() >= self.rules.min_insync_replicas {
            self.next.elr.clear();
        }
    }
}

/// Changes every partition that `change` touches; gives the records.
pub(crate) fn change_partitions(
    image: &Image,
    config: &BrokerConfig,
    concerns: impl Fn(&Partition) -> bool,
    change: impl Fn(&mut Change<'_>),
) -> Vec<Record> {
    let mut records = Vec::new();
    for topic in image.topics() {
        if topic.partitions.iter().any(|partition| concerns(partition)) {
            let config = topic_config(image, config, &topic.name);
            change_topic(topic, &config, &concerns, &change, &mut records);
        }
    }
    records
}

/// Changes the partitions of one topic that `change` touches.
pub(crate) fn change_topic(
    topic: &Arc<Topic>,
    config: &TopicConfig,
    concerns: impl Fn(&Partition) -> bool,
    change: impl Fn(&mut Change<'_>),
    records: &mut Vec<Record>,
) {
    for (index, partition) in topic
        .partitions()
        .filter(|(_, partition)| concerns(partition))
    {
        records.extend(change_partition(topic, index, partition, config, &change));
    }
}

/// Changes one partition; gives the record if that changes anything.
pub(crate) fn change_partition(
    topic: &Topic,
    index: PartitionIndex,
    partition: &Partition,
    config: &TopicConfig,
    change: impl Fn(&mut Change<'_>),
) -> Option<Record> {
    let rules = Rules::new(config, partition.replicas.len());
    let mut changing = Change::new(partition, rules);
    change(&mut changing);
    changing.finish().map(|partition| Record::Partition {
        topic_id: topic.id,
        index,
        partition,
    })
}

fn insert(list: &mut Vec<BrokerId>, id: BrokerId) {
    if let Err(at) = list.binary_search(&id) {
        list.insert(at, id);
    }
}

pub(crate) fn sorted(ids: impl Iterator<Item = BrokerId>) -> Vec<BrokerId> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests;
