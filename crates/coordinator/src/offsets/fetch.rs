//! OffsetFetch: the committed offsets of one group.
//!
//! Input: the partitions, or all. Output: an offset for each; −1 where there is none.
//!
//! Invariant: a group that is not there is one that has committed nothing.
//!
//! Source: `OffsetMetadataManager.fetchOffsets` and `fetchAllOffsets` of Kafka 4.1.1; KIP-447
//! (`require_stable`), KIP-709 (several groups).

use skein_protocol::Str;
use skein_protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};
use skein_types::{ErrorCode, LeaderEpoch, Offset};

use super::{CommittedOffset, GroupOffsets};

/// The answer for one group.
pub(crate) fn fetch(
    offsets: Option<&GroupOffsets>,
    request: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let none = GroupOffsets::default();
    let offsets = offsets.unwrap_or(&none);
    let topics = match &request.topics {
        Some(topics) => topics
            .iter()
            .map(|topic| {
                let indexes = topic.partition_indexes.iter();
                let partitions =
                    indexes.map(|&index| partition(offsets, &topic.name, index, require_stable));
                OffsetFetchResponseTopics {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    partitions: partitions.collect(),
                }
            })
            .collect(),
        None => all_topics(offsets, require_stable),
    };
    OffsetFetchResponseGroup {
        group_id: request.group_id.clone(),
        topics,
        error_code: ErrorCode::None.code(),
    }
}

fn all_topics(offsets: &GroupOffsets, require_stable: bool) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (name, index, _) in offsets.iter() {
        if topics.last().is_none_or(|topic| topic.name != *name) {
            topics.push(OffsetFetchResponseTopics {
                name: name.clone(),
                ..OffsetFetchResponseTopics::default()
            });
        }
        if let Some(topic) = topics.last_mut() {
            let partition = partition(offsets, name, index, require_stable);
            topic.partitions.push(partition);
        }
    }
    topics
}

fn partition(
    offsets: &GroupOffsets,
    topic: &str,
    index: i32,
    require_stable: bool,
) -> OffsetFetchResponsePartitions {
    if require_stable && offsets.is_pending(topic, index) {
        return described(index, None, ErrorCode::UnstableOffsetCommit);
    }
    described(index, offsets.get(topic, index), ErrorCode::None)
}

fn described(
    index: i32,
    offset: Option<&CommittedOffset>,
    error: ErrorCode,
) -> OffsetFetchResponsePartitions {
    let known = offset.map(|known| (known.offset, known.leader_epoch, known.metadata.clone()));
    let (offset, leader_epoch, metadata) =
        known.unwrap_or((Offset::NONE, LeaderEpoch::NONE, Str::default()));
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: offset.get(),
        committed_leader_epoch: leader_epoch.get(),
        metadata: Some(metadata),
        error_code: error.code(),
    }
}
