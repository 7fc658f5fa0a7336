//! The state machine of one replica.
//!
//! Input: [`Event`]s in the order in which they happened. Output: [`Effect`]s in the order in which
//! they are to be carried out.
//!
//! ```text
//!  event                  Unassigned    Leader                         Follower           Offline
//!  ─────────────────────  ────────────  ─────────────────────────────  ─────────────────  ───────
//!  ProduceReceived        refuse        reserve, Write │ refuse, dup.  refuse             refuse
//!  Written                bug           end moves, settle, ack / wait  settle, FetchFrom  note
//!  WriteFailed            bug           undo, refuse; ─►Offline if the file could not be cut back
//!  Flushed                note          note, settle                   note, report       note
//!  BecameLeader           ─►Leader      newer epoch ─►Leader, settle   as Leader          ignore
//!  BecameFollower         ─►Follower    newer epoch ─►Follower         as Leader          ignore
//!  PartitionChanged       ignore        newer: take, settle, propose   ignore             ignore
//!  FollowerFetched        ignore        this epoch: note, settle, pr.  ignore             ignore
//!  FollowerFlushed        ignore        this epoch: note, settle, pr.  ignore             ignore
//!  IsrProposalAnswered    ignore        take │ revert │ retry; settle  ignore             ignore
//!  BatchesFetched         drop          drop                           WriteFetched       drop
//!  LogsDiverged           ignore        ignore                         Truncate           ignore
//!  FetchedOutOfRange      ignore        ignore                         Restart │ Truncate ignore
//!  Truncated              bug           bug                            note, FetchFrom    note
//!  SettingsChanged        take          take, settle                   take, settle       take
//!  DeleteRecordsReceived  refuse        MoveLogStart │ answer          refuse             refuse
//!  LogStartOffsetMoved    move, answer  move, settle, answer           move, settle       move
//!  LogStartMoveFailed     refuse        refuse                         note               refuse
//!  TimePassed             expire        time out, expire, propose      expire             expire
//!  Resigned               note epoch    newer or same ─►Unassigned     as Leader          ignore
//!  StorageFailed          ─►Offline     ─►Offline                      ─►Offline          ignore
//!
//!  settle       advance the high watermark, publish the view, release or refuse waiting produces,
//!               ask for a flush
//!  propose      ask the controller for another ISR, if one is due
//!  ─►Leader, ─►Follower  ─►Offline where the epoch is behind that of the log's last batch
//!  ─►Unassigned refuse waiting produces
//!  ─►Follower   waiting produces wait on, for a moment: what the new leader has too is committed
//!               when it says so, and what is cut off is refused
//!  ─►Offline    refuse waiting produces, tell the controller; a write in flight is still answered
//! ```
//!
//! Across the roles runs the cycle of a write, *Idle* or *Writing*: the first `Write`, or a
//! `WriteFetched`, begins it, `Written` or `WriteFailed` ends it; so do the orders to cut the log,
//! and `Truncated`. [`Replica::accepts`] tells what may step between.
//!
//! ```text
//!  log start       last stable    high watermark     log end        reserved end
//!      ├───────────────┼────────────────┼───────────────┼───────────────┤
//!                                                       └─ the group ───┘
//! ```
//!
//! Invariants, checked in [`Replica::check`] at the end of every step:
//! - the offsets stand in the order drawn above;
//! - an offset is reserved only while a write is to come, and given again only after that write
//!   failed;
//! - the high watermark never decreases, unless a follower's log is cut below it;
//! - produces wait only at a leader, or one that follows now, and only for what is written and not
//!   committed;
//! - what readers see is what is true.
//!
//! See KIP-101, KIP-207, KIP-320, KIP-497, KIP-966; two-phase append is Skein's own.

use skein_config::Durability;
use skein_record::{LeaderEpochs, ProducerStates};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{BrokerId, LeaderEpoch, Millis, Offset, PartitionEpoch};

