//! Scenarios: a line per step, the event on the left and every effect on the right.
//!
//! ```text
//!  view e1 0/3/3/5     published: epoch 1, log start, last stable, high watermark, log end
//!  write 7 @5          the batch of ticket 7 is to be written at offset 5
//!  ack 7 @5            ticket 7 is at offset 5
//! ```

mod append;
mod cluster;
mod confirmation;
mod following;
mod isr;
mod leadership;
mod log_start;
mod model;

use std::num::NonZeroU32;

use skein_config::TimestampType;
use skein_record::{Attributes, BatchHeader, Codec};
use skein_types::{BrokerEpoch, ProducerEpoch, ProducerId, Sequence};

use super::*;
use crate::{
    Acks, FetchPosition, FollowerFetch, IsrMember, IsrProposal, Registration, Ticket, WriteFailure,
};

pub(super) const SETTINGS: ReplicaSettings = ReplicaSettings {
    min_insync_replicas: Some(NonZeroU32::MIN),
    durability: Durability::Replicated,
    timestamp_type: TimestampType::CreateTime,
    delete_records: true,
    replica_lag_time_max_ms: Millis(10_000),
    session_timeout_ms: Millis(2_000),
    producer_id_expiration_ms: Millis(86_400_000),
    producer_id_expiration_check_interval_ms: Millis(600_000),
};

/// The two clocks are not the same.
pub(super) const MONOTONIC_AHEAD_MS: i64 = -700;

/// A replica and its time of day.
pub(super) struct Scenario {
    pub(super) replica: Replica,
    pub(super) now: Millis,
    /// By the controller, on the monotonic clock.
    pub(super) confirmed_until: Millis,
}

impl Scenario {
    /// Broker 1 with an empty log and no role.
    pub(super) fn new(settings: ReplicaSettings) -> Self {
        Self {
            replica: Replica::new(BrokerId(1), settings, log(0, 0)),
            now: Millis(1_000),
            confirmed_until: Millis(i64::MAX),
        }
    }

    /// Broker 1 leads in epoch 1, all of `replicas` in sync.
    pub(super) fn leader(settings: ReplicaSettings, replicas: &[i32]) -> Self {
        let mut scenario = Self::new(settings);
        scenario.check(
            became_leader(1, replicas, replicas),
            "epochs, view e1 0/0/0/0",
        );
        scenario
    }

    pub(super) fn times(&self) -> Now {
        Now {
            time_of_day: self.now,
            monotonic: Millis(self.now.0 + MONOTONIC_AHEAD_MS),
        }
    }

    /// Steps, and compares the effects with `expect`.
    #[track_caller]
    pub(super) fn check(&mut self, event: impl Into<Event>, expect: &str) {
        let mut effects = Vec::new();
        self.replica.controller_confirms_until(self.confirmed_until);
        self.replica.step(event.into(), self.times(), &mut effects);
        let effects: Vec<String> = effects.iter().map(show).collect();
        assert_eq!(effects.join(", "), expect);
    }
}

/// A log without producers from `start` to `end`, all of it flushed.
pub(super) fn log(start: i64, end: i64) -> RecoveredLog {
    RecoveredLog {
        log_start_offset: Offset(start),
        high_watermark: Offset(end),
        flushed_end_offset: Offset(end),
        log_end_offset: Offset(end),
        producers: ProducerStates::starting_at(Offset(end)),
        leader_epochs: LeaderEpochs::new(),
    }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Write {
            ticket,
            base_offset,
            log_append_time,
            ..
        } => {
            let time = log_append_time.unwrap_or(Millis::NONE);
            format!("write {} @{base_offset}{}", ticket.0, show_time(time))
        }
        Effect::PublishView(offsets) => show_view(offsets),
        Effect::AckProduce {
            ticket,
            result: Ok(ok),
        } => {
            format!(
                "ack {} @{}{}",
                ticket.0,
                ok.base_offset,
                show_time(ok.log_append_time)
            )
        }
        Effect::AckProduce {
            ticket,
            result: Err(refusal),
        }
        | Effect::AnswerDeleteRecords {
            ticket,
            result: Err(refusal),
        } => {
            format!("refuse {} {}", ticket.0, refusal.error_code())
        }
        Effect::RequestFlush { end } => format!("flush {end}"),
        Effect::CheckpointLeaderEpochs => "epochs".to_owned(),
        Effect::MoveLogStart {
            ticket,
            log_start_offset,
        } => {
            let ticket = ticket.map_or("leader's".to_owned(), |ticket| ticket.0.to_string());
            format!("start {ticket} {log_start_offset}")
        }
        Effect::AnswerDeleteRecords {
            ticket,
            result: Ok(low_watermark),
        } => {
            format!("deleted {} {low_watermark}", ticket.0)
        }
        Effect::ReplicaOffline { reason } => format!("offline {reason:?}"),
        Effect::ProposeIsr(proposal) => show_proposal(proposal),
        Effect::WriteFetched { ticket } => format!("write fetched {}", ticket.0),
        Effect::DropFetched { ticket, reason } => format!("drop {} {reason:?}", ticket.0),
        Effect::NoteAborted(txn) => format!("aborted {}..{}", txn.first_offset, txn.last_offset),
        Effect::FetchFrom(position) => format!("fetch {}", show_position(position)),
        Effect::FetchLater(position) => format!("fetch later {}", show_position(position)),
        Effect::Truncate { end } => format!("truncate {end}"),
        Effect::RestartLog { offset } => format!("restart {offset}"),
        Effect::ReportCommittedLost { start, end } => format!("lost {start}..{end}"),
        Effect::ReportFlushed { end, .. } => format!("report flushed {end}"),
    }
}

