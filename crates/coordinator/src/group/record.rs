//! A group as its record keeps it.
//!
//! Input: a group. Output: the record of its generation; and the way back.
//!
//! Invariant, checked by the model test: what a record was made of is what it gives back, as far as
//! a record says it. It is made when the leader has brought the assignment, when a static member is
//! replaced, and when nobody is left, so that a new coordinator goes on with the last generation
//! that worked.
//!
//! Source: `GroupCoordinatorRecordHelpers` and `GroupMetadataManager.replay` of Kafka 4.1.1.

use bytes::Bytes;
use skein_protocol::messages::coordinator_records::{
    GroupMetadataKey, GroupMetadataValue, MemberMetadata,
};
use skein_protocol::{GroupRecord, Str};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{Millis, Now};

use super::member::Member;
use super::{Group, State};
use crate::timers::{TimerKey, Timers};
use crate::turn::Turn;

/// Why a record is no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupDamage {
    /// Members who speak no protocol.
    #[error("members without a protocol")]
    NoProtocol,
    /// Two members with one id, or one instance id.
    #[error("a member that is there twice")]
    MemberTwice,
}

impl Group {
    /// The record of the group as it is.
    pub(crate) fn record(&self) -> GroupRecord {
        let members = self.members.iter().map(|(id, member)| MemberMetadata {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.metadata(self.protocol_name.as_ref()),
            assignment: member.assignment.clone(),
        });
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation_id,
            protocol: self.protocol_name.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.state_timestamp.unwrap_or(Millis::NONE).get(),
            members: members.collect(),
        };
        GroupRecord::GroupMetadata(self.key(), Some(value))
    }

    /// The record that there is no such group any more.
    pub(crate) fn tombstone(&self) -> GroupRecord {
        GroupRecord::GroupMetadata(self.key(), None)
    }

    fn key(&self) -> GroupMetadataKey {
        GroupMetadataKey {
            group: self.id.clone(),
        }
    }

    /// The group of a record, without offsets. Nobody waits for its members yet.
    pub(crate) fn from_record(id: &str, value: &GroupMetadataValue) -> Result<Self, GroupDamage> {
        let timestamp = Millis(value.current_state_timestamp);
        let mut group = Self::new(id, (timestamp != Millis::NONE).then_some(timestamp));
        group.generation_id = value.generation;
        group.protocol_name = value.protocol.as_ref().map(Str::detached);
        let protocol_type = &value.protocol_type;
        group.protocol_type = (!protocol_type.is_empty()).then(|| protocol_type.detached());
        if value.members.is_empty() {
            group.subscribed_topics = group.read_subscriptions();
            return Ok(group);
        }
        let protocol_name = group.protocol_name.clone().ok_or(GroupDamage::NoProtocol)?;
        for kept in &value.members {
            group.add_kept_member(kept, &protocol_name, protocol_type)?;
        }
        let leader = value.leader.as_ref();
        if let Some(leader) = leader.filter(|leader| group.members.contains_key(*leader)) {
            group.leader = Some(leader.detached());
        }
        group.state = State::Stable;
        group.subscribed_topics = group.read_subscriptions();
        Ok(group)
    }

    fn add_kept_member(
        &mut self,
        kept: &MemberMetadata,
        protocol_name: &Str,
        protocol_type: &str,
    ) -> Result<(), GroupDamage> {
        let instance_id = kept.group_instance_id.as_ref();
        let is_known = |instance_id| self.static_members.contains_key(instance_id);
        if self.members.contains_key(&kept.member_id) || instance_id.is_some_and(is_known) {
            return Err(GroupDamage::MemberTwice);
        }
        let member = Member {
            group_instance_id: instance_id.map(Str::detached),
            client_id: kept.client_id.detached(),
            client_host: kept.client_host.detached(),
            // Version 0 of the value had none, as version 0 of the request.
            rebalance_timeout_ms: match kept.rebalance_timeout {
                -1 => kept.session_timeout,
                timeout => timeout,
            },
            session_timeout_ms: kept.session_timeout,
            protocols: vec![(
                protocol_name.clone(),
                Bytes::copy_from_slice(&kept.subscription),
            )],
            assignment: Bytes::copy_from_slice(&kept.assignment),
            ..Member::default()
        };
        self.add_member(&kept.member_id.detached(), member, protocol_type);
        Ok(())
    }

    /// Leaves nothing of the group but its offsets, when a tombstone says that it is no more.
    pub(crate) fn forget_members(&mut self, timers: &mut Timers) {
        for (id, session) in &mut self.pending_members {
            session.cancel(timers, || TimerKey::Session(self.id.clone(), id.clone()));
        }
        let offsets = std::mem::take(&mut self.offsets);
        *self = Self::new(&self.id, None);
        self.offsets = offsets;
    }

    /// Begins to wait for the members of a group that was replayed.
    pub(crate) fn wake(&mut self, turn: &mut Turn<'_>) {
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::SessionsForgotten) {
            return;
        }
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in &ids {
            self.renew_session(id, turn);
        }
        // The limit may be another one now; a rebalance lets some of them back in.
        if self.members.len() > turn.group.max_size as usize {
            self.prepare_rebalance(turn);
        }
    }

    /// The first record of a group, before its first member.
    pub(crate) fn found(id: &str, now: Now) -> Self {
        Self::new(id, Some(now.time_of_day))
    }
}
