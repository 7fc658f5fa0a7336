//! The group coordinators of this node: one for each partition of `__consumer_offsets` that it
//! leads.
//!
//! Input: questions of handlers, each about a group. Output: the answer of the group's coordinator.
//! All are loaded when the node starts, so that the sessions of members who do not come back end;
//! one that has ended is loaded again after a while, or when it is asked. (Kafka's stays away until
//! its partition has another leader.)
//!
//! ```text
//!   handler ─► Groups: which partition? ─► Coordinator: lock, Shard::handle, append ─► answer
//!                                               ▲                        │
//!                                               └──── acknowledged ◄─────┘
//! ```
//!
//! Invariants:
//! - a partition has one coordinator at a time, and another only when the former one has ended;
//! - which partition a group belongs to is what Kafka says of it, so that a directory can be taken
//!   over, and given back.
//!
//! Source: `GroupCoordinatorService` of Kafka 4.1.1.

mod coordinator;
mod lag;
mod load;
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use skein_coordinator::{Request, Response};
use skein_types::{ErrorCode, PartitionIndex, TopicName};
use tokio::sync::watch;

use self::coordinator::Coordinator;
pub(crate) use self::lag::LagMeter;
pub(crate) use self::topic::{TOPIC, ensure_topic, partition_of};
use crate::node::Shared;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Groups {
    coordinators: Mutex<BTreeMap<PartitionIndex, Arc<Coordinator>>>,
    /// Says when the node stops.
    stop: OnceLock<watch::Receiver<bool>>,
    /// How far the groups are behind.
    lag: Arc<LagMeter>,
    /// Partitions whose last load failed.
    unloaded: Mutex<BTreeSet<PartitionIndex>>,
}

impl Groups {
    /// Lets coordinators begin, which end when `stop` says so.
    pub(crate) fn begin(&self, stop: &watch::Receiver<bool>) {
        // A node is started once.
        let _ = self.stop.set(stop.clone());
    }

    /// How far the groups are behind.
    pub(crate) fn lag(&self) -> &Arc<LagMeter> {
        &self.lag
    }

    /// Loads the groups of all partitions that are led here, one after the other.
    pub(crate) async fn load_all(shared: Arc<Shared>) {
        for partition in shared.groups.partitions(&shared) {
            // What cannot be loaded now tries again.
            if let Ok(coordinator) = shared.groups.coordinator(&shared, partition).await {
                coordinator.loading().await;
            }
        }
    }

    /// Asks the coordinator of a group; says so if it is not here.
    pub(crate) async fn ask(
        &self,
        shared: &Arc<Shared>,
        group_id: &str,
        request: Request,
    ) -> Response {
        let found = match partition_of(&shared.image(), group_id) {
            Some(partition) => self.coordinator(shared, partition).await,
            None => Err(ErrorCode::NotCoordinator),
        };
        match found {
            Ok(coordinator) => coordinator.ask(request).await,
            Err(code) => request.refused(code),
        }
    }

    /// The partitions whose coordinators are here.
    pub(crate) fn partitions(&self, shared: &Shared) -> Vec<PartitionIndex> {
        let image = shared.image();
        let topic = image.topic_by_name(TOPIC);
        let partitions = topic.into_iter().flat_map(|topic| topic.partitions());
        partitions
            .filter(|(_, partition)| partition.leader == shared.identity.broker_id)
            .map(|(index, _)| index)
            .collect()
    }

    /// Asks the coordinator of one partition.
    pub(crate) async fn ask_partition(
        &self,
        shared: &Arc<Shared>,
        partition: PartitionIndex,
        request: Request,
    ) -> Response {
        match self.coordinator(shared, partition).await {
            Ok(coordinator) => coordinator.ask(request).await,
            Err(code) => request.refused(code),
        }
    }

    /// Counts the partitions whose groups wait here because they could not be loaded.
    fn count_unloaded(&self, shared: &Shared, partition: PartitionIndex, is_unloaded: bool) {
        let mut unloaded = self.unloaded.lock();
        if is_unloaded {
            unloaded.insert(partition);
        } else {
            unloaded.remove(&partition);
        }
        let count = i64::try_from(unloaded.len()).unwrap_or(i64::MAX);
        shared.metrics.unloaded_group_partitions.set(count);
    }

    /// Forgets the offsets of topics that are no more.
    pub(crate) fn on_topic_deleted(&self, topic: &TopicName) {
        let coordinators: Vec<_> = self.coordinators.lock().values().cloned().collect();
        for coordinator in coordinators {
            coordinator.on_topic_deleted(topic);
        }
    }

    /// Begins a coordinator where `former` has ended, unless another one has begun meanwhile, or
    /// the partition has gone to another topic or node.
    async fn begin_again(&self, shared: &Arc<Shared>, former: &Arc<Coordinator>) {
        let partition = former.partition();
        let known = self.coordinators.lock().get(&partition).cloned();
        if known.is_some_and(|known| Arc::ptr_eq(&known, former)) {
            // None begins where this node leads no more; one that cannot is begun by who asks.
            if let Err(ErrorCode::NotCoordinator) = self.coordinator(shared, partition).await {
                // Its groups wait for another node, if they do.
                self.count_unloaded(shared, partition, false);
            }
        }
    }

    async fn coordinator(
        &self,
        shared: &Arc<Shared>,
        partition: PartitionIndex,
    ) -> Result<Arc<Coordinator>, ErrorCode> {
        let known = self.coordinators.lock().get(&partition).cloned();
        if let Some(known) = known.filter(|known| !known.is_over()) {
            return Ok(known);
        }
        let replica =
            shared
                .replicas
                .by_name(TOPIC, partition)
                .await
                .map_err(|code| match code {
                    ErrorCode::KafkaStorageError => ErrorCode::CoordinatorNotAvailable,
                    _ => ErrorCode::NotCoordinator,
                })?;
        let Some(stop) = self.stop.get() else {
            return Err(ErrorCode::CoordinatorNotAvailable);
        };
        let mut coordinators = self.coordinators.lock();
        match coordinators.get(&partition) {
            // Another task was faster.
            Some(known) if !known.is_over() => Ok(Arc::clone(known)),
            _ => {
                let coordinator = Coordinator::begin(shared, replica, stop.clone())?;
                coordinators.insert(partition, Arc::clone(&coordinator));
                Ok(coordinator)
            }
        }
    }
}

#[cfg(test)]
mod tests;
