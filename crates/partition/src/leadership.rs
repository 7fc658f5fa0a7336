//! How a replica comes to lead, what changes while it does, and how it ends.
//!
//! Input: the partition's registration as the metadata image has it, reports of followers,
//! failures. Output: the new role, and whatever the change commits or refuses.
//!
//! Invariants, checked in `Replica::check`: a leader's epoch is the last one in the log's table of
//! epochs. Leader epoch and partition epoch only grow: what comes with an older one is dropped.
//!
//! See KIP-101 (leader epoch), KIP-497 (partition epoch).

use skein_types::LeaderEpoch;

use crate::isr::Followers;
use crate::isr_change::IsrChanges;
use crate::replica::{Leader, Replica, Role};
use crate::{Effect, FollowerFetch, FollowerFlush, OfflineReason, Refusal, Registration};

impl Replica {
    pub(crate) fn became_leader(&mut self, registration: &Registration, effects: &mut Vec<Effect>) {
        let &Registration {
            leader_epoch,
            partition_epoch,
            ref replicas,
            ref isr,
            ref elr,
        } = registration;
        if leader_epoch <= self.leader_epoch || matches!(self.role, Role::Offline) {
            return;
        }
        self.leader_epoch = leader_epoch;
        if leader_epoch < self.log_epoch() {
            // Epochs would go backwards in the log, and followers would truncate the wrong records.
            self.go_offline(OfflineReason::LeaderEpochBehindLog, effects);
            return;
        }
        if self.leader_epochs.assign(leader_epoch, self.log_end_offset) {
            effects.push(Effect::CheckpointLeaderEpochs);
        }
        let mut followers = Followers::new(self.broker_id, replicas, isr, self.now);
        followers.set_eligible(elr);
        self.role = Role::Leader(Leader {
            leader_epoch_start_offset: self.log_end_offset,
            partition_epoch,
            followers,
            isr_changes: IsrChanges::default(),
        });
        self.settle(effects);
    }

    pub(crate) fn partition_changed(
        &mut self,
        registration: &Registration,
        effects: &mut Vec<Effect>,
    ) {
        let &Registration {
            leader_epoch,
            partition_epoch,
            ref replicas,
            ref isr,
            ref elr,
        } = registration;
        let (broker_id, now) = (self.broker_id, self.now);
        let Some(leader) = self.leader_in(leader_epoch) else {
            return;
        };
        if partition_epoch <= leader.partition_epoch {
            return;
        }
        leader.partition_epoch = partition_epoch;
        leader.followers.register(broker_id, replicas, isr, now);
        leader.followers.set_eligible(elr);
        leader.isr_changes.resolve();
        self.settle(effects);
        self.propose_isr(None, effects);
    }

    pub(crate) fn follower_fetched(&mut self, fetch: &FollowerFetch, effects: &mut Vec<Effect>) {
        let is_same_log = self.is_same_log(fetch);
        let measure = self.measure();
        let Some(leader) = self.leader_in(fetch.leader_epoch) else {
            return;
        };
        leader.followers.note_fetched(fetch, is_same_log, measure);
        self.settle(effects);
        self.propose_isr(Some(fetch.broker_id), effects);
    }

    pub(crate) fn follower_flushed(&mut self, flush: &FollowerFlush, effects: &mut Vec<Effect>) {
        let measure = self.measure();
        let Some(leader) = self.leader_in(flush.leader_epoch) else {
            return;
        };
        leader.followers.note_flushed(flush, measure);
        self.settle(effects);
        self.propose_isr(Some(flush.broker_id), effects);
    }

    pub(crate) fn resigned(&mut self, leader_epoch: LeaderEpoch, effects: &mut Vec<Effect>) {
        if leader_epoch < self.leader_epoch {
            return;
        }
        self.leader_epoch = leader_epoch;
        if let Role::Leader(_) | Role::Follower(_) = self.role {
            self.role = Role::Unassigned;
            self.publish(effects);
            self.waiting.refuse_all(Refusal::NotLeader, effects);
        }
    }

    /// Gives the replica up until its storage is repaired. A write in flight is still to be
    /// answered.
    pub(crate) fn go_offline(&mut self, reason: OfflineReason, effects: &mut Vec<Effect>) {
        if let OfflineReason::TruncationFailed = reason {
            self.truncation_failed(effects);
        }
        if let Role::Offline = self.role {
            return;
        }
        self.role = Role::Offline;
        self.publish(effects);
        self.waiting.refuse_all(Refusal::Offline, effects);
        effects.push(Effect::ReplicaOffline { reason });
    }

    /// The leader's part, if the replica leads in this epoch.
    pub(crate) fn leader_in(&mut self, leader_epoch: LeaderEpoch) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) if leader_epoch == self.leader_epoch => Some(leader),
            Role::Leader(_) | Role::Follower(_) | Role::Unassigned | Role::Offline => None,
        }
    }

    /// Whether all that the follower has is in this log. Else it was told OFFSET_OUT_OF_RANGE or
    /// where the logs part, and will truncate.
    fn is_same_log(&self, fetch: &FollowerFetch) -> bool {
        let FollowerFetch {
            fetch_offset,
            last_fetched_epoch,
            ..
        } = *fetch;
        let offsets = self.published();
        let diverges =
            || offsets.diverging_epoch(&self.leader_epochs, fetch_offset, last_fetched_epoch);
        (self.log_start_offset..=self.log_end_offset).contains(&fetch_offset)
            && diverges() == Ok(None)
    }
}
