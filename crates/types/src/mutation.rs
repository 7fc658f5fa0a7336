//! Bugs on purpose, to see that the simulation finds them. Only with the feature `mutations`, which
//! never ships.
//!
//! Input: which bug this thread is to have. Output: whether the code at hand is to misbehave.
//!
//! Invariant: a simulated node lives on one thread, so the choice is the thread's.
//!
//! Source: mutation testing.

use std::cell::Cell;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A produce is acknowledged when its write is ordered, not when it is done.
    AckBeforeWrite,
    /// With `durability=flushed`, a record counts as flushed when it is written.
    AckBeforeFlush,
    /// An entry of the offset index names the batch behind its own.
    IndexOffByOne,
    /// When a log is opened, no producer is remembered.
    ProducerSnapshotLost,
    /// Readers see a batch when its write is ordered.
    ViewBeforeWritten,
    /// Soon after a log was opened, a producer may skip sequences.
    RecoveredSequenceSkips,
    /// `DeleteRecords` answers before the new log start is kept.
    LogStartNotKept,
    /// Retention takes segments that are neither old nor beyond the limit of size.
    RetentionTooEager,
    /// `DeleteRecords` deletes to the end of the segment.
    DeletesTooMuch,
    /// Bad bytes below the recovery point are cut off like a torn tail.
    CorruptionCut,
    /// The directory of a deleted topic serves the next one of its name.
    OldDirectoryReused,
    /// A deleted topic is served on by its id.
    DeletedTopicServed,
    /// A fetch session goes on from the position at which a partition came into it.
    SessionKeepsPosition,
    /// A Produce with `acks=0` is answered.
    AcksZeroAnswered,
    /// The metadata log acknowledges what it has not flushed.
    MetadataUnflushed,
    /// Compaction keeps the first record of a key, not the last.
    CompactionKeepsFirst,
    /// Compaction takes a tombstone whatever its horizon.
    TombstoneGoesAtOnce,
    /// Compaction takes the last batch of a producer with its records.
    LastBatchDropped,
    /// A compacted segment takes its place before its bytes are flushed.
    CompactedUnflushed,
    /// A clean stop marks logs as flushed that are not.
    StopUnflushed,
    /// A coordinator answers before its records are committed.
    GroupAnsweredEarly,
    /// A member may commit whatever its generation.
    CommitOfAnyGeneration,
    /// A member is given an assignment whatever its generation.
    SyncOfAnyGeneration,
    /// A member that is silent stays one.
    SessionNeverEnds,
    /// A coordinator that has replayed its log does not wait for the members that it finds.
    SessionsForgotten,
    /// A replay passes over the tombstones of offsets.
    TombstoneNotReplayed,
    /// A replay passes over all records of a group but the first.
    FirstGroupReplayed,
    /// A coordinator goes on when it could not write.
    FailedAppendIgnored,
    /// A group is deleted though it has members.
    MembersDeleted,
    /// The deletion of a group leaves its offsets.
    DeletedGroupKeepsOffsets,
    /// The offsets of a group without members expire some time after their commit.
    OffsetsExpireFromCommit,
    /// Offsets expire that members subscribe to.
    SubscribedOffsetsExpire,
    /// A coordinator that has replayed its log never looks for offsets that have expired.
    ExpiryForgotten,
    /// A hidden record is sent to readers.
    RedactedServed,
    /// With a hidden record, the one before it is left out of what readers get.
    HidesTooMuch,
    /// A produce with acks=all is acknowledged when its leader has it.
    AckBeforeIsr,
    /// A leader takes the end of its log for the high watermark.
    HighWatermarkIsLogEnd,
    /// A leader does not compare the epoch of a follower's last batch with its own log.
    NoEpochCheckOnFetch,
    /// A follower cuts its log at its high watermark, as before KIP-101.
    TruncateToHighWatermark,
    /// A vote counts before it is flushed.
    VoteNotFlushed,
    /// Whoever holds a replica may be elected when the ISR is empty.
    UncleanElection,
    /// A former process of a follower brings the next one into the ISR.
    StaleBrokerEpochJoinsIsr,
    /// A fenced broker comes into the ISR.
    FencedJoinsIsr,
    /// A node takes another founding record than the one that it holds.
    FoundingRecordAcceptedTwice,
    /// A node that lost its votes and its log stays the voter that it was.
    WipedVoterVotes,
    /// A decision takes effect on another image than the one that it was made on, and a controller
    /// decides before it has applied an entry of its own term.
    DecisionOnOldBase,
    /// A broker serves before its own registration is in its image.
    LeaderBeforeRegistration,
    /// The ELR survives a smaller min ISR.
    ElrKeptWhenMinIsrLowered,
    /// A broker that may have lost records is registered as if it had kept them.
    UncleanTakenForClean,
    /// A follower of a flushed topic tells what it has written as flushed.
    FlushReportedEarly,
    /// A leader commits with fewer members in the ISR than it must have.
    MinIsrNotKept,
    /// A successor in the same process, or another, gets the epoch of the former leader.
    LeaderEpochKept,
    /// A proposed ISR counts before the controller has decided.
    ProposedIsrCounts,
}

impl Mutation {
    /// Whether only a cluster can have it.
    #[must_use]
    pub const fn is_of_clusters(self) -> bool {
        self as u8 >= Self::AckBeforeIsr as u8
    }
}

thread_local! {
    static CHOSEN: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Chooses the bug of this thread.
pub fn choose(mutation: Option<Mutation>) {
    CHOSEN.set(mutation);
}

/// Whether this thread has the bug.
#[must_use]
pub fn has(mutation: Mutation) -> bool {
    CHOSEN.get() == Some(mutation)
}
