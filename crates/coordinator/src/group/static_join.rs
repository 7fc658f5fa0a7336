//! JoinGroup of a static member that comes back: the same instance, under a new member id.
//!
//! Input: the request, and the id under which the instance was known. Output: in a group that is
//! stable, and whose protocol does not change by it, the answer and the record of the new id,
//! without a rebalance; else as of any member that joins.
//!
//! Invariant: who still uses the former id is fenced: what it waits for is answered with
//! FENCED_INSTANCE_ID, and so is what it sends.
//!
//! Source: `updateStaticMemberThenRebalanceOrCompleteJoin` of Kafka 4.1.1; KIP-345, KIP-814.

use skein_protocol::Str;
use skein_protocol::messages::join_group::JoinGroupResponse;
use skein_types::ErrorCode;

use super::member::{Member, Terms};
use super::{Group, Joining, State};
use crate::request::{Response, join_error, sync_error};
use crate::timers::TimerKey;
use crate::turn::Turn;

/// The first version that can say that the leader need not assign (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

impl Group {
    /// The instance of the member `former_id` joins anew.
    pub(super) fn replace_static(
        &mut self,
        former_id: &Str,
        joining: Joining,
        turn: &mut Turn<'_>,
    ) {
        let member_id = joining.new_member_id.clone();
        let former_leader = self.leader.clone();
        let former = self.members.get(former_id).map(Member::terms);
        self.rename_member(former_id, &member_id, turn);
        self.update_member(&member_id, &joining.request);
        self.renew_session(&member_id, turn);
        if self.state != State::Stable || self.elect_protocol() != self.protocol_name {
            // While the group completes, the leader may have been told the former id already, and
            // would assign to that.
            return self.rejoin(&member_id, joining.ticket, turn);
        }
        let record = self.record();
        if !turn.fits(&record) {
            return self.undo_replacement(former_id, former, joining, turn);
        }
        turn.keep(record);
        let is_leader = self.is_leader(&member_id);
        let response = if joining.version >= SKIP_ASSIGNMENT_VERSION {
            JoinGroupResponse {
                skip_assignment: is_leader,
                ..self.join_response(&member_id, is_leader)
            }
        } else {
            // It must not think that it leads, or it would assign, and nobody wait for it.
            JoinGroupResponse {
                leader: former_leader.unwrap_or_default(),
                ..self.join_response(&member_id, false)
            }
        };
        turn.answer(joining.ticket, Response::JoinGroup(response));
    }

    /// The record of the replacement is more than the log takes: the member is who it was.
    fn undo_replacement(
        &mut self,
        former_id: &Str,
        former: Option<Terms>,
        joining: Joining,
        turn: &mut Turn<'_>,
    ) {
        let member_id = joining.new_member_id;
        if let (Some(mut member), Some(terms)) = (self.members.remove(&member_id), former) {
            self.uncount_protocols(&member);
            member.set_terms(terms);
            self.count_protocols(&member);
            self.members.insert(member_id.clone(), member);
        }
        self.rename_member(&member_id, former_id, turn);
        self.renew_session(former_id, turn);
        let refused = JoinGroupResponse {
            leader: self.leader.clone().unwrap_or_default(),
            error_code: ErrorCode::UnknownServerError.code(),
            ..self.join_response(&Str::default(), false)
        };
        turn.answer(joining.ticket, Response::JoinGroup(refused));
    }

    fn rename_member(&mut self, former_id: &Str, member_id: &Str, turn: &mut Turn<'_>) {
        let Some(mut member) = self.members.remove(former_id) else {
            return;
        };
        let group_id = &self.id;
        member.session.cancel(turn.timers, || {
            TimerKey::Session(group_id.clone(), former_id.clone())
        });
        if let Some(ticket) = member.awaiting_join.take() {
            self.awaiting_join -= 1;
            let error = join_error(former_id.clone(), ErrorCode::FencedInstanceId);
            turn.answer(ticket, error);
        }
        if let Some(ticket) = member.awaiting_sync.take() {
            turn.answer(ticket, sync_error(ErrorCode::FencedInstanceId));
        }
        if self.is_leader(former_id) {
            self.leader = Some(member_id.clone());
        }
        if self.pending_sync.remove(former_id) {
            self.pending_sync.insert(member_id.clone());
        }
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members
                .insert(instance_id.clone(), member_id.clone());
        }
        self.members.insert(member_id.clone(), member);
    }
}
