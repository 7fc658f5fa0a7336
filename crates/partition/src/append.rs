//! Two-phase append: reserve, then learn what the disk made of it.
//!
//! Input: a produce; later the outcome of the write. Output: `Write`, then the answer, or the
//! produce's place among those that wait for the high watermark.
//!
//! ```text
//!  ProduceReceived ─ check ─ reserve offsets and sequence ─ Write ─┬─ Written ──── ack, or wait
//!                      │                                           │
//!                      └─ refuse                                   └─ WriteFailed ─ undo, refuse
//! ```
//!
//! Between the two, everybody else sees the log as it was: only `Written` moves its end. A group is
//! written as a whole or not at all, because behind a hole in the middle the later offsets would be
//! wrong.
//!
//! Invariants, checked in [`Group::check`] and by the model test:
//! - the group's reservations cover exactly the offsets from the log's end to the reserved end;
//! - reservations are undone last first, so that each finds the state that it left;
//! - a duplicate of a batch in the group has that batch's fate.
//!
//! See KIP-98 (idempotence).

use skein_config::TimestampType;
use skein_record::{AppendOrigin, BatchHeader, Undo, Verdict};
#[cfg(feature = "mutations")]
use skein_types::ErrorCode;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{LeaderEpoch, Millis, Offset};

use crate::high_watermark::check_min_isr;
use crate::replica::Replica;
use crate::waiting::PlacedProduce;
use crate::{
    Acks, Effect, MAX_GROUP_BATCHES, MAX_WAITING_PRODUCES, OfflineReason, Refusal, Ticket,
    WriteFailure,
};

/// A produce as the event brings it, its timeout turned into a point in time.
pub(crate) struct Produce {
    pub(crate) ticket: Ticket,
    pub(crate) header: BatchHeader,
    pub(crate) acks: Acks,
    pub(crate) deadline: Millis,
}

/// The produces that one completion of the disk answers for, in the order of their arrival.
#[derive(Debug, Default)]
pub(crate) struct Group {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    produce: PlacedProduce,
    acks: Acks,
    /// `None` for a duplicate of another member.
    undo: Option<Undo>,
}

impl Replica {
    /// Reserves offsets and sequences for a batch and orders it written; or refuses it, or finds it
    /// a duplicate.
    pub(crate) fn produce_received(
        &mut self,
        produce: Produce,
        expected_leader_epoch: Option<LeaderEpoch>,
        now: Millis,
        effects: &mut Vec<Effect>,
    ) {
        let ticket = produce.ticket;
        if let Err(refusal) = self.append(produce, expected_leader_epoch, now, effects) {
            effects.push(Effect::AckProduce {
                ticket,
                result: Err(refusal),
            });
        }
    }

