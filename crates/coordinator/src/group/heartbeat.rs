//! Heartbeat, and what its absence means.
//!
//! Input: heartbeats, and the ends of sessions. Output: whether the member should go on or join.
//!
//! Invariant: a heartbeat of a member allocates nothing and moves no entry of a queue.
//!
//! Source: `GroupMetadataManager.classicGroupHeartbeat` and `expireClassicGroupMemberHeartbeat` of
//! Kafka 4.1.1.

use skein_protocol::messages::heartbeat::HeartbeatRequest;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{ErrorCode, Millis};

use super::{Group, State};
use crate::timers::TimerKey;
use crate::turn::Turn;

impl Group {
    /// Takes a Heartbeat; the error is the answer.
    pub(crate) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.renew_session(&request.member_id, turn);
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
            State::Empty => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// An entry of a session has come up: if it is over, the member is out.
    pub(super) fn session_came_up(&mut self, entry: (Millis, TimerKey), turn: &mut Turn<'_>) {
        let TimerKey::Session(_, member_id) = entry.1.clone() else {
            return;
        };
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::SessionNeverEnds) {
            return;
        }
        let now = turn.now.monotonic;
        if let Some(session) = self.pending_members.get_mut(&member_id) {
            if session.comes_up(entry, now, turn.timers) {
                self.remove_member(&member_id, turn);
                self.stop_waiting(turn);
            }
        } else if let Some(member) = self.members.get_mut(&member_id)
            && member.session.comes_up(entry, now, turn.timers)
            && !member.is_excused()
        {
            self.remove_member(&member_id, turn);
            match self.state {
                State::CompletingRebalance | State::Stable => self.prepare_rebalance(turn),
                State::PreparingRebalance | State::Empty => self.stop_waiting(turn),
            }
        }
    }

    /// Somebody is gone without a word. If it was the last one missing, the rebalance ends, also an
    /// initial one before its time.
    fn stop_waiting(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::PreparingRebalance && self.has_everybody_joined() {
            self.complete_join(turn);
        }
    }
}
