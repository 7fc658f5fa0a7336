//! What a group's state means for its offsets.
//!
//! Input: the state, the members. Output: who may commit and delete, and from when on offsets are
//! too old.
//!
//! Source: `ClassicGroup.validateOffsetCommit`, `validateOffsetDelete`, `validateDeleteGroup` and
//! `offsetExpirationCondition` of Kafka 4.1.1; KIP-211, KIP-496.

use skein_protocol::messages::offset_commit::OffsetCommitRequest;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{ErrorCode, Millis};

use super::{Group, State};
use crate::turn::Turn;

/// From when on the age of an offset counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpiryBase {
    /// From its commit.
    Commit,
    /// Since the group lost its last member, in ms since 1970.
    Empty(Millis),
}

impl Group {
    /// Whether the commit comes from who may commit. A member shows by it that it lives.
    pub(crate) fn accept_commit(
        &mut self,
        request: &OffsetCommitRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        self.validate_commit(request)?;
        if matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.renew_session(&request.member_id, turn);
        }
        Ok(())
    }

    fn validate_commit(&self, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation_id = request.generation_id_or_member_epoch;
        if generation_id < 0 && self.state == State::Empty {
            return Ok(());
        }
        let instance_id = request.group_instance_id.as_ref();
        if generation_id < 0 && request.member_id.is_empty() && instance_id.is_none() {
            return match self.state {
                State::Empty => Ok(()),
                _ => Err(ErrorCode::UnknownMemberId),
            };
        }
        self.validate_member(&request.member_id, instance_id)?;
        let is_current = generation_id == self.generation_id;
        #[cfg(feature = "mutations")]
        let is_current = is_current || mutation::has(Mutation::CommitOfAnyGeneration);
        if !is_current {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            // It knows the generation, but the assignment that it has is of the one before.
            State::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Whether offsets may be deleted by hand, of topics that nobody reads.
    pub(crate) fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        if self.is_empty() || self.uses_consumer_protocol() {
            Ok(())
        } else {
            Err(ErrorCode::NonEmptyGroup)
        }
    }

    /// Whether nobody is in it.
    pub(crate) fn may_be_deleted(&self) -> bool {
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::MembersDeleted) {
            return true;
        }
        self.is_empty()
    }

    /// From when on the age of its offsets counts; `None` while none expires.
    pub(crate) fn expiry_base(&self) -> Option<ExpiryBase> {
        #[cfg(feature = "mutations")]
        if self.is_empty() && mutation::has(Mutation::OffsetsExpireFromCommit) {
            return Some(ExpiryBase::Commit);
        }
        match (&self.protocol_type, self.state) {
            (None, _) => Some(ExpiryBase::Commit),
            // Old records of a group do not say since when it is so.
            (Some(_), State::Empty) => {
                let since = self.state_timestamp.map(ExpiryBase::Empty);
                Some(since.unwrap_or(ExpiryBase::Commit))
            }
            (Some(_), State::Stable) if self.knows_subscriptions() => Some(ExpiryBase::Commit),
            (Some(_), _) => None,
        }
    }
}