    fn append(
        &mut self,
        produce: Produce,
        expected_leader_epoch: Option<LeaderEpoch>,
        now: Millis,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let expected = expected_leader_epoch.unwrap_or(LeaderEpoch::NONE);
        let (leader_epoch, _) = self.published().leader(expected)?;
        self.check_acks(produce.acks)?;

        let mut header = produce.header;
        let log_append_time = match self.settings.timestamp_type {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(now),
        };
        header.max_timestamp = log_append_time.unwrap_or(header.max_timestamp);
        let base_offset = self.reserved_end_offset;
        match self.producers.verdict(&header, AppendOrigin::Client) {
            Verdict::Append => {}
            Verdict::Duplicate {
                base_offset,
                last_offset,
                timestamp,
            } => {
                let log_append_time = log_append_time.map(|_| timestamp);
                let placed = produce.place(base_offset, last_offset, log_append_time)?;
                self.acknowledge_duplicate(placed, produce.acks, effects);
                return Ok(());
            }
            #[cfg(feature = "mutations")]
            Verdict::Rejected(ErrorCode::OutOfOrderSequenceNumber)
                if mutation::has(Mutation::RecoveredSequenceSkips)
                    && self.is_recovered_producer(&header) => {}
            Verdict::Rejected(error_code) => return Err(Refusal::Producer(error_code)),
        }
        let last_offset = base_offset
            .checked_add(i64::from(header.last_offset_delta))
            .ok_or(Refusal::OffsetsExhausted)?;
        let placed = produce.place(base_offset, last_offset, log_append_time)?;

        assert!(
            base_offset < placed.end,
            "a batch without offsets: {header:?}"
        );
        let undo = Some(self.producers.reserve(&header, base_offset));
        self.reserved_end_offset = placed.end;
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::AckBeforeWrite) {
            effects.push(placed.acknowledge(self.log_start_offset));
        }
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::ViewBeforeWritten) {
            effects.push(Effect::PublishView(self.published()));
        }
        self.group.members.push(Member {
            produce: placed,
            acks: produce.acks,
            undo,
        });
        let ticket = produce.ticket;
        effects.push(Effect::Write {
            ticket,
            base_offset,
            leader_epoch,
            log_append_time,
        });
        Ok(())
    }

    /// Whether the producer has written nothing since the log was opened, and now skips sequences.
    #[cfg(feature = "mutations")]
    fn is_recovered_producer(&self, header: &BatchHeader) -> bool {
        let opened_at = self.leader_epochs.latest().map(|epoch| epoch.start_offset);
        let known = self.producers.get(header.producer_id);
        known.is_some_and(|state| {
            header.base_sequence > state.last_sequence()
                && state.last_batch().map(|batch| batch.last_offset) < opened_at
        })
    }

    /// Refuses what could never be acknowledged, before it is in the log.
    fn check_acks(&self, acks: Acks) -> Result<(), Refusal> {
        self.check_confirmed(acks)?;
        if acks != Acks::All {
            return Ok(());
        }
        check_min_isr(&self.leader()?.followers, self.settings.min_insync_replicas)?;
        // The whole group may have to wait.
        if self.waiting.len() + self.group.len() >= MAX_WAITING_PRODUCES {
            return Err(Refusal::TooManyWaitingProduces);
        }
        Ok(())
    }

    /// Answers a batch that is in the log already, or will be, where and when the original is.
    fn acknowledge_duplicate(
        &mut self,
        duplicate: PlacedProduce,
        acks: Acks,
        effects: &mut Vec<Effect>,
    ) {
        if self.log_end_offset < duplicate.end {
            self.group.members.push(Member {
                produce: duplicate,
                acks,
                undo: None,
            });
        } else {
            self.acknowledge(duplicate, acks, effects);
        }
    }

    /// Acknowledges what is written, now or when it is committed.
    fn acknowledge(&mut self, produce: PlacedProduce, acks: Acks, effects: &mut Vec<Effect>) {
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::AckBeforeIsr) {
            effects.push(produce.acknowledge(self.log_start_offset));
            return;
        }
        if acks == Acks::All && self.high_watermark < produce.end {
            self.waiting.insert(produce);
            return;
        }
        effects.push(match self.check_confirmed(acks) {
            Ok(()) => produce.acknowledge(self.log_start_offset),
            // A successor may not have it.
            Err(refusal) => produce.refuse(refusal),
        });
    }

    /// The group is in the log.
    pub(crate) fn written(&mut self, end: Offset, effects: &mut Vec<Effect>) {
        assert!(self.is_writing(), "nothing was ordered, {end} was written");
        assert_eq!(
            end, self.reserved_end_offset,
            "a group is written as a whole"
        );
        self.log_end_offset = end;
        if let Some(group) = self.fetched.take() {
            self.fetched_written(group, effects);
            return;
        }
        // The view first: nobody may hear of an offset that no reader sees yet.
        self.settle(effects);
        let refusal = self.leader().err();
        let mut members = std::mem::take(&mut self.group.members);
        for member in members.drain(..) {
            match refusal {
                None => self.acknowledge(member.produce, member.acks, effects),
                Some(refusal) => effects.push(member.produce.refuse(refusal)),
            }
        }
        self.group.members = members; // keeps the allocation
        self.settle(effects);
    }

    /// Nothing of the group is in the log: everything is as if it had never come.
    pub(crate) fn write_failed(
        &mut self,
        failure: WriteFailure,
        is_cut_back: bool,
        effects: &mut Vec<Effect>,
    ) {
        assert!(
            self.is_writing(),
            "nothing was ordered, but failed: {failure:?}"
        );
        if let Some(group) = self.fetched.take() {
            self.fetched_write_failed(group, is_cut_back, effects);
            return;
        }
        for undo in self
            .group
            .members
            .iter_mut()
            .rev()
            .filter_map(|member| member.undo.take())
        {
            self.producers.undo(undo);
        }
        self.reserved_end_offset = self.log_end_offset;
        let refusal = self.leader().err().unwrap_or(match failure {
            WriteFailure::DiskFull => Refusal::DiskFull,
            WriteFailure::Io => Refusal::WriteFailed,
        });
        effects.extend(
            self.group
                .members
                .drain(..)
                .map(|member| member.produce.refuse(refusal)),
        );
        if !is_cut_back {
            self.go_offline(OfflineReason::CutBackFailed, effects);
        }
    }
}

impl Produce {
    /// Its place, unless that is past the largest offset.
    fn place(
        &self,
        base_offset: Offset,
        last_offset: Offset,
        log_append_time: Option<Millis>,
    ) -> Result<PlacedProduce, Refusal> {
        Ok(PlacedProduce {
            ticket: self.ticket,
            base_offset,
            end: last_offset
                .checked_add(1)
                .ok_or(Refusal::OffsetsExhausted)?,
            log_append_time: log_append_time.unwrap_or(Millis::NONE),
            deadline: self.deadline,
        })
    }
}

impl Group {
    /// How many produces it has, duplicates included.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.members.capacity()
    }

    /// Whether no write is to come.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Asserts what one look at its ends can show.
    pub(crate) fn check(&self, log_end_offset: Offset) {
        assert!(self.members.len() <= MAX_GROUP_BATCHES);
        if let Some(first) = self.members.first() {
            assert_eq!(
                first.produce.base_offset, log_end_offset,
                "a gap or an overlap"
            );
        }
    }
}
