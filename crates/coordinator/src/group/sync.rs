//! SyncGroup: the leader brings the assignment, the others fetch theirs.
//!
//! Input: the request, and the deadline for it. Output: the record of the generation, and everybody
//! the assignment that the leader has for them.
//!
//! Invariant: nobody has an assignment of a generation whose record is not in the log; the answers
//! wait for it as all do.
//!
//! Source: `GroupMetadataManager.classicGroupSync` and `expirePendingSync` of Kafka 4.1.1; KIP-559
//! (protocol type and name).

use std::collections::BTreeMap;

use bytes::Bytes;
use skein_protocol::Str;
use skein_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{ErrorCode, Ticket};

use super::{Group, State};
use crate::request::{Response, sync_error};
use crate::timers::TimerKey;
use crate::turn::Turn;

impl Group {
    /// Takes a SyncGroup.
    pub(crate) fn sync(&mut self, ticket: Ticket, request: &SyncGroupRequest, turn: &mut Turn<'_>) {
        if let Err(error) = self.validate_sync(request) {
            return turn.answer(ticket, sync_error(error));
        }
        let member_id = &request.member_id;
        match self.state {
            State::Empty => turn.answer(ticket, sync_error(ErrorCode::UnknownMemberId)),
            State::PreparingRebalance => {
                turn.answer(ticket, sync_error(ErrorCode::RebalanceInProgress));
            }
            State::CompletingRebalance => {
                self.has_synced(member_id, turn);
                self.park_sync(member_id, ticket, turn);
                if self.is_leader(member_id) {
                    self.assign(request, turn);
                }
            }
            State::Stable => {
                self.has_synced(member_id, turn);
                let response = self.sync_response(member_id);
                turn.answer(ticket, Response::SyncGroup(response));
            }
        }
    }

    fn validate_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        let is_current = request.generation_id == self.generation_id;
        #[cfg(feature = "mutations")]
        let is_current = is_current || mutation::has(Mutation::SyncOfAnyGeneration);
        if !is_current {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differ = |theirs: &Option<Str>, ours: &Option<Str>| {
            theirs.is_some() && ours.is_some() && theirs != ours
        };
        if differ(&request.protocol_type, &self.protocol_type)
            || differ(&request.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// A SyncGroup that the member sent before is answered as to somebody who should try again.
    fn park_sync(&mut self, member_id: &str, ticket: Ticket, turn: &mut Turn<'_>) {
        if let Some(member) = self.members.get_mut(member_id)
            && let Some(former) = member.awaiting_sync.replace(ticket)
        {
            turn.answer(former, sync_error(ErrorCode::RebalanceInProgress));
        }
    }

    /// The generation begins to work. Who is not in the leader's assignment gets an empty one. If
    /// it is more than the log takes, all who wait are told not to try again, the others to join.
    fn assign(&mut self, request: &SyncGroupRequest, turn: &mut Turn<'_>) {
        let assignments: BTreeMap<&str, &Bytes> = request
            .assignments
            .iter()
            .map(|assignment| (assignment.member_id.as_str(), &assignment.assignment))
            .collect();
        for (id, member) in &mut self.members {
            let assignment = assignments.get(id.as_str());
            member.assignment = assignment
                .map(|assignment| Bytes::copy_from_slice(assignment))
                .unwrap_or_default();
        }
        self.enter(State::Stable, turn.now);
        let record = self.record();
        if !turn.fits(&record) {
            self.turn_away_syncs(ErrorCode::UnknownServerError, turn);
            return self.prepare_rebalance(turn);
        }
        turn.keep(record);
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in &ids {
            let response = self.sync_response(id);
            let member = self.members.get_mut(id);
            if let Some(ticket) = member.and_then(|member| member.awaiting_sync.take()) {
                turn.answer(ticket, Response::SyncGroup(response));
                // While it waited its session could not end, and nobody looked any more.
                self.renew_session(id, turn);
            }
        }
    }

    fn sync_response(&self, member_id: &str) -> SyncGroupResponse {
        let member = self.members.get(member_id);
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: member
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
            ..SyncGroupResponse::default()
        }
    }

    fn has_synced(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.cancel_sync_timer(turn);
        }
    }

    /// The deadline to sync has come: who has not is out.
    pub(super) fn sync_timed_out(&mut self, turn: &mut Turn<'_>) {
        let is_syncing = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !is_syncing || self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            self.remove_member(&id, turn);
        }
        self.prepare_rebalance(turn);
    }

    pub(super) fn cancel_sync_timer(&mut self, turn: &mut Turn<'_>) {
        self.pending_sync.clear();
        self.sync_timer
            .cancel(turn.timers, || TimerKey::Sync(self.id.clone()));
    }
}
