//! Why a replica says no.
//!
//! Input: a decision of the state machine. Output: the error code for the client and a sentence for
//! the person who reads its log.
//!
//! Invariant, held by the match in [`Refusal::error_code`]: whatever may pass by itself (elections,
//! slow followers, full disks) is retriable.
//!
//! Source: `kafka.server.ReplicaManager` and `kafka.cluster.Partition` for which code goes with
//! what.

use std::fmt;

use skein_types::ErrorCode;

/// A refusal that a client must see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// This replica does not lead the partition.
    NotLeader,
    /// This replica leads as far as it knows, but has not heard so for too long.
    Unconfirmed,
    /// The caller knows an older leader epoch than this leader's (KIP-320).
    FencedLeaderEpoch,
    /// The caller knows a newer leader epoch than this leader's (KIP-320).
    UnknownLeaderEpoch,
    /// The replica's storage has failed.
    Offline,
    /// `acks=all`, and the ISR is too small to commit: nothing was appended.
    NotEnoughReplicas {
        /// Replicas in the ISR.
        in_sync: u32,
        /// The effective `min.insync.replicas`.
        min_insync_replicas: u32,
    },
    /// The ISR became too small to commit what was appended.
    NotEnoughReplicasAfterAppend {
        /// Replicas in the ISR.
        in_sync: u32,
        /// The effective `min.insync.replicas`.
        min_insync_replicas: u32,
    },
    /// [`MAX_WAITING_PRODUCES`](crate::MAX_WAITING_PRODUCES) wait already: nothing was appended.
    TooManyWaitingProduces,
    /// The producer's epoch or sequence does not fit.
    Producer(ErrorCode),
    /// The batch would pass the largest offset.
    OffsetsExhausted,
    /// The write failed; the log is as before.
    WriteFailed,
    /// The disk is full; the log is as before.
    DiskFull,
    /// The record was appended, but not committed in the producer's time.
    TimedOut,
    /// The offset is outside of the log, or for `DeleteRecords` above the high watermark.
    OffsetOutOfRange,
    /// The new leader's high watermark has not reached its epoch yet (KIP-207).
    OffsetNotAvailable,
    /// `DeleteRecords` on a topic that is only compacted.
    DeleteRecordsNotAllowed,
}

impl Refusal {
    /// The code that the response carries.
    #[must_use]
    pub const fn error_code(self) -> ErrorCode {
        match self {
            Self::NotLeader | Self::Unconfirmed => ErrorCode::NotLeaderOrFollower,
            Self::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch => ErrorCode::UnknownLeaderEpoch,
            Self::Offline | Self::WriteFailed | Self::DiskFull => ErrorCode::KafkaStorageError,
            // To a producer a leader that can take no more is one whose followers are too slow.
            Self::NotEnoughReplicas { .. } | Self::TooManyWaitingProduces => {
                ErrorCode::NotEnoughReplicas
            }
            Self::NotEnoughReplicasAfterAppend { .. } => ErrorCode::NotEnoughReplicasAfterAppend,
            Self::Producer(error_code) => error_code,
            Self::OffsetsExhausted => ErrorCode::UnknownServerError,
            Self::TimedOut => ErrorCode::RequestTimedOut,
            Self::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
            Self::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
            Self::DeleteRecordsNotAllowed => ErrorCode::PolicyViolation,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("this broker does not lead the partition"),
            Self::Unconfirmed => {
                f.write_str("this broker has not heard for too long that it leads the partition")
            }
            Self::FencedLeaderEpoch => f.write_str("the leader epoch is older than the leader's"),
            Self::UnknownLeaderEpoch => f.write_str("the leader epoch is newer than the leader's"),
            Self::Offline => f.write_str("the storage of this replica has failed"),
            Self::NotEnoughReplicas {
                in_sync,
                min_insync_replicas,
            } => write!(
                f,
                "{in_sync} replicas are in sync, min.insync.replicas asks for {min_insync_replicas}"
            ),
            Self::NotEnoughReplicasAfterAppend {
                in_sync,
                min_insync_replicas,
            } => write!(
                f,
                "appended, but {in_sync} replicas are in sync now, min.insync.replicas asks for \
                 {min_insync_replicas}"
            ),
            Self::TooManyWaitingProduces => {
                f.write_str("too many produces wait for the followers of this partition")
            }
            Self::Producer(error_code) => {
                write!(
                    f,
                    "the producer's epoch or sequence does not fit: {error_code}"
                )
            }
            Self::OffsetsExhausted => f.write_str("the partition has no offsets left"),
            Self::WriteFailed => f.write_str("writing to the log failed, nothing was appended"),
            Self::DiskFull => f.write_str("the disk is full, nothing was appended"),
            Self::TimedOut => f.write_str("appended, but not committed within the timeout"),
            Self::OffsetOutOfRange => f.write_str("the offset is outside of the partition"),
            Self::OffsetNotAvailable => f.write_str("the new leader is not ready to tell offsets"),
            Self::DeleteRecordsNotAllowed => {
                f.write_str("cleanup.policy of this topic does not allow to delete records")
            }
        }
    }
}

impl std::error::Error for Refusal {}
