//! What the state machine of a follower orders.
//!
//! Input: effects. Output: a log that is cut, or begun anew, and its tables; what was lost by that,
//! in the node's log.
//!
//! Invariants:
//! - a log is cut on the offload pool, because that waits for the disk; everything that needs the
//!   log waits meanwhile;
//! - a log that could not be cut takes its replica offline.
//!
//! Source: KIP-101; the truncation of `skein_storage`.

use skein_partition::{Effect, Event, OfflineReason, TruncatedLog};
use skein_storage::{Log, StorageError, Truncated};

use super::input::{Errand, Input};
use super::{Core, Step};

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
            // No replica of this node follows yet.
            _ => {}
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
