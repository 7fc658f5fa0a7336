//! What the simulation sees of a node: its image, its place in the quorum, its replicas.
//!
//! Input: a node. Output: copies of what it shows its own readers.
//!
//! Invariants:
//! - nothing here changes the node, or keeps it: who looks at one that has ended sees nothing;
//! - no shipped binary has this.
//!
//! Source: none.

use std::sync::{Arc, Weak};

use skein_metadata::Image;
use skein_partition::{PublishedOffsets, PublishedRole};
use skein_types::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use crate::node::Shared;

/// Looks into a node.
#[derive(Clone, Debug)]
pub struct Inspector {
    shared: Weak<Shared>,
}

/// A node's place in the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumView {
    /// Its Raft id.
    pub raft_id: u64,
    /// The term that it is in.
    pub term: u64,
    /// Whether it leads in that term.
    pub leads: bool,
}

/// An open replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The epoch in which it leads.
    pub leads_in: Option<LeaderEpoch>,
    /// The first offset.
    pub log_start_offset: Offset,
    /// As its readers see it.
    pub high_watermark: Offset,
    /// The end of the log.
    pub log_end_offset: Offset,
}

impl Inspector {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
        }
    }

    /// The node's image; `None` when the node has ended.
    #[must_use]
    pub fn image(&self) -> Option<Arc<Image>> {
        Some(self.shared.upgrade()?.image())
    }

    /// The epoch of the node's registration.
    #[must_use]
    pub fn broker_epoch(&self) -> Option<i64> {
        Some(self.shared.upgrade()?.identity.broker_epoch.get())
    }

    /// The node's place in the quorum.
    #[must_use]
    pub fn quorum(&self) -> Option<QuorumView> {
        let shared = self.shared.upgrade()?;
        let status = shared.controller.status();
        Some(QuorumView {
            raft_id: status.raft_id,
            term: status.term,
            leads: shared.controller.is_controller() && status.controller == Some(status.raft_id),
        })
    }

    /// The node's open replicas, by name.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaState> {
        let Some(shared) = self.shared.upgrade() else {
            return Vec::new();
        };
        let replicas = shared.replicas.open_replicas();
        let states = replicas.iter().map(|replica| {
            let (topic_id, partition) = replica.partition_id();
            state(topic_id, partition, &replica.view().offsets)
        });
        states.collect()
    }
}

fn state(topic_id: TopicId, partition: PartitionIndex, offsets: &PublishedOffsets) -> ReplicaState {
    let leads_in = match offsets.role {
        PublishedRole::Leader { leader_epoch, .. } => Some(leader_epoch),
        _ => None,
    };
    ReplicaState {
        topic_id,
        partition,
        leads_in,
        log_start_offset: offsets.log_start_offset,
        high_watermark: offsets.high_watermark,
        log_end_offset: offsets.log_end_offset,
    }
}
