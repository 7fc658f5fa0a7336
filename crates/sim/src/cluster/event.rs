//! What clients, the operator and the observer of a simulated cluster can tell.
//!
//! Input: nothing. Output: the closed set of facts on which the invariants judge.
//!
//! Invariant: an event says what was seen, never what it means.
//!
//! Source: none.

use std::fmt;

use skein_metadata::Image;
use skein_types::{BrokerId, ClusterId, LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::host;
use crate::batches::BatchId;
use crate::event::{End, PartitionId};

/// How many events were told before: what clients measure time in.
pub(crate) type Told = u64;

/// A batch where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) base_offset: Offset,
    pub(crate) end: Offset,
    pub(crate) batch: BatchId,
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}..{}", self.batch, self.base_offset, self.end)
    }
}

/// A replica that leads, as its node shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leading {
    pub(crate) topic_id: TopicId,
    pub(crate) partition: PartitionIndex,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) node: usize,
    pub(crate) broker_epoch: i64,
    pub(crate) high_watermark: Offset,
}

/// A replica of a process that serves, as its node shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) node: usize,
    pub(crate) broker_epoch: i64,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: PartitionIndex,
    /// The epoch in which it leads.
    pub(crate) leads_in: Option<LeaderEpoch>,
    pub(crate) high_watermark: Offset,
    pub(crate) log_end_offset: Offset,
}

/// A fact.
#[derive(Clone, Debug)]
pub(crate) enum ClusterEvent {
    /// For a person.
    Note(String),
    /// A producer sent a batch.
    Sent {
        batch: BatchId,
        partition: PartitionId,
    },
    /// A batch that was sent at `sent` was acknowledged.
    Acked {
        partition: PartitionId,
        placed: Placed,
        acks: i16,
        sent: Told,
    },
    /// A consumer that had asked at `asked` read a batch.
    Read {
        partition: PartitionId,
        placed: Placed,
        asked: Told,
    },
    /// All that is in a log, up to its high watermark, in order.
    ReadBack {
        partition: PartitionId,
        log: Vec<Placed>,
        asked: Told,
    },
    /// An offset was committed; sent at `sent`.
    Committed {
        group: usize,
        offset: i64,
        sent: Told,
    },
    /// A group's committed offset, asked for at `asked`; −1 for none.
    FoundOffset {
        group: usize,
        offset: i64,
        asked: Told,
    },
    /// A node's process begins.
    Starting { node: usize },
    /// A node is a member of this cluster, and serves.
    Serving { node: usize, cluster_id: ClusterId },
    /// A node's process has ended.
    Ended { node: usize, end: End },
    /// All that a node had is gone.
    Wiped { node: usize },
    /// An operator has elected whoever there is.
    ElectedUnclean,
    /// A node has applied an entry.
    Applied(Box<Image>),
    /// A replica leads.
    Leads(Leading),
    /// All replicas of all nodes that serve, at one moment.
    Held(Vec<Holding>),
    /// Where the log of a partition ends on a disk whose machine has lost its power.
    Survived {
        node: usize,
        partition: PartitionId,
        end: Offset,
    },
    /// A node leads the quorum.
    LeadsQuorum { term: u64, raft_id: u64 },
    /// Two replicas differ below both high watermarks.
    Differs {
        partition: PartitionId,
        text: String,
    },
}

impl fmt::Display for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(text) => f.write_str(text),
            Self::Sent { batch, partition } => write!(f, "p{} sends {batch}", partition.0),
            Self::Acked {
                partition, placed, ..
            } => write!(f, "p{} acknowledged: {placed}", partition.0),
            Self::Read {
                partition, placed, ..
            } => write!(f, "p{} read: {placed}", partition.0),
            Self::Starting { node } => write!(f, "{} starts", host(*node)),
            Self::Serving { node, .. } => write!(f, "{} serves", host(*node)),
            Self::Ended { node, end } => write!(f, "{} has ended: {end:?}", host(*node)),
            Self::ReadBack { partition, log, .. } => {
                let end = log.last().map_or(Offset::ZERO, |placed| placed.end);
                write!(f, "p{} is read back, up to {end}", partition.0)
            }
            Self::Applied(image) => write!(f, "applied {:?}", image.last_applied()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// The broker id of a node.
pub(crate) fn broker_id(node: usize) -> BrokerId {
    BrokerId(i32::try_from(node + 1).unwrap_or(i32::MAX))
}
