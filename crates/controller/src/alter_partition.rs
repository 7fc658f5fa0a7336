//! AlterPartition: a leader changes the ISR of its partition.
//!
//! ```text
//!   refused with              because
//!   ────────────────────────  ───────────────────────────────────────────────────────────────
//!   STALE_BROKER_EPOCH        the leader has another process by now (the whole request)
//!   UNKNOWN_TOPIC_ID, …       it is deleted
//!   NOT_CONTROLLER            it knows a later epoch than the image: who decides here is behind
//!   FENCED_LEADER_EPOCH       there is a later leader
//!   INVALID_UPDATE_VERSION    the partition has changed since: it is to look first
//!   INVALID_REQUEST           it does not lead, or no leader could want this
//!   INELIGIBLE_REPLICA        a member is fenced, stopping or offline, or has another process than
//!                             the one that the leader has seen catch up
//!   NEW_LEADER_ELECTED        without those whom it wants out the ISR is too small, and they are
//!                             alive: one of them leads now
//! ```
//!
//! Input: the ISRs that a leader wants. Output: for each partition what it is from then on, or why
//! it stays as it was.
//!
//! Invariants:
//! - an ISR is changed only on the partition epoch that the leader has seen, so that of two
//!   attempts one takes effect; a change always gives a new partition epoch, also if it changes
//!   nothing;
//! - who is new in an ISR is active, and is the process that the leader has seen catch up: a later
//!   one may have lost what the former had;
//! - who leaves while the ISR is smaller than min ISR stays eligible.
//!
//! Source: KIP-497 (AlterPartition), KIP-841 (fenced and stopping brokers), KIP-903 (broker
//! epochs), KIP-966 (ELR); `ReplicationControlManager.alterPartition` of Kafka 4.1.

use std::sync::Arc;

use skein_config::{BrokerConfig, TopicConfig};
use skein_metadata::{Image, LeaderRecoveryState, Partition, Record, Topic};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Millis, PartitionEpoch, PartitionIndex, TopicId,
};

use crate::batch::{Context, Decision, effective_config, topic_config};
use crate::election::{Rules, change_partition, sorted};
use crate::{Refusal, Response, Sessions, brokers};

/// Most partitions of one request.
pub const ALTERATIONS_PER_REQUEST_MAX: usize = 10_000;

/// A broker changes partitions that it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartition {
    /// Who.
    pub broker_id: BrokerId,
    /// Under which registration.
    pub broker_epoch: BrokerEpoch,
    /// The partitions, each as it shall be.
    pub partitions: Vec<PartitionAlteration>,
}

/// A partition as its leader wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionAlteration {
    /// Of which topic.
    pub topic_id: TopicId,
    /// Which partition.
    pub partition: PartitionIndex,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch that it has seen.
    pub partition_epoch: PartitionEpoch,
    /// The ISR from then on, the leader among it.
    pub isr: Vec<ProposedMember>,
    /// Whether the leader has recovered from an unclean election.
    pub leader_recovery_state: LeaderRecoveryState,
}

/// A member of an ISR as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposedMember {
    /// Which broker.
    pub broker_id: BrokerId,
    /// Which of its processes. [`BrokerEpoch::NONE`], "not seen yet", only for one that is in the
    /// ISR already.
    pub broker_epoch: BrokerEpoch,
}

/// What became of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartitionResult {
    /// Of which topic.
    pub topic_id: TopicId,
    /// Which partition.
    pub partition: PartitionIndex,
    /// As it is from then on, or why it stays as it was.
    pub result: Result<AlteredPartition, Refusal>,
}

/// A partition after the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredPartition {
    /// Who leads.
    pub leader: BrokerId,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of this change.
    pub partition_epoch: PartitionEpoch,
    /// The ISR.
    pub isr: Vec<BrokerId>,
    /// As requested.
    pub leader_recovery_state: LeaderRecoveryState,
}

