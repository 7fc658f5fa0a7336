//! What can happen to a replica.
//!
//! Input: requests, completions of the disk, changes of the metadata image. Output: none, these are
//! past facts.
//!
//! Invariant, checked by `Replica::step` through [`Replica::accepts`](crate::Replica::accepts):
//! what assigns offsets or ends the right to do so does not step under a write in flight.

use skein_record::{BatchHeader, EpochEndOffset};
use skein_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Millis, Offset, PartitionEpoch};
pub use skein_types::{Now, Ticket};

use crate::{FetchPosition, FetchedBatches, IsrAnswer, ReplicaSettings, TruncatedLog};

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A batch arrived whose header and checksum are good.
    ///
    /// Answered by one `AckProduce`. Several may step before the runtime writes what they ordered.
    ProduceReceived {
        /// The runtime's name for it.
        ticket: Ticket,
        /// The batch's header as it came.
        header: BatchHeader,
        /// When to answer.
        acks: Acks,
        /// How long to wait for the answer, in ms from now.
        timeout: Millis,
        /// The epoch in which the sender believes this replica to lead. `None` for a client:
        /// `Produce` carries none.
        leader_epoch: Option<LeaderEpoch>,
    },
    /// Everything ordered by `Write` since the last completion is in the log.
    Written {
        /// The log's new end.
        end: Offset,
    },
    /// Nothing ordered by `Write` since the last completion is in the log.
    WriteFailed {
        /// Why.
        failure: WriteFailure,
        /// Whether the log ends again where it did. If not, the replica goes offline.
        is_cut_back: bool,
    },
    /// The log is on disk up to `end`, which may be past the end that was written when the flush
    /// began.
    Flushed {
        /// The end of what is on disk.
        end: Offset,
    },
    /// The metadata image names this replica the leader, in a new leader epoch.
    BecameLeader(Registration),
    /// The partition's registration changed, its leader and leader epoch did not.
    PartitionChanged(Registration),
    /// The leadership ended: another replica leads, or none, or the node stops.
    Resigned {
        /// The epoch of the other leader; the current one when the node stops.
        leader_epoch: LeaderEpoch,
    },
    /// A follower fetched.
    FollowerFetched(FollowerFetch),
    /// A follower told what it has on disk.
    FollowerFlushed(FollowerFlush),
    /// The controller answered [`Effect::ProposeIsr`](crate::Effect::ProposeIsr), or nobody did.
    IsrProposalAnswered(IsrAnswer),
    /// The metadata image names another replica the leader, in a new leader epoch.
    BecameFollower {
        /// Who leads. Never this replica.
        leader: BrokerId,
        /// How many leaders there were before it.
        leader_epoch: LeaderEpoch,
    },
    /// The leader answered a fetch with batches, or with none and news of its offsets.
    ///
    /// With batches it is answered by one `WriteFetched` or `DropFetched`.
    BatchesFetched(FetchedBatches),
    /// The leader answered a fetch with the point up to which the two logs may agree.
    LogsDiverged {
        /// From where was fetched.
        position: FetchPosition,
        /// The largest epoch of the leader's log that is not above the one fetched from, and its
        /// end there.
        end: EpochEndOffset,
    },
    /// The leader's log does not have the offset that was fetched from.
    FetchedOutOfRange {
        /// From where was fetched.
        position: FetchPosition,
        /// The first offset of the leader's log, asked for since.
        leader_log_start_offset: Offset,
        /// Its end, asked for since.
        leader_log_end_offset: Offset,
    },
    /// `Truncate` or `RestartLog` is done. If it fails, say `StorageFailed`.
    Truncated(TruncatedLog),
    /// The topic's or the broker's configuration changed.
    SettingsChanged(ReplicaSettings),
    /// Somebody wants the records below an offset gone.
    DeleteRecordsReceived {
        /// The runtime's name for it.
        ticket: Ticket,
        /// The first offset to keep; `None` for the high watermark (-1 on the wire).
        before_offset: Option<Offset>,
    },
    /// The log starts later: by `MoveLogStart`, or by retention.
    LogStartOffsetMoved {
        /// The `DeleteRecords` that asked for it; `None` for retention, or where the leader's log
        /// starts later.
        ticket: Option<Ticket>,
        /// The first offset that is left. At most the high watermark.
        log_start_offset: Offset,
    },
    /// `MoveLogStart` failed: the log starts where it did.
    LogStartMoveFailed {
        /// The `DeleteRecords` that asked for it, as in the order.
        ticket: Option<Ticket>,
    },
    /// Time passed: [`Replica::next_deadline`](crate::Replica::next_deadline) did, or a long while.
    TimePassed,
    /// The disk failed in a way that leaves the replica's state unknown.
    StorageFailed {
        /// How.
        reason: OfflineReason,
    },
}

