//! A step of the state machine, and what it orders.
//!
//! Input: an event, or a batch to be appended. Output: the effects, carried out in their order.
//!
//! Invariants:
//! - a batch is between the state machine and the group only while it is stepped;
//! - a group never outgrows what one write takes ([`Core::make_room`]);
//! - answers are kept in the [`Step`], and leave after the view that makes them true.
//!
//! Source: the two-phase append of `skein_partition`.

use std::sync::Arc;

use skein_partition::{Effect, Event, Now, PublishedOffsets, Ticket};
use skein_record::BatchBuf;
#[cfg(feature = "mutations")]
use skein_types::transitions;
use skein_types::{Millis, Offset};
use tokio::time::Instant;

use super::input::{Errand, Input, Produce};
use super::{Core, Step, index};
use crate::replica::{Replica, ReplicaView};

impl Core {
    pub(super) fn produce(&mut self, produce: Produce, step: &mut Step<'_>) {
        if !self.make_room(&produce.batch, step) {
            // The group before it is being written elsewhere.
            self.held.push_front(Input::Produce(produce));
            return;
        }
        let Produce {
            batch,
            acks,
            timeout,
            permit,
            reply,
        } = produce;
        let header = *batch.header();
        let ticket = Ticket(self.replies.insert(reply) as u64);
        self.arriving = Some((batch, permit));
        let event = Event::ProduceReceived {
            ticket,
            header,
            acks,
            timeout,
            leader_epoch: None,
        };
        self.step(event, step);
        if self.arriving.take().is_some()
            && let Some(reply) = self.replies.get(index(ticket))
        {
            // A duplicate that waits, as its original does: in the group, or for the high
            // watermark.
            if self.group.is_empty() {
                reply.appended();
            } else {
                self.group.tickets.push(ticket);
            }
        }
    }

    /// Writes the group if `batch` does not fit into the same write. False: a write is in flight.
    pub(super) fn make_room(&mut self, batch: &BatchBuf, step: &mut Step<'_>) -> bool {
        let Some(log) = &self.log else { return false };
        let bytes = (self.group.bytes + batch.as_slice().len()) as u64;
        // The tickets of duplicates count in the state machine's group too.
        let is_full = self.group.tickets.len() >= skein_partition::MAX_GROUP_BATCHES
            || bytes > log.group_max_bytes();
        if is_full {
            self.write_group(step);
        }
        self.log.is_some()
    }

    pub(super) fn event(&mut self, event: Event, step: &mut Step<'_>) {
        self.note_leader(&event);
        if event.waits_while_writing() && !self.group.is_empty() {
            self.write_group(step);
            if self.log.is_none() {
                self.held.push_front(Input::Event(event));
                return;
            }
        }
        self.step(event, step);
    }

    pub(super) fn step(&mut self, event: Event, step: &mut Step<'_>) {
        let confirmed_until = self.basis.confirmation.until();
        // A disk may have held the write for longer than anybody confirms.
        let is_late = confirmed_until != Millis(i64::MAX) && matches!(event, Event::Written { .. });
        let at = match is_late {
            true => Instant::now(),
            false => step.started,
        };
        let now = Now {
            time_of_day: self.basis.env.clock.now(),
            monotonic: self.basis.monotonic(at),
        };
        self.machine.controller_confirms_until(confirmed_until);
        let mut effects = std::mem::take(&mut self.effects);
        #[cfg(feature = "mutations")]
        let event_kind = transitions::is_counting().then(|| transitions::variant(&event));
        self.machine.step(event, now, &mut effects);
        #[cfg(feature = "mutations")]
        if let Some(event_kind) = event_kind {
            transitions::made(|| transition(&event_kind, &effects));
        }
        for effect in effects.drain(..) {
            self.carry_out(effect, step);
        }
        self.effects = effects;
        self.set_timer();
    }

