//! What the state machine of a follower orders.
//!
//! Input: what was fetched; effects. Output: batches in the log; a log that is cut, or begun anew,
//! and its tables; orders to the tasks of `replication.rs`; what was lost, in the node's log.
//!
//! Invariants:
//! - a log is cut on the offload pool, because that waits for the disk; everything that needs the
//!   log waits meanwhile;
//! - a log that could not be cut takes its replica offline.
//!
//! Source: KIP-101; the truncation of `skein_storage`.

use skein_partition::{DropReason, Effect, Event, FetchedBatches, OfflineReason, TruncatedLog};
use skein_storage::{Log, StorageError, Truncated};

use super::input::{Errand, Input};
use super::{Core, Step};
use crate::replication::FetchedGroup;

impl Core {
    pub(super) fn carry_out_following(&mut self, effect: Effect, step: &mut Step<'_>) {
        let now = self.basis.env.clock.now();
        match effect {
            Effect::NoteAborted(aborted) => {
                if let Some(log) = &mut self.log {
                    log.note_aborted(&[aborted]);
                }
            }
            Effect::Truncate { end } => self.cut(move |log| log.truncate_to(end, now)),
            Effect::RestartLog { offset } => {
                self.cut(move |log| log.restart_at(offset, now).map(Some));
            }
            Effect::ReportCommittedLost { start, end } => {
                tracing::error!(
                    partition = %step.replica.name,
                    start = start.get(),
                    end = end.get(),
                    "committed records are cut off: the leader was elected without having them"
                );
            }
            Effect::WriteFetched { .. } => {
                if let Some(group) = self.fetched.take() {
                    self.group.push_fetched(group.batches);
                }
            }
            Effect::DropFetched { reason, .. } => {
                self.fetched = None;
                if reason == DropReason::OutOfOrder {
                    let partition = &step.replica.name;
                    tracing::error!(%partition, "a leader sent batches that do not follow the log");
                }
            }
            Effect::FetchFrom(position) => {
                let fetchers = &self.basis.replication.fetchers;
                fetchers.follow(self.followed.1, step.replica.partition_id(), position);
            }
            Effect::FetchLater(position) => {
                let fetchers = &self.basis.replication.fetchers;
                fetchers.follow_later(self.followed.1, step.replica.partition_id(), position);
            }
            Effect::ProposeIsr(proposal) => {
                let proposals = &self.basis.replication.isr_proposals;
                proposals.propose(step.replica, proposal);
            }
            Effect::ReportFlushed {
                leader,
                leader_epoch,
                end,
            } => {
                let reports = &self.basis.replication.flush_reports;
                reports.report(leader, step.replica.partition_id(), (leader_epoch, end));
            }
            // The others are every replica's (`stepping.rs`).
            _ => {}
        }
    }

    /// Takes what was fetched: the batches wait here for the state machine's order. Those behind
    /// what one write takes are left out, and fetched again: a group that fails half-way could not
    /// be taken back.
    pub(super) fn fetched(
        &mut self,
        mut fetched: FetchedBatches,
        mut group: FetchedGroup,
        step: &mut Step<'_>,
    ) {
        self.write_group(step);
        let Some(log) = &self.log else {
            self.held.push_front(Input::Fetched(fetched, group));
            return;
        };
        let count = group.fitting(log.group_max_bytes());
        fetched.batches.truncate(count);
        group.batches.truncate(count);
        self.fetched = Some(group);
        self.step(Event::BatchesFetched(fetched), step);
        self.fetched = None;
    }

    /// Remembers whom to fetch from; an older word than the last one is ignored, as by the state
    /// machine.
    pub(super) fn note_leader(&mut self, event: &Event) {
        if let Event::BecameFollower {
            leader,
            leader_epoch,
        } = event
            && *leader_epoch > self.followed.0
        {
            self.followed = (*leader_epoch, *leader);
        }
    }

    fn cut(
        &mut self,
        cut: impl FnOnce(&mut Log) -> Result<Option<Truncated>, StorageError> + Send + 'static,
    ) {
        let errand: Errand = Box::new(move |log| {
            Some(match cut(log) {
                Ok(Some(truncated)) => Event::Truncated(TruncatedLog {
                    log_start_offset: log.log_start_offset(),
                    log_end_offset: truncated.log_end_offset,
                    producers: truncated.producers,
                    leader_epochs: truncated.leader_epochs,
                }),
                // The state machine cuts only what is there.
                Ok(None) => Event::StorageFailed {
                    reason: OfflineReason::TruncationFailed,
                },
                Err(error) => {
                    let remedy = error.remedy();
                    tracing::error!(partition = %log.partition(), %error, remedy, "cannot cut");
                    Event::StorageFailed {
                        reason: OfflineReason::TruncationFailed,
                    }
                }
            })
        });
        self.held.push_back(Input::Errand(errand));
    }
}
