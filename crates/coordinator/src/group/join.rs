//! JoinGroup: somebody wants to be in the next generation.
//!
//! Input: the request, and an id for a new member. Output: the answer, at once or when the
//! generation begins.
//!
//! A new dynamic member is sent back first to come again with the id it is given (from version 4):
//! else each try of a client that lost its answer would leave another member behind.
//!
//! Invariant: a request that is refused changes nothing, but that a member for whom there is no
//! room any more is out.
//!
//! Source: `GroupMetadataManager.classicGroupJoin*` of Kafka 4.1.1; KIP-394, KIP-389 (group size).

use skein_protocol::Str;
use skein_protocol::messages::join_group::JoinGroupRequest;
use skein_types::{ErrorCode, Ticket};

use super::member::{Member, protocols_of};
use super::{Group, State};
use crate::request::{Response, join_error};
use crate::timers::{Timer, TimerKey};
use crate::turn::Turn;

/// How long a new member may wait for its first generation. It cannot send heartbeats meanwhile.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 300_000;

/// The first version whose clients come again with the id that they are given (KIP-394).
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;

/// A JoinGroup that is worth a look at the group.
pub(crate) struct Joining {
    pub(crate) ticket: Ticket,
    pub(crate) version: i16,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    /// For the case that it has none.
    pub(crate) new_member_id: Str,
    pub(crate) request: JoinGroupRequest,
}

impl Group {
    /// Whether a group without members could begin with this one.
    pub(crate) fn could_begin_with(request: &JoinGroupRequest) -> bool {
        !request.protocol_type.is_empty() && !request.protocols.is_empty()
    }

    /// Takes a JoinGroup.
    pub(crate) fn join(&mut self, joining: Joining, turn: &mut Turn<'_>) {
        let request = &joining.request;
        let error = if !self.has_room_for(&request.member_id, turn) {
            self.remove_member(&request.member_id, turn);
            let error = join_error(Str::default(), ErrorCode::GroupMaxSizeReached);
            turn.answer(joining.ticket, error);
            return;
        } else if !self.supports(&request.protocol_type, &request.protocols) {
            ErrorCode::InconsistentGroupProtocol
        } else if request.member_id.is_empty() {
            return self.join_new(joining, turn);
        } else if self.pending_members.contains_key(&request.member_id)
            && request.group_instance_id.is_none()
        {
            let member_id = request.member_id.detached();
            return self.add_and_rebalance(&member_id, joining, turn);
        } else {
            let instance_id = request.group_instance_id.as_ref();
            match self.validate_member(&request.member_id, instance_id) {
                Ok(()) => return self.join_again(joining, turn),
                Err(error) => error,
            }
        };
        let error = join_error(request.member_id.clone(), error);
        turn.answer(joining.ticket, error);
    }

    /// Whether the group may have this member beside those that it has. While it prepares, places
    /// are for who joins first, so that a group above a lowered limit shrinks.
    fn has_room_for(&self, member_id: &str, turn: &Turn<'_>) -> bool {
        let size_max = turn.group.max_size as usize;
        let known = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                known.is_some_and(|member| member.awaiting_join.is_some())
                    || self.awaiting_join < size_max
            }
            State::CompletingRebalance | State::Stable => {
                known.is_some() || self.members.len() < size_max
            }
        }
    }

    fn join_new(&mut self, joining: Joining, turn: &mut Turn<'_>) {
        let new_member_id = joining.new_member_id.clone();
        if let Some(instance_id) = &joining.request.group_instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(former_id) => self.replace_static(&former_id, joining, turn),
                None => self.add_and_rebalance(&new_member_id, joining, turn),
            }
        } else if joining.version >= MEMBER_ID_REQUIRED_VERSION {
            let mut session = Timer::default();
            let deadline = turn.after(joining.request.session_timeout_ms);
            session.set(deadline, turn.timers, || {
                TimerKey::Session(self.id.clone(), new_member_id.clone())
            });
            self.pending_members.insert(new_member_id.clone(), session);
            let error = join_error(new_member_id, ErrorCode::MemberIdRequired);
            turn.answer(joining.ticket, error);
        } else {
            self.add_and_rebalance(&new_member_id, joining, turn);
        }
    }

    fn add_and_rebalance(&mut self, member_id: &Str, joining: Joining, turn: &mut Turn<'_>) {
        let request = &joining.request;
        let mut session = self.pending_members.remove(member_id).unwrap_or_default();
        let deadline = turn.after(NEW_MEMBER_JOIN_TIMEOUT_MS);
        session.set(deadline, turn.timers, || {
            TimerKey::Session(self.id.clone(), member_id.clone())
        });
        let member = Member {
            group_instance_id: request.group_instance_id.as_ref().map(Str::detached),
            client_id: joining.client_id.detached(),
            client_host: joining.client_host.detached(),
            rebalance_timeout_ms: rebalance_timeout_ms(request),
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols_of(&request.protocols),
            awaiting_join: Some(joining.ticket),
            is_new: true,
            session,
            ..Member::default()
        };
        if let Some(delay) = &mut self.initial_delay {
            delay.has_new_member = true;
        }
        self.add_member(member_id, member, &request.protocol_type);
        self.rebalance(turn);
    }

    /// A member joins that is one.
    fn join_again(&mut self, joining: Joining, turn: &mut Turn<'_>) {
        let member_id = joining.request.member_id.detached();
        let matches = self
            .members
            .get(&member_id)
            .is_some_and(|member| member.matches(&joining.request.protocols));
        let is_leader = self.is_leader(&member_id);
        let has_missed_the_answer = match self.state {
            State::CompletingRebalance => matches,
            // The leader joins to have a rebalance: what it assigns has changed.
            State::Stable => matches && !is_leader,
            State::PreparingRebalance | State::Empty => false,
        };
        if has_missed_the_answer {
            let response = self.join_response(&member_id, is_leader);
            turn.answer(joining.ticket, Response::JoinGroup(response));
        } else {
            self.update_member(&member_id, &joining.request);
            self.rejoin(&member_id, joining.ticket, turn);
        }
    }

    /// Parks the JoinGroup of a member whose metadata have just been taken, and rebalances.
    pub(super) fn rejoin(&mut self, member_id: &str, ticket: Ticket, turn: &mut Turn<'_>) {
        self.park_join(member_id, ticket, turn);
        self.rebalance(turn);
    }

    /// Takes what a member says of itself now.
    pub(super) fn update_member(&mut self, member_id: &str, request: &JoinGroupRequest) {
        let Some(mut member) = self.members.remove(member_id) else {
            return;
        };
        self.uncount_protocols(&member);
        member.protocols = protocols_of(&request.protocols);
        member.rebalance_timeout_ms = rebalance_timeout_ms(request);
        member.session_timeout_ms = request.session_timeout_ms;
        self.count_protocols(&member);
        self.members.insert(Str::from(member_id), member);
    }
}

/// Version 0 has none, and means the session timeout (KIP-62).
fn rebalance_timeout_ms(request: &JoinGroupRequest) -> i32 {
    match request.rebalance_timeout_ms {
        -1 => request.session_timeout_ms,
        timeout => timeout,
    }
}
