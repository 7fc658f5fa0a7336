//! Replicas of this node whose storage has failed, on their way to the controller.
//!
//! Input: partitions whose log could not be opened, written or flushed; the failure of the whole
//! log directory. Output: requests to the controller, which gives them another leader, or none.
//!
//! Invariants:
//! - a failure is told until the controller has it in the image, or this node is registered anew:
//!   what is refused, or got no answer, is asked again after [`RETRY`];
//! - at most one entry for each partition of this node;
//! - a log directory that fails has no replica left that serves.
//!
//! Source: KIP-858, where a heartbeat carries whole directories.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_controller::{REPLICAS_PER_REQUEST_MAX, ReplicasOffline};
use skein_types::{ErrorCode, PartitionIndex, TopicId};
use tokio::sync::Notify;

use crate::node::Shared;

/// What the controller did not take is told again after this.
const RETRY: Duration = Duration::from_secs(1);

/// How long one attempt to tell it takes.
const ASK_MAX: Duration = Duration::from_secs(5);

/// The failures of which the controller does not know yet.
#[derive(Default)]
pub(crate) struct OfflineReplicas {
    waiting: Mutex<BTreeSet<(TopicId, PartitionIndex)>>,
    wake: Notify,
}

impl OfflineReplicas {
    /// Has the controller told of a failure.
    pub(crate) fn report(&self, topic: TopicId, partition: PartitionIndex) {
        self.waiting.lock().insert((topic, partition));
        self.wake.notify_one();
    }

    fn first(&self) -> Vec<(TopicId, PartitionIndex)> {
        let waiting = self.waiting.lock();
        let first = waiting.iter().take(REPLICAS_PER_REQUEST_MAX);
        first.copied().collect()
    }

    fn remove(&self, told: &[(TopicId, PartitionIndex)]) {
        let mut waiting = self.waiting.lock();
        for one in told {
            waiting.remove(one);
        }
    }
}

/// Tells the controller of each failure.
pub(crate) async fn tell(shared: Arc<Shared>) {
    let offline = &shared.offline_replicas;
    loop {
        let partitions = offline.first();
        if partitions.is_empty() {
            offline.wake.notified().await;
            continue;
        }
        let request = ReplicasOffline {
            broker_id: shared.identity.broker_id,
            broker_epoch: shared.identity.broker_epoch,
            partitions: partitions.clone(),
        };
        match shared.controller_link.ask(request, ASK_MAX).await {
            Ok(()) => offline.remove(&partitions),
            // Another process is this broker: it finds out for itself what its storage has.
            Err(refusal) if refusal.code == ErrorCode::StaleBrokerEpoch => return,
            Err(refusal) => {
                tracing::warn!(%refusal, "the controller was not told of offline replicas");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Takes every replica offline when the log directory fails.
pub(crate) async fn follow_directory(shared: Arc<Shared>) {
    let failed = Arc::new(Notify::new());
    let tell = Arc::clone(&failed);
    shared.directory.when_offline(move || tell.notify_one());
    failed.notified().await;
    // Whoever opens a log from here on finds the directory failed.
    let places = shared.replicas.places();
    for place in &places {
        place.fail_open_replica();
    }
    for place in &places {
        place.fail(&shared).await;
    }
}

#[cfg(test)]
mod tests;