    pub(super) fn carry_out(&mut self, effect: Effect, step: &mut Step<'_>) {
        match effect {
            Effect::Write {
                base_offset,
                leader_epoch,
                log_append_time,
                ticket,
            } => {
                let Some((mut batch, permit)) = self.arriving.take() else {
                    return;
                };
                batch.set_base_offset(base_offset);
                batch.set_leader_epoch(leader_epoch);
                if let Some(now) = log_append_time {
                    batch.set_log_append_time(now);
                }
                self.group.push(ticket, batch, permit);
            }
            Effect::PublishView(_) => self.publish(step),
            Effect::AckProduce { ticket, result } => {
                if let Some(reply) = self.replies.try_remove(index(ticket)) {
                    step.answers.push((reply, result));
                }
            }
            Effect::RequestFlush { .. } => self.basis.flusher.request(step.replica),
            // The log writes the file itself before the first batch of an epoch.
            Effect::CheckpointLeaderEpochs => {
                self.leader_epochs = Arc::new(self.machine.leader_epochs().clone());
            }
            Effect::MoveLogStart {
                ticket,
                log_start_offset,
            } => {
                let errand = move_log_start(ticket, log_start_offset);
                self.held.push_back(Input::Errand(errand));
            }
            Effect::AnswerDeleteRecords { ticket, result } => {
                if let Some(reply) = self.delete_replies.try_remove(index(ticket)) {
                    // A client that has gone does not want to know.
                    let _ = reply.send(result);
                }
            }
            Effect::ReplicaOffline { reason } => {
                let (partition, remedy) = (&step.replica.name, reason.remedy());
                tracing::error!(%partition, ?reason, remedy, "a replica is offline");
                self.basis.metrics.replicas_offline.inc();
                let Replica { topic_id, name, .. } = &**step.replica;
                let offline = &self.basis.offline_replicas;
                offline.report(*topic_id, name.partition);
            }
            effect @ (Effect::ProposeIsr(_)
            | Effect::WriteFetched { .. }
            | Effect::DropFetched { .. }
            | Effect::NoteAborted(_)
            | Effect::FetchFrom(_)
            | Effect::FetchLater(_)
            | Effect::Truncate { .. }
            | Effect::RestartLog { .. }
            | Effect::ReportCommittedLost { .. }
            | Effect::ReportFlushed { .. }) => self.carry_out_following(effect, step),
        }
    }

    pub(super) fn publish(&mut self, step: &mut Step<'_>) {
        let offsets = self.machine.published();
        if let Some(log) = &mut self.log {
            let PublishedOffsets {
                high_watermark,
                last_stable_offset,
                ..
            } = offsets;
            // `ViewBeforeWritten` is for the clients to find, not for an assertion of the log.
            #[cfg(feature = "mutations")]
            let [high_watermark, last_stable_offset] =
                [high_watermark, last_stable_offset].map(|offset| offset.min(log.log_end_offset()));
            log.publish(high_watermark, last_stable_offset);
            self.view = log.published();
        }
        step.replica.publish(ReplicaView {
            log: Arc::clone(&self.view),
            offsets,
            leader_epochs: Arc::clone(&self.leader_epochs),
        });
        step.is_published = true;
    }
}

fn move_log_start(ticket: Option<Ticket>, log_start_offset: Offset) -> Errand {
    Box::new(move |log| {
        Some(match log.advance_log_start(log_start_offset) {
            Ok(()) => Event::LogStartOffsetMoved {
                ticket,
                log_start_offset,
            },
            Err(error) => {
                tracing::error!(partition = %log.partition(), %error, "cannot move the log start");
                Event::LogStartMoveFailed { ticket }
            }
        })
    })
}

/// What the simulation counts as a transition of a replica: an event, and the kinds of its effects.
#[cfg(feature = "mutations")]
fn transition(event: &str, effects: &[Effect]) -> String {
    let kinds = effects.iter().map(|effect| match effect {
        Effect::AckProduce {
            result: Err(refusal),
            ..
        } => format!("AckProduce({})", transitions::variant(refusal)),
        Effect::ReplicaOffline { reason } => format!("ReplicaOffline({reason:?})"),
        effect => transitions::variant(effect),
    });
    let kinds: std::collections::BTreeSet<String> = kinds.collect();
    let kinds: Vec<_> = kinds.into_iter().collect();
    format!("replica {event} -> {}", kinds.join(" "))
}
