//! A replica that follows: it appends what its leader has, and nothing else.
//!
//! Input: the leader's answers to fetches, outcomes of the disk. Output: orders to write and to cut
//! (`truncation.rs`), and from where to fetch next.
//!
//! ```text
//!                      ┌───────────────────────────── FetchFrom ◄────────────────────────┐
//!                      ▼                                                                 │
//!   BecameFollower ─► asked ─┬─ batches ─────────► WriteFetched ─┬─ Written ─────────────┤
//!                            │                                   └─ WriteFailed ─ FetchLater
//!                            ├─ LogsDiverged ────► Truncate ─────┬─ Truncated ───────────┤
//!                            └─ FetchedOutOfRange ► RestartLog ──┘                       │
//!                                                                └─ StorageFailed ─► Offline
//! ```
//!
//! An answer counts only at the position for which it was asked: same leader epoch, same end of the
//! log, same epoch of the last batch. Then the log up to there is the leader's, and what follows
//! there in the leader's log may be appended; also an answer that is late or came twice.
//!
//! Invariants, checked in `Replica::check`, here and by the model test:
//! - batches are appended with the leader's offsets and epochs, in order, none of a later epoch
//!   than the leader's;
//! - the high watermark is the leader's as far as this log goes; it never goes back, except with
//!   the log's end;
//! - the log start follows the leader's, and never passes the high watermark.
//!
//! See KIP-101, KIP-279, KIP-320, KIP-595 (diverging epoch in the answer).

use skein_record::{AbortedTxn, Undo};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{BrokerId, LeaderEpoch, Offset};

use crate::replica::{Replica, Role};
use crate::{
    DropReason, Effect, FetchPosition, FetchedBatch, FetchedBatches, MAX_GROUP_BATCHES,
    OfflineReason, RESIGNED_WAIT_MAX_MS, Ticket,
};

/// What only a follower has.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) leader: BrokerId,
    /// The leader's, as of its last answer; [`Offset::NONE`] before.
    leader_high_watermark: Offset,
    leader_log_start_offset: Offset,
    /// How far the log start is ordered to move.
    log_start_requested: Offset,
}

/// Fetched batches that are being written.
#[derive(Debug)]
pub(crate) struct FetchedGroup {
    /// Epoch and first offset of each.
    epochs: Vec<(LeaderEpoch, Offset)>,
    /// Of the producers' table.
    undos: Vec<Undo>,
    aborted: Vec<AbortedTxn>,
}

/// Where fetched batches belong.
enum Placement {
    /// At the log's end.
    End,
    /// The log is empty, and the first batch begins before it and ends in it.
    RestartAt(Offset),
}

