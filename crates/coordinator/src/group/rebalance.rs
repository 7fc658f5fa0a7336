//! From one generation to the next: who may still join, and when that ends.
//!
//! Input: changes of the membership, and the deadline of a rebalance. Output: the answers to all
//! who joined, with the new generation; or the record of a group that nobody is left in.
//!
//! Invariants:
//! - a generation is one more than the one before, and nobody is told of it who is not in it;
//! - a dynamic member that did not join in time is out; a static one stays, until its session ends.
//!
//! Source: `GroupMetadataManager.prepareRebalance`, `completeClassicGroupJoin` and their timers in
//! Kafka 4.1.1; KIP-134 for the initial delay.

use std::collections::BTreeMap;

use bytes::Bytes;
use skein_protocol::Str;
use skein_protocol::messages::join_group::{JoinGroupResponse, JoinGroupResponseMember};
use skein_types::{ErrorCode, Millis};

use super::{Group, State};
use crate::request::{Response, sync_error};
use crate::timers::TimerKey;
use crate::turn::Turn;

/// Least time to look again at a group that nobody has joined; members may ask for none at all.
const POSTPONED_MS_MIN: i64 = 100;

/// The wait of a group's first rebalance for further members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    /// What the present wait takes.
    delay_ms: i64,
    /// By how much it may still be extended.
    remaining_ms: i64,
    /// Whether somebody came during the present wait.
    pub(super) has_new_member: bool,
}