use crate::append::{Group, Produce};
use crate::follower::{FetchedGroup, Follower};
use crate::high_watermark::{check_min_isr, committed_end};
use crate::isr::Followers;
use crate::isr_change::IsrChanges;
use crate::truncation::Truncation;
use crate::waiting::WaitingProduces;
use crate::{
    Effect, Event, MAX_GROUP_BATCHES, Now, PublishedOffsets, PublishedRole, Refusal,
    ReplicaSettings,
};

/// One replica of one partition.
#[derive(Debug)]
pub struct Replica {
    pub(crate) broker_id: BrokerId,
    pub(crate) settings: ReplicaSettings,
    pub(crate) role: Role,
    /// The latest that the metadata has named, whoever leads in it.
    pub(crate) leader_epoch: LeaderEpoch,
    /// The time of this step, on the monotonic clock.
    pub(crate) now: Millis,
    /// Up to when the controller has confirmed this node, on the monotonic clock.
    pub(crate) confirmed_until: Millis,

    pub(crate) log_start_offset: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) flushed_end_offset: Offset,
    pub(crate) log_end_offset: Offset,
    /// Past the log's end while a write is to come.
    pub(crate) reserved_end_offset: Offset,
    /// How far a flush has been asked for.
    pub(crate) flush_requested_end_offset: Offset,

    pub(crate) producers: ProducerStates,
    /// When their ages were looked at.
    producers_checked_at: Option<Millis>,
    pub(crate) leader_epochs: LeaderEpochs,
    /// The produces that the next completion answers for.
    pub(crate) group: Group,
    /// The fetched batches that the next completion answers for.
    pub(crate) fetched: Option<FetchedGroup>,
    /// The cut of the log that is to come.
    pub(crate) truncation: Option<Truncation>,
    pub(crate) waiting: WaitingProduces,
    published: PublishedOffsets,
}

/// What storage found in the log.
#[derive(Debug)]
pub struct RecoveredLog {
    /// The first offset.
    pub log_start_offset: Offset,
    /// From `replication-offset-checkpoint`; it may be stale, or [`Offset::ZERO`] when missing.
    pub high_watermark: Offset,
    /// The recovery point: what is on disk for certain.
    pub flushed_end_offset: Offset,
    /// The end.
    pub log_end_offset: Offset,
    /// The producer states at the end.
    pub producers: ProducerStates,
    /// From `leader-epoch-checkpoint`, agreeing with the log.
    pub leader_epochs: LeaderEpochs,
}

/// What this replica is to its partition.
#[derive(Debug)]
pub(crate) enum Role {
    Unassigned,
    Leader(Leader),
    Follower(Follower),
    Offline,
}

/// What only a leader has.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) leader_epoch_start_offset: Offset,
    pub(crate) partition_epoch: PartitionEpoch,
    pub(crate) followers: Followers,
    pub(crate) isr_changes: IsrChanges,
}

impl Replica {
    /// A replica without a role, on the log that storage has opened.
    ///
    /// Checkpoints may be stale, so offsets from them are brought between the log's start and end.
    #[must_use]
    pub fn new(broker_id: BrokerId, settings: ReplicaSettings, log: RecoveredLog) -> Self {
        let RecoveredLog {
            log_start_offset,
            log_end_offset,
            ..
        } = log;
        assert!(
            log_start_offset <= log_end_offset,
            "{log_start_offset} > {log_end_offset}"
        );
        let high_watermark = log.high_watermark.clamp(log_start_offset, log_end_offset);
        let mut replica = Self {
            broker_id,
            settings,
            role: Role::Unassigned,
            leader_epoch: LeaderEpoch::NONE,
            now: Millis(0),
            confirmed_until: Millis(i64::MIN),
            log_start_offset,
            high_watermark,
            flushed_end_offset: log.flushed_end_offset.min(log_end_offset),
            log_end_offset,
            reserved_end_offset: log_end_offset,
            flush_requested_end_offset: Offset::ZERO,
            producers: log.producers,
            producers_checked_at: None,
            leader_epochs: log.leader_epochs,
            group: Group::default(),
            fetched: None,
            truncation: None,
            waiting: WaitingProduces::default(),
            published: PublishedOffsets {
                role: PublishedRole::Unassigned,
                log_start_offset,
                last_stable_offset: log_start_offset,
                high_watermark,
                log_end_offset,
            },
        };
        replica.producers.on_high_watermark(high_watermark);
        replica.published = replica.current_offsets();
        replica.check();
        replica
    }

