//! Where an entry stands in the quorum's log.
//!
//! Input: what the quorum says of an entry. Output: a name for it that no other entry ever has.
//!
//! Invariant, held by Raft: two entries with the same log id are the same entry.
//!
//! Source: the Raft paper, section 5.3; there is one leader per term, so a term names its leader.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one entry of the quorum's log. Ordered by term, then index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term in which the entry was proposed.
    pub term: u64,
    /// Position in the log, from 0.
    pub index: u64,
}

/// [`LogId`] as the files hold it. Frozen: it is a part of many envelopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdV0 {
    /// See [`LogId::term`].
    pub term: u64,
    /// See [`LogId::index`].
    pub index: u64,
}

impl From<LogId> for LogIdV0 {
    fn from(id: LogId) -> Self {
        Self {
            term: id.term,
            index: id.index,
        }
    }
}

impl From<LogIdV0> for LogId {
    fn from(id: LogIdV0) -> Self {
        Self {
            term: id.term,
            index: id.index,
        }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}