impl Group {
    /// After a change of the membership: begins a rebalance, or goes on with the one under way.
    pub(super) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::PreparingRebalance {
            self.complete_join_if_possible(turn);
        } else {
            self.prepare_rebalance(turn);
        }
    }

    /// Begins a rebalance. Who waits to sync must join first.
    pub(crate) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::CompletingRebalance {
            self.turn_away_syncs(ErrorCode::RebalanceInProgress, turn);
        }
        self.cancel_sync_timer(turn);
        let is_initial = self.state == State::Empty;
        self.enter(State::PreparingRebalance, turn.now);
        if is_initial {
            let delay_ms = turn.group.initial_rebalance_delay_ms.get();
            let timeout_ms = i64::from(self.rebalance_timeout_ms());
            self.initial_delay = Some(InitialDelay {
                delay_ms,
                remaining_ms: (timeout_ms - delay_ms).max(0),
                has_new_member: false,
            });
            self.set_join_timer(delay_ms, turn);
        } else if self.has_everybody_joined() {
            self.complete_join(turn);
        } else {
            self.set_join_timer(self.rebalance_timeout_ms().into(), turn);
        }
    }

    /// Ends the rebalance if nobody is missing; the initial one waits for its time.
    pub(super) fn complete_join_if_possible(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::PreparingRebalance
            && self.initial_delay.is_none()
            && self.has_everybody_joined()
        {
            self.complete_join(turn);
        }
    }

    pub(super) fn has_everybody_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_members.is_empty()
    }

    /// The deadline of the rebalance has come.
    pub(super) fn join_timed_out(&mut self, turn: &mut Turn<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if let Some(delay) = &mut self.initial_delay
            && delay.has_new_member
            && delay.remaining_ms > 0
        {
            let next_ms = turn
                .group
                .initial_rebalance_delay_ms
                .get()
                .min(delay.remaining_ms);
            *delay = InitialDelay {
                delay_ms: next_ms,
                remaining_ms: (delay.remaining_ms - delay.delay_ms).max(0),
                has_new_member: false,
            };
            self.set_join_timer(next_ms, turn);
        } else {
            self.complete_join(turn);
        }
    }

    /// Ends the rebalance with those who have joined.
    pub(super) fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.cancel_join_timer(turn);
        let late: Vec<Str> = self
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_join.is_none() && !member.is_static())
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.remove_member(&id, turn);
        }
        if !self.members.is_empty() && !self.elect_leader_who_joined() {
            // Only static members are left, and none of them is here. Their sessions decide.
            let timeout_ms = i64::from(self.rebalance_timeout_ms()).max(POSTPONED_MS_MIN);
            self.set_join_timer(timeout_ms, turn);
            return;
        }
        self.begin_generation(turn);
    }

    /// Makes sure that the leader is somebody who has joined; says whether there is one.
    fn elect_leader_who_joined(&mut self) -> bool {
        let has_joined = |id: &Str| {
            let member = self.members.get(id);
            member.is_some_and(|member| member.awaiting_join.is_some())
        };
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let Some(leader) = self.members.keys().find(|id| has_joined(id)) else {
            return false;
        };
        self.leader = Some(leader.clone());
        true
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        self.initial_delay = None;
        self.pending_sync.clear();
        // Below zero is "no generation", which a commit may come with.
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(0);
        self.protocol_name = self.elect_protocol();
        self.subscribed_topics = self.read_subscriptions();
        if self.members.is_empty() {
            self.enter(State::Empty, turn.now);
            let record = self.record();
            turn.keep(record);
            return;
        }
        self.enter(State::CompletingRebalance, turn.now);
        self.answer_joins(turn);
        let deadline = turn.after(self.rebalance_timeout_ms());
        self.sync_timer
            .set(deadline, turn.timers, || TimerKey::Sync(self.id.clone()));
    }

    /// The protocol, of those that all speak, with the most votes; of equals the first by name.
    pub(super) fn elect_protocol(&self) -> Option<Str> {
        let everybody = self.members.len();
        let is_candidate = |name: &str| self.protocol_counts.get(name) == Some(&everybody);
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(name) = member.vote(is_candidate) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let mut elected = votes.into_iter().filter(|&(_, count)| count == most);
        elected.next().map(|(name, _)| name.clone())
    }

    /// Tells everybody who joined the new generation, and the leader who is in it.
    fn answer_joins(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in ids {
            let response = self.join_response(&id, self.is_leader(&id));
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                if let Some(ticket) = member.awaiting_join.take() {
                    self.awaiting_join -= 1;
                    turn.answer(ticket, Response::JoinGroup(response));
                }
            }
            self.renew_session(&id, turn);
            self.pending_sync.insert(id);
        }
    }

    /// What a member is told of the present generation.
    pub(super) fn join_response(&self, member_id: &Str, with_members: bool) -> JoinGroupResponse {
        let members = with_members.then(|| {
            let members = self.members.iter();
            let members = members.map(|(id, member)| JoinGroupResponseMember {
                member_id: id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                metadata: member.metadata(self.protocol_name.as_ref()),
            });
            members.collect()
        });
        JoinGroupResponse {
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: Some(self.protocol_name.clone().unwrap_or_default()),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            members: members.unwrap_or_default(),
            ..JoinGroupResponse::default()
        }
    }

    /// Nobody has an assignment any more, and who waits for one is told `error`.
    pub(super) fn turn_away_syncs(&mut self, error: ErrorCode, turn: &mut Turn<'_>) {
        let mut waited = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment = Bytes::new();
            if let Some(ticket) = member.awaiting_sync.take() {
                turn.answer(ticket, sync_error(error));
                waited.push(id.clone());
            }
        }
        for id in &waited {
            self.renew_session(id, turn);
        }
    }

    fn rebalance_timeout_ms(&self) -> i32 {
        let timeouts = self.members.values();
        let timeouts = timeouts.map(|member| member.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0)
    }

    fn set_join_timer(&mut self, ms: i64, turn: &mut Turn<'_>) {
        let deadline = turn.now.monotonic.saturating_add(Millis(ms));
        self.join_timer
            .set(deadline, turn.timers, || TimerKey::Join(self.id.clone()));
    }

    pub(super) fn cancel_join_timer(&mut self, turn: &mut Turn<'_>) {
        self.join_timer
            .cancel(turn.timers, || TimerKey::Join(self.id.clone()));
    }
}