    /// Takes what happened at `now` and appends to `effects` what is to be done about it.
    ///
    /// # Panics
    /// When [`Replica::accepts`] is false for the event, and when an invariant is broken.
    pub fn step(&mut self, event: Event, now: Now, effects: &mut Vec<Effect>) {
        assert!(self.accepts(&event), "{event:?} must wait for the write");
        self.now = now.monotonic;
        match event {
            Event::ProduceReceived {
                ticket,
                header,
                acks,
                timeout,
                leader_epoch,
            } => {
                let deadline = now.monotonic.saturating_add(timeout);
                let produce = Produce {
                    ticket,
                    header,
                    acks,
                    deadline,
                };
                self.produce_received(produce, leader_epoch, now.time_of_day, effects);
            }
            Event::Written { end } => self.written(end, effects),
            Event::WriteFailed {
                failure,
                is_cut_back,
            } => {
                self.write_failed(failure, is_cut_back, effects);
            }
            Event::Flushed { end } => self.flushed(end, effects),
            Event::BecameLeader(registration) => self.became_leader(&registration, effects),
            Event::PartitionChanged(registration) => {
                self.partition_changed(&registration, effects);
            }
            Event::BecameFollower {
                leader,
                leader_epoch,
            } => self.became_follower(leader, leader_epoch, effects),
            Event::Resigned { leader_epoch } => self.resigned(leader_epoch, effects),
            Event::FollowerFetched(fetch) => self.follower_fetched(&fetch, effects),
            Event::FollowerFlushed(flush) => self.follower_flushed(&flush, effects),
            Event::IsrProposalAnswered(answer) => self.isr_proposal_answered(&answer, effects),
            Event::BatchesFetched(fetched) => self.batches_fetched(fetched, effects),
            Event::LogsDiverged { position, end } => self.logs_diverged(&position, end, effects),
            Event::FetchedOutOfRange {
                position,
                leader_log_start_offset: start,
                leader_log_end_offset: end,
            } => self.fetched_out_of_range(&position, start, end, effects),
            Event::Truncated(log) => self.truncated(log, effects),
            Event::SettingsChanged(settings) => {
                self.settings = settings;
                self.settle(effects);
            }
            Event::DeleteRecordsReceived {
                ticket,
                before_offset,
            } => {
                self.delete_records_received(ticket, before_offset, effects);
            }
            Event::LogStartOffsetMoved {
                ticket,
                log_start_offset,
            } => {
                self.log_start_offset_moved(ticket, log_start_offset, effects);
            }
            Event::LogStartMoveFailed { ticket } => self.log_start_move_failed(ticket, effects),
            Event::TimePassed => self.time_passed(now, effects),
            Event::StorageFailed { reason } => self.go_offline(reason, effects),
        }
        self.check();
    }

    /// Whether the event may step now, before the runtime has begun to write.
    ///
    /// A produce joins the group until the group is full; what ends the right to append waits for
    /// the group's completion. Once the runtime has begun to write, [`Event::waits_while_writing`]
    /// decides.
    #[must_use]
    pub fn accepts(&self, event: &Event) -> bool {
        match event {
            Event::ProduceReceived { .. } => {
                let is_following = self.fetched.is_some() || self.truncation.is_some();
                !is_following && self.group.len() < MAX_GROUP_BATCHES
            }
            event => !(event.waits_while_writing() && self.is_busy()),
        }
    }

