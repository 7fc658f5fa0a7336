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

use skein_metadata::Image;
use skein_protocol::Str;
use skein_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use skein_types::{ErrorCode, PartitionIndex};

use crate::handlers::create_topics;
use crate::node::Shared;

/// Its name.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// How long a client waits for the topic to be made; it asks again after that.
const CREATE_MAX_MS: i32 = 10_000;

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
    let topic = CreatableTopic {
        name: Str::from_static(TOPIC),
        num_partitions: i32::try_from(config.topic_num_partitions).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
        configs: configs
            .into_iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: Str::from_static(name),
                value: Some(Str::from(value)),
            })
            .collect(),
        ..Default::default()
    };
    let made = create_topics::make(shared, vec![topic], CREATE_MAX_MS).await;
    // Whoever made it: what was created is in this node's image by now.
    if shared.image().topic_by_name(TOPIC).is_some() {
        return Ok(());
    }
    if let Err(refusal) = made {
        tracing::warn!(%refusal, "cannot create {TOPIC}");
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
