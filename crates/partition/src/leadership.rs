//! How a replica comes to lead, what changes while it does, and how it ends.
//!
//! Input: the partition's registration as the metadata image has it, reports of followers,
//! failures. Output: the new role, and whatever the change commits or refuses.
//!
//! Invariants, checked in `Replica::check`: a leader's epoch is the last one in the log's table of
//! epochs. Leader epoch and partition epoch only grow: what comes with an older one is dropped.
//!
//! See KIP-101 (leader epoch), KIP-497 (partition epoch).

use skein_types::{BrokerId, LeaderEpoch, Offset};

use crate::isr::Followers;
use crate::replica::{Leader, Replica, Role};
use crate::{Effect, OfflineReason, Refusal, Registration};

impl Replica {
    pub(crate) fn became_leader(&mut self, registration: &Registration, effects: &mut Vec<Effect>) {
        let &Registration {
            leader_epoch,
            partition_epoch,
            ref replicas,
            ref isr,
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
        self.role = Role::Leader(Leader {
            leader_epoch_start_offset: self.log_end_offset,
            partition_epoch,
            followers: Followers::new(self.broker_id, replicas, isr),
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
        } = registration;
        let broker_id = self.broker_id;
        let Some(leader) = self.leader_in(leader_epoch) else {
            return;
        };
        if partition_epoch <= leader.partition_epoch {
            return;
        }
        leader.partition_epoch = partition_epoch;
        leader.followers.register(broker_id, replicas, isr);
        self.settle(effects);
    }

    pub(crate) fn follower_fetched(
        &mut self,
        broker_id: BrokerId,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
        effects: &mut Vec<Effect>,
    ) {
        let log_end_offset = self.log_end_offset;
        let Some(leader) = self.leader_in(leader_epoch) else {
            return;
        };
        // Past the end it was told OFFSET_OUT_OF_RANGE, and will truncate.
        if fetch_offset <= log_end_offset {
            leader.followers.note_fetched(broker_id, fetch_offset);
            self.settle(effects);
        }
    }

    pub(crate) fn follower_flushed(
        &mut self,
        broker_id: BrokerId,
        leader_epoch: LeaderEpoch,
        end: Offset,
        effects: &mut Vec<Effect>,
    ) {
        let Some(leader) = self.leader_in(leader_epoch) else {
            return;
        };
        leader.followers.note_flushed(broker_id, end);
        self.settle(effects);
    }

    pub(crate) fn resigned(&mut self, leader_epoch: LeaderEpoch, effects: &mut Vec<Effect>) {
        if leader_epoch < self.leader_epoch {
            return;
        }
        self.leader_epoch = leader_epoch;
        if let Role::Leader(_) = self.role {
            self.role = Role::Unassigned;
            self.publish(effects);
            self.waiting.refuse_all(Refusal::NotLeader, effects);
        }
    }

    /// Gives the replica up until its storage is repaired. A write in flight is still to be
    /// answered.
    pub(crate) fn go_offline(&mut self, reason: OfflineReason, effects: &mut Vec<Effect>) {
        if let Role::Offline = self.role {
            return;
        }
        self.role = Role::Offline;
        self.publish(effects);
        self.waiting.refuse_all(Refusal::Offline, effects);
        effects.push(Effect::ReplicaOffline { reason });
    }

    /// The leader's part, if the replica leads in this epoch.
    fn leader_in(&mut self, leader_epoch: LeaderEpoch) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) if leader_epoch == self.leader_epoch => Some(leader),
            Role::Leader(_) | Role::Unassigned | Role::Offline => None,
        }
    }
}
