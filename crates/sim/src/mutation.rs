//! Bugs that are put into the node on purpose, to see that the simulation finds them.
//!
//! Input: the name of a bug. Output: a node that has it. Without the feature `mutations` there is
//! no code of these bugs, and no name.
//!
//! Invariant: no shipped binary has the feature.
//!
//! Source: mutation testing.

#[cfg(feature = "mutations")]
pub use skein_types::mutation::Mutation;

/// Without the feature there is no bug to choose.
#[cfg(not(feature = "mutations"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {}

/// The bugs, each with its name on the command line.
#[cfg(feature = "mutations")]
pub const MUTATIONS: &[(&str, Mutation)] = &[
    ("ack-before-write", Mutation::AckBeforeWrite),
    ("ack-before-flush", Mutation::AckBeforeFlush),
    ("index-off-by-one", Mutation::IndexOffByOne),
    ("producer-snapshot-lost", Mutation::ProducerSnapshotLost),
    ("view-before-written", Mutation::ViewBeforeWritten),
    ("recovered-sequence-skips", Mutation::RecoveredSequenceSkips),
    ("log-start-not-kept", Mutation::LogStartNotKept),
    ("retention-too-eager", Mutation::RetentionTooEager),
    ("deletes-too-much", Mutation::DeletesTooMuch),
    ("corruption-cut", Mutation::CorruptionCut),
    ("old-directory-reused", Mutation::OldDirectoryReused),
    ("deleted-topic-served", Mutation::DeletedTopicServed),
    ("session-keeps-position", Mutation::SessionKeepsPosition),
    ("acks-zero-answered", Mutation::AcksZeroAnswered),
    ("metadata-unflushed", Mutation::MetadataUnflushed),
    ("compaction-keeps-first", Mutation::CompactionKeepsFirst),
    ("tombstone-goes-at-once", Mutation::TombstoneGoesAtOnce),
    ("last-batch-dropped", Mutation::LastBatchDropped),
    ("compacted-unflushed", Mutation::CompactedUnflushed),
    ("stop-unflushed", Mutation::StopUnflushed),
    ("group-answered-early", Mutation::GroupAnsweredEarly),
    ("commit-of-any-generation", Mutation::CommitOfAnyGeneration),
    ("sync-of-any-generation", Mutation::SyncOfAnyGeneration),
    ("session-never-ends", Mutation::SessionNeverEnds),
    ("sessions-forgotten", Mutation::SessionsForgotten),
    ("tombstone-not-replayed", Mutation::TombstoneNotReplayed),
    ("first-group-replayed", Mutation::FirstGroupReplayed),
    ("failed-append-ignored", Mutation::FailedAppendIgnored),
    ("members-deleted", Mutation::MembersDeleted),
    (
        "deleted-group-keeps-offsets",
        Mutation::DeletedGroupKeepsOffsets,
    ),
    (
        "offsets-expire-from-commit",
        Mutation::OffsetsExpireFromCommit,
    ),
    (
        "subscribed-offsets-expire",
        Mutation::SubscribedOffsetsExpire,
    ),
    ("expiry-forgotten", Mutation::ExpiryForgotten),
    ("redacted-served", Mutation::RedactedServed),
    ("hides-too-much", Mutation::HidesTooMuch),
    ("ack-before-isr", Mutation::AckBeforeIsr),
    ("high-watermark-is-log-end", Mutation::HighWatermarkIsLogEnd),
    ("no-epoch-check-on-fetch", Mutation::NoEpochCheckOnFetch),
    (
        "truncate-to-high-watermark",
        Mutation::TruncateToHighWatermark,
    ),
    ("vote-not-flushed", Mutation::VoteNotFlushed),
    ("unclean-election", Mutation::UncleanElection),
    (
        "stale-broker-epoch-joins",
        Mutation::StaleBrokerEpochJoinsIsr,
    ),
    ("fenced-joins-isr", Mutation::FencedJoinsIsr),
    (
        "founding-accepted-twice",
        Mutation::FoundingRecordAcceptedTwice,
    ),
    ("wiped-voter-votes", Mutation::WipedVoterVotes),
    ("decision-on-old-base", Mutation::DecisionOnOldBase),
    (
        "leader-before-registration",
        Mutation::LeaderBeforeRegistration,
    ),
    ("elr-kept", Mutation::ElrKeptWhenMinIsrLowered),
    ("unclean-taken-for-clean", Mutation::UncleanTakenForClean),
    ("flush-reported-early", Mutation::FlushReportedEarly),
    ("min-isr-not-kept", Mutation::MinIsrNotKept),
    ("leader-epoch-kept", Mutation::LeaderEpochKept),
    ("proposed-isr-counts", Mutation::ProposedIsrCounts),
];

/// None.
#[cfg(not(feature = "mutations"))]
pub const MUTATIONS: &[(&str, Mutation)] = &[];

/// Puts the bug into every node of this thread; `None` takes it out.
pub(crate) fn choose(mutation: Option<Mutation>) {
    #[cfg(feature = "mutations")]
    skein_types::mutation::choose(mutation);
    #[cfg(not(feature = "mutations"))]
    assert!(mutation.is_none(), "there is none");
}

/// Whether only a cluster can have the bug.
#[cfg(feature = "mutations")]
#[must_use]
pub const fn is_of_clusters(mutation: Mutation) -> bool {
    mutation.is_of_clusters()
}

/// There is none.
#[cfg(not(feature = "mutations"))]
#[must_use]
pub const fn is_of_clusters(mutation: Mutation) -> bool {
    match mutation {}
}
