//! The types that openraft is told about, and how they become ours.
//!
//! Input and output: log ids, votes, memberships of both worlds.
//!
//! Invariant: one leader per term (`leader_id_std`), so a log id is a term and an index.
//!
//! Source: openraft's `RaftTypeConfig`.

use std::fmt;
use std::sync::Arc;

use openraft::alias::{CommittedLeaderIdOf, EntryOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::entry::RaftEntry;
use skein_metadata::{Entry, EnvelopeError, LogId, Outcome};

use crate::runtime::ControlRuntime;

openraft::declare_raft_types!(
    /// What openraft is made of here.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = PeerNode,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = ControlRuntime,
);

pub(crate) type RaftEntryOf = EntryOf<TypeConfig>;
pub(crate) type RaftLogId = LogIdOf<TypeConfig>;
pub(crate) type RaftVote = VoteOf<TypeConfig>;
pub(crate) type RaftMembership = openraft::Membership<u64, PeerNode>;
pub(crate) type RaftStoredMembership = StoredMembershipOf<TypeConfig>;

/// How the peers of a member reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerNode {
    /// Its peer listener; empty where there is nobody to reach it.
    pub(crate) address: String,
}

/// An entry on its way into the log, with its bytes: they are made once, before it is proposed, so
/// that one that is too large never gets there.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) entry: Arc<Entry>,
    pub(crate) encoded: Arc<[u8]>,
}

impl Proposal {
    pub(crate) fn new(entry: Entry) -> Result<Self, EnvelopeError> {
        let mut encoded = Vec::new();
        entry.encode(&mut encoded)?;
        Ok(Self {
            entry: Arc::new(entry),
            encoded: encoded.into(),
        })
    }

    pub(crate) fn decode(encoded: Vec<u8>) -> Result<Self, EnvelopeError> {
        let entry = Arc::new(Entry::decode(&encoded)?);
        Ok(Self {
            entry,
            encoded: encoded.into(),
        })
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.entry, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.entry.records.len())
    }
}

pub(crate) fn log_id(id: &RaftLogId) -> LogId {
    LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn raft_log_id(id: LogId) -> RaftLogId {
    RaftLogId::new(CommittedLeaderIdOf::<TypeConfig>::new(id.term), id.index)
}

pub(crate) fn log_id_of(entry: &RaftEntryOf) -> LogId {
    log_id(&entry.log_id())
}
