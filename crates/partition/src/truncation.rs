//! Where a follower's log parts from the leader's, and how it is cut there.
//!
//! Input: the leader's word where the epoch of the last batch ends in its log, or that it does not
//! have the offset at all. Output: the order to cut the log, or to begin it anew; then the tables
//! as of there.
//!
//! ```text
//!   leader     ├── epoch 3 ──────┼──── epoch 5 ────          asked from (40, epoch 4):
//!              0                 30                          "epoch 3 ends at 30"
//!   follower   ├── epoch 3 ─┼─ epoch 4 ────┤
//!              0            20             40                epoch 3 ends here at 20: cut to 20
//! ```
//!
//! The cut is where both logs end the latest epoch that both have. If the follower does not have
//! the epoch that the leader names, it cuts where the one before ends, and asks again. The high
//! watermark has no say: it may lag behind what was committed, and a record above it may be one
//! that the leader has and was acknowledged.
//!
//! Nor does it forbid a cut: the leader is whom the controller has elected. A cut below it means
//! that an unclean election lost committed records; that is told, never silent.
//!
//! Invariants, checked in `Replica::check` and by the model test:
//! - the high watermark goes back only with the log's end;
//! - while the log is being cut nothing else is ordered of it.
//!
//! See KIP-101, KIP-279, KIP-595; `AbstractFetcherThread` of Kafka 4.1.

use skein_record::EpochEndOffset;
use skein_types::{LeaderEpoch, Offset};

use crate::replica::{Replica, Role};
use crate::{DropReason, Effect, FetchPosition, FetchedBatches, Refusal, TruncatedLog};

/// A cut that was ordered.
#[derive(Debug)]
pub(crate) struct Truncation {
    /// What is to be written behind it.
    then: Option<FetchedBatches>,
}

impl Replica {
    pub(crate) fn logs_diverged(
        &mut self,
        position: &FetchPosition,
        end: EpochEndOffset,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_at(position) {
            effects.extend(self.fetch_position().map(Effect::FetchFrom));
            return;
        }
        match self.diverges_at(end) {
            Some(offset) => self.truncate(offset, effects),
            // The leader contradicts itself: by its own word it has all of this log.
            None => effects.extend(self.fetch_position().map(Effect::FetchLater)),
        }
    }

    pub(crate) fn fetched_out_of_range(
        &mut self,
        position: &FetchPosition,
        leader_log_start_offset: Offset,
        leader_log_end_offset: Offset,
        effects: &mut Vec<Effect>,
    ) {
        let is_at = self.is_at(position);
        let is_range = Offset::ZERO <= leader_log_start_offset
            && leader_log_start_offset <= leader_log_end_offset;
        if is_at && is_range && self.log_end_offset < leader_log_start_offset {
            // The leader has deleted what comes next.
            self.restart(leader_log_start_offset, None, effects);
        } else if is_at && is_range && leader_log_end_offset < self.log_end_offset {
            // No epoch tells where the logs part.
            if leader_log_end_offset <= self.log_start_offset {
                self.report_lost(leader_log_end_offset, effects);
                self.restart(leader_log_start_offset, None, effects);
            } else {
                self.truncate(leader_log_end_offset, effects);
            }
        } else {
            // By now it has the offset, or it makes no sense.
            effects.extend(self.fetch_position().map(Effect::FetchLater));
        }
    }

    /// The log is empty and a batch begins before it: it begins there too, with that batch.
    pub(crate) fn restart_with(
        &mut self,
        offset: Offset,
        fetched: FetchedBatches,
        effects: &mut Vec<Effect>,
    ) {
        self.restart(offset, Some(fetched), effects);
    }

    pub(crate) fn truncated(&mut self, log: TruncatedLog, effects: &mut Vec<Effect>) {
        let truncation = self.truncation.take();
        assert!(truncation.is_some(), "no truncation was ordered: {log:?}");
        let TruncatedLog {
            log_start_offset,
            log_end_offset,
            producers,
            leader_epochs,
        } = log;
        assert!(
            log_start_offset <= log_end_offset,
            "{log_start_offset} > {log_end_offset}"
        );
        self.log_start_offset = log_start_offset;
        self.log_end_offset = log_end_offset;
        self.reserved_end_offset = log_end_offset;
        self.high_watermark = self.high_watermark.clamp(log_start_offset, log_end_offset);
        self.flushed_end_offset = self.flushed_end_offset.min(log_end_offset);
        // A flush that was on its way says nothing of the log as it is now.
        self.flush_requested_end_offset = self.flushed_end_offset;
        self.producers = producers;
        self.producers.on_high_watermark(self.high_watermark);
        self.leader_epochs = leader_epochs;
        effects.push(Effect::CheckpointLeaderEpochs);
        self.waiting
            .refuse_behind(log_end_offset, Refusal::NotLeader, effects);
        self.settle(effects);
        match truncation.and_then(|truncation| truncation.then) {
            // Roles wait while the log is cut, unless the storage fails.
            Some(fetched) if matches!(self.role, Role::Follower(_)) => {
                self.write_fetched(fetched.ticket, &fetched.batches, effects);
            }
            Some(fetched) => self.drop_fetched(&fetched, DropReason::Stale, effects),
            None => effects.extend(self.fetch_position().map(Effect::FetchFrom)),
        }
    }

    /// The log could not be cut: nothing more will be heard of it.
    pub(crate) fn truncation_failed(&mut self, effects: &mut Vec<Effect>) {
        if let Some(fetched) = self.truncation.take().and_then(|ordered| ordered.then) {
            self.drop_fetched(&fetched, DropReason::Stale, effects);
        }
    }

    /// Where this log must be cut; `None` if it ends before.
    fn diverges_at(&self, end: EpochEndOffset) -> Option<Offset> {
        if end.epoch < LeaderEpoch::ZERO || end.end_offset < Offset::ZERO {
            return None;
        }
        let own = self
            .leader_epochs
            .end_offset_for(end.epoch, self.log_end_offset);
        let offset = if own == EpochEndOffset::UNDEFINED {
            // All epochs of this log are below the one that the leader names.
            end.end_offset
        } else if own.epoch == end.epoch {
            own.end_offset.min(end.end_offset)
        } else {
            own.end_offset
        };
        (offset < self.log_end_offset).then_some(offset)
    }

    pub(crate) fn truncate(&mut self, offset: Offset, effects: &mut Vec<Effect>) {
        self.report_lost(offset, effects);
        self.truncation = Some(Truncation { then: None });
        effects.push(Effect::Truncate { end: offset });
    }

    fn restart(&mut self, offset: Offset, then: Option<FetchedBatches>, effects: &mut Vec<Effect>) {
        self.waiting.refuse_all(Refusal::NotLeader, effects);
        self.truncation = Some(Truncation { then });
        effects.push(Effect::RestartLog { offset });
    }

    fn report_lost(&self, new_end: Offset, effects: &mut Vec<Effect>) {
        let start = new_end.max(self.log_start_offset);
        if start < self.high_watermark {
            effects.push(Effect::ReportCommittedLost {
                start,
                end: self.high_watermark,
            });
        }
    }
}
