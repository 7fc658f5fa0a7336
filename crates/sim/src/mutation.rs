//! Bugs that are put into the node on purpose, to see that the simulation finds them.
//!
//! Input: the name of a mutation. Output: a node that breaks a promise. Without the feature
//! `mutations` the code of the bugs is not there.
//!
//! Invariant: no shipped binary has the feature.
//!
//! Source: mutation testing.

use std::fmt;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A produce is acknowledged when its write is ordered, not when it is done.
    AckBeforeWrite,
    /// With `durability=flushed`, a record counts as flushed when it is written.
    AckBeforeFlush,
    /// An offset index entry names the position of the batch before its own.
    IndexOffByOne,
    /// After a restart no producer is remembered.
    ProducerSnapshotLost,
    /// Readers see a batch when its write is ordered.
    ViewBeforeWritten,
}

/// All of them.
pub const MUTATIONS: [Mutation; 5] = [
    Mutation::AckBeforeWrite,
    Mutation::AckBeforeFlush,
    Mutation::IndexOffByOne,
    Mutation::ProducerSnapshotLost,
    Mutation::ViewBeforeWritten,
];

impl Mutation {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeWrite => "ack-before-write",
            Self::AckBeforeFlush => "ack-before-flush",
            Self::IndexOffByOne => "index-off-by-one",
            Self::ProducerSnapshotLost => "producer-snapshot-lost",
            Self::ViewBeforeWritten => "view-before-written",
        }
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Puts the bug into every node of this thread; `None` takes it out.
pub(crate) fn set(mutation: Option<Mutation>) {
    assert!(mutation.is_none(), "this build has no mutations");
}
