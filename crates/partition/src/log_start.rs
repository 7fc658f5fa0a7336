//! Where the log starts: `DeleteRecords` and retention.
//!
//! Input: the wish to delete, and the outcome. Output: the order to move the start, and the answer.
//!
//! The start must survive a crash, so that deleted records never come back. That the world may
//! refuse, so it is two events again: `DeleteRecordsReceived` orders `MoveLogStart`; only
//! `LogStartOffsetMoved` moves the start that readers see.
//!
//! Invariant, checked in `PublishedOffsets::check`: the start never passes the high watermark,
//! because a new leader might not have what follows.
//!
//! See KIP-107 (DeleteRecords).

use skein_types::Offset;

use crate::replica::{Replica, Role};
use crate::{Effect, Refusal, Ticket};

impl Replica {
    pub(crate) fn delete_records_received(
        &mut self,
        ticket: Ticket,
        before_offset: Option<Offset>,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(match self.delete_records_target(before_offset) {
            Ok(Offset::ZERO) => Effect::AnswerDeleteRecords {
                ticket,
                result: Ok(self.log_start_offset),
            },
            // Also where the start has passed it: that may be the work of retention, which a crash
            // may undo.
            Ok(log_start_offset) => Effect::MoveLogStart {
                ticket: Some(ticket),
                log_start_offset,
            },
            Err(refusal) => Effect::AnswerDeleteRecords {
                ticket,
                result: Err(refusal),
            },
        });
    }

    /// The first offset to keep.
    fn delete_records_target(&self, before_offset: Option<Offset>) -> Result<Offset, Refusal> {
        self.leader()?;
        if !self.settings.delete_records {
            return Err(Refusal::DeleteRecordsNotAllowed);
        }
        let target = before_offset.unwrap_or(self.high_watermark);
        if target < Offset::ZERO || target > self.high_watermark {
            return Err(Refusal::OffsetOutOfRange);
        }
        Ok(target)
    }

    pub(crate) fn log_start_move_failed(
        &mut self,
        ticket: Option<Ticket>,
        effects: &mut Vec<Effect>,
    ) {
        match (ticket, &mut self.role) {
            (Some(ticket), _) => effects.push(Effect::AnswerDeleteRecords {
                ticket,
                result: Err(Refusal::WriteFailed),
            }),
            // The leader's next answer asks again.
            (None, Role::Follower(follower)) => follower.log_start_move_failed(),
            (None, Role::Leader(_) | Role::Unassigned | Role::Offline) => {}
        }
    }

    pub(crate) fn log_start_offset_moved(
        &mut self,
        ticket: Option<Ticket>,
        log_start_offset: Offset,
        effects: &mut Vec<Effect>,
    ) {
        // Retention may have been faster.
        if log_start_offset > self.log_start_offset {
            assert!(
                log_start_offset <= self.high_watermark,
                "{log_start_offset} is not committed"
            );
            self.log_start_offset = log_start_offset;
            self.producers.on_log_start(log_start_offset);
            if self.leader_epochs.truncate_from_start(log_start_offset) {
                effects.push(Effect::CheckpointLeaderEpochs);
            }
            self.settle(effects);
        }
        if let Some(ticket) = ticket {
            let result = match self.role {
                Role::Offline => Err(Refusal::Offline),
                Role::Leader(_) | Role::Follower(_) | Role::Unassigned => Ok(self.log_start_offset),
            };
            effects.push(Effect::AnswerDeleteRecords { ticket, result });
        }
    }
}
