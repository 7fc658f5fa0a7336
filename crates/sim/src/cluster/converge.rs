//! What a cluster must come to once nothing hinders it any more, and what it must have kept.
//!
//! Input: a cluster without faults. Output: events of everything that is read; a violation if it
//! does not get on.
//!
//! Invariant: every wait has a limit.
//!
//! Source: the design's section on simulation: heal and converge, then read everything back.

use std::time::Duration;

use skein_metadata::{Image, Partition};
use skein_types::BrokerId;
use tokio::time::{Instant, sleep};

use super::client::ClusterClient;
use super::event::ClusterEvent;
use super::observer::Observer;
use super::producer::Producer;
use super::{admin, consumer};
use crate::event::PartitionId;
use crate::history::Actor;

/// Simulated time in which a healed cluster must be whole.
const WHOLE_MAX: Duration = Duration::from_secs(90);

/// Simulated time in which what is committed must be known to all replicas.
const AGREE_MAX: Duration = Duration::from_secs(30);

/// After this an operator elects leaders where nobody who could lead is left.
const OPERATOR_AFTER: Duration = Duration::from_secs(15);

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until every node serves, every partition has its leader, and every replica is in sync, as
/// each node knows; whether it came to that.
pub(crate) async fn whole(observer: &Observer<'_>, operator: &mut ClusterClient) -> bool {
    let begun = Instant::now();
    let mut elect_after = OPERATOR_AFTER;
    loop {
        let Some(missing) = missing(observer) else {
            return true;
        };
        if begun.elapsed() > WHOLE_MAX {
            let text = format!("{WHOLE_MAX:?} after the last fault: {missing}");
            observer.witness.accuse(Actor::Reader, "progress", text);
            return false;
        }
        if begun.elapsed() > elect_after && nobody_left(observer) {
            elect_after += OPERATOR_AFTER;
            observer
                .witness
                .tell(Actor::Admin, ClusterEvent::ElectedUnclean);
            admin::elect_unclean(operator).await;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Writes a batch to every partition: each must be acknowledged.
pub(crate) async fn write_all(observer: &Observer<'_>, mut producer: Producer) {
    for partition in observer.plan.partitions() {
        while !producer.produce(partition).await {}
    }
}

/// Reads every partition back, and compares the replicas.
pub(crate) async fn read_all(observer: &Observer<'_>, reader: &mut ClusterClient) -> bool {
    for partition in observer.plan.partitions() {
        if !agree(observer, partition).await {
            return false;
        }
        while consumer::read_back(reader, partition).await.is_none() {
            reader.back_off().await;
        }
        observer.compare(partition);
    }
    true
}

/// Waits until all replicas of a partition show the same high watermark, and nothing above it.
async fn agree(observer: &Observer<'_>, partition: PartitionId) -> bool {
    let begun = Instant::now();
    let (topic, _) = observer.plan.place(partition);
    loop {
        let replicas = observer.replicas(partition);
        let end = |(_, replica): &(usize, skein_broker::ReplicaState)| {
            (replica.high_watermark, replica.log_end_offset)
        };
        let is_one = replicas
            .iter()
            .all(|replica| end(replica) == end(&replicas[0]) && end(replica).0 == end(replica).1);
        if is_one && replicas.len() == topic.replication_factor {
            return true;
        }
        if begun.elapsed() > AGREE_MAX {
            let name = observer.plan.name_of(partition);
            let ends: Vec<_> = replicas.iter().map(end).collect();
            let text = format!("{name}: replicas stay at {ends:?} for {AGREE_MAX:?}");
            observer.witness.accuse(Actor::Reader, "progress", text);
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What is missing, in words.
fn missing(observer: &Observer<'_>) -> Option<String> {
    for (node, machine) in observer.machines.all() {
        let name = super::host(node);
        let Some(image) = machine.inspector().and_then(|it| it.image()) else {
            return Some(format!("{name} does not serve"));
        };
        if let Some(broker) = image.brokers().find(|broker| !image.is_active(broker.id)) {
            return Some(format!("{name} knows broker {} as fenced", broker.id));
        }
        for id in observer.plan.partitions() {
            let partition = find(observer, &image, id);
            let is_whole = partition.as_ref().is_some_and(|partition| {
                partition.leader != BrokerId::NONE
                    && partition.isr.len() == partition.replicas.len()
            });
            if !is_whole {
                let (what, ends) = (observer.plan.name_of(id), observer.replicas(id));
                return Some(format!("{name} knows {what} as {partition:?}; {ends:?}"));
            }
        }
    }
    None
}

/// Whether a partition has lost everybody who could lead it.
fn nobody_left(observer: &Observer<'_>) -> bool {
    let Some(image) = observer.witness.newest_image() else {
        return false;
    };
    // Those of the groups too: they may have had one replica when they were made.
    let mut partitions = image.topics().flat_map(|topic| topic.partitions());
    partitions.any(|(_, partition)| {
        partition.isr.is_empty() && partition.elr.is_empty() && partition.last_known.is_empty()
    })
}

fn find(observer: &Observer<'_>, image: &Image, id: PartitionId) -> Option<Partition> {
    let (topic, index) = observer.plan.place(id);
    let topic = image.topic_by_name(&topic.name)?;
    let partition = topic.partition(skein_types::PartitionIndex(index))?;
    Some(Partition::clone(partition))
}
