//! What followers have on their disks, on its way to the leaders.
//!
//! Input: the ends of flushed logs. Output: one message for each leader, with all that is new.
//!
//! Invariant: what is told is on the disk; a report that gets lost is followed by a later one, as
//! the replica flushes on, and by one when its leader changes.
//!
//! Source: own design (`durability=flushed`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_net::Purpose;
use skein_partition::FetchedPartition;
use skein_protocol::messages::replicas_flushed::{
    FlushedPartition, FlushedTopic, ReplicasFlushedRequest,
};
use skein_types::{BrokerId, LeaderEpoch, Offset};
use tokio::sync::Notify;

use super::fetchers::address_of;
use crate::node::Shared;

/// How long a leader may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// When reports that got lost are sent again.
const RETRY: Duration = Duration::from_millis(100);

/// What is on the disk, and in which epoch its leader leads.
type Flushed = (LeaderEpoch, Offset);

/// See the module.
#[derive(Default)]
pub(crate) struct FlushReports {
    waiting: Mutex<BTreeMap<BrokerId, BTreeMap<FetchedPartition, Flushed>>>,
    wake: Notify,
}

impl FlushReports {
    /// A replica that follows `leader` has so much on its disk.
    pub(crate) fn report(&self, leader: BrokerId, partition: FetchedPartition, flushed: Flushed) {
        let mut waiting = self.waiting.lock();
        waiting
            .entry(leader)
            .or_default()
            .insert(partition, flushed);
        self.wake.notify_one();
    }

    /// Puts back what was not told, unless there is newer.
    fn put_back(&self, leader: BrokerId, reports: BTreeMap<FetchedPartition, Flushed>) {
        let mut waiting = self.waiting.lock();
        let waiting = waiting.entry(leader).or_default();
        for (partition, flushed) in reports {
            waiting.entry(partition).or_insert(flushed);
        }
    }
}

/// Tells the leaders.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(links) = &shared.peer_links else {
        return; // there is nobody to tell
    };
    let reports = &shared.basis.replication.flush_reports;
    loop {
        let round = std::mem::take(&mut *reports.waiting.lock());
        if round.is_empty() {
            reports.wake.notified().await;
            continue;
        }
        let mut is_lost = false;
        for (leader, flushed) in round {
            let Some(address) = address_of(&shared.image(), leader) else {
                continue; // it is no broker any more
            };
            let request = to_request(&shared, &flushed);
            let call = links.call(&address, Purpose::Control, &request, TIMEOUT);
            if let Err(error) = call.await {
                tracing::debug!(%leader, %error, "cannot tell a leader what is on the disk");
                reports.put_back(leader, flushed);
                is_lost = true;
            }
        }
        if is_lost {
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn to_request(
    shared: &Shared,
    flushed: &BTreeMap<FetchedPartition, Flushed>,
) -> ReplicasFlushedRequest {
    let mut topics: Vec<FlushedTopic> = Vec::new();
    for ((topic_id, partition), (leader_epoch, end)) in flushed {
        let partition = FlushedPartition {
            partition: partition.get(),
            leader_epoch: leader_epoch.get(),
            end_offset: end.get(),
        };
        match topics.last_mut() {
            Some(topic) if topic.topic_id == *topic_id => topic.partitions.push(partition),
            _ => topics.push(FlushedTopic {
                topic_id: *topic_id,
                partitions: vec![partition],
            }),
        }
    }
    ReplicasFlushedRequest {
        broker_id: shared.identity.broker_id.get(),
        broker_epoch: shared.identity.broker_epoch.get(),
        topics,
    }
}
