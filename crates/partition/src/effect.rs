//! What a replica orders its runtime to do.
//!
//! Input: none, these are plain values. Output: orders, to be carried out in the order given.
//!
//! Invariant, held by `Replica::settle` and the scenarios: within one step a view is published
//! before an acknowledgement that it makes true, so that whoever hears of an offset can read it.

use skein_record::AbortedTxn;
use skein_types::{BrokerId, LeaderEpoch, Millis, Offset};

use crate::{
    DropReason, FetchPosition, IsrProposal, OfflineReason, PublishedOffsets, Refusal, Ticket,
};

/// An order to the runtime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write the ticket's batch at the end of the log, after those ordered before it.
    ///
    /// The runtime may carry out several at once. It answers for all of them together, with
    /// [`Event::Written`](crate::Event::Written) or
    /// [`Event::WriteFailed`](crate::Event::WriteFailed).
    Write {
        /// The produce whose batch it is.
        ticket: Ticket,
        /// Goes into the batch header.
        base_offset: Offset,
        /// Goes into the batch header.
        leader_epoch: LeaderEpoch,
        /// With `message.timestamp.type=LogAppendTime`: goes into the batch header, in ms since
        /// 1970.
        log_append_time: Option<Millis>,
    },
    /// Show readers these offsets, and wake the fetches that wait for them.
    PublishView(PublishedOffsets),
    /// Answer a produce. Each ticket gets exactly one answer; one with `acks=0` too, which the
    /// client does not see, because a refusal closes its connection.
    AckProduce {
        /// The produce.
        ticket: Ticket,
        /// Where it is, or why it is not.
        result: Result<AckOk, Refusal>,
    },
    /// Flush the log up to `end` at least, then say [`Event::Flushed`](crate::Event::Flushed).
    RequestFlush {
        /// The end of what must be on disk.
        end: Offset,
    },
    /// Write `leader-epoch-checkpoint` from
    /// [`Replica::leader_epochs`](crate::Replica::leader_epochs).
    ///
    /// Before the next `Write`, so that no batch has an epoch which the file lacks.
    CheckpointLeaderEpochs,
    /// Make the new log start survive a crash, then say
    /// [`Event::LogStartOffsetMoved`](crate::Event::LogStartOffsetMoved) with the ticket, or
    /// [`Event::LogStartMoveFailed`](crate::Event::LogStartMoveFailed).
    MoveLogStart {
        /// The `DeleteRecords` that asks for it; `None` where the leader's log starts later.
        ticket: Option<Ticket>,
        /// The first offset to keep.
        log_start_offset: Offset,
    },
    /// Answer a `DeleteRecords` with the low watermark: the first offset that is left.
    AnswerDeleteRecords {
        /// The `DeleteRecords`.
        ticket: Ticket,
        /// The low watermark, or why nothing was deleted.
        result: Result<Offset, Refusal>,
    },
    /// Ask the controller for another ISR, then say
    /// [`Event::IsrProposalAnswered`](crate::Event::IsrProposalAnswered): once, whatever happens.
    ProposeIsr(IsrProposal),
    /// Write the batches of [`Event::BatchesFetched`](crate::Event::BatchesFetched) at the end of
    /// the log, as they are. Answered like `Write`.
    WriteFetched {
        /// Whose batches.
        ticket: Ticket,
    },
    /// Forget the batches of [`Event::BatchesFetched`](crate::Event::BatchesFetched).
    DropFetched {
        /// Whose batches.
        ticket: Ticket,
        /// Why they are not written.
        reason: DropReason,
    },
    /// Markers of the last write have aborted this transaction: put it into the transaction index.
    NoteAborted(AbortedTxn),
    /// Fetch from here.
    FetchFrom(FetchPosition),
    /// Fetch from here, but not at once: the leader's answer could not be used.
    FetchLater(FetchPosition),
    /// Cut off everything from `end` on, durably, then say
    /// [`Event::Truncated`](crate::Event::Truncated).
    Truncate {
        /// The first offset to go.
        end: Offset,
    },
    /// Drop everything and go on, empty, at `offset`, then say
    /// [`Event::Truncated`](crate::Event::Truncated).
    RestartLog {
        /// The log's new start and end.
        offset: Offset,
    },
    /// Log and count that these records, of which this replica knew that they were committed, are
    /// cut off: the leader was elected without having them.
    ReportCommittedLost {
        /// The first of them.
        start: Offset,
        /// Behind the last of them.
        end: Offset,
    },
    /// Tell the leader what is on this replica's disk.
    ReportFlushed {
        /// The leader,
        leader: BrokerId,
        /// in this epoch.
        leader_epoch: LeaderEpoch,
        /// The end of what is on disk.
        end: Offset,
    },
    /// Tell the controller that this replica is lost until its storage is repaired.
    ReplicaOffline {
        /// Why.
        reason: OfflineReason,
    },
}

/// Where a produced batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckOk {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// The leader's time of the append, in ms since 1970; [`Millis::NONE`] with `CreateTime`.
    pub log_append_time: Millis,
    /// First offset of the log.
    pub log_start_offset: Offset,
}