impl Event {
    /// Whether the event must wait in the runtime's queue while a write is in flight.
    ///
    /// Those wait which assign offsets, change who may, or cut the log. The others step at any
    /// time.
    #[must_use]
    pub const fn waits_while_writing(&self) -> bool {
        match self {
            Self::ProduceReceived { .. }
            | Self::BecameLeader(_)
            | Self::BecameFollower { .. }
            | Self::Resigned { .. }
            | Self::BatchesFetched(_)
            | Self::LogsDiverged { .. }
            | Self::FetchedOutOfRange { .. } => true,
            Self::Written { .. }
            | Self::WriteFailed { .. }
            | Self::Truncated(_)
            | Self::Flushed { .. }
            | Self::PartitionChanged(_)
            | Self::FollowerFetched(_)
            | Self::FollowerFlushed(_)
            | Self::IsrProposalAnswered(_)
            | Self::SettingsChanged(_)
            | Self::DeleteRecordsReceived { .. }
            | Self::LogStartOffsetMoved { .. }
            | Self::LogStartMoveFailed { .. }
            | Self::TimePassed
            | Self::StorageFailed { .. } => false,
        }
    }
}

/// What the metadata image says of a partition whose leader this replica is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// How many leaders there were before this one.
    pub leader_epoch: LeaderEpoch,
    /// How many changes of the registration there were.
    pub partition_epoch: PartitionEpoch,
    /// All replicas, this one among them.
    pub replicas: Vec<BrokerId>,
    /// The in-sync replicas, this one among them.
    pub isr: Vec<BrokerId>,
    /// The eligible leader replicas: others that could be elected.
    pub elr: Vec<BrokerId>,
}

/// A follower's fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerFetch {
    /// The follower.
    pub broker_id: BrokerId,
    /// Under which registration; [`BrokerEpoch::NONE`] where it does not say: then it never joins
    /// the ISR.
    pub broker_epoch: BrokerEpoch,
    /// The leader epoch of its fetch.
    pub leader_epoch: LeaderEpoch,
    /// Where it fetched from: the end of its log.
    pub fetch_offset: Offset,
    /// The epoch of the last batch before that; [`LeaderEpoch::NONE`] if it has none.
    pub last_fetched_epoch: LeaderEpoch,
    /// A moment on the monotonic clock before which it cannot have been sent, because an answer of
    /// then was received before. `None` if there was none: it may have been on its way for long.
    pub sent_after: Option<Millis>,
}

/// What a follower has on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerFlush {
    /// The follower.
    pub broker_id: BrokerId,
    /// Under which registration.
    pub broker_epoch: BrokerEpoch,
    /// The leader epoch that it follows.
    pub leader_epoch: LeaderEpoch,
    /// The end of what it has on disk.
    pub end: Offset,
}

/// When a produce is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// `acks=0`: the client does not listen.
    None,
    /// `acks=1`: when the leader has written it.
    Leader,
    /// `acks=all`: when it is committed.
    All,
}

impl Acks {
    /// From the wire's number.
    ///
    /// # Errors
    /// `INVALID_REQUIRED_ACKS` for anything but -1, 0 and 1.
    pub const fn from_wire(acks: i16) -> Result<Self, ErrorCode> {
        match acks {
            0 => Ok(Self::None),
            1 => Ok(Self::Leader),
            -1 => Ok(Self::All),
            _ => Err(ErrorCode::InvalidRequiredAcks),
        }
    }
}

/// Why a write failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteFailure {
    /// The disk or the quota is full.
    DiskFull,
    /// Anything else.
    Io,
}

/// Why a replica went offline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OfflineReason {
    /// A failed write could not be cut off the log.
    CutBackFailed,
    /// A flush failed: which pages are on disk is unknown, and asking again would not tell.
    FlushFailed,
    /// The directory failed at another log: what else is on its device is not trusted any more.
    DirectoryFailed,
    /// Reading the log failed.
    ReadFailed,
    /// The swap of compacted segments ended half-way: the next opening of the log finishes it.
    CompactionFailed,
    /// The log could not be cut where it parts from the leader's.
    TruncationFailed,
    /// The log is corrupt below the recovery point.
    LogCorrupt,
    /// The log has batches of a later leader epoch than the metadata knows.
    LeaderEpochBehindLog,
}

impl OfflineReason {
    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            // All begin with a call that failed, or with bad bytes.
            Self::CutBackFailed
            | Self::FlushFailed
            | Self::DirectoryFailed
            | Self::ReadFailed
            | Self::CompactionFailed
            | Self::TruncationFailed
            | Self::LogCorrupt => {
                "the error logged before this one says which file, and what helps"
            }
            Self::LeaderEpochBehindLog => {
                "the metadata is older than the log's leader-epoch-checkpoint: restore metadata \
                 and log from the same backup"
            }
        }
    }
}