impl Replica {
    pub(crate) fn became_follower(
        &mut self,
        leader: BrokerId,
        leader_epoch: LeaderEpoch,
        effects: &mut Vec<Effect>,
    ) {
        assert!(leader != self.broker_id, "{leader:?} follows itself");
        let is_news = match self.role {
            Role::Unassigned => leader_epoch >= self.leader_epoch,
            Role::Leader(_) | Role::Follower(_) => leader_epoch > self.leader_epoch,
            Role::Offline => false,
        };
        if !is_news {
            return;
        }
        self.leader_epoch = leader_epoch;
        if leader_epoch < self.last_batch_epoch() {
            self.go_offline(OfflineReason::LeaderEpochBehindLog, effects);
            return;
        }
        // An epoch in which this replica led and wrote nothing is not one of this log.
        if self.leader_epochs.truncate_from_end(self.log_end_offset) {
            effects.push(Effect::CheckpointLeaderEpochs);
        }
        self.role = Role::Follower(Follower {
            leader,
            leader_high_watermark: Offset::NONE,
            leader_log_start_offset: Offset::NONE,
            log_start_requested: self.log_start_offset,
        });
        self.publish(effects);
        // The new leader may have what was written here: then it is answered as if nothing was.
        let wait_end = self.now.saturating_add(RESIGNED_WAIT_MAX_MS);
        self.waiting.wait_no_longer_than(wait_end);
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::TruncateToHighWatermark)
            && self.high_watermark < self.log_end_offset
        {
            self.truncate(self.high_watermark, effects);
        }
        effects.extend(self.fetch_position().map(Effect::FetchFrom));
        self.request_flush(effects);
    }

    /// From where to fetch; `None` for a replica that does not follow, or has something to finish
    /// before.
    #[must_use]
    pub fn fetch_position(&self) -> Option<FetchPosition> {
        if !matches!(self.role, Role::Follower(_)) || self.is_busy() {
            return None;
        }
        Some(FetchPosition {
            leader_epoch: self.leader_epoch,
            fetch_offset: self.log_end_offset,
            last_fetched_epoch: self.last_batch_epoch(),
            log_start_offset: self.log_start_offset,
        })
    }

    pub(crate) fn batches_fetched(&mut self, fetched: FetchedBatches, effects: &mut Vec<Effect>) {
        assert!(
            fetched.batches.len() <= MAX_GROUP_BATCHES,
            "the runtime cuts what one write does not take"
        );
        if !self.is_at(&fetched.position) {
            self.drop_fetched(&fetched, DropReason::Stale, effects);
            effects.extend(self.fetch_position().map(Effect::FetchFrom));
            return;
        }
        let Some(placement) = self.place(&fetched.batches) else {
            self.drop_fetched(&fetched, DropReason::OutOfOrder, effects);
            effects.extend(self.fetch_position().map(Effect::FetchLater));
            return;
        };
        if let Role::Follower(follower) = &mut self.role {
            let is_first = !follower.is_confirmed();
            // A leader has no negative one.
            follower.leader_high_watermark = fetched.high_watermark.max(Offset::ZERO);
            follower.leader_log_start_offset = fetched.log_start_offset;
            if is_first {
                self.report_flushed(effects);
            }
        }
        match placement {
            Placement::End if fetched.batches.is_empty() => {
                self.settle(effects);
                effects.extend(self.fetch_position().map(Effect::FetchFrom));
            }
            Placement::End => self.write_fetched(fetched.ticket, &fetched.batches, effects),
            Placement::RestartAt(offset) => self.restart_with(offset, fetched, effects),
        }
    }

    /// Takes the batches in and orders them written.
    pub(crate) fn write_fetched(
        &mut self,
        ticket: Ticket,
        batches: &[FetchedBatch],
        effects: &mut Vec<Effect>,
    ) {
        let mut group = FetchedGroup {
            epochs: Vec::with_capacity(batches.len()),
            undos: Vec::with_capacity(batches.len()),
            aborted: Vec::new(),
        };
        for FetchedBatch { header, txn_end } in batches {
            let (undo, completed) = self.producers.take_in(header, *txn_end);
            group.undos.push(undo);
            group
                .aborted
                .extend(completed.and_then(|completed| completed.aborted()));
            group.epochs.push((header.leader_epoch, header.base_offset));
            self.reserved_end_offset = header.next_offset();
        }
        self.fetched = Some(group);
        effects.push(Effect::WriteFetched { ticket });
    }

    /// The fetched batches are in the log.
    pub(crate) fn fetched_written(&mut self, group: FetchedGroup, effects: &mut Vec<Effect>) {
        let mut has_new_epoch = false;
        for (epoch, start_offset) in group.epochs {
            has_new_epoch |= self.leader_epochs.assign(epoch, start_offset);
        }
        if has_new_epoch {
            effects.push(Effect::CheckpointLeaderEpochs);
        }
        // Before the view: who sees a marker must be told of its transaction.
        effects.extend(group.aborted.into_iter().map(Effect::NoteAborted));
        self.settle(effects);
        effects.extend(self.fetch_position().map(Effect::FetchFrom));
    }

    /// Nothing of the fetched batches is in the log.
    pub(crate) fn fetched_write_failed(
        &mut self,
        group: FetchedGroup,
        is_cut_back: bool,
        effects: &mut Vec<Effect>,
    ) {
        for undo in group.undos.into_iter().rev() {
            self.producers.undo(undo);
        }
        self.reserved_end_offset = self.log_end_offset;
        if is_cut_back {
            effects.extend(self.fetch_position().map(Effect::FetchLater));
        } else {
            self.go_offline(OfflineReason::CutBackFailed, effects);
        }
    }

    /// What a follower draws from changed offsets, behind the high watermark and the view.
    pub(crate) fn settle_follower(&mut self, effects: &mut Vec<Effect>) {
        let (log_start_offset, high_watermark) = (self.log_start_offset, self.high_watermark);
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        let target = follower.leader_log_start_offset.min(high_watermark);
        if target > log_start_offset.max(follower.log_start_requested) {
            follower.log_start_requested = target;
            effects.push(Effect::MoveLogStart {
                ticket: None,
                log_start_offset: target,
            });
        }
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::FlushReportedEarly) {
            self.report_flushed(effects);
        }
        self.request_flush(effects);
    }

    /// Tells the leader of a flushed topic what is on this disk; not before the log is known to be
    /// the leader's: what is cut off counts for nothing.
    pub(crate) fn report_flushed(&self, effects: &mut Vec<Effect>) {
        if let Role::Follower(follower) = &self.role
            && follower.is_confirmed()
            && self.settings.durability == skein_config::Durability::Flushed
        {
            effects.push(Effect::ReportFlushed {
                leader: follower.leader,
                leader_epoch: self.leader_epoch,
                end: self.end_to_report(),
            });
        }
    }

    fn end_to_report(&self) -> Offset {
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::FlushReportedEarly) {
            return self.log_end_offset;
        }
        self.flushed_end_offset
    }

    /// Whether an answer to a fetch from `position` is one to the replica as it is.
    pub(crate) fn is_at(&self, position: &FetchPosition) -> bool {
        self.fetch_position()
            .is_some_and(|here| here.asks_as(position))
    }

    /// The epoch of the last batch in the log.
    pub(crate) fn last_batch_epoch(&self) -> LeaderEpoch {
        self.log_end_offset
            .checked_add(-1)
            .and_then(|last| self.leader_epochs.epoch_for_offset(last))
            .unwrap_or(LeaderEpoch::NONE)
    }

    /// Where the batches belong; `None` if they are not what a leader of this epoch has there.
    fn place(&self, batches: &[FetchedBatch]) -> Option<Placement> {
        let (mut end, mut epoch) = (self.log_end_offset, self.last_batch_epoch());
        let mut placement = Placement::End;
        for (number, FetchedBatch { header, .. }) in batches.iter().enumerate() {
            // Compaction leaves gaps between batches.
            let follows = header.base_offset >= end;
            let is_empty = self.log_start_offset == self.log_end_offset;
            let straddles = number == 0 && is_empty && header.last_offset() >= end;
            if !follows && straddles {
                placement = Placement::RestartAt(header.base_offset);
            } else if !follows {
                return None;
            }
            if header.leader_epoch < epoch || header.leader_epoch > self.leader_epoch {
                return None;
            }
            (end, epoch) = (header.next_offset(), header.leader_epoch);
        }
        Some(placement)
    }

    pub(crate) fn drop_fetched(
        &self,
        fetched: &FetchedBatches,
        reason: DropReason,
        effects: &mut Vec<Effect>,
    ) {
        if !fetched.batches.is_empty() {
            let ticket = fetched.ticket;
            effects.push(Effect::DropFetched { ticket, reason });
        }
    }
}

impl Follower {
    /// How far the leader says that records are committed.
    pub(crate) fn leader_high_watermark(&self) -> Offset {
        self.leader_high_watermark
    }

    /// Whether the leader has said in this epoch that all of this log is in its own.
    fn is_confirmed(&self) -> bool {
        self.leader_high_watermark != Offset::NONE
    }

    pub(crate) fn log_start_move_failed(&mut self) {
        self.log_start_requested = Offset::NONE;
    }
}
