//! Replicas whose storage has failed.
//!
//! Input: a broker's word that it cannot open, write or flush its logs of some partitions. Output:
//! these partitions without it: another leader, or none.
//!
//! Invariants:
//! - what the replica holds is not known any more, so it leaves ISR and ELR, also where everything
//!   was flushed; if it was the last member it is remembered as such, and leads again when its next
//!   process registers (`election.rs`);
//! - the word of a former process, or of partitions that the broker does not hold, is without
//!   effect.
//!
//! Source: KIP-858 and `handleAssignReplicasToDirs`, KIP-966; KIP-112 for what clients see.

use std::collections::BTreeMap;

use skein_metadata::Image;
use skein_types::{BrokerEpoch, BrokerId, ErrorCode, PartitionIndex, TopicId};

use crate::batch::{Context, Decision, effective_config, topic_config};
use crate::election::{Change, Departure, change_partition};
use crate::{Refusal, Response, brokers};

/// Most replicas that one request may name.
pub const REPLICAS_PER_REQUEST_MAX: usize = 10_000;

/// A broker's storage of these partitions has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicasOffline {
    /// Whose.
    pub broker_id: BrokerId,
    /// Under which registration.
    pub broker_epoch: BrokerEpoch,
    /// Of which partitions.
    pub partitions: Vec<(TopicId, PartitionIndex)>,
}

pub(crate) fn decide(
    image: &Image,
    request: &ReplicasOffline,
    context: &Context<'_>,
) -> Result<Decision, Refusal> {
    let id = request.broker_id;
    brokers::check_epoch(image, id, request.broker_epoch)?;
    if request.partitions.len() > REPLICAS_PER_REQUEST_MAX {
        let message = format!("one request names {REPLICAS_PER_REQUEST_MAX} replicas at most");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let mut by_topic: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (topic, index) in &request.partitions {
        by_topic.entry(topic).or_default().push(*index);
    }
    let config = effective_config(image, context.config);
    let change = |change: &mut Change<'_>| {
        change.leave(id, Departure::StorageFailed);
        change.elect(|id| image.is_active(id));
    };
    let mut records = Vec::new();
    for (topic, mut indexes) in by_topic {
        let Some(topic) = image.topic(*topic) else {
            continue; // deleted meanwhile
        };
        indexes.sort_unstable();
        indexes.dedup();
        let config = topic_config(image, &config, &topic.name);
        for index in indexes {
            if let Some(partition) = topic.partition(index)
                && partition.replicas.contains(&id)
            {
                records.extend(change_partition(topic, index, partition, &config, change));
            }
        }
    }
    Ok(Decision {
        records,
        response: Response::ReplicasOffline(()),
    })
}

#[cfg(test)]
mod tests;
