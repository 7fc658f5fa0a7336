//! Who leads a partition that this node does not: part of the answers of Produce and Fetch.
//!
//! Input: partitions that were refused because another node leads them. Output: their leaders as
//! the image has them, and where these are, so that the client need not ask for metadata first.
//!
//! Invariant: this node is never named: it has just said that it does not lead, or cannot be sure.
//!
//! Source: KIP-951.

use std::collections::BTreeSet;
use std::sync::Arc;

use skein_metadata::{Endpoint, Image, Partition};
use skein_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionIndex, TopicId};

use crate::node::Shared;

/// Whether a refusal goes with the name of the leader.
pub(super) fn is_told_with(error_code: i16) -> bool {
    let code = ErrorCode::from_code(error_code);
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
    )
}

/// The leaders of an answer.
pub(super) struct CurrentLeaders {
    image: Arc<Image>,
    own: BrokerId,
    named: BTreeSet<BrokerId>,
}

impl CurrentLeaders {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            image: shared.image(),
            own: shared.identity.broker_id,
            named: BTreeSet::new(),
        }
    }

    /// Who leads the partition of a topic, named as the client names it; and in which epoch.
    pub(super) fn of(
        &mut self,
        name: &str,
        id: TopicId,
        partition: i32,
    ) -> Option<(BrokerId, LeaderEpoch)> {
        let topic = match id {
            TopicId::ZERO => self.image.topic_by_name(name),
            id => self.image.topic(id),
        };
        let partition: &Arc<Partition> = topic?.partition(PartitionIndex(partition))?;
        let leader = partition.leader;
        if leader == self.own || leader == BrokerId::NONE {
            return None;
        }
        self.named.insert(leader);
        Some((leader, partition.leader_epoch))
    }

    /// Where those are that were named, for clients of a listener.
    pub(super) fn endpoints(
        &self,
        listener: &str,
    ) -> impl Iterator<Item = (BrokerId, &Endpoint, Option<&str>)> {
        let brokers = self.named.iter().filter_map(|id| self.image.broker(*id));
        brokers.filter_map(move |broker| {
            let mut endpoints = broker.endpoints.iter();
            let endpoint = endpoints.find(|endpoint| endpoint.listener == listener)?;
            Some((broker.id, endpoint, broker.rack.as_deref()))
        })
    }
}