    /// Whether a `Write` or `WriteFetched` is ordered and not answered.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.group.is_empty() || self.fetched.is_some()
    }

    /// Whether anything is ordered of the log and not answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_writing() || self.truncation.is_some()
    }

    /// What readers see, as of the last `PublishView`.
    #[must_use]
    pub fn published(&self) -> PublishedOffsets {
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::ViewBeforeWritten) {
            let end = self.reserved_end_offset;
            return PublishedOffsets {
                last_stable_offset: end,
                high_watermark: end,
                log_end_offset: end,
                ..self.published
            };
        }
        self.published
    }

    /// When `TimePassed` is due for a waiting produce, a follower that lags, or a proposal that
    /// rests, on the monotonic clock; it may come out early.
    ///
    /// Producers expire with any `TimePassed` too, but are not looked at with each.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let produces = self.waiting.earliest_deadline();
        let Role::Leader(leader) = &self.role else {
            return produces;
        };
        let measure = self.measure();
        let isr = match leader.isr_changes.is_open() {
            true => leader.isr_changes.next_attempt(),
            false => leader.followers.next_lag(measure),
        };
        let join_wait_end = leader.followers.next_join_wait_end(measure);
        [produces, isr, join_wait_end].into_iter().flatten().min()
    }

    /// The producer states at the log's end, for a snapshot; `None` while writing, when they are
    /// ahead of it.
    #[must_use]
    pub fn producers(&self) -> Option<&ProducerStates> {
        (!self.is_writing()).then_some(&self.producers)
    }

    /// The leader epochs of the log.
    #[must_use]
    pub fn leader_epochs(&self) -> &LeaderEpochs {
        &self.leader_epochs
    }

    /// The last leader epoch in the log's table.
    pub(crate) fn log_epoch(&self) -> LeaderEpoch {
        self.leader_epochs
            .latest()
            .map_or(LeaderEpoch::NONE, |entry| entry.epoch)
    }

    /// The leader's part, and the refusal where there is none.
    pub(crate) fn leader(&self) -> Result<&Leader, Refusal> {
        match &self.role {
            Role::Leader(leader) => Ok(leader),
            Role::Unassigned | Role::Follower(_) => Err(Refusal::NotLeader),
            Role::Offline => Err(Refusal::Offline),
        }
    }

    /// Draws every consequence of a changed offset, ISR or setting.
    pub(crate) fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.advance_high_watermark();
        self.publish(effects);
        self.waiting
            .release(self.high_watermark, self.log_start_offset, effects);
        let Ok(leader) = self.leader() else {
            self.settle_follower(effects);
            return;
        };
        if let Err(Refusal::NotEnoughReplicas {
            in_sync,
            min_insync_replicas,
        }) = check_min_isr(&leader.followers, self.settings.min_insync_replicas)
        {
            let refusal = Refusal::NotEnoughReplicasAfterAppend {
                in_sync,
                min_insync_replicas,
            };
            self.waiting.refuse_all(refusal, effects);
        }
        self.request_flush(effects);
    }

    fn advance_high_watermark(&mut self) {
        let end = match &self.role {
            Role::Leader(leader) => self.committed_end(leader),
            Role::Follower(follower) => {
                Some(follower.leader_high_watermark().min(self.log_end_offset))
            }
            Role::Unassigned | Role::Offline => None,
        };
        if let Some(end) = end
            && end > self.high_watermark
        {
            self.high_watermark = end;
            self.producers.on_high_watermark(end);
        }
    }

    fn committed_end(&self, leader: &Leader) -> Option<Offset> {
        let measure = self.measure();
        let leader_end = match measure.durability {
            Durability::Replicated => self.log_end_offset,
            #[cfg(feature = "mutations")]
            Durability::Flushed if mutation::has(Mutation::AckBeforeFlush) => self.log_end_offset,
            Durability::Flushed => self.flushed_end_offset,
        };
        let min_insync_replicas = self.settings.min_insync_replicas;
        committed_end(leader_end, &leader.followers, measure, min_insync_replicas)
    }

    pub(crate) fn publish(&mut self, effects: &mut Vec<Effect>) {
        let offsets = self.current_offsets();
        if offsets != self.published {
            let is_cut = offsets.high_watermark == offsets.log_end_offset;
            assert!(self.published.high_watermark <= offsets.high_watermark || is_cut);
            self.published = offsets;
            effects.push(Effect::PublishView(offsets));
        }
    }

    pub(crate) fn request_flush(&mut self, effects: &mut Vec<Effect>) {
        let end = self.log_end_offset;
        let is_due = self.settings.durability == Durability::Flushed
            && self.flushed_end_offset < end
            && self.flush_requested_end_offset < end;
        if is_due {
            self.flush_requested_end_offset = end;
            effects.push(Effect::RequestFlush { end });
        }
    }

    fn flushed(&mut self, end: Offset, effects: &mut Vec<Effect>) {
        // A flush may take along a write of which nobody knows yet whether it stays.
        let end = end.min(self.log_end_offset);
        self.flushed_end_offset = self.flushed_end_offset.max(end);
        self.report_flushed(effects);
        self.settle(effects);
    }

    fn time_passed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.waiting.time_out(now.monotonic, effects);
        // Who was about to join the ISR is not waited for for ever.
        self.settle(effects);
        self.propose_isr(None, effects);
        let now = now.time_of_day;
        let interval = self.settings.producer_id_expiration_check_interval_ms;
        let last = self.producers_checked_at;
        // A clock that was set back must not put the next look off.
        if last.is_none_or(|last| now < last || now.saturating_sub(last) >= interval) {
            self.producers_checked_at = Some(now);
            self.producers
                .remove_expired(now, self.settings.producer_id_expiration_ms);
        }
    }

    fn current_offsets(&self) -> PublishedOffsets {
        let first_unstable_offset = self
            .producers
            .first_unstable_offset()
            .unwrap_or(self.high_watermark);
        PublishedOffsets {
            role: match &self.role {
                Role::Unassigned => PublishedRole::Unassigned,
                Role::Offline => PublishedRole::Offline,
                Role::Follower(_) => PublishedRole::Follower {
                    leader_epoch: self.leader_epoch,
                },
                Role::Leader(leader) => PublishedRole::Leader {
                    leader_epoch: self.leader_epoch,
                    leader_epoch_start_offset: leader.leader_epoch_start_offset,
                },
            },
            log_start_offset: self.log_start_offset,
            // DeleteRecords may have moved the start into an open transaction.
            last_stable_offset: first_unstable_offset
                .clamp(self.log_start_offset, self.high_watermark),
            high_watermark: self.high_watermark,
            log_end_offset: self.log_end_offset,
        }
    }

    /// Asserts the invariants named in the header.
    fn check(&self) {
        self.published.check();
        assert_eq!(self.published, self.current_offsets());
        assert!(self.flushed_end_offset <= self.log_end_offset);
        assert!(self.producers.map_end_offset() <= self.reserved_end_offset);
        assert!(self.log_end_offset <= self.reserved_end_offset);
        let is_reserved = self.log_end_offset < self.reserved_end_offset;
        assert_eq!(self.is_writing(), is_reserved);
        assert!(self.group.is_empty() || self.fetched.is_none());
        assert!(self.truncation.is_none() || !self.is_writing());
        self.group.check(self.log_end_offset);
        self.waiting.check(self.high_watermark, self.log_end_offset);
        if let Role::Leader(leader) = &self.role {
            leader.followers.check();
            assert!(leader.isr_changes.is_open() || !leader.followers.is_changing());
            assert!(leader.leader_epoch_start_offset <= self.log_end_offset);
            assert_eq!(self.log_epoch(), self.leader_epoch);
        } else if !matches!(self.role, Role::Follower(_)) {
            assert_eq!(self.waiting.len(), 0);
        }
    }
}

#[cfg(test)]
mod tests;
