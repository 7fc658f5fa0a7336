//! The topic `__consumer_offsets`: where a group belongs in it, and how it comes to be.
//!
//! Input: the id of a group. Output: its partition; the topic, if there was none.
//!
//! Invariant: the place of a group is Kafka's: the hash of Java's string, modulo the partitions
//! that the topic really has.
//!
//! Source: `GroupMetadataManager.partitionFor`, `AutoTopicCreationManager` and
//! `GroupCoordinatorService.groupMetadataTopicConfigs` of Kafka 4.1.1.

use std::sync::Arc;
use std::time::Duration;

use skein_controller::{CreateTopics, NewTopic};
use skein_metadata::Image;
use skein_types::{ErrorCode, PartitionIndex};

use crate::node::Shared;

/// Its name.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// How long a client waits for the topic to be made; it asks again after that.
const CREATE_MAX: Duration = Duration::from_secs(10);

/// The partition of a group's records; `None` if there is no such topic.
pub(crate) fn partition_of(image: &Image, group_id: &str) -> Option<PartitionIndex> {
    let partitions = image.topic_by_name(TOPIC)?.partitions().count();
    Some(place_of(group_id, i32::try_from(partitions).ok()?))
}

fn place_of(group_id: &str, partitions: i32) -> PartitionIndex {
    let hash = group_id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Java's smallest number has no absolute value, and counts as 0.
    let hash = hash.checked_abs().unwrap_or(0);
    PartitionIndex(hash.checked_rem(partitions).unwrap_or(0))
}

/// Makes the topic if it is not there.
pub(crate) async fn ensure_topic(shared: &Arc<Shared>) -> Result<(), ErrorCode> {
    let image = shared.image();
    if image.topic_by_name(TOPIC).is_some() {
        return Ok(());
    }
    let config = &shared.config.offsets;
    let brokers = image.brokers().filter(|broker| !broker.fenced).count();
    let replicas = config.replication_factor(u16::try_from(brokers).unwrap_or(u16::MAX));
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", config.topic_segment_bytes.to_string()),
    ];
    let create = CreateTopics {
        topics: vec![NewTopic {
            name: TOPIC.to_owned(),
            num_partitions: i32::try_from(config.topic_num_partitions).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
            assignments: Vec::new(),
            configs: configs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), Some(value)))
                .collect(),
        }],
        validate_only: false,
    };
    let call = shared.controller.propose(create);
    let refusal = match tokio::time::timeout(CREATE_MAX, call).await {
        Ok(Ok(results)) => results.into_iter().find_map(|topic| topic.result.err()),
        Ok(Err(refusal)) => Some(refusal),
        Err(_) => None,
    };
    // Whoever made it: what was created is in this node's image by now.
    if shared.image().topic_by_name(TOPIC).is_some() {
        return Ok(());
    }
    match refusal {
        Some(refusal) => tracing::warn!(%refusal, "cannot create {TOPIC}"),
        None => tracing::warn!("no decision to create {TOPIC} yet"),
    }
    Err(ErrorCode::CoordinatorNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_place_is_kafkas() {
        // What java.lang.String.hashCode gives, modulo 50.
        for (group, place) in [
            ("", 0),
            ("g", 3),
            ("readers", 28),
            ("console-consumer-12345", 6),
            // Its hash is the smallest number there is.
            ("polygenelubricants", 0),
            ("ü😀", 21),
        ] {
            assert_eq!(place_of(group, 50), PartitionIndex(place), "{group}");
        }
        assert_eq!(place_of("g", 0), PartitionIndex(0));
    }
}
