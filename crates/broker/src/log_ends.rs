//! Tells the controller where this node's logs end of partitions that have lost all their members.
//!
//! Input: the image. Output: reports, until each partition has a leader again.
//!
//! Invariants:
//! - a log is looked at after the image has said that nobody leads it, in that leader epoch:
//!   nothing is written to it then;
//! - what a controller has been told it keeps in memory; so it is told again every [`INTERVAL`]
//!   while it is of use.
//!
//! Source: own design (`skein_controller`, `log_ends.rs`).

use std::sync::Arc;
use std::time::Duration;

use skein_controller::{LOGS_PER_REPORT_MAX, LogEnd, ReportLogEnds, ReportedLog};
use skein_metadata::{Image, Partition};
use skein_types::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use tokio::time::timeout;

use crate::node::{Identity, Shared};
use crate::replica::Replica;

/// Between two reports of the same logs.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long one report waits for the controller.
const ASK_MAX: Duration = Duration::from_secs(2);

/// Reports, again and again.
pub(crate) async fn report(shared: Arc<Shared>) {
    let mut images = shared.controller.subscribe();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let logs = look_at(&shared, &image).await;
        let is_idle = logs.is_empty();
        for some in logs.chunks(LOGS_PER_REPORT_MAX) {
            tell(&shared, some.to_vec()).await;
        }
        if is_idle {
            if images.changed().await.is_err() {
                return;
            }
        } else {
            // Either way it is looked again.
            let _ = timeout(INTERVAL, images.changed()).await;
        }
    }
}

async fn tell(shared: &Shared, logs: Vec<ReportedLog>) {
    let Identity {
        broker_id,
        broker_epoch,
    } = shared.identity;
    let report = ReportLogEnds {
        broker_id,
        broker_epoch,
        logs,
    };
    if let Err(refusal) = shared.controller_link.ask(report, ASK_MAX).await {
        tracing::debug!(%refusal, "the controller does not know where logs end");
    }
}

/// The ends of the logs that somebody waits for.
async fn look_at(shared: &Arc<Shared>, image: &Image) -> Vec<ReportedLog> {
    let mut logs = Vec::new();
    for (id, leader_epoch) in awaited(image, shared.identity.broker_id) {
        // A failure was logged, and told.
        let Ok(replica) = shared.replicas.whoever_leads(id).await else {
            continue;
        };
        let (topic_id, partition) = id;
        logs.push(ReportedLog {
            topic_id,
            partition,
            leader_epoch,
            end: end_of(&replica),
        });
    }
    logs
}

/// Partitions that wait for a report of this broker, and the leader epoch in which nobody leads.
fn awaited(image: &Image, own: BrokerId) -> Vec<((TopicId, PartitionIndex), LeaderEpoch)> {
    let is_awaited = |partition: &Partition| {
        let is_lost = partition.isr.is_empty() && partition.elr.is_empty();
        is_lost && partition.leader == BrokerId::NONE && partition.last_known.contains(&own)
    };
    let mut awaited = Vec::new();
    for topic in image.topics() {
        let partitions = topic.partitions();
        let lost = partitions.filter(|(_, partition)| is_awaited(partition));
        awaited.extend(lost.map(|(index, partition)| ((topic.id, index), partition.leader_epoch)));
    }
    awaited
}

fn end_of(replica: &Replica) -> LogEnd {
    let view = replica.view();
    let end_offset = view.offsets.log_end_offset;
    let last = end_offset.checked_add(-1);
    let last_epoch = last.and_then(|last| view.leader_epochs.epoch_for_offset(last));
    LogEnd {
        last_epoch: last_epoch.unwrap_or(LeaderEpoch::NONE),
        end_offset,
    }
}
