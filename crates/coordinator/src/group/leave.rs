//! LeaveGroup: members that are none any more, by their own word or an administrator's.
//!
//! Input: member ids, or instance ids alone. Output: an answer for each, and a rebalance if one of
//! them was a member.
//!
//! Invariant: what a member that goes waits for is answered.
//!
//! Source: `GroupMetadataManager.classicGroupLeaveToClassicGroup` of Kafka 4.1.1; KIP-345.

use skein_protocol::Str;
use skein_protocol::messages::leave_group::MemberIdentity;
use skein_types::ErrorCode;

use super::{Group, State};
use crate::turn::Turn;

/// Who leaves; an administrator knows no member id.
pub(crate) struct Leaver<'a> {
    member_id: &'a Str,
    instance_id: Option<&'a Str>,
}

impl<'a> Leaver<'a> {
    pub(crate) fn new(identity: &'a MemberIdentity) -> Self {
        Self {
            member_id: &identity.member_id,
            instance_id: identity.group_instance_id.as_ref(),
        }
    }
}

impl Group {
    /// Removes members; the answers are in the order of `leavers`.
    pub(crate) fn leave(&mut self, leavers: &[Leaver<'_>], turn: &mut Turn<'_>) -> Vec<ErrorCode> {
        let mut codes = Vec::with_capacity(leavers.len());
        for leaver in leavers {
            let found = self.find_leaver(leaver);
            codes.push(found.as_ref().err().copied().unwrap_or(ErrorCode::None));
            if let Ok(member_id) = found {
                self.remove_member(&member_id, turn);
            }
        }
        if codes.contains(&ErrorCode::None) {
            match self.state {
                State::CompletingRebalance | State::Stable => self.prepare_rebalance(turn),
                State::PreparingRebalance => self.complete_join_if_possible(turn),
                State::Empty => {}
            }
        }
        codes
    }

    fn find_leaver(&self, leaver: &Leaver<'_>) -> Result<Str, ErrorCode> {
        if leaver.member_id.is_empty() {
            let by_instance = leaver
                .instance_id
                .and_then(|id| self.static_members.get(id));
            return by_instance.cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        if !self.pending_members.contains_key(leaver.member_id) {
            self.validate_member(leaver.member_id, leaver.instance_id)?;
        }
        Ok(leaver.member_id.clone())
    }
}