fn show_proposal(proposal: &IsrProposal) -> String {
    let member = |member: &IsrMember| match member.broker_epoch {
        BrokerEpoch::NONE => member.broker_id.to_string(),
        epoch => format!("{}@{epoch}", member.broker_id),
    };
    let isr: Vec<_> = proposal.isr.iter().map(member).collect();
    let IsrProposal {
        attempt,
        partition_epoch,
        ..
    } = proposal;
    format!(
        "propose #{attempt} on {partition_epoch} [{}]",
        isr.join(" ")
    )
}

fn show_position(position: &FetchPosition) -> String {
    let FetchPosition {
        leader_epoch,
        fetch_offset,
        last_fetched_epoch,
        ..
    } = position;
    format!("e{leader_epoch} {fetch_offset} after e{last_fetched_epoch}")
}

fn show_time(time: Millis) -> String {
    if time == Millis::NONE {
        String::new()
    } else {
        format!(" time {time}")
    }
}

fn show_view(offsets: &PublishedOffsets) -> String {
    let role = match offsets.role {
        PublishedRole::Unassigned => "unassigned".to_owned(),
        PublishedRole::Offline => "offline".to_owned(),
        PublishedRole::Follower { leader_epoch } => format!("follows e{leader_epoch}"),
        PublishedRole::Leader { leader_epoch, .. } => format!("e{leader_epoch}"),
    };
    let PublishedOffsets {
        log_start_offset,
        last_stable_offset,
        ..
    } = offsets;
    let PublishedOffsets {
        high_watermark,
        log_end_offset,
        ..
    } = offsets;
    format!("view {role} {log_start_offset}/{last_stable_offset}/{high_watermark}/{log_end_offset}")
}

/// A produce to be described further; `acks=all`, 1,000 ms, no producer id.
#[derive(Clone, Copy)]
pub(super) struct ProduceEvent {
    ticket: u64,
    header: BatchHeader,
    acks: Acks,
    leader_epoch: Option<LeaderEpoch>,
}

pub(super) fn produce(ticket: u64, records: i32) -> ProduceEvent {
    let header = BatchHeader {
        base_offset: Offset::ZERO,
        length: 100,
        leader_epoch: LeaderEpoch::NONE,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: records - 1,
        base_timestamp: Millis(500),
        max_timestamp: Millis(500),
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        records_count: records,
    };
    ProduceEvent {
        ticket,
        header,
        acks: Acks::All,
        leader_epoch: None,
    }
}

impl ProduceEvent {
    pub(super) fn acks(self, acks: Acks) -> Self {
        Self { acks, ..self }
    }

    pub(super) fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = ProducerId(id);
        self.header.producer_epoch = ProducerEpoch(epoch);
        self.header.base_sequence = Sequence(base_sequence);
        self
    }

    pub(super) fn transactional(mut self) -> Self {
        self.header.attributes = Attributes::new(Codec::None, true, false);
        self
    }

    pub(super) fn in_epoch(self, leader_epoch: i32) -> Self {
        Self {
            leader_epoch: Some(LeaderEpoch(leader_epoch)),
            ..self
        }
    }
}

impl From<ProduceEvent> for Event {
    fn from(produce: ProduceEvent) -> Self {
        Self::ProduceReceived {
            ticket: Ticket(produce.ticket),
            header: produce.header,
            acks: produce.acks,
            timeout: Millis(1_000),
            leader_epoch: produce.leader_epoch,
        }
    }
}

pub(super) fn written(end: i64) -> Event {
    Event::Written { end: Offset(end) }
}

pub(super) fn write_failed(failure: WriteFailure) -> Event {
    Event::WriteFailed {
        failure,
        is_cut_back: true,
    }
}

pub(super) fn flushed(end: i64) -> Event {
    Event::Flushed { end: Offset(end) }
}

pub(super) fn registration(
    leader_epoch: i32,
    partition_epoch: i32,
    replicas: &[i32],
    isr: &[i32],
) -> Registration {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    Registration {
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch: PartitionEpoch(partition_epoch),
        replicas: ids(replicas),
        isr: ids(isr),
        elr: Vec::new(),
    }
}

pub(super) fn became_leader(leader_epoch: i32, replicas: &[i32], isr: &[i32]) -> Event {
    Event::BecameLeader(registration(leader_epoch, 0, replicas, isr))
}

pub(super) fn isr_changed(partition_epoch: i32, replicas: &[i32], isr: &[i32]) -> Event {
    Event::PartitionChanged(registration(1, partition_epoch, replicas, isr))
}

pub(super) fn fetched(broker_id: i32, fetch_offset: i64) -> Event {
    fetched_in(1, broker_id, fetch_offset)
}

pub(super) fn fetched_in(leader_epoch: i32, broker_id: i32, fetch_offset: i64) -> Event {
    Event::FollowerFetched(FollowerFetch {
        broker_id: BrokerId(broker_id),
        broker_epoch: BrokerEpoch::NONE,
        leader_epoch: LeaderEpoch(leader_epoch),
        fetch_offset: Offset(fetch_offset),
        last_fetched_epoch: LeaderEpoch::NONE,
        sent_after: None,
    })
}

pub(super) fn min_isr(min_insync_replicas: u32) -> ReplicaSettings {
    let min_insync_replicas = Some(NonZeroU32::new(min_insync_replicas).unwrap());
    ReplicaSettings {
        min_insync_replicas,
        ..SETTINGS
    }
}

impl From<ReplicaSettings> for Event {
    fn from(settings: ReplicaSettings) -> Self {
        Self::SettingsChanged(settings)
    }
}