/// The changes of one request, each on what the ones before it lead to.
struct Alterations<'a> {
    sessions: &'a Sessions,
    now: Millis,
    image: Image,
    config: BrokerConfig,
    broker_id: BrokerId,
    records: Vec<Record>,
}

pub(crate) fn decide(
    image: &Image,
    request: &AlterPartition,
    context: &Context<'_>,
) -> Result<Decision, Refusal> {
    brokers::check_epoch(image, request.broker_id, request.broker_epoch)?;
    if request.partitions.len() > ALTERATIONS_PER_REQUEST_MAX {
        let message = format!("one request names {ALTERATIONS_PER_REQUEST_MAX} partitions at most");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let mut alterations = Alterations {
        sessions: context.sessions,
        now: context.now,
        image: image.clone(),
        config: effective_config(image, context.config).into_owned(),
        broker_id: request.broker_id,
        records: Vec::new(),
    };
    let results = request
        .partitions
        .iter()
        .map(|wanted| AlterPartitionResult {
            topic_id: wanted.topic_id,
            partition: wanted.partition,
            result: alterations.alter(wanted),
        });
    let results = results.collect();
    Ok(Decision {
        records: alterations.records,
        response: Response::AlterPartition(results),
    })
}

impl Alterations<'_> {
    fn alter(&mut self, wanted: &PartitionAlteration) -> Result<AlteredPartition, Refusal> {
        let (topic, partition) = self.find(wanted)?;
        self.check_epochs(wanted, &partition)?;
        let isr = self.check_isr(wanted, &partition)?;
        let config = topic_config(&self.image, &self.config, &topic.name);
        let rules = Rules::new(&config, partition.replicas.len());
        if isr.len() < rules.min_insync_replicas
            && let Some(successor) = self.successor(wanted, &partition, &isr)
        {
            return self.hand_over(&topic, wanted.partition, &partition, &config, successor);
        }
        let state = wanted.leader_recovery_state;
        let record = change_partition(&topic, wanted.partition, &partition, &config, |change| {
            change.alter(isr.clone(), state);
        });
        let records: Vec<_> = record.into_iter().collect();
        self.image
            .apply_records(&records)
            .map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()))?;
        self.records.extend(records);
        let (_, altered) = self.find(wanted)?;
        Ok(AlteredPartition {
            leader: altered.leader,
            leader_epoch: altered.leader_epoch,
            partition_epoch: altered.partition_epoch,
            isr: altered.isr.clone(),
            leader_recovery_state: altered.leader_recovery_state,
        })
    }

    /// A member that the leader wants out of an ISR which would be too small without it, although
    /// the controller hears it: perhaps it is the leader whom nobody reaches. Tried once in a
    /// session: who cannot lead better gives the partition no rest.
    fn successor(
        &self,
        wanted: &PartitionAlteration,
        partition: &Partition,
        isr: &[BrokerId],
    ) -> Option<BrokerId> {
        let id = (wanted.topic_id, wanted.partition);
        if !self.sessions.may_hand_over(id, self.now) {
            return None;
        }
        let is_fit = |id: &BrokerId| {
            partition.isr.contains(id)
                && !isr.contains(id)
                && self.image.is_active(*id)
                && self.sessions.is_alive(*id, self.now)
        };
        partition.replicas.iter().copied().find(is_fit)
    }

    /// The error is for the former leader, which waits for the image then.
    fn hand_over(
        &mut self,
        topic: &Topic,
        index: PartitionIndex,
        partition: &Partition,
        config: &TopicConfig,
        successor: BrokerId,
    ) -> Result<AlteredPartition, Refusal> {
        let record = change_partition(topic, index, partition, config, |change| {
            change.hand_over(successor);
        });
        let records: Vec<_> = record.into_iter().collect();
        self.image
            .apply_records(&records)
            .map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()))?;
        self.records.extend(records);
        let message =
            format!("broker {successor} leads now: it is alive, as the controller sees it");
        Err(Refusal::new(ErrorCode::NewLeaderElected, message))
    }

    fn find(&self, wanted: &PartitionAlteration) -> Result<(Arc<Topic>, Arc<Partition>), Refusal> {
        let topic = self.image.topic(wanted.topic_id).ok_or_else(|| {
            let message = format!("there is no topic {}", wanted.topic_id);
            Refusal::new(ErrorCode::UnknownTopicId, message)
        })?;
        let partition = topic.partition(wanted.partition).ok_or_else(|| {
            let message = format!("{} has no partition {}", topic.name, wanted.partition);
            Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
        })?;
        Ok((Arc::clone(topic), Arc::clone(partition)))
    }

    fn check_epochs(
        &self,
        wanted: &PartitionAlteration,
        partition: &Partition,
    ) -> Result<(), Refusal> {
        let theirs = (wanted.leader_epoch, wanted.partition_epoch);
        let ours = (partition.leader_epoch, partition.partition_epoch);
        let refuse = |code, what| {
            let message = format!(
                "{what}: leader epoch {} and partition epoch {} are known, not {} and {}",
                ours.0, ours.1, theirs.0, theirs.1
            );
            Err(Refusal::new(code, message))
        };
        if theirs.0 > ours.0 || theirs.1 > ours.1 {
            refuse(ErrorCode::NotController, "this controller is behind")
        } else if theirs.0 < ours.0 {
            refuse(ErrorCode::FencedLeaderEpoch, "there is a later leader")
        } else if partition.leader != self.broker_id {
            refuse(ErrorCode::InvalidRequest, "only the leader may ask")
        } else if theirs.1 < ours.1 {
            refuse(ErrorCode::InvalidUpdateVersion, "the partition has changed")
        } else {
            Ok(())
        }
    }

    /// The members in ascending order.
    fn check_isr(
        &self,
        wanted: &PartitionAlteration,
        partition: &Partition,
    ) -> Result<Vec<BrokerId>, Refusal> {
        let invalid = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        let isr = sorted(wanted.isr.iter().map(|member| member.broker_id));
        if isr.len() != wanted.isr.len() || isr.iter().any(|id| !partition.replicas.contains(id)) {
            return invalid("an ISR is a set of replicas");
        }
        if !isr.contains(&self.broker_id) {
            return invalid("the leader is in its ISR");
        }
        let recovering = LeaderRecoveryState::Recovering;
        if wanted.leader_recovery_state == recovering {
            if partition.leader_recovery_state != recovering {
                return invalid("the leader has recovered already");
            }
            if isr.len() > 1 {
                return invalid("nobody is in sync with a leader that has not recovered");
            }
        }
        for member in &wanted.isr {
            self.check_member(*member, partition)?;
        }
        Ok(isr)
    }

    fn check_member(&self, member: ProposedMember, partition: &Partition) -> Result<(), Refusal> {
        let id = member.broker_id;
        let is_new = !partition.isr.contains(&id);
        let registered = self.image.broker(id).map(|broker| broker.epoch);
        let is_unseen = !is_new && member.broker_epoch == BrokerEpoch::NONE;
        #[cfg(feature = "mutations")]
        let is_unseen = is_unseen || mutation::has(Mutation::StaleBrokerEpochJoinsIsr);
        let is_active = self.image.is_active(id);
        #[cfg(feature = "mutations")]
        let is_active = is_active || mutation::has(Mutation::FencedJoinsIsr);
        let reason = if !is_active {
            "it is fenced or stopping"
        } else if partition.is_offline(id) {
            "its storage has failed"
        } else if !is_unseen && registered != Some(member.broker_epoch) {
            "it has another process than the one that has caught up"
        } else {
            return Ok(());
        };
        let message = format!("broker {id} cannot be in the ISR: {reason}");
        Err(Refusal::new(ErrorCode::IneligibleReplica, message))
    }
}

#[cfg(test)]
mod tests;
